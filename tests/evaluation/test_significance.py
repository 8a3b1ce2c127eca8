from __future__ import annotations

import numpy as np
import pytest

from blip_refine.errors import ConfigurationError, MetricError
from blip_refine.evaluation.significance import choose_pairs, compare_scores, enough_trials, holm, paired_test
from blip_refine.metrics.score import score_captions
from blip_refine.metrics.statistics import MetricStatistics


def statistics(values, name="CIDEr"):
    return MetricStatistics.from_mean(name, [str(place) for place in range(len(values))], np.asarray(values))


def test_holm_on_a_worked_example():
    # By hand: sorted .005 .01 .03 .04, times 4 3 2 1, never falling.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_wins_ties_losses_and_the_extremes():
    baseline = [0.5, 0.5, 0.5, 0.5, 0.5]
    system = [0.9, 0.5, 0.5 + 1e-13, 0.1, 0.7]
    test = paired_test(statistics(system), statistics(baseline), ("new", "old"), examples=1)
    assert (test.wins, test.ties, test.losses) == (2, 2, 1)
    assert test.gained == (("0", pytest.approx(0.4)),) and test.lost == (("3", pytest.approx(-0.4)),)
    assert test.difference == pytest.approx(0.04)
    assert test.verdict() == "no clear difference"
    assert test.to_dict()["gained"] == [{"image_id": "0", "gain": pytest.approx(0.4)}]


def test_a_clear_difference_has_a_direction():
    rng = np.random.default_rng(0)
    low, high = rng.normal(0.3, 0.1, 200), rng.normal(0.5, 0.1, 200)
    assert paired_test(statistics(high), statistics(low), ("b", "a")).verdict() == "better"
    worse = paired_test(statistics(low), statistics(high), ("a", "b"))
    assert worse.verdict() == "worse" and worse.high < 0


def test_what_nobody_can_see_makes_nothing_better():
    rng = np.random.default_rng(0)
    values = rng.random(200)
    shifted = paired_test(statistics(values + 1e-5), statistics(values), ("b", "a"))
    assert shifted.p_corrected < 0.001 and shifted.verdict() == "no clear difference"
    assert paired_test(statistics(values + 1e-3), statistics(values), ("b", "a")).verdict() == "better"


def test_equal_systems_are_called_different_five_times_in_a_hundred():
    """1,000 pairs of systems that differ by chance alone: the false alarms at 0.05 are about 5 %."""
    rng = np.random.default_rng(7)
    alarms = bracketed = 0
    for trial in range(1000):
        quality = rng.gamma(2.0, 0.4, 100)
        first, second = (statistics(np.maximum(quality + rng.normal(0, 0.3, 100), 0)) for _ in range(2))
        test = paired_test(second, first, ("b", "a"), resamples=200, trials=200, seed=trial)
        alarms += test.p_value < 0.05
        bracketed += test.low <= 0 <= test.high
    # 1,000 draws at 5 %: a standard deviation is 0.7 %; four of them either way.
    assert 0.022 < alarms / 1000 < 0.078
    assert 0.90 < bracketed / 1000 < 0.98


def test_one_of_many_equal_systems_is_called_better_at_most_five_times_in_a_hundred():
    """Corrected, the chance of any false alarm among five comparisons stays near 5 %; uncorrected it is over 15 %."""
    rng = np.random.default_rng(3)
    corrected = plain = 0
    for trial in range(300):
        quality = rng.gamma(2.0, 0.4, 60)
        systems = [statistics(quality + rng.normal(0, 0.3, 60)) for _ in range(6)]
        tests = [
            paired_test(system, systems[0], ("b", "a"), resamples=1, trials=400, seed=trial) for system in systems[1:]
        ]
        plain += any(test.p_value < 0.05 for test in tests)
        corrected += any(value < 0.05 for value in holm([test.p_value for test in tests]))
    assert corrected / 300 < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
    assert plain / 300 > 0.1


def test_every_pair_and_metric_is_corrected_for_all():
    references = {
        str(place): [f"a {word} on the grass", f"the {word} is here"] for place, word in enumerate("abcdefgh")
    }
    right = {key: texts[0] for key, texts in references.items()}
    wrong = {key: "some other thing" for key in references}
    names = ["Bleu", "CIDEr"]
    scores = {
        "wrong": score_captions(wrong, references, names),
        "right": score_captions(right, references, names),
        "again": score_captions(right, references, names),
    }
    tests = compare_scores(scores, resamples=50, trials=999)
    assert {(test.system, test.baseline) for test in tests} == {
        ("right", "wrong"),
        ("again", "wrong"),
        ("again", "right"),
    }
    assert len(tests) == 15
    best = min(tests, key=lambda test: test.p_value)
    assert best.p_corrected == pytest.approx(min(1.0, 15 * best.p_value))
    same = next(test for test in tests if (test.system, test.baseline) == ("again", "right"))
    assert same.ties == len(references) and same.p_value == 1.0 and same.verdict() == "no clear difference"


def test_trials_are_enough_to_find_anything_after_correction():
    for tests in (1, 21, 500):
        assert tests / (enough_trials(tests) + 1) < 0.05 / 5


def test_pairs():
    assert choose_pairs(["a", "b", "c"], "all") == [("b", "a"), ("c", "a"), ("c", "b")]
    assert choose_pairs(["a", "b", "c"], "baseline") == [("b", "a"), ("c", "a")]
    assert choose_pairs(["a", "b"], [("a", "b")]) == [("a", "b")]
    with pytest.raises(ConfigurationError, match="no system 'x'"):
        choose_pairs(["a", "b"], [("a", "x")])
    with pytest.raises(ConfigurationError, match="'all', 'baseline'"):
        choose_pairs(["a", "b"], "some")


def test_other_images_are_refused():
    with pytest.raises(MetricError):
        paired_test(statistics([1.0, 2.0, 3.0]), statistics([1.0, 2.0]), ("b", "a"))
