"""The gradient of ours is the stock one's, under all that is put around a model in training."""

from __future__ import annotations

import pytest
import torch
import transformers
from torch._dynamo.backends.debugging import aot_eager

from blip_refine.models.adapters import add_lora
from blip_refine.models.captioner import load_captioner

from .make_golden import STARTER, golden_captions, golden_pixels, text_batch

IMAGES, CAPTIONS = 4, 4


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    _, processor = load_captioner("starter")
    tokens, labels = text_batch(processor, golden_captions(), 772)
    mask = (tokens != processor.tokenizer.pad_token_id).long()
    assert mask.min() == 0, "captions of several lengths"
    return {
        "pixel_values": golden_pixels()[:IMAGES],
        "input_ids": tokens,
        "attention_mask": mask,
        "labels": labels,
        "caption_counts": torch.full((IMAGES,), CAPTIONS),
    }


def make_stock() -> torch.nn.Module:
    return transformers.BlipForConditionalGeneration.from_pretrained(STARTER, attn_implementation="eager").train()


def loss_and_gradient(call, model, batch) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    if isinstance(model, transformers.BlipForConditionalGeneration) and not hasattr(model, "accepts_loss_kwargs"):
        given = {name: value for name, value in batch.items() if name != "caption_counts"}
        given["pixel_values"] = batch["pixel_values"].repeat_interleave(CAPTIONS, 0)
        loss = call(**given).loss
    else:
        loss = call(**batch, loss_only=True).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).norm() / other.norm())


@pytest.fixture(scope="module")
def stock(batch):
    """Loss and gradient of the stock model, which is given each image once per caption."""
    model = make_stock()
    return loss_and_gradient(model, model, batch)


@pytest.fixture
def ours():
    return load_captioner("starter")[0].train()


def test_gradient_of_the_stock_model(stock, ours, batch):
    loss, gradient = loss_and_gradient(ours, ours, batch)
    assert abs(loss - stock[0]) / stock[0] < 1e-6 and difference(gradient, stock[1]) < 1e-5


def test_gradient_checkpointing_computes_each_layer_twice(stock, ours, batch):
    calls = []
    for layer in (
        ours.text_decoder.bert.encoder.layer[0].intermediate.dense,
        ours.vision_model.encoder.layers[0].mlp.fc1,
    ):
        layer.register_forward_hook(lambda *_: calls.append(1))
    loss_and_gradient(ours, ours, batch)
    assert len(calls) == 2
    ours.gradient_checkpointing_enable()
    _, gradient = loss_and_gradient(ours, ours, batch)
    assert len(calls) == 6, "the layers were computed a second time for the backward pass"
    assert difference(gradient, stock[1]) < 1e-5
    ours.gradient_checkpointing_disable()
    loss_and_gradient(ours, ours, batch)
    assert len(calls) == 8


@pytest.mark.slow
def test_torch_compile(stock, ours, batch):
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    # Forward and backward are traced as for any backend, without the minutes that a C++ compiler takes.
    loss, gradient = loss_and_gradient(torch.compile(ours, backend=backend), ours, batch)
    assert graphs and difference(gradient, stock[1]) < 1e-5
    torch.testing.assert_close(loss, stock[0])
    targets = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert any("scaled_dot_product_attention" in target for target in targets), "attention was left out of the graph"


def test_autocast(stock, ours, batch):
    losses, differences = [], []
    for model in (make_stock(), ours):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, gradient = loss_and_gradient(model, model, batch)
        losses.append(float(loss))
        differences.append(difference(gradient, stock[1]))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    # As near to the gradient in float32 as stock is, up to its own noise.
    assert 0 < differences[1] < 1.5 * differences[0] + 1e-3


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters(batch, checkpointing):
    found = []
    for model in (make_stock(), load_captioner("starter")[0].train()):
        torch.manual_seed(2)
        wrapped = add_lora(model, {"lora_dropout": 0.0, "init_lora_weights": False}).train()
        if checkpointing and hasattr(model, "accepts_loss_kwargs"):
            wrapped.gradient_checkpointing_enable()
        found.append(loss_and_gradient(wrapped if hasattr(model, "accepts_loss_kwargs") else model, model, batch)[1])
    assert difference(found[1], found[0]) < 1e-5
