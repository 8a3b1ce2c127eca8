"""Loading captioners: stock files in, stock files out, and plain sentences for what cannot be loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import transformers
from PIL import Image
from transformers import BertConfig, BertModel, BlipProcessor

from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.models.captioner import (
    add_lora,
    count_parameters,
    freeze_vision_encoder,
    load_captioner,
    resize_image_input,
    resolve_checkpoint,
)
from blip_refine.models.decoding import generate_captions
from blip_refine.models.vision_encoder import encode_images
from blip_refine.pipeline import CaptionPipeline

PIXELS = torch.linspace(-1, 1, 3 * 32 * 32).reshape(1, 3, 32, 32)


def logits(model, pixels=PIXELS) -> torch.Tensor:
    ids = torch.tensor([[model.config.text_config.bos_token_id, 5, 6, 7]])
    with torch.no_grad():
        return model(pixel_values=pixels, input_ids=ids).logits


@pytest.fixture
def checkpoint(tiny_captioner, tmp_path):
    """A folder with a tiny model and its processor."""
    model, processor = tiny_captioner()
    folder = tmp_path / "checkpoint"
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_what_is_saved_loads_in_stock_transformers_with_equal_logits(checkpoint, tiny_captioner):
    ours, _ = load_captioner(checkpoint)
    stock = transformers.BlipForConditionalGeneration.from_pretrained(checkpoint).eval()
    assert json.loads((checkpoint / "config.json").read_text())["architectures"] == ["BlipForConditionalGeneration"]
    assert set(stock.state_dict()) == set(ours.state_dict())
    torch.testing.assert_close(logits(ours), logits(stock), atol=1e-5, rtol=1e-5)


def test_the_starter_loads_in_stock_transformers_with_equal_logits():
    ours, processor = load_captioner("starter")
    folder = resolve_checkpoint("starter")
    stock = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval()
    stock_processor = BlipProcessor.from_pretrained(folder)
    assert stock.dtype == ours.dtype == torch.float32
    picture = Image.linear_gradient("L").convert("RGB").resize((120, 80))
    pixels = processor(images=picture, return_tensors="pt")["pixel_values"]
    assert torch.equal(pixels, stock_processor(images=picture, return_tensors="pt")["pixel_values"])
    torch.testing.assert_close(logits(ours, pixels), logits(stock, pixels), atol=1e-4, rtol=1e-4)


def test_one_encode_for_all_captions_gives_the_same_loss_and_gradient(tiny_captioner):
    """Against the stock model, which is given the picture once a caption, in float64."""
    ours, _ = tiny_captioner()
    ours = ours.double().train()
    stock = transformers.BlipForConditionalGeneration(ours.config).double().train()
    stock.load_state_dict(ours.state_dict())
    pixels = torch.rand(2, 3, 32, 32, dtype=torch.float64)
    ids = torch.randint(5, 300, (6, 7))
    mask = torch.ones_like(ids)
    mask[1, 4:] = mask[5, 3:] = 0
    labels = ids.masked_fill(mask == 0, -100)
    labels[:, 0] = -100
    for counts in (torch.tensor([3, 3]), torch.tensor([4, 2])):
        for model in (ours, stock):
            model.zero_grad()
        shared = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        mine = ours(pixel_values=pixels, caption_counts=counts, loss_only=True, **shared).loss
        theirs = stock(pixel_values=pixels.repeat_interleave(counts, 0), **shared).loss
        mine.backward()
        theirs.backward()
        assert abs(mine - theirs) / theirs < 1e-6
        one, other = (torch.cat([p.grad.flatten() for p in model.parameters()]) for model in (ours, stock))
        assert (one - other).norm() / other.norm() < 1e-5


def test_loss_only_makes_no_logits_and_the_same_loss(tiny_captioner):
    model, _ = tiny_captioner()
    ids = torch.randint(5, 300, (3, 6))
    labels = ids.clone()
    labels[:, :3] = -100
    batch = {"pixel_values": PIXELS.repeat(3, 1, 1, 1), "input_ids": ids, "labels": labels}
    full, short = model(**batch), model(**batch, loss_only=True)
    assert short.logits is None and full.logits.shape == (3, 6, model.config.text_config.vocab_size)
    torch.testing.assert_close(short.loss, full.loss)
    torch.testing.assert_close(model(**batch, num_items_in_batch=18).loss, full.loss * 9 / 18)


def test_image_size_can_be_changed_knowingly(checkpoint):
    model, processor = load_captioner(checkpoint, image_size=64)
    assert model.config.vision_config.image_size == 64
    assert processor.image_processor.size["height"] == 64
    assert encode_images(model, torch.zeros(1, 3, 64, 64)).shape[1] == 17
    same, same_processor = load_captioner(checkpoint)
    before = logits(same)
    resize_image_input(same, same_processor, 32)
    assert torch.equal(before, logits(same))


def test_what_is_resized_survives_saving(checkpoint, tmp_path):
    model, processor = load_captioner(checkpoint, image_size=64)
    model.save_pretrained(tmp_path / "larger")
    processor.save_pretrained(tmp_path / "larger")
    again, _ = load_captioner(tmp_path / "larger")
    pixels = torch.rand(1, 3, 64, 64)
    torch.testing.assert_close(logits(again, pixels), logits(model, pixels))


def test_frozen_encoder(checkpoint):
    model, _ = load_captioner(checkpoint, freeze_vision=True)
    assert not any(parameter.requires_grad for parameter in model.vision_model.parameters())
    total, trained = count_parameters(model)
    assert 0 < trained < total
    freeze_vision_encoder(model)


def test_an_adapter_is_loaded_onto_its_base(checkpoint, tmp_path):
    model, processor = load_captioner(checkpoint, lora={"r": 4})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    base, _ = load_captioner(checkpoint)
    again, _ = load_captioner(tmp_path / "adapter")
    torch.testing.assert_close(logits(again), logits(model))
    assert not torch.allclose(logits(again), logits(base), atol=1e-3)
    with pytest.raises(ConfigurationError, match="is a LoRA adapter already"):
        load_captioner(tmp_path / "adapter", lora=True)


def test_an_adapter_of_another_base_is_refused(checkpoint, tiny_captioner, tmp_path):
    model, _ = load_captioner(checkpoint, lora=True)
    model.save_pretrained(tmp_path / "adapter")
    wider, processor = tiny_captioner(intermediate_size=96, hidden_size=48, num_attention_heads=4)
    wider.save_pretrained(tmp_path / "wider")
    processor.save_pretrained(tmp_path / "wider")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(tmp_path / "wider")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not fit its base"):
        load_captioner(tmp_path / "adapter")


def test_lora_can_be_changed(checkpoint):
    model, _ = load_captioner(checkpoint, lora={"r": 2, "target_modules": ["query"]})
    attached = [name for name, _ in model.named_parameters() if "lora_A" in name]
    assert attached and all(".query." in name for name in attached)
    assert add_lora(load_captioner(checkpoint)[0], True).peft_config["default"].r == 16


def test_missing_things_are_said_plainly(checkpoint, tmp_path):
    with pytest.raises(ModelError, match="There is no folder '/no/such/place'"):
        load_captioner("/no/such/place")
    with pytest.raises(ModelError, match="neither a folder here nor in the local cache"):
        load_captioner("someone/no-such-captioner")
    with pytest.raises(ModelError, match="neither a folder|There is no model"):
        load_captioner("startr")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match="not a whole BLIP checkpoint.*It holds: nothing"):
        load_captioner(tmp_path / "empty")
    shutil.copytree(checkpoint, tmp_path / "partial")
    (tmp_path / "partial" / "tokenizer.json").unlink()
    (tmp_path / "partial" / "tokenizer_config.json").unlink()
    with pytest.raises(ModelError, match="vocabulary"):
        load_captioner(tmp_path / "partial")


@pytest.mark.parametrize("kept", [0, 5, 0.5])
def test_weights_cut_short_are_said_plainly(checkpoint, tmp_path, kept):
    shutil.copytree(checkpoint, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: int(len(whole) * kept) if kept < 1 else kept])
    with pytest.raises(ModelError, match="damaged or cut short.*copy or download"):
        load_captioner(tmp_path / "cut")


def test_a_damaged_adapter_is_said_plainly(checkpoint, tmp_path):
    model, _ = load_captioner(checkpoint, lora=True)
    model.peft_config["default"].base_model_name_or_path = str(checkpoint)
    model.save_pretrained(tmp_path)
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="damaged or cut short"):
        load_captioner(tmp_path)
    for text, why in (("{", "is not JSON"), ("[]", "does not describe an adapter")):
        (tmp_path / "adapter_config.json").write_text(text)
        with pytest.raises(ModelError, match=why):
            load_captioner(tmp_path)


def test_another_kind_of_model_is_named(tmp_path):
    BertModel(
        BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)
    ).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="is a 'bert' model"):
        load_captioner(tmp_path)


@pytest.mark.parametrize(
    "device_map",
    [
        "auto",
        {"vision_model": "disk", "text_decoder": "cpu"},
        pytest.param(
            {"vision_model": "cpu", "text_decoder": "disk"},
            marks=pytest.mark.skipif(
                transformers.__version__.startswith("5.8."),
                reason="transformers 5.8 cannot keep an output layer on the disk that is tied to the embeddings",
            ),
        ),
    ],
)
def test_a_captioner_in_parts_says_the_same(device_map, starter_captioner, scene_pixels):
    model, processor = starter_captioner
    expected = generate_captions(model, processor, scene_pixels[:2])
    divided, processor = load_captioner("starter", device_map=device_map)
    assert generate_captions(divided, processor, scene_pixels[:2]) == expected
    pipeline = CaptionPipeline(divided, processor, decoding="fast")
    assert pipeline(Image.new("RGB", (40, 40), "red")).text and pipeline.settings()["weights"]
