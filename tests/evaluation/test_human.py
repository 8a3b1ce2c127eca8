from __future__ import annotations

import itertools
import json
import multiprocessing
import sqlite3
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from blip_refine.errors import ConfigurationError, DataError, SourceFormatError, SourceNotFoundError
from blip_refine.evaluation.human import CRITERIA, RatingStudy
from blip_refine.evaluation.human_summary import summarize
from blip_refine.metrics.agreement import agreement, describe_agreement

# What newer Pythons will refuse (numbered placeholders with a sequence, from 3.14 on) is refused already.
pytestmark = pytest.mark.filterwarnings("error:Binding:DeprecationWarning")

QUALITY = {"before": 1, "after": 4, "refined": 5}


def items(count, systems=tuple(QUALITY)):
    return [
        {
            "image_id": str(number),
            "image": f"images/{number}.png",
            "systems": {name: f"{name} {number}" for name in systems},
        }
        for number in range(count)
    ]


def make(path, count=6, systems=tuple(QUALITY), **options):
    return RatingStudy.create(path / "ratings.sqlite", items(count, systems), **{"check_every": 0, **options})


def rate(study, rater, judge=None, limit=1000, preference=False):
    """A rater who answers everything; `judge` gives one score to a caption."""
    judge = judge or (lambda caption: QUALITY[caption.split()[0]])
    done = []
    while len(done) < limit and (task := study.next_task(rater)) is not None:
        if task.check:
            score = int(task.captions[0].split("answer ")[1][0])
            study.save(task.task, rater, [dict.fromkeys(CRITERIA, score)])
            continue
        scores = [dict.fromkeys(CRITERIA, judge(caption)) for caption in task.captions]
        liked = int(np.argmax([score["quality"] for score in scores])) if preference else None
        study.save(task.task, rater, scores, liked)
        done.append(task)
    return done


def test_everyone_sees_every_picture_once_blind_and_in_other_orders(tmp_path):
    study = make(tmp_path, ratings_per_image=3)
    orders = Counter()
    for rater in ("ann", "bob", "eve"):
        study.sign_in(rater)
        done = rate(study, rater)
        assert [task.place for task in done] == list(range(1, 7))
        assert {task.image.name for task in done} == {f"{number}.png" for number in range(6)}
        orders.update(tuple(caption.split()[0] for caption in task.captions) for task in done)
    # 18 tasks over 6 orders: exactly balanced.
    assert set(orders) == set(itertools.permutations(QUALITY)) and set(orders.values()) == {3}
    assert study.next_task("ann") is None and study.progress("ann") == (6, 6)


def test_pictures_are_rated_as_often_as_asked_and_not_more(tmp_path):
    study = make(tmp_path, ratings_per_image=2)
    for rater in ("ann", "bob", "eve"):
        study.sign_in(rater)
    assert [len(rate(study, rater)) for rater in ("ann", "bob", "eve")] == [6, 6, 0]


def test_a_rater_who_comes_back_goes_on_at_the_same_picture(tmp_path):
    study = make(tmp_path)
    study.sign_in("ann")
    rate(study, "ann", limit=2)
    left = study.next_task("ann")
    again = RatingStudy(study.path)
    assert again.next_task("ann") == left
    assert again.progress("ann") == (2, 6)


def test_an_answer_sent_twice_counts_once(tmp_path):
    study = make(tmp_path)
    study.sign_in("ann")
    task = study.next_task("ann")
    study.save(task.task, "ann", [dict.fromkeys(CRITERIA, 3)] * 3)
    study.save(task.task, "ann", [dict.fromkeys(CRITERIA, 5)] * 3)
    assert summarize(study).systems["after"]["quality"].mean == 3


def test_systems_that_say_the_same_are_shown_once_and_rated_alike(tmp_path):
    rows = [{"image_id": "1", "systems": {"before": "a cat", "after": "a dog", "refined": "a dog"}}]
    study = RatingStudy.create(tmp_path / "ratings.sqlite", rows)
    study.sign_in("ann")
    task = study.next_task("ann")
    assert sorted(task.captions) == ["a cat", "a dog"] and task.image is None
    scores = [dict.fromkeys(CRITERIA, 5 if caption == "a dog" else 2) for caption in task.captions]
    study.save(task.task, "ann", scores, task.captions.index("a dog"))
    found = summarize(study)
    assert found.systems["after"]["fluency"].mean == found.systems["refined"]["fluency"].mean == 5
    duel = next(duel for duel in found.duels if (duel.system, duel.baseline) == ("refined", "after"))
    assert (duel.wins, duel.ties, duel.losses) == (0, 1, 0)


