from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main
from blip_refine.cli.rate import _begin
from blip_refine.evaluation.human import CRITERIA, RatingStudy
from blip_refine.evaluation.rating_questions import MARKS
from blip_refine.hub.card import render_model_card
from blip_refine.report.report import write_report

from ..report.run_folder import make_run


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(["rate", *(str(argument) for argument in arguments)])
    printed = capsys.readouterr()
    return stopped.value.code, printed.out, printed.err


@pytest.fixture
def rated(tmp_path):
    """A run with a small study that two raters finished: "refined" is liked best."""
    run = make_run(tmp_path / "run", images=6)
    study = _begin(run, run / "ratings.sqlite", "before,refined", 4, 2, 0, 0)
    rows = {row["image_id"]: row["systems"] for row in map(json.loads, (run / "predictions.jsonl").open())}
    liked = {systems["refined"] for systems in rows.values()}
    for rater in ("ann", "bob"):
        study.sign_in(rater)
        while (task := study.next_task(rater)) is not None:
            scores = [dict.fromkeys(CRITERIA, 5 if caption in liked else 2) for caption in task.captions]
            study.save(task.task, rater, scores)
    return run


def test_summary_joins_the_report(rated, capsys):
    code, out, error = command(capsys, rated, "--summary")
    assert code == 0 and "4 images, 16 ratings" in out
    assert "refined against before" in out and "Krippendorff" in out
    assert "ann: took" in error, "a machine rates faster than anyone reads"
    human = json.loads((rated / "human.json").read_text())
    assert human["systems"]["refined"]["quality"]["mean"] == 5
    page = write_report(rated, plots=False).read_text(encoding="utf-8")
    assert "What people say" in page and "Krippendorff" in page


def test_summary_without_a_rater(rated, capsys):
    code, out, _ = command(capsys, rated, "--summary", "--exclude", "bob", "--json")
    found = json.loads(out)
    assert code == 0 and found["ratings"] == 8
    assert found["alpha"] == dict.fromkeys(CRITERIA) and found["alpha_undefined"]["quality"] == "one rater"
    code, out, _ = command(capsys, rated, "--summary", "--exclude", "bob")
    assert code == 0 and "ordinal): undefined (one rater)" in out
    page = write_report(rated, plots=False).read_text(encoding="utf-8")
    assert "undefined (one rater)" in page and "0.00</strong>" not in page


def test_who_is_left_out_has_rated(rated, capsys):
    code, _, error = command(capsys, rated, "--summary", "--exclude", "bop")
    assert code == 2 and "--exclude 'bop' names no rater; there are ann, bob." in " ".join(error.split())
    code, _, error = command(capsys, rated, "--summary", "--exclude", "ann", "--exclude", "bob")
    assert code == 2 and "holds no ratings of others" in " ".join(error.split())
    assert not (rated / "human.json").exists()


def test_study_draws_images_and_systems(rated):
    study = RatingStudy(rated / "ratings.sqlite")
    assert study.systems == ("before", "refined")
    with study.connect() as database:
        images = [row["image"] for row in database.execute("SELECT image FROM items")]
    assert len(images) == 4 and all(image and image.endswith(".png") for image in images)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--summary"], "There is no rating study"),
        (["--systems", "other"], "There is no system 'other'"),
        (["--host", "0.0.0.0"], "name them with --raters"),
        (["--review", "3", "--summary"], "leave out --review"),
        (["--review", "3", "--images", "2"], "leave out --images"),
        (["--review", "3", "--preference"], "leave out --preference"),
        (["--review", "3", "--systems", "other"], "There is no system 'other'"),
    ],
)
def test_what_cannot_be_served(tmp_path, capsys, arguments, message):
    run = make_run(tmp_path / "run", images=3)
    code, _, error = command(capsys, run, *arguments)
    assert code == 2 and message in error and "Traceback" not in error


