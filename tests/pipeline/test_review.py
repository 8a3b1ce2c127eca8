"""What a person looks at first, and where the captioner should keep silent."""

from __future__ import annotations

import random

import pytest

from blip_refine.errors import ConfigurationError
from blip_refine.records import Caption
from blip_refine.review import ReviewRules, calibrate_abstention, review_queue


def said(text: str, confidence: float | None = -0.5, **others) -> Caption:
    return Caption(text, others.pop("draft", text), confidence=confidence, image_id=text, **others)


def test_the_threshold_keeps_as_much_as_the_target_allows():
    rng = random.Random(0)
    confidences = [-rng.random() * 2 for _ in range(500)]
    right = [float(rng.random() < 1 + confidence / 2.5) for confidence in confidences]
    found = calibrate_abstention(confidences, right, target=0.85)
    kept = [good for confidence, good in zip(confidences, right, strict=True) if confidence >= found.abstain_below]
    assert found.quality == pytest.approx(sum(kept) / len(kept)) and found.quality >= 0.85 > found.quality_of_all
    assert found.kept == pytest.approx(len(kept) / 500)
    for lower in sorted(confidence for confidence in confidences if confidence < found.abstain_below):
        more = [good for confidence, good in zip(confidences, right, strict=True) if confidence >= lower]
        assert sum(more) / len(more) < 0.85


def test_equal_confidences_stay_together_and_vain_hopes_are_named():
    found = calibrate_abstention([-1.0] * 30 + [-2.0] * 30, [1.0] * 30 + [0.0] * 30, target=0.9)
    assert (found.abstain_below, found.kept) == (-1.0, 0.5)
    with pytest.raises(ConfigurationError, match="reach at most 0.5"):
        calibrate_abstention([-1.0] * 40, [1.0, 0.0] * 20, target=0.9)
    with pytest.raises(ConfigurationError, match="too few"):
        calibrate_abstention([-1.0] * 5, [1.0] * 5, target=0.5)
    with pytest.raises(ConfigurationError, match="2 confidences and 1 qualities"):
        calibrate_abstention([-1.0, -2.0], [1.0], target=0.5)


def test_the_queue_begins_with_flagged_and_unsure_captions():
    captions = [
        said("sure", -0.1),
        said("unsure", -2.0),
        said("broken", error="cannot be read"),
        said("flagged", -0.2, review="says a blocked word"),
        said("unknown", None),
    ]
    assert [one.image_id for one in review_queue(captions)] == ["flagged", "unknown", "unsure", "sure"]
    gains = [said("habit", -0.1, image_gain=0.5), said("seen", -0.9, image_gain=9.0)]
    assert [one.image_id for one in review_queue(gains)] == ["habit", "seen"]


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("a man with a GUN", True),
        ("a gunner", False),
        ("hot  dogs", False),
        ("a hot   dog.", True),
        ("hot-dog", False),
        ("C++ on a screen", True),
        ("a \uff27\uff35\uff2e", True),
        ("a g\u00adun", True),
        ("the kid\u2019s toy", True),
        ("EINE STRASSE", True),
        ("", False),
    ],
)
def test_blocked_words_are_whole_words(text, flagged):
    rules = ReviewRules(blocked_words=["gun", "hot dog", "C++", " ", "kid's", "straße"])
    assert (rules.block(said(text)).review is not None) is flagged


def test_a_word_that_only_the_refiner_said_gives_the_draft_back():
    rules = ReviewRules(blocked_words=["gun"])
    kept = rules.block(said("a man with a gun", draft="a man", refined=True))
    assert (kept.text, kept.refined, kept.review) == ("a man", False, None) and "'gun'" in kept.reason
    both = rules.block(said("a man with a gun", draft="a gun", refined=True))
    assert both.text == "" and both.review and both.draft == "a gun"


@pytest.mark.parametrize("threshold", [0.5, float("nan"), "-1"])
def test_a_threshold_that_is_no_log_probability_is_refused(threshold):
    with pytest.raises(ConfigurationError, match="a mean log-probability, such as -1.5"):
        ReviewRules(threshold)
    with pytest.raises(ConfigurationError, match="None is none"):
        ReviewRules(blocked_words=["gun", None])


def test_numbers_that_are_none_are_not_calibrated_with():
    for values in ([None] * 30, [float("nan")] * 30):
        with pytest.raises(ConfigurationError, match="The confidence of caption 0 is"):
            calibrate_abstention(values, [1.0] * 30, target=0.5)
        with pytest.raises(ConfigurationError, match="The quality of caption 0 is"):
            calibrate_abstention([-1.0] * 30, values, target=0.5)
    with pytest.raises(ConfigurationError, match="cannot be 0"):
        calibrate_abstention([], [], target=0.5, at_least=0)
