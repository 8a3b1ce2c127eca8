"""Tables for a paper: intervals, the best in bold, names escaped, numbers that survive."""

from __future__ import annotations

import csv
import io

import pytest

from blip_refine.errors import ConfigurationError
from blip_refine.metrics.paper_tables import escape_latex, format_tables, missing_measures, tables_of

NAME = "[a] 50%_off & x|y"


@pytest.fixture
def systems():
    ends = {"CIDEr": {"low": 0.8, "high": 1.1}}
    return {
        "base": {
            "CIDEr": 0.95, "ROUGE_L": 0.5, "intervals": ends, "test_loss": {"nats_per_token": 2.25},
            "diversity": {"vocabulary": 40, "distinct_1": 0.4, "unavailable": {"mBLEU_4": "one caption each"}},
            "single_reference": {"METEOR": 0.2},
        },
        NAME: {
            "CIDEr": 1.0, "ROUGE_L": 0.5, "intervals": ends, "test_loss": {"unavailable": "a file has no model"},
            "diversity": {"vocabulary": 41, "distinct_1": 0.3, "mBLEU_4": 0.7}, "single_reference": {"METEOR": 0.3},
        },
    }  # fmt: skip


def test_latex(systems):
    scores, single, varied = tables = tables_of(systems)
    assert scores.columns == ("ROUGE_L", "CIDEr", "test loss") and single.columns == ("METEOR",)
    assert varied.columns == ("distinct-1", "vocabulary", "mBLEU-4")
    text = format_tables(tables, "latex")
    assert r"base & 0.500 & 0.950 {\scriptsize [0.800, 1.100]} & 2.250 \\" in text
    # The best is bold, and what is shown as equal is not; diversity has no best.
    assert rf"{escape_latex(NAME)} & 0.500 & \textbf{{1.000}} {{\scriptsize [0.800, 1.100]}} &  \\" in text
    assert escape_latex(NAME) == r"{[}a] 50\%\_off \& x\textbar{}y"
    assert r"base & 0.400 & 40 &  \\" in text and text.count("textbf") == 2
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == text.count(r"\end{tabular}") == 3


def test_the_lowest_loss_is_the_best(systems):
    systems[NAME]["test_loss"] = {"nats_per_token": 2.0}
    assert r"\textbf{2.000}" in format_tables(tables_of(systems)[:1], "latex")
    assert "**2.000**" in format_tables(tables_of(systems)[:1], "markdown")


def test_markdown(systems):
    text = format_tables(tables_of(systems), "markdown")
    assert r"| \[a\] 50%\_off & x\|y | 0.500 | **1.000** [0.800, 1.100] |  |" in text
    assert "no intervals, no tests per image" in text


def test_csv_holds_plain_numbers(systems):
    first, second = csv.DictReader(io.StringIO(format_tables(tables_of(systems), "csv")))
    assert second["system"] == NAME and float(second["CIDEr"]) == 1.0 and float(second["CIDEr_upper"]) == 1.1
    assert float(first["single_METEOR" if "single_METEOR" in first else "METEOR"]) == 0.2
    assert first["vocabulary"] == "40" and first["mBLEU-4"] == "" and second["test_loss"] == ""
    assert "ROUGE_L_lower" not in first


def test_one_system_has_no_best(systems):
    assert "textbf" not in format_tables(tables_of({"base": systems["base"]}), "latex")


def test_what_is_missing_is_said_with_its_reason(systems):
    assert missing_measures(systems) == [
        "mBLEU-4 unavailable for base: one caption each.",
        f"test loss unavailable for {NAME}: a file has no model.",
    ]


def test_an_unknown_format_is_refused(systems):
    with pytest.raises(ConfigurationError, match="there are: latex, markdown, csv"):
        format_tables(tables_of(systems), "html")