def test_no_pictures_to_rate(tmp_path, capsys):
    run = make_run(tmp_path / "run", images=3)
    for picture in (run / "images").iterdir():
        picture.unlink()
    code, _, error = command(capsys, run)
    assert code == 2 and "keeps no pictures to rate" in error


@pytest.fixture
def reviewed(rated):
    """The rated run with a review of three images, too: "before" is marked, and one caption has a note."""
    study = _begin(rated, rated / "review.sqlite", "before,refined", 3, 2, 0, 0, "review")
    rows = {row["image_id"]: row["systems"] for row in map(json.loads, (rated / "predictions.jsonl").open())}
    drafts = {systems["before"] for systems in rows.values()}
    for rater in ("ann", "bob"):
        study.sign_in(rater)
        while (task := study.next_task(rater)) is not None:
            marks = [{"omission": 1} if caption in drafts else {} for caption in task.captions]
            notes = ["<b>says nothing</b>" if mark and rater == "ann" else "" for mark in marks]
            study.save(task.task, rater, marks, notes=notes)
    return rated


def test_reviews_join_ratings_in_summary_report_and_card(reviewed, capsys):
    code, out, _ = command(capsys, reviewed, "--summary")
    assert code == 0 and "4 images, 16 ratings" in out and "3 images, 12 reviews" in out
    assert "3 of 3 [44%, 100%]" in out and "0 of 3 [0%, 56%]" in out
    assert "nominal): hallucination undefined (all ratings are equal)" in out and "omission 1.00" in out
    human = json.loads((reviewed / "human.json").read_text())
    assert human["systems"]["refined"]["quality"]["mean"] == 5, "the ratings are still there"
    assert human["review"]["systems"]["before"]["omission"]["marked"] == 3 and human["review"]["notes"] == 3
    assert "says nothing" not in json.dumps(human), "human.json is published, and notes are not"
    notes = [json.loads(line) for line in (reviewed / "review_notes.jsonl").open()]
    assert len(notes) == 3 and notes[0]["note"] == "<b>says nothing</b>" and notes[0]["marks"] == ["omission"]
    page = write_report(reviewed, plots=False).read_text(encoding="utf-8")
    assert "What people marked" in page and "3 of 3, 100 %" in page and "omission 1.00" in page
    (reviewed / "config.json").write_text('{"model_type": "blip"}')
    card = render_model_card(reviewed)
    assert "| omission | 3 of 3: 100.0 % [43.9, 100.0] | 0 of 3: 0.0 % [0.0, 56.1] |" in card
    assert "12 reviews of captions, 3 images, 2 reviewers" in card


def test_a_review_alone_is_summarized_and_shown(reviewed, capsys):
    (reviewed / "ratings.sqlite").unlink()
    code, _, _ = command(capsys, reviewed, "--summary", "--exclude", "bob")
    human = json.loads((reviewed / "human.json").read_text())
    assert code == 0 and set(human) == {"review"}
    assert human["review"]["alpha_undefined"] == dict.fromkeys(MARKS, "one rater")
    page = write_report(reviewed, plots=False).read_text(encoding="utf-8")
    assert "What people marked" in page and "undefined (one rater)" in page and "What people say" not in page


def test_one_study_by_itself_keeps_the_part_of_the_other(reviewed, capsys):
    command(capsys, reviewed, "--summary")
    whole = json.loads((reviewed / "human.json").read_text())
    for name in ("review.sqlite", "ratings.sqlite"):
        code, _, _ = command(capsys, reviewed, "--summary", "--database", reviewed / name)
        assert code == 0 and json.loads((reviewed / "human.json").read_text()) == whole


def test_a_review_is_not_begun_in_a_file_of_ratings(reviewed, capsys):
    code, _, error = command(capsys, reviewed, "--review", "3", "--database", reviewed / "ratings.sqlite")
    assert code == 2 and "is a study of kind rating: name another file" in error
