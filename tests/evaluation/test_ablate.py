from __future__ import annotations

import json
from dataclasses import replace

import pytest
from PIL import Image

from blip_refine.errors import ConfigurationError, MetricError, RefinerUnansweredError
from blip_refine.evaluation.ablate import make_grid, mark_best, run_ablation
from blip_refine.evaluation.ablation_cells import Cell
from blip_refine.jsonlines import read_jsonl, write_jsonl
from blip_refine.records import Caption, CaptionRecord
from blip_refine.refine.captions import refine_captions
from blip_refine.refine.consensus import ConsensusRefiner
from blip_refine.report.report import write_report

from ..refine.server import FakeModel, serving

METRICS = ["Bleu", "CIDEr"]
THINGS = ("ball", "house", "boat", "tree", "star", "fish", "car", "dog", "bird", "kite", "bus", "lamp")


@pytest.fixture
def records():
    return [
        CaptionRecord(Image.new("RGB", (8, 8), (20 * k, 0, 0)), (f"A {thing} on the grass.", f"the {thing}"), thing)
        for k, thing in enumerate(THINGS)
    ]


class Captioners:
    """Captioners by preset that count what they are asked, and can be made to die."""

    def __init__(self, records):
        self.names = {id(record.image): record.image_id for record in records}
        self.asked: dict[str, int] = {}
        self.dies_after = None

    def __call__(self, preset):
        def caption(images):
            if self.dies_after is not None and self.asked.get(preset, 0) >= self.dies_after:
                raise KeyboardInterrupt
            self.asked[preset] = self.asked.get(preset, 0) + len(images)
            texts = [f"a {self.names[id(image)]} on the grass" for image in images]
            return [Caption(text, text, candidates=(text, "a thing"), confidence=-1.0) for text in texts]

        return caption


def test_a_grid_varies_prompts_and_guards_only_where_a_model_is_asked():
    cells = make_grid(["fast", "accurate"], ["none", "rules", "openai:m"], ["correct", "refine"], ["form", "none"])
    assert len(cells) == len(set(cells)) == 2 * (1 + 1 + 4)
    assert Cell("fast") in cells and Cell("fast", "rules") in cells
    assert Cell("fast", "openai:m", "correct", "none") in cells
    assert make_grid(["fast"], ["bart"], ["correct"]) == [Cell("fast", "bart")]
    with pytest.raises(ConfigurationError, match="at least one"):
        make_grid([], ["none"])


def test_nothing_is_computed_twice_and_prices_are_what_a_cell_costs_alone(records, tmp_path):
    captioners, model = Captioners(records), FakeModel()
    cells = make_grid(["fast", "accurate"], ["none", "rules", "openai:m"], (), ["form", "none"])
    with serving(model) as running:
        options = {"base_url": running.url, "prices": (1.0, 2.0), "structured": False}
        found = run_ablation(
            captioners, records, cells, tmp_path / "a", metrics=METRICS, resamples=50, batch_size=4,
            refiner_options=options,
        )  # fmt: skip
        asked = len(model.calls)
        again = run_ablation(
            captioners, records, cells, tmp_path / "a", metrics=METRICS, resamples=50, batch_size=4,
            refiner_options=options,
        )  # fmt: skip
        assert len(model.calls) == asked
    assert captioners.asked == {"fast": 12, "accurate": 12}
    # Both presets say the same here, and other guards look at the same answers: twelve drafts, twelve questions.
    assert asked == 12
    priced = [one for one in found.cells if one.cell.refiner == "openai:m"]
    assert len(priced) == 4
    for one in priced:
        assert one.tokens == 110 and one.cost == pytest.approx((100 * 1.0 + 10 * 2.0) / 1e6)
        assert one.changed == 1.0 and one.seconds > 0
    free = [one for one in found.cells if one.cell.refiner != "openai:m"]
    assert all(one.tokens == 0 and one.cost == 0 for one in free)
    assert found.cells[0].difference is None and all(one.difference is not None for one in found.cells[1:])
    assert any(one.best for one in found.cells)
    assert [one.to_dict() for one in again.cells] == [one.to_dict() for one in found.cells]
    value = json.loads((tmp_path / "a" / "ablation.json").read_text())
    assert value["metric"] == "CIDEr" and len(value["cells"]) == len(cells)
    page = write_report(tmp_path / "a").read_text(encoding="utf-8")
    assert "What pays" in page and "fast | openai:m | guards=form" in page
    assert (tmp_path / "a" / "report" / "pareto.png").is_file()


