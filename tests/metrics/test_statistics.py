from __future__ import annotations

import numpy as np
import pytest

from blip_refine.errors import MetricError
from blip_refine.metrics import score_captions
from blip_refine.metrics import statistics as statistics_module
from blip_refine.metrics.statistics import (
    MetricStatistics,
    approximate_randomization,
    approximate_randomizations,
    bootstrap_all,
    bootstrap_interval,
    bootstrap_scores,
    effects,
    paired_bootstrap,
    paired_bootstraps,
    resample_counts,
)

from .captions import random_captions

IDS = tuple(str(n) for n in range(400))


def of_mean(values, name="m"):
    return MetricStatistics.from_mean(name, IDS[: len(values)], np.asarray(values))


@pytest.fixture(scope="module")
def two_systems():
    predictions, references = random_captions(1, images=80)
    other, _ = random_captions(2, images=80)
    metrics = ["Bleu", "ROUGE_L", "CIDEr"]
    return score_captions(predictions, references, metrics), score_captions(other, references, metrics), references


def test_statistics_aggregate_to_the_corpus_score(two_systems):
    for name, statistics in two_systems[0].statistics.items():
        assert statistics.corpus == two_systems[0].corpus[name]
        assert statistics.per_image.tolist() == list(two_systems[0].per_image[name].values())


def test_a_resample_scores_as_scoring_it_again(two_systems):
    """The cached statistics of a multiset of images give what scoring those captions anew gives."""
    predictions, references = random_captions(1, images=80)
    drawn = np.random.default_rng(0).integers(0, 80, 80)
    ids = list(references)
    again = score_captions(
        {str(n): predictions[ids[i]] for n, i in enumerate(drawn)},
        {str(n): references[ids[i]] for n, i in enumerate(drawn)},
        ["Bleu", "ROUGE_L"],
    )
    counts = np.bincount(drawn, minlength=80).astype(float)
    for name, value in again.corpus.items():
        statistics = two_systems[0].statistics[name]
        assert float(statistics.aggregate(counts @ statistics.rows)) == pytest.approx(value, abs=1e-12)


def test_interval_is_the_normal_one_for_a_mean():
    values = np.random.default_rng(0).normal(5.0, 2.0, 400)
    interval = bootstrap_interval(of_mean(values), resamples=4000, seed=1)
    half = 1.96 * values.std() / 20
    assert interval.score == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.03)
    wide = bootstrap_interval(of_mean(values), resamples=4000, level=0.99, seed=1)
    assert wide.low < interval.low < interval.high < wide.high


def test_seeded_and_independent_of_the_chunk_size(monkeypatch, two_systems):
    a, b, _ = two_systems
    statistics = a.statistics["Bleu_4"]
    first = bootstrap_scores(statistics, 300, seed=7)
    monkeypatch.setattr(statistics_module, "_CHUNK_CELLS", 999)
    assert np.allclose(bootstrap_scores(statistics, 300, seed=7), first, rtol=0, atol=1e-15)
    assert not np.allclose(bootstrap_scores(statistics, 300, seed=8), first)
    small = approximate_randomization(a.statistics["CIDEr"], b.statistics["CIDEr"], 500, seed=3)
    monkeypatch.undo()
    assert approximate_randomization(a.statistics["CIDEr"], b.statistics["CIDEr"], 500, seed=3) == small


def test_each_resample_draws_as_many_images_as_there_are():
    counts = np.concatenate(list(resample_counts(50, 200, seed=0)))
    assert counts.shape == (200, 50) and (counts.sum(axis=1) == 50).all()
    assert counts.mean() == pytest.approx(1.0) and counts.std() == pytest.approx(0.99, abs=0.05)


def test_paired_tests_see_a_real_difference_and_none_where_there_is_none():
    draw = np.random.default_rng(0)
    a = draw.normal(0.5, 0.2, 400)
    better, same = of_mean(a + 0.02 + draw.normal(0, 0.05, 400)), of_mean(a + draw.normal(0, 0.05, 400))
    for test in (paired_bootstrap, approximate_randomization):
        found = test(of_mean(a), better, 2000, seed=1)
        assert found.p_value < 0.001 and found.difference == pytest.approx(0.02, abs=0.01)
        assert test(of_mean(a), same, 2000, seed=1).p_value > 0.01
        assert test(better, of_mean(a), 2000, seed=1).difference == -found.difference
        identical = test(of_mean(a), of_mean(a), 500)
        assert identical.p_value == 1.0 and identical.difference == 0.0
    interval = paired_bootstrap(of_mean(a), better, 2000)
    assert interval.low < 0.02 < interval.high and interval.low > 0 and interval.level == 0.95


