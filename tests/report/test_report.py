from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from PIL import Image

from blip_refine.errors import SourceFormatError, SourceNotFoundError
from blip_refine.report.charts import ticks
from blip_refine.report.report import write_report

from .run_folder import edit, read_rows, write_rows


class Page(HTMLParser):
    """Elements and text of a page, and a check that every element is closed in order."""

    VOID = {"meta", "link", "img", "input", "br", "hr"}

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def test_page_holds_everything_of_a_run(run):
    page = write_report(run)
    assert page == run / "report" / "index.html"
    found = Page(page.read_text(encoding="utf-8"))
    for heading in (
        "Scores",
        "Training",
        "Captions at a glance",
        "Where it goes wrong",
        "whether it knows",
        "Pictures",
        "The run",
    ):
        assert heading in found.text
    metrics = json.loads((run / "coco_metrics.json").read_text())
    gain = metrics["systems"]["after"]["CIDEr"] - metrics["systems"]["before"]["CIDEr"]
    assert f"After is better than before (CIDEr {gain:+.3f})" in found.text
    assert "between after and refined there is no clear difference" in found.text
    assert "METEOR was not computed: there is no Java" in found.text
    ends = metrics["systems"]["after"]["intervals"]["Bleu_1"]
    assert f"{ends['low']:.3f}–{ends['high']:.3f}" in found.text, "intervals stand under the scores"
    pictures = [one for one in found.all("img") if "width" in one]
    assert len(pictures) == 24
    assert all(picture["src"].startswith("data:image/") for picture in found.all("img"))
    rows = read_rows(run)
    assert [picture["alt"] for picture in pictures] == [row["caption"] for row in rows]
    for name in ("loss", "metrics", "scores", "lengths", "confidence", "calibration", "slices", "samples/sample_01"):
        with Image.open(run / "report" / f"{name}.png") as plot:
            assert plot.width >= 480


