"""The start-up check: content with what is right, and loud where stock and ours differ."""

from __future__ import annotations

import logging

import pytest
import torch

from blip_refine.models.captioner import load_captioner
from blip_refine.models.stock_check import difference_from_stock


def test_stock_and_ours_agree_on_the_starter(starter_captioner):
    model, _ = starter_captioner
    assert difference_from_stock(model, vision=True) is None
    model.train()
    assert difference_from_stock(model) is None and model.training and model.text_decoder.training
    model.eval()


@pytest.mark.parametrize("dtype", ["float64", "bfloat16"])
def test_other_precisions(dtype):
    model, _ = load_captioner("starter", dtype=dtype)
    assert difference_from_stock(model, vision=True) is None


@pytest.mark.parametrize("part", ["decoder", "encoder"])
def test_a_stock_module_that_computes_something_else_is_named(part, monkeypatch):
    # A small change of one attention, as a release might bring it: captions still look like captions.
    model, _ = load_captioner("starter")
    attention = (
        model.text_decoder.bert.encoder.layer[1].crossattention.self
        if part == "decoder"
        else model.vision_model.encoder.layers[2].self_attn
    )
    right = attention.forward
    monkeypatch.setattr(attention, "forward", lambda *args, **kwargs: (right(*args, **kwargs)[0] * 0.97, None))
    said = difference_from_stock(model, vision=True)
    assert said and "computes BLIP otherwise" in said and "docs/compatibility.md" in said


def test_a_stock_module_that_no_longer_runs_is_named(monkeypatch, caplog):
    def forward(*args, **kwargs):
        raise TypeError("unexpected keyword 'cache'")

    model, _ = load_captioner("starter")
    monkeypatch.setattr(type(model.text_decoder), "forward", forward)
    assert "unexpected keyword 'cache'" in difference_from_stock(model)
    with caplog.at_level(logging.WARNING):
        load_captioner("starter")
    assert "can no longer run BLIP's stock modules" in caplog.text


def test_other_families_are_not_compared():
    class Blip2(torch.nn.Module):
        class config:  # noqa: N801
            model_type = "blip-2"

    assert difference_from_stock(Blip2()) is None