def test_attention_checks_come_and_are_judged(tmp_path):
    study = make(tmp_path, count=12, check_every=4, ratings_per_image=2)
    for rater in ("ann", "bob"):
        study.sign_in(rater)
    rate(study, "ann")
    while (task := study.next_task("bob")) is not None:
        # Never reads: always answers 3.
        study.save(task.task, "bob", [dict.fromkeys(CRITERIA, 3)] * len(task.captions))
    ann, bob = summarize(study).raters
    assert ann.checks == 3 and ann.passed == 3 and not any("checks" in text for text in ann.anomalies)
    assert bob.passed < bob.checks
    assert any("attention checks" in text for text in bob.anomalies) and "always answered 3" in bob.anomalies
    assert any("seconds a caption" in text for text in ann.anomalies), "a machine rates faster than anyone reads"


def test_twenty_raters_at_once_end_balanced(tmp_path):
    study = make(tmp_path, count=40, ratings_per_image=6, check_every=7)
    raters = [study.sign_in(f"rater {number}") for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        done = list(pool.map(lambda rater: rate(study, rater, limit=10), raters))
    assert [len(tasks) for tasks in done] == [10] * 20
    with sqlite3.connect(study.path) as database:
        per_image = [
            row[0] for row in database.execute("SELECT COUNT(*) FROM tasks WHERE item IS NOT NULL GROUP BY item")
        ]
        orders = [
            row[0] for row in database.execute("SELECT COUNT(*) FROM tasks WHERE item IS NOT NULL GROUP BY shown")
        ]
        (ratings,) = database.execute("SELECT COUNT(*) FROM ratings").fetchone()
    # 200 tasks over 40 pictures: five each, but where the last free one had been seen by its rater already.
    assert sum(per_image) == 200 and len(per_image) == 40 and set(per_image) <= {4, 5, 6}
    assert len(orders) == 6 and max(orders) - min(orders) <= 6
    assert ratings == 200 * 3 * 3, "not one answer is lost"


def _rate_in_process(path, rater):
    rate(RatingStudy(path), rater, limit=8)


def test_several_processes_share_a_study(tmp_path):
    study = make(tmp_path, count=20, ratings_per_image=2)
    raters = [study.sign_in(f"rater {number}") for number in range(4)]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_rate_in_process, args=(study.path, rater)) for rater in raters]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    with sqlite3.connect(study.path) as database:
        per_image = [row[0] for row in database.execute("SELECT COUNT(*) FROM tasks GROUP BY item")]
    # 32 of 40 places: whoever has rated at most 7 pictures always finds one of the 9 or more places that are left on
    # another. With all 40 asked for, the last place can fall on a picture that its rater has seen.
    assert sorted(per_image) == [1] * 8 + [2] * 12


def test_summary_of_known_ratings(tmp_path):
    study = make(tmp_path, count=10, ratings_per_image=2)
    for rater in ("ann", "bob"):
        study.sign_in(rater)
        rate(study, rater, preference=True)
    found = summarize(study)
    assert found.images == 10 and found.ratings == 60
    assert found.systems["after"]["relevance"].mean == 4 and found.systems["after"]["relevance"].ratings == 20
    assert found.alpha == {criterion: pytest.approx(1.0) for criterion in CRITERIA}
    duel = next(duel for duel in found.duels if (duel.system, duel.baseline) == ("refined", "before"))
    assert (duel.wins, duel.ties, duel.losses) == (20, 0, 0) and duel.win_rate == 1 and duel.low > 0.8
    assert duel.difference == 4 and duel.p_corrected < 0.05
    after = next(duel for duel in found.duels if (duel.system, duel.baseline) == ("after", "before"))
    assert after.ties == 20, "the best of three is neither of the two"
    value = found.to_dict()
    assert json.dumps(value) and "ann" not in json.dumps(value)
    assert summarize(study, exclude=["bob"]).ratings == 30


def test_a_rater_against_the_others_is_seen(tmp_path):
    study = make(tmp_path, count=10, ratings_per_image=4)
    for rater in ("ann", "bob", "dan", "eve"):
        study.sign_in(rater)
        upside_down = (lambda caption: 6 - QUALITY[caption.split()[0]]) if rater == "eve" else None
        rate(study, rater, upside_down)
    found = {report.rater: report for report in summarize(study).raters}
    assert found["eve"].agreement < -0.9 and any("disagrees" in text for text in found["eve"].anomalies)
    assert found["ann"].agreement > 0.9 and not any("disagrees" in text for text in found["ann"].anomalies)