def test_false_alarms_are_as_rare_as_the_level_says():
    """150 comparisons of equal systems: at the level of 0.05 about 8 may look different."""
    draw = np.random.default_rng(0)
    alarms = {"bootstrap": 0, "randomization": 0}
    for seed in range(150):
        base = draw.normal(0, 1, 100)
        a, b = of_mean(base + draw.normal(0, 0.3, 100)), of_mean(base + draw.normal(0, 0.3, 100))
        alarms["bootstrap"] += paired_bootstrap(a, b, 120, seed=seed).p_value < 0.05
        alarms["randomization"] += approximate_randomization(a, b, 120, seed=seed).p_value < 0.05
    assert all(1 <= count <= 18 for count in alarms.values()), alarms


def test_together_is_as_by_itself(two_systems):
    a, b, _ = two_systems
    names = list(a.statistics)
    pairs = [(a.statistics[name], b.statistics[name]) for name in names]
    for together, alone in (
        (paired_bootstraps(pairs, 200, seed=5), [paired_bootstrap(*pair, 200, seed=5) for pair in pairs]),
        (approximate_randomizations(pairs, 300, seed=5), [approximate_randomization(*p, 300, seed=5) for p in pairs]),
    ):
        assert [one.name for one in together] == names
        for ours, theirs in zip(together, alone, strict=True):
            assert ours.p_value == theirs.p_value and ours.difference == theirs.difference
            if theirs.low is not None:
                assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert bootstrap_all([]) == [] and approximate_randomizations([]) == []
    other = of_mean([0.1, 0.2, 0.3])
    with pytest.raises(MetricError, match="over different ones"):
        bootstrap_all([a.statistics[names[0]], other])


def test_exact_under_all_swaps():
    a, b = of_mean([0.0, 0.0, 0.0, 0.0, 0.0]), of_mean([1.0, 1.0, 1.0, 1.0, 1.0])
    # 2 of the 32 swaps are as extreme as all five in one direction.
    found = approximate_randomization(a, b, 20_000, seed=0)
    assert found.p_value == pytest.approx(2 / 32, abs=0.006)


def test_bleu_is_compared_as_a_corpus_score_not_as_a_mean(two_systems):
    a, b, _ = two_systems
    found = paired_bootstrap(a.statistics["Bleu_2"], b.statistics["Bleu_2"], 200)
    assert found.a == a.corpus["Bleu_2"] and found.b == b.corpus["Bleu_2"]
    assert found.a != pytest.approx(np.mean(list(a.per_image["Bleu_2"].values())), abs=1e-4)


def test_effect_per_image(two_systems):
    a, b, references = two_systems
    difference = effects(a.statistics["CIDEr"], b.statistics["CIDEr"])
    expected = [b.per_image["CIDEr"][i] - a.per_image["CIDEr"][i] for i in references]
    assert difference.tolist() == pytest.approx(expected)


def test_what_cannot_be_compared_is_refused():
    a = of_mean([0.1, 0.2, 0.3])
    with pytest.raises(MetricError, match="one metric; these are m and n"):
        paired_bootstrap(a, of_mean([0.1, 0.2, 0.3], "n"))
    with pytest.raises(MetricError, match="other images: 1 only in the first .2., 0 only in the second"):
        paired_bootstrap(a, of_mean([0.1, 0.2]))
    with pytest.raises(MetricError, match="in another order"):
        effects(a, MetricStatistics.from_mean("m", ("2", "1", "0"), np.array([0.1, 0.2, 0.3])))
    with pytest.raises(MetricError, match="at least two images; there is 1"):
        bootstrap_interval(of_mean([0.5]))
    with pytest.raises(MetricError, match="at least one resample, not 0"):
        bootstrap_interval(a, resamples=0)
    with pytest.raises(MetricError, match="between 0 and 1"):
        bootstrap_interval(a, level=95)
