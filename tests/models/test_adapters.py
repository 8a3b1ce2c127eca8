"""LoRA, DoRA, QLoRA: attached, trained, saved, merged."""

from __future__ import annotations

import importlib.util

import pytest
import torch
import transformers

from blip_refine.errors import ConfigurationError
from blip_refine.models.adapters import add_lora, attached_parameters, count_parameters, merge_adapter
from blip_refine.models.captioner import load_captioner
from blip_refine.models.freezing import freeze_first_layers, learning_rate_factors
from blip_refine.training.optimization import set_learning_rates
from blip_refine.training.trainer import CaptionTrainer

from ..training.test_trainer import arguments, scenes
from .test_captioner import checkpoint, logits  # noqa: F401


@pytest.mark.parametrize("kind", ["lora", "dora"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_an_adapter_is_trained_and_merged_with_equal_outputs(kind, checkpointing, checkpoint, tmp_path):  # noqa: F811
    model, processor = load_captioner(checkpoint, lora=kind)
    assert any("magnitude" in name for name in attached_parameters(model)) == (kind == "dora")
    args = arguments(
        tmp_path, max_steps=3, learning_rate=1e-2, save_strategy="no", gradient_checkpointing=checkpointing
    )
    CaptionTrainer(model, args, scenes("train", 4), processing_class=processor).train()
    model.eval()
    untrained = logits(load_captioner(checkpoint)[0])
    adapted = logits(model)
    assert not torch.allclose(adapted, untrained, atol=1e-3)
    merged = merge_adapter(model)
    torch.testing.assert_close(logits(merged), adapted, atol=1e-5, rtol=1e-4)
    merged.save_pretrained(tmp_path / "merged")
    stock = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path / "merged").eval()
    torch.testing.assert_close(logits(stock), adapted, atol=1e-5, rtol=1e-4)
    with pytest.raises(ConfigurationError, match="no adapter"):
        merge_adapter(stock)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("bits", ["8bit", "4bit"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_qlora_trains_on_packed_weights(bits, precision, tmp_path):
    model, processor = load_captioner("starter", lora={"r": 4}, quantization=bits)
    full, _ = load_captioner("starter", lora={"r": 4})
    bytes_of = [sum(p.numel() * p.element_size() for p in one.parameters()) for one in (model, full)]
    assert bytes_of[0] < 0.75 * bytes_of[1]
    assert count_parameters(model) == count_parameters(full)
    size = model.config.vision_config.image_size
    pixels = torch.rand(1, 3, size, size)
    with torch.no_grad():
        difference = (logits(model, pixels) - logits(full, pixels)).abs().mean() / logits(full, pixels).abs().mean()
    assert 0 < difference < 0.1
    before = {name: value.detach().clone() for name, value in model.named_parameters() if value.requires_grad}
    args = arguments(
        tmp_path, max_steps=2, learning_rate=1e-2, save_strategy="no", per_device_train_batch_size=2, eval_steps=1,
        eval_strategy="steps", precision=precision,
    )  # fmt: skip
    trainer = CaptionTrainer(model, args, scenes("train", 4), scenes("validation", 2), processor)
    # Scoring before training and between two steps leaves the weights such that they have a backward pass.
    untrained = trainer.evaluate()["eval_loss"]
    trainer.train()
    evaluated = [row["eval_loss"] for row in trainer.state.log_history if "eval_loss" in row]
    assert len({untrained, *evaluated}) == 3
    changed = [name for name, value in model.named_parameters() if name in before and not value.equal(before[name])]
    assert changed and all("lora_" in name for name in changed)
    with pytest.raises(ConfigurationError, match="quantised"):
        merge_adapter(model)
    trainer.save_model(str(tmp_path / "adapter"))
    again, _ = load_captioner(tmp_path / "adapter")
    assert merge_adapter(again) is not None


def test_an_adapter_trained_at_another_image_size_loads_at_that_size(tmp_path):
    model, processor = load_captioner("starter", lora={"r": 4}, image_size=48)
    args = arguments(tmp_path, max_steps=1, learning_rate=1e-2, save_strategy="no", per_device_train_batch_size=2)
    trainer = CaptionTrainer(model, args, scenes("train", 2), processing_class=processor)
    trainer.train()
    trainer.save_model()
    pixels = torch.rand(1, 3, 48, 48)
    again, again_processor = load_captioner(tmp_path)
    assert again_processor.image_processor.size["height"] == 48
    torch.testing.assert_close(logits(again, pixels), logits(model.eval(), pixels), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logits(merge_adapter(again), pixels), logits(model, pixels), atol=1e-4, rtol=1e-3)
    larger, processor = load_captioner(tmp_path, image_size=96)
    assert processor.image_processor.size["height"] == larger.config.vision_config.image_size == 96


def test_unknown_names_are_refused(tiny_captioner):
    with pytest.raises(ConfigurationError, match="no adapter 'lorra'"):
        add_lora(tiny_captioner()[0], "lorra")
    with pytest.raises(ConfigurationError, match="no quantisation '3bit'"):
        load_captioner("starter", quantization="3bit")


def test_the_first_layers_can_be_frozen(tiny_captioner):
    model, _ = tiny_captioner()
    freeze_first_layers(model, vision=1, text=2)
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert not any("encoder.layers.0" in name or "bert.encoder.layer" in name for name in trained)
    assert any("encoder.layers.1" in name for name in trained) and not any("embeddings" in name for name in trained)
    with pytest.raises(ConfigurationError, match="has 2 layers; 3"):
        freeze_first_layers(model, vision=3)


def test_learning_rates_differ_by_depth(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    factors = learning_rate_factors(model, vision_factor=0.1, layer_decay=0.5)
    wanted = {
        "vision_model.encoder.layers.1.mlp.fc1.weight": 0.1,
        "vision_model.encoder.layers.0.mlp.fc1.weight": 0.05,
        "vision_model.embeddings.class_embedding": 0.025,
        "vision_model.post_layernorm.weight": 0.1,
        "text_decoder.bert.encoder.layer.1.output.dense.weight": 1.0,
        "text_decoder.bert.encoder.layer.0.output.dense.weight": 0.5,
        "text_decoder.cls.predictions.bias": 1.0,
        # The output layer's own weight, although it is the input's as well.
        "text_decoder.bert.embeddings.word_embeddings.weight": 1.0,
        "text_decoder.bert.embeddings.position_embeddings.weight": 0.25,
    }
    assert {name: factors[name] for name in wanted} == pytest.approx(wanted)

    args = arguments(tmp_path, learning_rate=1e-3, vision_learning_rate=1e-4, layer_lr_decay=0.5, weight_decay=0.1)
    trainer = CaptionTrainer(model, args, scenes("train", 4), processing_class=processor)
    optimizer = trainer.create_optimizer()
    rate_of = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    decay_of = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    parameters = dict(model.named_parameters())
    assert len(rate_of) == len(parameters)
    for name, factor in wanted.items():
        assert rate_of[id(parameters[name])] == pytest.approx(1e-3 * factor)
    assert decay_of[id(parameters["text_decoder.cls.predictions.bias"])] == 0
    assert decay_of[id(parameters["vision_model.encoder.layers.0.mlp.fc1.weight"])] == 0.1
    trainer.train()
    with pytest.raises(ConfigurationError, match="layer_lr_decay"):
        set_learning_rates(optimizer, model, 1e-3, None, 0.0)
