"""Golden captions: with real weights, beams and full length, ours and stock say, score and learn what was recorded.

`golden.json` was made with the stock code of one release of `transformers`. Both sides are compared with it, so that a
release that changes stock, or a change here, shows which of the two moved.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from blip_refine.models.captioner import load_captioner
from blip_refine.models.decoding import generate_captions
from blip_refine.models.scoring import score_texts

from .make_golden import (
    LEARNING_RATE,
    SETTINGS,
    golden_captions,
    golden_options,
    golden_pixels,
    stock_decoding,
    stock_model,
    stock_scores,
    stock_step,
    text_batch,
)

GOLDEN = json.loads((Path(__file__).resolve().parent / "golden.json").read_text(encoding="utf-8"))
DEVICES = [
    "cpu",
    pytest.param("mps", marks=pytest.mark.skipif(not torch.backends.mps.is_available(), reason="no MPS")),
]


@pytest.fixture(scope="module")
def starter():
    return load_captioner("starter")


@pytest.fixture(scope="module")
def texts(starter):
    model, processor = starter
    return text_batch(processor, golden_captions(), model.config.text_config.bos_token_id)


def compare(found: list[dict], name: str, tolerance: float = 1e-4) -> None:
    expected = GOLDEN["decoding"][name]
    assert [image["tokens"] for image in found] == [image["tokens"] for image in expected]
    assert [image["text"] for image in found] == [image["text"] for image in expected]
    for image, wanted in zip(found, expected, strict=True):
        assert image["log_prob"] == pytest.approx(wanted["log_prob"], abs=tolerance)


def test_the_golden_captions_can_tell_right_from_wrong():
    captions = [tuple(image["tokens"]) for image in GOLDEN["decoding"]["accurate"]]
    assert len(captions) == 16 and len(set(captions)) >= 13, "pictures must have captions of their own"
    assert max(map(len, captions)) >= 12 and len({len(tokens) for tokens in captions}) >= 4
    fast = [tuple(image["tokens"]) for image in GOLDEN["decoding"]["fast"]]
    assert sum(one != other for one, other in zip(captions, fast, strict=True)) >= 4, "beams must matter"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", SETTINGS)
def test_ours_gives_the_golden_captions(starter, name, device):
    model, processor = starter
    decoded = generate_captions(model.to(device), processor, golden_pixels(), golden_options(name))
    model.to("cpu")
    found = [
        {"text": image.texts[0], "tokens": list(image.tokens[0]), "log_prob": image.log_probs[0]} for image in decoded
    ]
    compare(found, name, tolerance=1e-4 if device == "cpu" else 1e-3)


@pytest.mark.parametrize("whose", ["a stock model", "a model of ours"])
@pytest.mark.parametrize("name", SETTINGS)
def test_stock_generate_gives_the_golden_captions(starter, name, whose):
    ours, processor = starter
    compare(
        stock_decoding(stock_model() if whose == "a stock model" else ours, processor, golden_pixels(), name), name
    )


def test_stock_generate_after_training_and_captioning_is_still_stock():
    # What ours does to a model must leave nothing behind that stock would run into.
    model, processor = load_captioner("starter")
    pixels = golden_pixels()
    tokens, labels = text_batch(processor, golden_captions(), model.config.text_config.bos_token_id)
    model.train()
    model(pixel_values=pixels, input_ids=tokens, labels=labels, loss_only=True).loss.backward()
    generate_captions(model, processor, pixels, "fast")
    compare(stock_decoding(model.eval(), processor, pixels, "accurate"), "accurate")


def test_candidates_are_the_golden_ones(starter):
    model, processor = starter
    found = generate_captions(model, processor, golden_pixels(), "candidates")
    for image, expected in zip(found, GOLDEN["candidates"], strict=True):
        assert [list(tokens) for tokens in image.tokens] == expected["tokens"]
        assert image.log_probs == pytest.approx(expected["log_probs"], abs=1e-4)


def test_scores_of_texts_are_the_golden_ones(starter, texts):
    model, processor = starter
    pixels = golden_pixels()
    assert stock_scores(stock_model(), *texts, pixels) == pytest.approx(GOLDEN["scores"], abs=1e-3)
    ours = score_texts(model, processor, pixels, [[text] for text in golden_captions()])
    assert [score.log_prob for (score,) in ours] == pytest.approx(GOLDEN["scores"], abs=1e-3)
    right, wrong = GOLDEN["scores"][1::2], GOLDEN["scores"][::2]
    assert sum(right) > sum(wrong) + 100, "a caption must fit its own picture better than the next one"


def test_a_training_step_is_the_golden_one(texts):
    tokens, labels = texts
    pixels = golden_pixels().double()
    expected = GOLDEN["training"]
    assert stock_step(pixels, tokens, labels) == pytest.approx(expected, rel=1e-9)
    model, _ = load_captioner("starter", dtype="float64")
    stock = stock_model(torch.float64)
    stock(pixel_values=pixels, input_ids=tokens, labels=labels).loss.backward()
    loss = model(pixel_values=pixels, input_ids=tokens, labels=labels, loss_only=True).loss
    loss.backward()
    gradients = dict(stock.named_parameters())
    for name, parameter in model.named_parameters():
        difference = (parameter.grad - gradients[name].grad).norm()
        # The gradient of a key's bias is zero but for rounding: softmax does not see what is added to all keys.
        assert difference <= 1e-5 * gradients[name].grad.norm() + 1e-12 * expected["gradient_norm"], name
    norm = torch.stack([parameter.grad.norm() for parameter in model.parameters()]).norm()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= LEARNING_RATE * parameter.grad
        after = model(pixel_values=pixels, input_ids=tokens, labels=labels, loss_only=True).loss
    found = {"loss": loss.item(), "gradient_norm": norm.item(), "loss_after_a_step": after.item()}
    assert found == pytest.approx(expected, rel=1e-9)
