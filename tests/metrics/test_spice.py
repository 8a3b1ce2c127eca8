from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest

from blip_refine.errors import BlipRefineError, ConfigurationError, MetricError
from blip_refine.installation import install_command
from blip_refine.metrics import score_captions, spice
from blip_refine.metrics.java import Java, find_java
from blip_refine.metrics.statistics import bootstrap_interval

from .captions import PREDICTIONS, REFERENCES

CORENLP = spice.CORENLP


@pytest.fixture
def corenlp(tmp_path, monkeypatch):
    """A folder with files of the right names, as far as finding them goes."""
    pytest.importorskip("pycocoevalcap")
    for name in CORENLP:
        (tmp_path / name).write_bytes(b"")
    monkeypatch.setenv(spice.SPICE_HOME, str(tmp_path))
    return tmp_path


def test_without_corenlp_it_is_unavailable_and_the_command_that_gets_it_is_named(monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap")
    monkeypatch.delenv(spice.SPICE_HOME, raising=False)
    monkeypatch.setattr(spice, "corenlp_folder", lambda: tmp_path)
    scores = score_captions(PREDICTIONS, REFERENCES, ["Bleu_1", "SPICE"])
    assert scores.unavailable["SPICE"] == (
        "SPICE needs Stanford CoreNLP 3.6.0, which `blip-refine fetch spice` downloads."
    )
    assert list(scores.corpus) == ["Bleu_1"] and "SPICE" not in scores.per_image
    monkeypatch.setenv(spice.SPICE_HOME, str(tmp_path))
    reason = score_captions(PREDICTIONS, REFERENCES, ["SPICE"]).unavailable["SPICE"]
    for part in (str(tmp_path), *CORENLP, "blip-refine fetch spice", "BLIP_REFINE_SPICE_HOME"):
        assert part in reason


def test_without_its_program_it_is_unavailable_with_what_to_install(monkeypatch):
    monkeypatch.setattr(spice, "find_spec", lambda name: None)
    scores = score_captions(PREDICTIONS, REFERENCES, ["SPICE"])
    assert install_command("metrics") in scores.unavailable["SPICE"]


def test_command_opens_modules_and_bounds_memory(corenlp, tmp_path):
    jars = spice.corenlp_jars(spice.spice_jar())
    new = spice.spice_command(Java("java", 17), spice.spice_jar(), jars, tmp_path / "in", tmp_path / "out")
    old = spice.spice_command(Java("java", 8), spice.spice_jar(), jars, tmp_path / "in", tmp_path / "out")
    assert any(option.startswith("--add-opens=java.base/java.util=") for option in new)
    assert not any(option.startswith("--add-opens") for option in old)
    (memory,) = [option for option in new if option.startswith("-Xmx")]
    assert 2 <= int(memory.removeprefix("-Xmx").removesuffix("G")) <= 8
    classes = new[new.index("-cp") + 1]
    assert all(str(jar) in classes for jar in jars) and new[-5] == "edu.anu.spice.SpiceScorer"


def result(image_id, score):
    return {"image_id": image_id, "scores": {"All": {"pr": 0.5, "re": 0.5, "f": score}, "Object": {"f": None}}}


def test_scores_go_to_their_own_images_in_whatever_order():
    assert spice.read_spice([result(2, 0.3), result(0, 0.1), result(1, 0.2)], 3).tolist() == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([result(0, 0.1)], "no score for 1 of 2 images .the first is 1"),
        ([result(0, None), result(1, 0.1)], "no score for an image"),
        ([result(0, float("nan")), result(1, 0.1)], "no score for 1 of 2"),
        ([result(7, 0.1)], "no score for an image"),
        ([{"image_id": 0}], "no score for an image"),
    ],
)
def test_a_missing_score_is_an_error_and_not_zero(rows, message):
    with pytest.raises(MetricError, match=message):
        spice.read_spice(rows, 2)


def test_a_sample_is_seeded_and_said(monkeypatch):
    asked = []

    def run_spice(predictions, references):
        asked.append(list(predictions))
        return np.linspace(0.1, 0.2, len(predictions))

    monkeypatch.setattr(spice, "run_spice", run_spice)
    predictions = {str(n): f"word{n}" for n in range(50)}
    references = {image_id: [f"the {text}"] for image_id, text in predictions.items()}
    scores = score_captions(predictions, references, ["Bleu_1", "SPICE"], spice_images=10, seed=3)
    again = score_captions(predictions, references, ["SPICE"], spice_images=10, seed=3)
    assert "spice:1.0.sample10.seed3" in scores.signature
    assert len(scores.per_image["SPICE"]) == 10 and len(scores.per_image["Bleu_1"]) == 50
    assert list(scores.per_image["SPICE"]) == list(again.per_image["SPICE"]) and asked[0] == asked[1]
    assert [f"word{image_id}" for image_id in scores.per_image["SPICE"]] == asked[0]
    assert bootstrap_interval(scores.statistics["SPICE"], 50).score == pytest.approx(0.15)
    whole = score_captions(predictions, references, ["SPICE"])
    assert "spice:1.0|" in whole.signature and len(whole.per_image["SPICE"]) == 50


@pytest.mark.java
def test_a_program_that_fails_is_quoted(corenlp):
    """The real program, with empty files in the place of CoreNLP's jars: it cannot start its parser."""
    try:
        find_java()
    except BlipRefineError as error:
        pytest.skip(str(error))
    with pytest.raises(MetricError, match=r"(?s)SPICE failed with exit code \d+. It said: .*edu"):
        spice.run_spice(["a dog"], [["a dog runs"]])


@pytest.mark.java
@pytest.mark.skipif(sys.platform == "win32", reason="a shell script stands for Java")
def test_the_whole_way_with_a_program_that_answers(corenlp, monkeypatch, tmp_path):
    """CoreNLP is not to be had everywhere; what goes in and comes out is as the program has it."""
    answer = tmp_path / "bin" / "java"
    answer.parent.mkdir()
    answer.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        "if '-version' in sys.argv: print('openjdk version \"17.0.1\"'); raise SystemExit\n"
        "source, target = sys.argv[-4], sys.argv[-2]\n"
        "rows = json.load(open(source))\n"
        "assert rows[0]['refs'] and isinstance(rows[0]['test'], str)\n"
        "scores = [{'image_id': r['image_id'], 'scores': {'All': {'f': r['image_id'] / 10}}} for r in rows]\n"
        "json.dump(scores[::-1], open(target, 'w'))\n"
    )
    answer.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert shutil.which(str(answer))
    scores = score_captions(PREDICTIONS, REFERENCES, ["SPICE"])
    assert scores.unavailable == {} and list(scores.per_image["SPICE"].values()) == [0.0, 0.1, 0.2, 0.3]


def test_home_without_jars_is_named(monkeypatch, tmp_path):
    pytest.importorskip("pycocoevalcap")
    (tmp_path / CORENLP[0]).write_bytes(b"")
    monkeypatch.setenv(spice.SPICE_HOME, str(tmp_path))
    with pytest.raises(ConfigurationError, match="lacks stanford-corenlp-3.6.0-models.jar"):
        spice.corenlp_jars(spice.spice_jar())