def test_what_a_server_did_not_answer_is_said_and_asked_again(records, tmp_path):
    captioners, model, cells = Captioners(records), FakeModel(), make_grid(["fast"], ["none", "rules>openai:m"])
    down = {"a ball", "a house"}
    model.behave = lambda call: "error" if call.draft.lower().startswith(tuple(down)) else "answer"

    def ablate():
        options = {"base_url": running.url, "structured": False, "max_retries": 0}
        return run_ablation(
            captioners, records, cells, tmp_path, metrics=METRICS, resamples=50, batch_size=4, refiner_options=options
        )

    with serving(model) as running:
        found = ablate()
        counts = found.cells[1].to_dict()["refinement"]
        assert counts["asked"] == 12 and counts["changed"] == 10 and sum(counts["unanswered"].values()) == 2
        assert found.cells[1].changed == 1.0, "the rules, which come first, changed those two as well"
        page = write_report(tmp_path).read_text(encoding="utf-8")
        assert page.count("<small>10 of 12 answered</small>") == 2 and "2 unanswered (" in page
        down.clear()
        asked = len(model.calls)
        found = ablate()
        assert len(model.calls) == asked + 2
        for again in (found, ablate()):
            assert again.cells[1].refinement == {"asked": 12, "changed": 12, "unchanged": 0}
        assert len(model.calls) == asked + 2
    with pytest.raises(RefinerUnansweredError, match="openai:other answered none of the 12 captions"):
        run_ablation(
            captioners, records, make_grid(["fast"], ["openai:other"]), tmp_path, metrics=METRICS, resamples=50,
            refiner_options={"base_url": running.url, "max_retries": 0},
        )  # fmt: skip


def test_a_refiner_is_asked_what_the_pipeline_asks_it(tmp_path):
    """The draft once, and the confidence in each candidate: both decide what `consensus` chooses."""
    texts = ("a red dog", "a cat sits here", "a cat sits", "a dog")
    caption = Caption(texts[0], texts[0], texts, -1.0, candidate_confidences=(-1.0, -9.0, -0.5, -2.0))
    records = [CaptionRecord(Image.new("RGB", (8, 8)), ("a cat sits", "the cat"), name) for name in "ab"]
    asked = []

    class Recording(ConsensusRefiner):
        def propose(self, requests, feedback):
            asked.extend(requests)
            return super().propose(requests, feedback)

    def ablate(captioner):
        cells = make_grid(["fast"], ["consensus"])
        return run_ablation(
            {"fast": captioner}, records, cells, tmp_path, metrics=METRICS, make_refiner=lambda name: Recording()
        )

    found = ablate(lambda images: [caption] * len(images))
    [shipped] = refine_captions(Recording(), [caption])
    assert asked[0].candidates == asked[-1].candidates == texts[1:]
    assert asked[0].candidate_confidences == asked[-1].candidate_confidences == (-9.0, -0.5, -2.0)
    assert found.comparison.captions[found.cells[0].cell.name]["a"].text == shipped.text == "a cat sits"

    # From the disk, the same; and drafts from before confidences were kept are not taken for such with them.
    number = len(asked)
    ablate(None)
    assert len(asked) == number, "nothing that the cell was made of has changed"
    for path in (tmp_path / "cells").iterdir():
        path.unlink()
    assert ablate(None).comparison.captions["fast | consensus"]["b"].text == shipped.text
    [part] = (tmp_path / "drafts").glob("*/*.jsonl")
    rows = read_jsonl(part)
    write_jsonl(part, [{key: value for key, value in row.items() if key != "candidate_confidences"} for row in rows])
    other = replace(caption, candidate_confidences=(-1.0, -0.1, -9.0, -9.0))
    found = ablate(lambda images: [other] * len(images))
    assert found.comparison.captions["fast | consensus"]["a"].text == "a cat sits here"


