"""The fast attention while training: the gradient of the stock one, under all that is put around a model."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.backends.debugging import aot_eager

from blip_refine.models.adapters import add_lora
from blip_refine.models.attention import SdpaTextAttention, use_attention

IMAGES, CAPTIONS = 2, 3


def batch() -> dict[str, torch.Tensor]:
    torch.manual_seed(1)
    ids = torch.randint(5, 60, (IMAGES * CAPTIONS, 6))
    labels = ids.clone()
    mask = torch.ones_like(ids)
    mask[1, 4:], labels[1, 4:], labels[:, 0] = 0, -100, -100
    return {
        "pixel_values": torch.randn(IMAGES, 3, 32, 32),
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "caption_counts": torch.full((IMAGES,), CAPTIONS),
    }


def without_dropout(model):
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return model.train()


def loss_and_gradient(model, call=None) -> tuple[torch.Tensor, torch.Tensor]:
    model.zero_grad()
    loss = (model if call is None else call)(**batch(), loss_only=True).loss
    loss.backward()
    return loss.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one - other).norm() / other.norm())


@pytest.fixture
def models(tiny_captioner):
    """The same captioner with the stock attention and with the fast one, without dropout."""
    return tuple(without_dropout(tiny_captioner(attention=kind)[0]) for kind in ("eager", "sdpa"))


def test_gradient_of_the_stock_attention(models):
    (stock_loss, stock), (loss, gradient) = (loss_and_gradient(model) for model in models)
    assert abs(loss - stock_loss) / stock_loss < 1e-6 and difference(gradient, stock) < 1e-5


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(models, reentrant):
    stock, fast = models
    _, expected = loss_and_gradient(stock)
    fast.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": reentrant})
    calls = []
    attention = next(module for module in fast.modules() if isinstance(module, SdpaTextAttention))
    attention.register_forward_hook(lambda *_: calls.append(1))
    if reentrant:
        # The old kind of checkpoint asks for an input that needs a gradient.
        fast.enable_input_require_grads()
    _, gradient = loss_and_gradient(fast)
    assert len(calls) == 2, "the layer was computed a second time for the backward pass"
    assert difference(gradient, expected) < 1e-5


@pytest.mark.slow
def test_torch_compile(models):
    stock, fast = models
    expected_loss, expected = loss_and_gradient(stock)
    torch._dynamo.reset()
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return aot_eager(graph, inputs)

    # Forward and backward are traced as for any backend, without the minutes that a C++ compiler takes.
    loss, gradient = loss_and_gradient(fast, torch.compile(fast, backend=backend))
    assert graphs and difference(gradient, expected) < 1e-5
    torch.testing.assert_close(loss, expected_loss)
    targets = {str(node.target) for graph in graphs for node in graph.graph.nodes}
    assert any("scaled_dot_product_attention" in target for target in targets), "attention was left out of the graph"


def test_autocast(models):
    (_, expected), (_, plain) = (loss_and_gradient(model) for model in models)
    losses, differences = [], []
    for model in models:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss, gradient = loss_and_gradient(model)
        losses.append(float(loss))
        differences.append(difference(gradient, expected))
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    # As near to the gradient in float32 as the stock attention is, up to its own noise.
    assert 0 < differences[1] < 1.5 * differences[0] + 1e-3
    assert difference(plain, expected) < 1e-5


@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters(tiny_captioner, checkpointing):
    found = []
    for kind in ("eager", "sdpa"):
        model = tiny_captioner(attention=kind)[0]
        torch.manual_seed(2)
        wrapped = add_lora(model, {"lora_dropout": 0.0, "init_lora_weights": False})
        without_dropout(wrapped)
        if checkpointing:
            wrapped.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        found.append(loss_and_gradient(wrapped)[1])
    assert difference(found[1], found[0]) < 1e-5
    # Put on first, chosen afterwards: the projections inside are the adapter's, and the class still changes.
    model = add_lora(tiny_captioner(attention="eager")[0])
    use_attention(model)
    assert any(isinstance(module, SdpaTextAttention) for module in model.modules())


def test_dropout_falls_on_the_weights_and_only_in_training(tiny_captioner):
    model, _ = tiny_captioner()
    attention = next(module for module in model.modules() if isinstance(module, SdpaTextAttention))
    attention.dropout.p = 0.5
    # All values 1: without dropout attention returns 1 everywhere; with it the mean of 2 x kept weights.
    torch.nn.init.zeros_(attention.value.weight)
    torch.nn.init.ones_(attention.value.bias)
    hidden = torch.randn(64, 12, attention.query.in_features)
    with torch.no_grad():
        assert torch.allclose(attention.eval()(hidden)[0], torch.ones(64, 12, attention.all_head_size))
        dropped = attention.train()(hidden)[0]
    assert dropped.mean() == pytest.approx(1, abs=0.05) and dropped.std() > 0.1
