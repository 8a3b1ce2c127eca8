"""Diversity with its reasons, and the test loss of a real captioner."""

from __future__ import annotations

import math

import pytest

from blip_refine.data.sources import load_source
from blip_refine.evaluation.caption_set import OF_A_REFINER, WITHIN_IMAGE, diversity_of, diversity_row, loss_of
from blip_refine.evaluation.evaluator import PipelineSystem
from blip_refine.models.scoring import score_texts
from blip_refine.pipeline import CaptionPipeline
from blip_refine.records import Caption


def test_what_needs_several_captions_is_absent_with_a_reason():
    row = diversity_row({"1": "a dog", "2": "a dog"})
    assert row["vocabulary"] == 2 and row["unique_captions"] == 0
    assert set(row["unavailable"]) == {*WITHIN_IMAGE, "novel_captions"} and not set(row) & set(WITHIN_IMAGE)
    few = diversity_row({"1": "a dog", "2": "a cat"}, {"1": ["a dog", "one dog"], "2": ["a cat"]})
    assert "1 have fewer ('2')" in few["unavailable"]["mBLEU_4"]


def test_several_captions_and_the_training_captions():
    groups = {"1": ["a dog runs on grass", "a dog runs on grass"], "2": ["two red cars", "a blue boat sails"]}
    row = diversity_row({"1": groups["1"][0], "2": groups["2"][0]}, groups, training_captions=["Two red cars."])
    assert "unavailable" not in row and row["captions_per_image"] == 2 and row["novel_captions"] == 0.5
    assert row["self_bleu"] == pytest.approx(0.5, abs=0.01)  # one pair is the same, the other has nothing in common
    assert row["div_1"] == pytest.approx((5 / 10 + 7 / 7) / 2)


def test_a_refiner_gives_one_caption():
    row = diversity_of({"1": Caption("a dog", "dog", candidates=("a", "b"), outcome="changed")})
    assert row["unavailable"]["self_bleu"] == OF_A_REFINER


@pytest.mark.slow
@pytest.mark.parametrize("prompt", ["", "a picture of "])
def test_the_loss_is_the_mean_over_all_tokens(prompt):
    records = load_source("scenes:everyday", split="test")[:3]
    pipeline = CaptionPipeline.from_pretrained("starter", prompt=prompt, batch_size=2)
    found = loss_of(PipelineSystem(pipeline), records)
    scores = []
    for record in records:
        values = pipeline.processor.image_processor(images=record.image, return_tensors="pt").pixel_values
        texts = [[prompt + text for text in record.captions]]
        scores += score_texts(pipeline.model, pipeline.processor, values, texts, prompt=prompt)[0]
    expected = -math.fsum(one.log_prob for one in scores) / sum(one.tokens for one in scores)
    assert found["nats_per_token"] == pytest.approx(expected, rel=1e-3)
    assert found["captions"] == len(scores) and found["images"] == 3 and found["tokens"] > len(scores)


def test_what_is_no_captioner_has_no_loss():
    assert "only a captioner" in loss_of({"1": "a dog"}, None)["unavailable"]