def test_a_prompt_that_was_rewritten_is_not_answered_by_an_old_cell(records, tmp_path):
    prompt, model = tmp_path / "mine.yaml", FakeModel()
    cells = make_grid(["fast"], ["openai:m"], [str(prompt)])
    with serving(model) as running:
        for word in ("Improve", "Improve", "Shorten"):
            prompt.write_text(f"name: mine\nsystem: {word} the caption.\nuser: '<caption>{{{{ draft }}}}</caption>'\n")
            run_ablation(
                Captioners(records), records, cells, tmp_path / "a", metrics=METRICS, resamples=50,
                refiner_options={"base_url": running.url},
            )  # fmt: skip
    assert len(model.calls) == 24, "twelve questions for each wording"


def test_an_interrupted_ablation_goes_on(records, tmp_path):
    captioners, cells = Captioners(records), make_grid(["fast"], ["none", "rules"])
    captioners.dies_after = 8
    with pytest.raises(KeyboardInterrupt):
        run_ablation(captioners, records, cells, tmp_path, metrics=METRICS, resamples=50, batch_size=1)
    assert captioners.asked == {"fast": 8}
    captioners.dies_after = None
    run_ablation(captioners, records, cells, tmp_path, metrics=METRICS, resamples=50, batch_size=1)
    assert captioners.asked == {"fast": 12}, "the eight that were done are not done again"


def test_what_could_not_be_captioned_is_tried_again(records, tmp_path):
    captioners, cells = Captioners(records), make_grid(["fast"])
    unreadable = [records[3].image]

    def at_first_one_fails(preset):
        caption = captioners(preset)
        failed = Caption("", "", error="the server that has it did not answer")
        return lambda images: [failed if image in unreadable else caption([image])[0] for image in images]

    found = run_ablation(at_first_one_fails, records, cells, tmp_path, metrics=METRICS, resamples=50, batch_size=4)
    assert list(found.comparison.skipped) == ["tree"] and captioners.asked == {"fast": 11}
    unreadable.clear()
    for _ in range(2):
        found = run_ablation(at_first_one_fails, records, cells, tmp_path, metrics=METRICS, resamples=50, batch_size=4)
        assert not found.comparison.skipped and captioners.asked == {"fast": 12}


def test_another_captioner_or_other_images_are_refused(records, tmp_path):
    cells = make_grid(["fast"])
    run_ablation(Captioners(records), records, cells, tmp_path, metrics=METRICS, resamples=50, captioner="one")
    with pytest.raises(ConfigurationError, match="another captioner"):
        run_ablation(Captioners(records), records, cells, tmp_path, metrics=METRICS, captioner="other")
    with pytest.raises(ConfigurationError, match="other images"):
        run_ablation(Captioners(records), records[:5], cells, tmp_path, metrics=METRICS, captioner="one")
    with pytest.raises(ConfigurationError, match="no metric 'WER'"):
        run_ablation(None, records, cells, tmp_path / "b", metrics=["WER"])
    with pytest.raises(MetricError, match="without a single reference"):
        run_ablation(None, [replace(records[0], captions=())], cells, tmp_path / "b")
    assert not (tmp_path / "b").exists(), "nothing was captioned in vain"
    with pytest.raises(ConfigurationError, match="grid of cells"):
        run_ablation(Captioners(records), records, [], tmp_path)


def test_pareto_front(records, tmp_path):
    found = run_ablation(Captioners(records), records, make_grid(["fast", "accurate"]), tmp_path, metrics=METRICS)
    base = found.cells[0]
    cells = [
        replace(base, scores={"CIDEr": score}, seconds=seconds, best=False)
        for score, seconds in ((1.0, 1.0), (2.0, 3.0), (1.5, 4.0), (1.0, 2.0), (2.0, 3.0))
    ]
    assert [one.best for one in mark_best(cells, "CIDEr")] == [True, True, False, False, True]
