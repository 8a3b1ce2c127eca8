"""Reviews: marks and notes in the store of the ratings, and what they add up to."""

from __future__ import annotations

import json

import pytest

from blip_refine.errors import ConfigurationError, DataError
from blip_refine.evaluation.error_analysis import wilson
from blip_refine.evaluation.human import RatingStudy
from blip_refine.evaluation.human_summary import summarize
from blip_refine.evaluation.rating_questions import MARKS, MAX_NOTE
from blip_refine.evaluation.review_summary import summarize_review


def make(folder, count=8, **options):
    rows = [
        {"image_id": str(number), "systems": {"before": f"before {number}", "after": f"after {number}"}}
        for number in range(count)
    ]
    options = {"check_every": 0, "kind": "review", **options}
    return RatingStudy.create(folder / "review.sqlite", rows, **options)


def review(study, rater, judge, note=lambda caption: ""):
    """A reviewer who marks every caption with what `judge` says of it."""
    study.sign_in(rater)
    while (task := study.next_task(rater)) is not None:
        if task.check:
            wanted = task.captions[0].split("mark ")[1].split()[0]
            study.save(task.task, rater, [{wanted: 1}])
            continue
        marks = [dict.fromkeys(judge(caption), 1) for caption in task.captions]
        study.save(task.task, rater, marks, notes=[note(caption) for caption in task.captions])


def bad(caption):
    """ "before" makes things up in every second image, and "after" in none."""
    name, number = caption.split()
    return ["hallucination"] if name == "before" and int(number) % 2 == 0 else []


def test_marks_are_counted_with_wilson_intervals(tmp_path):
    study = make(tmp_path)
    review(study, "ann", bad, note=lambda caption: "a boat,\n not  a car" if caption == "before 0" else "")
    found = summarize_review(study)
    rate = found.systems["before"]["hallucination"]
    assert (rate.marked, rate.captions, rate.share) == (4, 8, 0.5) and (rate.low, rate.high) == wilson(4, 8)
    assert found.systems["after"]["hallucination"].marked == found.systems["before"]["omission"].marked == 0
    assert found.systems["before"]["any"].marked == 4 and found.systems["after"]["any"].marked == 0
    assert (found.images, found.reviews) == (8, 16)
    assert found.alpha == dict.fromkeys(MARKS) and set(found.alpha_undefined.values()) == {"one rater"}
    assert found.notes == (
        {
            "image_id": "0",
            "system": "before",
            "caption": "before 0",
            "note": "a boat, not a car",
            "marks": ["hallucination"],
            "rater": "rater 1",
        },
    )
    stored = json.dumps(found.to_dict())
    assert "ann" not in stored and "a boat" not in stored and json.loads(stored)["notes"] == 1


def test_several_reviewers_count_by_half_and_agree_as_far_as_they_do(tmp_path):
    study = make(tmp_path, ratings_per_image=3)
    review(study, "ann", bad)
    review(study, "bob", bad)
    review(study, "eve", lambda caption: ["omission"])
    found = summarize_review(study)
    before = found.systems["before"]
    assert before["hallucination"].marked == 4, "two of three"
    assert before["omission"].marked == 0, "one of three"
    assert before["any"].marked == 4 and found.reviews == 48
    # By hand (nominal alpha, 3 reviewers, 16 captions): omission is marked by one of three everywhere.
    pairs = 16 * 3
    observed, expected = 2 / 3, 2 * 16 * 32 / (pairs * (pairs - 1))
    assert found.alpha["omission"] == pytest.approx(1 - observed / expected)
    assert found.alpha_undefined == {"repetition": "all ratings are equal"} and found.alpha["repetition"] is None
    two = summarize_review(study, exclude=["eve"])
    assert two.alpha["hallucination"] == pytest.approx(1) and two.reviews == 32 and two.excluded == ("eve",)
    reports = {one.rater: one for one in found.raters}
    assert not any("always" in text or "disagrees" in text for text in reports["ann"].anomalies)


def test_checks_are_judged_and_marking_everything_is_seen(tmp_path):
    study = make(tmp_path, count=12, check_every=4, ratings_per_image=2)
    review(study, "ann", bad)
    study.sign_in("bob")
    while (task := study.next_task("bob")) is not None:
        study.save(task.task, "bob", [dict.fromkeys(MARKS, 1)] * len(task.captions))
    ann, bob = summarize_review(study).raters
    assert ann.checks == ann.passed == 3 and bob.checks == 3 and bob.passed == 0
    assert "marked everything" in bob.anomalies and any("attention checks" in text for text in bob.anomalies)


def test_what_cannot_be_marked_is_refused_and_nothing_is_kept(tmp_path):
    study = make(tmp_path)
    study.sign_in("ann")
    task = study.next_task("ann")
    for marks, notes, said in (
        ([{}], None, "2 captions were shown, and 1"),
        ([{}, {"boring": 1}], None, "Caption 2 is marked with 'boring'"),
        ([{"omission": 2}, {}], None, "set or not, and not 2"),
        ([{}, {}], ["", "x" * (MAX_NOTE + 1)], "note on caption 2 has 501 letters"),
    ):
        with pytest.raises(DataError, match=said):
            study.save(task.task, "ann", marks, notes=notes)
    with pytest.raises(DataError, match="holds no reviews yet"):
        summarize_review(study)
    assert study.next_task("ann") == task


def test_kinds_of_studies_do_not_mix(tmp_path):
    study = make(tmp_path)
    with pytest.raises(ConfigurationError, match=r"kind review: name another file"):
        make(tmp_path, kind="rating")
    with pytest.raises(ConfigurationError, match="no study of kind 'vote'"):
        make(tmp_path / "other", kind="vote")
    ratings = make(tmp_path / "ratings", kind="rating")
    with pytest.raises(ConfigurationError, match="kind rating, not a review"):
        summarize_review(ratings)
    with pytest.raises(ConfigurationError, match="kind review"):
        summarize(study)


def test_a_study_of_before_there_were_reviews_is_one_of_ratings(tmp_path):
    study = make(tmp_path, kind="rating")
    with study.connect() as database:
        database.execute("DELETE FROM settings WHERE name = 'kind'")
        database.execute("DROP TABLE notes")
    again = RatingStudy(study.path)
    again.sign_in("ann")
    task = again.next_task("ann")
    again.save(task.task, "ann", [{"fluency": 3, "relevance": 3, "quality": 3}] * 2)
    assert again.kind == "rating" and summarize(again).ratings == 2
