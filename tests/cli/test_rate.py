from __future__ import annotations

import json

import pytest

from blip_refine.cli.main import main
from blip_refine.cli.rate import _begin
from blip_refine.evaluation.human import CRITERIA, RatingStudy
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