def test_alpha_of_the_published_example():
    # Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability", example C: four observers, twelve units.
    rows = (
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    )
    table = np.array([[np.nan if cell == "." else float(cell) for cell in row.split()] for row in rows])
    assert agreement(table).alpha == pytest.approx(0.815, abs=5e-4) and agreement(table).reason is None


def test_agreement_that_is_undefined_says_why():
    nan = np.nan
    for table, reason in (
        ([[3.0, 4.0]], "one rater"),
        ([[3.0, 4.0], [nan, nan]], "one rater"),
        ([[1.0, nan], [nan, 2.0]], "no caption was rated by two raters"),
        ([[3.0, 3.0], [3.0, 3.0]], "all ratings are equal"),
    ):
        assert agreement(np.array(table)) == (None, reason)
    assert describe_agreement({"a": None, "b": None}, {"a": "one rater", "b": "one rater"}) == "undefined (one rater)"
    told = describe_agreement({"a": 0.5, "b": None}, {"b": "all ratings are equal"})
    assert told == "a 0.50, b undefined (all ratings are equal)"


def test_with_one_rater_agreement_is_undefined_and_not_zero(tmp_path):
    study = make(tmp_path, count=4)
    study.sign_in("ann")
    rate(study, "ann")
    found = summarize(study)
    assert found.alpha == dict.fromkeys(CRITERIA) and set(found.alpha_undefined.values()) == {"one rater"}
    stored = json.loads(json.dumps(found.to_dict()))
    assert stored["alpha"]["quality"] is None and stored["alpha_undefined"]["quality"] == "one rater"
    # Two raters who always agree on one score: chance would agree as well.
    study.sign_in("bob")
    rate(study, "bob", lambda caption: 4)
    assert summarize(study, exclude=["ann"]).alpha_undefined["quality"] == "one rater"


def test_tokens(tmp_path):
    study = make(tmp_path)
    token = study.add_rater(" ann  b ")
    assert study.rater_of(token) == "ann b" and study.rater_of(token + "x") is None and study.rater_of("") is None
    assert token.encode() not in study.path.read_bytes()
    newer = study.add_rater("ann b")
    assert study.rater_of(token) is None and study.rater_of(newer) == "ann b"
    with pytest.raises(ConfigurationError, match="1 to 80"):
        study.sign_in("  ")


def test_bad_answers_are_refused_and_nothing_is_kept(tmp_path):
    study = make(tmp_path)
    study.sign_in("ann")
    task = study.next_task("ann")
    good = [dict.fromkeys(CRITERIA, 3)] * 3
    for scores, preferred, message in (
        (good[:2], None, "3 captions were shown, and 2"),
        ([*good[:2], {"fluency": 3, "relevance": 3}], None, "Caption 3 has no answer from 1 to 5 for quality"),
        ([*good[:2], dict.fromkeys(CRITERIA, 6)], None, "from 1 to 5"),
        (good, 3, "no caption 4"),
    ):
        with pytest.raises(DataError, match=message):
            study.save(task.task, "ann", scores, preferred)
    with pytest.raises(DataError, match="not given to 'bob'"):
        study.save(task.task, "bob", good)
    with pytest.raises(DataError, match="no ratings yet"):
        summarize(study)


def test_studies_that_cannot_be(tmp_path):
    with pytest.raises(SourceNotFoundError, match="no rating study"):
        RatingStudy(tmp_path / "none.sqlite")
    (tmp_path / "text.sqlite").write_text("no database, but longer than a header of a hundred bytes is " * 5)
    with pytest.raises(SourceFormatError, match="not a rating study"):
        RatingStudy(tmp_path / "text.sqlite")
    with pytest.raises(DataError, match="no image"):
        RatingStudy.create(tmp_path / "a.sqlite", [])
    rows = [{"image_id": "1", "systems": {"a": "x"}}, {"image_id": "2", "systems": {"b": "x"}}]
    with pytest.raises(DataError, match="'2' has captions of"):
        RatingStudy.create(tmp_path / "b.sqlite", rows)
    with pytest.raises(ConfigurationError, match="at least one rating"):
        RatingStudy.create(tmp_path / "c.sqlite", rows[:1], ratings_per_image=0)
    make(tmp_path, count=3)
    with pytest.raises(ConfigurationError, match="study of other captions"):
        make(tmp_path, count=4)
    assert make(tmp_path, count=3).systems == tuple(QUALITY)
