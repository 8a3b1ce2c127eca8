"""The first lines of the report say what was tested, and no more."""

from __future__ import annotations

from blip_refine.evaluation.compare import compare_systems
from blip_refine.evaluation.evaluator import write_results
from blip_refine.report.results import read_run
from blip_refine.report.story import sentence, tiles

THINGS = ("ball", "house", "boat", "tree", "star", "fish", "car", "dog", "bird", "kite", "bus", "lamp")
REFERENCES = {thing: [f"a {thing} on grass", f"the {thing} on grass"] for thing in THINGS}
GOOD = {thing: f"the {thing} on grass" for thing in THINGS}
POOR = dict.fromkeys(THINGS, "a thing")


def story(folder, systems, **options):
    found = compare_systems(systems, REFERENCES, metrics=["Bleu_1"], resamples=200, single_reference=False, **options)
    write_results(folder, found.to_dict(), found.rows())
    run = read_run(folder)
    shown = tiles(run)
    return sentence(run, shown), {tile.system: (tile.baseline, tile.verdict) for tile in shown}


def test_a_few_systems_are_told_one_after_the_other(tmp_path):
    text, shown = story(tmp_path, {"before": POOR, "after": GOOD, "again": GOOD})
    assert text.startswith("After is better than before (Bleu_1 +0.")
    assert text.endswith("between after and again there is no clear difference (Bleu_1 +0.000) on 12 held-out images.")
    assert shown == {
        "before": (None, None), "after": ("before", "better"), "again": ("after", "no clear difference")
    }  # fmt: skip


def test_of_many_the_best_is_named_with_what_it_was_tested_against(tmp_path):
    systems = {"first": POOR, "rules": POOR, "best": GOOD, "consensus": POOR}
    text, shown = story(tmp_path / "a", systems, pairs="baseline")
    assert text.startswith("Of 4 systems, best scores highest (Bleu_1 1.000); best is better than first (Bleu_1 +")
    assert {baseline for baseline, _ in shown.values()} == {None, "first"}
    assert shown["consensus"] == ("first", "no clear difference"), "not 'not tested' against its neighbour"
    text, _ = story(tmp_path / "b", {"first": GOOD, "b": POOR, "c": POOR, "d": POOR}, pairs="baseline")
    assert text == "Of 4 systems, first scores highest (Bleu_1 1.000) on 12 held-out images."
