from __future__ import annotations

import pytest

from blip_refine.errors import MetricError
from blip_refine.metrics import caption_diversity, caption_set_diversity
from blip_refine.metrics.diversity import repeats_itself, repetition_statistics
from blip_refine.metrics.statistics import bootstrap_interval


def test_by_hand():
    found = caption_diversity({"1": "A dog runs.", "2": "a dog runs", "3": "a cat sleeps on a mat"})
    assert found.captions == 3 and found.vocabulary == 7
    assert found.distinct_1 == pytest.approx(7 / 12)
    assert found.distinct_2 == pytest.approx(7 / 9)
    assert found.unique_captions == pytest.approx(1 / 3)
    assert found.mean_length == pytest.approx(4.0)
    assert found.repetition_rate == 0.0
    assert found.to_dict()["vocabulary"] == 7


@pytest.mark.parametrize(
    ("caption", "repeats"),
    [
        ("a man and a woman", False),
        ("a dog a dog runs", True),
        ("a very very big dog", True),
        ("a red and white and red and white sign", True),
        ("the man in the hat and the man in the coat", True),
        ("a man with a dog and a man with a cat", True),
        ("a man on a bench next to a woman on a chair", False),
        ("", False),
        ("dog", False),
    ],
)
def test_repetition(caption, repeats):
    assert repeats_itself(caption.split()) is repeats


def test_repetition_can_be_resampled():
    statistics = repetition_statistics({str(n): "a dog a dog" if n % 4 == 0 else "a cat" for n in range(100)})
    interval = bootstrap_interval(statistics["repetition_rate"], 500)
    assert interval.score == 0.25 and 0.15 < interval.low < 0.25 < interval.high < 0.35
    assert statistics["mean_length"].corpus == pytest.approx(2.5)


def test_captions_of_one_image():
    same = caption_set_diversity({"1": ["a dog runs in the park"] * 3, "2": ["two boats on a lake"] * 2})
    assert same.self_bleu == pytest.approx(1.0, abs=1e-6) and same.mbleu["4"] == pytest.approx(1.0, abs=1e-6)
    varied = caption_set_diversity({"1": ["a dog runs in the park", "the brown animal is outside", "grass"]})
    assert varied.self_bleu < 0.05 and varied.mbleu["1"] < 0.3
    assert varied.distinct_1 == pytest.approx(11 / 12)
    assert varied.to_dict()["mBLEU_4"] == varied.mbleu["4"]
    assert len(same.statistics["self_bleu"]) == 2


def test_bad_input():
    with pytest.raises(MetricError, match="no captions"):
        caption_diversity({})
    with pytest.raises(MetricError, match="at least two captions of each: 1 have fewer .'2'"):
        caption_set_diversity({"1": ["a", "b"], "2": ["a"]})
    with pytest.raises(MetricError, match="at least two"):
        caption_set_diversity({"1": "a caption"})