def test_page_loads_nothing_from_outside(run):
    text = write_report(run, plots=False).read_text(encoding="utf-8")
    found = Page(text)
    for _, attributes in found.elements:
        for name in ("src", "href", "action", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#")), f"{name}={value}"
    assert not re.search(r"url\(|@import|https?://", text)
    policy = found.all("meta")[1]["content"]
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy


def test_text_from_data_is_never_markup(run):
    evil = '<script>alert(1)</script>"><img src=x onerror=alert(2)> {{ 7 * 7 }} </style>'
    rows = read_rows(run)
    rows[0] |= {"image_id": evil, "caption": evil, "references": [evil], "systems": {evil: evil, "after": evil}}
    write_rows(run, rows)

    def plant(metrics):
        metrics["systems"][evil] = metrics["systems"].pop("before") | {"signature": evil, "unavailable": {evil: evil}}
        metrics["comparisons"][0] |= {"system": evil, "metric": evil}

    edit(run / "coco_metrics.json", plant)
    edit(run / "run.json", lambda facts: facts.update({evil: evil, "versions": {evil: evil}}))
    edit(run / "trainer_state.json", lambda state: state["log_history"].append({"step": 1, f"eval_{evil}": 1.0}))
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8"))
    assert len(found.all("script")) == 1 and len(found.all("style")) == 1
    assert not any("onerror" in attributes for _, attributes in found.elements)
    assert all(picture["src"].startswith("data:") for picture in found.all("img"))
    assert "{{ 7 * 7 }}" in found.text


@pytest.mark.parametrize("missing", ["coco_metrics.json", "predictions.jsonl", "trainer_state.json", "run.json"])
def test_a_missing_file_costs_only_its_part(run, missing):
    (run / missing).unlink()
    Page(write_report(run, plots=False).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kept", ["coco_metrics.json", "predictions.jsonl", "trainer_state.json"])
def test_one_file_is_enough(run, kept):
    for path in run.glob("*.json*"):
        if path.name != kept:
            path.unlink()
    Page(write_report(run, plots=False).read_text(encoding="utf-8"))


def test_single_model_without_systems(run):
    edit(run / "coco_metrics.json", lambda metrics: (metrics.pop("systems"), metrics.pop("comparisons")))
    write_rows(run, [{"image_id": row["image_id"], "caption": row["caption"]} for row in read_rows(run)])
    score = json.loads((run / "coco_metrics.json").read_text())["CIDEr"]
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8"))
    assert f"CIDEr {score:.3f} on 24 held-out images." in found.text


def test_what_the_files_imply_is_computed(run):
    """Bare scores and captions, as a first version of a run may leave them: the report finds the rest out."""
    whole = Page(write_report(run, plots=False).read_text(encoding="utf-8")).text

    def strip(metrics):
        metrics.pop("comparisons")
        for scores in metrics["systems"].values():
            scores.pop("intervals")

    edit(run / "coco_metrics.json", strip)
    write_rows(run, [{key: value for key, value in row.items() if key != "scores"} for row in read_rows(run)])
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8")).text
    verdict = re.search(r"After is better than before \(CIDEr .*? held-out images\.", whole).group()
    assert verdict in found and "95 % interval" in found


def test_scores_of_another_evaluation_are_told(run):
    def other(metrics):
        metrics.pop("comparisons")
        metrics["systems"]["after"]["CIDEr"] += 0.5

    edit(run / "coco_metrics.json", other)
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8")).text
    assert "Take care. CIDEr of 'after' is" in found and "not of one evaluation" in found


def test_contaminated_scores_are_told_first(run):
    edit(run / "coco_metrics.json", lambda metrics: metrics.update(contaminated="3 images were trained on"))
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8")).text
    assert "Take care. These scores are contaminated: 3 images were trained on." in found


def test_the_final_caption_need_not_be_the_last_system(run):
    rows = read_rows(run)
    rows[0]["caption"] = "what the run stands for"
    write_rows(run, rows)
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8"))
    assert [one for one in found.all("img") if "width" in one][0]["alt"] == "what the run stands for"


def test_broken_picture_and_picture_outside_the_run(run, tmp_path):
    rows = read_rows(run)
    (run / rows[0]["image"]).write_bytes(b"no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    rows[1]["image"] = "../secret.png"
    write_rows(run, rows)
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8"))
    assert len([one for one in found.all("img") if "width" in one]) == 22


def test_planted_faults_are_found_and_shown(run):
    rows = read_rows(run)
    thing = rows[0]["objects"][0]["name"]
    planted = {
        "hallucination": f"a {rows[0]['objects'][0]['color']} {thing} and a zebra on the grass",
        "repetition": f"a {thing} and a {thing}",
        "omission": "the grass",
    }
    for row, caption in zip(rows, planted.values(), strict=False):
        row["systems"]["refined"] = row["caption"] = caption
    write_rows(run, rows)
    found = Page(write_report(run, plots=False).read_text(encoding="utf-8"))
    cards = [attributes for attributes in found.all("li") if attributes.get("class") == "card"]
    for card, kind in zip(cards, planted, strict=False):
        assert kind in card["data-faults"].split("|")
    assert "hallucination: zebra" in found.text
    assert "names 'zebra', which no reference mentions" in found.text
    assert f"introduces '{thing}' 2 times" in found.text


def test_gallery_is_bounded_and_keeps_the_extremes(run):
    found = Page(write_report(run, max_pictures=8, plots=False).read_text(encoding="utf-8"))
    cards = [attributes for attributes in found.all("li") if attributes.get("class") == "card"]
    assert len(cards) == 8
    rows = read_rows(run)
    gains = [row["scores"]["refined"]["CIDEr"] - row["scores"]["before"]["CIDEr"] for row in rows]
    shown = [float(card["data-gain"]) for card in cards]
    assert max(shown) == pytest.approx(max(gains)) and min(shown) == pytest.approx(min(gains))
    assert "8 of 24 evaluated images" in found.text


def test_same_files_give_the_same_page(run):
    first = write_report(run, plots=False).read_bytes()
    assert write_report(run, plots=False).read_bytes() == first


def test_scales_are_round_and_cover_what_they_show():
    assert ticks(0.0, 1.0) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    for low, high in ((0.0, 0.0), (6.1031211282307, 6.1031211282308), (-2.0, -2.0), (1e-12, 3e-12), (-1.2, 7.9)):
        found = ticks(low, high)
        assert len(found) >= 2 and found[0] <= low and found[-1] >= high and found == sorted(set(found))


def test_nothing_to_report_says_what_to_name(tmp_path):
    with pytest.raises(SourceNotFoundError, match="There is no run folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(SourceNotFoundError, match="blip-refine train"):
        write_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("predictions.jsonl", '{"image_id": 1}\n{"image_id": 1}', "'1' is there more than once"),
        ("human.json", '{"images": 3}', "no summary of ratings"),
        ("coco_metrics.json", "{", "is not JSON"),
        ("coco_metrics.json", "[]", "a JSON object was expected"),
        ("coco_metrics.json", '{"systems": {"a": 3}}', "'systems' is not an object of objects"),
        ("predictions.jsonl", '{"caption": "a"}', "row 1: there is no 'image_id'"),
        ("predictions.jsonl", '{"image_id": 1, "references": "a"}', "'references' is a list"),
        ("predictions.jsonl", '{"image_id": 1, "objects": ["a"]}', "'objects' is a list of objects"),
    ],
)
def test_broken_file_is_named(run, name, content, message):
    (run / name).write_text(content)
    with pytest.raises(SourceFormatError, match=message):
        write_report(run, plots=False)


def test_report_loads_no_model_library(run):
    code = f"""import sys
from blip_refine.report.charts import ticks
from blip_refine.report.report import write_report
write_report({str(run)!r}, plots=False)
assert not {{"torch", "transformers"}} & set(sys.modules)"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_a_caption_misses_is_said_of_the_last(run):
    rows = read_rows(run)
    references = ["a red kite flies high", "one red kite above", "the red kite"]
    systems = {"after": "a boat", "refined": "a red kite over here"}
    rows[0] |= {"caption": "a boat", "systems": systems, "references": references}
    write_rows(run, rows[:1])
    page = Page(write_report(run, plots=False).read_text(encoding="utf-8"))
    missed = [one for one in page.all("span") if one.get("class") == "missed" and one.get("title")]
    assert not missed  # "red" and "kite" are in the refined caption, if not in the draft
