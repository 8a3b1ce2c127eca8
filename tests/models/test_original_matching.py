"""Original retrieval checkpoints: matching logits and cosines of the original code, written down anew here."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
import transformers
from PIL import Image
from torch.nn.functional import conv2d, gelu, interpolate, layer_norm, linear, normalize

from blip_refine.cli.main import main
from blip_refine.errors import ModelError
from blip_refine.models.captioner import load_captioner
from blip_refine.models.original_checkpoint import convert_original
from blip_refine.records import RefineRequest
from blip_refine.refine.grounding import matching_probability

from .test_original_checkpoint import WORDS, tokenizer  # noqa: F401

LAYERS, WIDTH, TEXT_WIDTH, HEADS, SHARED, PATCH, GRID = 2, 128, 192, 2, 24, 16, 4
TEXT_HEADS = TEXT_WIDTH // 64
WORD_IDS = torch.tensor([[2, 5, 6, 7, 3], [2, 9, 3, 0, 0]])
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])


def original_tensors() -> dict[str, torch.Tensor]:
    """Random tensors under the names of `blip_retrieval.py`, `vit.py` and `med.py`, momentum copies and queues too."""
    draw = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 0.1) -> torch.Tensor:
        return scale * torch.randn(*shape, generator=draw)

    tensors: dict[str, torch.Tensor] = {}

    def dense(name: str, out: int, into: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = random(out, into), random(out)

    def norm(name: str, width: int) -> None:
        tensors[f"{name}.weight"], tensors[f"{name}.bias"] = 1 + random(width), random(width)

    vision, text = "visual_encoder", "text_encoder"
    tensors[f"{vision}.cls_token"] = random(1, 1, WIDTH, scale=1.0)
    tensors[f"{vision}.pos_embed"] = random(1, GRID * GRID + 1, WIDTH, scale=1.0)
    tensors[f"{vision}.patch_embed.proj.weight"] = random(WIDTH, 3, PATCH, PATCH)
    tensors[f"{vision}.patch_embed.proj.bias"] = random(WIDTH)
    for layer in range(LAYERS):
        block = f"{vision}.blocks.{layer}"
        norm(f"{block}.norm1", WIDTH), norm(f"{block}.norm2", WIDTH)
        dense(f"{block}.attn.qkv", 3 * WIDTH, WIDTH), dense(f"{block}.attn.proj", WIDTH, WIDTH)
        dense(f"{block}.mlp.fc1", 4 * WIDTH, WIDTH), dense(f"{block}.mlp.fc2", WIDTH, 4 * WIDTH)
    norm(f"{vision}.norm", WIDTH)
    tensors[f"{text}.embeddings.position_ids"] = torch.arange(40)[None]
    tensors[f"{text}.embeddings.word_embeddings.weight"] = random(len(WORDS) + 2, TEXT_WIDTH, scale=1.0)
    tensors[f"{text}.embeddings.position_embeddings.weight"] = random(40, TEXT_WIDTH, scale=1.0)
    norm(f"{text}.embeddings.LayerNorm", TEXT_WIDTH)
    for layer in range(LAYERS):
        block = f"{text}.encoder.layer.{layer}"
        for part, into in (("attention", TEXT_WIDTH), ("crossattention", WIDTH)):
            dense(f"{block}.{part}.self.query", TEXT_WIDTH, TEXT_WIDTH)
            dense(f"{block}.{part}.self.key", TEXT_WIDTH, into), dense(f"{block}.{part}.self.value", TEXT_WIDTH, into)
            dense(f"{block}.{part}.output.dense", TEXT_WIDTH, TEXT_WIDTH)
            norm(f"{block}.{part}.output.LayerNorm", TEXT_WIDTH)
        dense(f"{block}.intermediate.dense", 4 * TEXT_WIDTH, TEXT_WIDTH)
        dense(f"{block}.output.dense", TEXT_WIDTH, 4 * TEXT_WIDTH)
        norm(f"{block}.output.LayerNorm", TEXT_WIDTH)
    dense("vision_proj", SHARED, WIDTH), dense("text_proj", SHARED, TEXT_WIDTH), dense("itm_head", 2, TEXT_WIDTH)
    for name in [name for name in tensors if name.startswith(("visual_encoder", "text_encoder", "vision_proj"))]:
        first, _, rest = name.partition(".")
        tensors[f"{first}_m.{rest}"] = torch.zeros_like(tensors[name])
    return tensors | {"temp": torch.tensor(0.07), "image_queue": random(SHARED, 8), "ptr_queue": torch.zeros(1)}


class Original:
    """`BLIP_ITM.forward` of the original code over its own tensors."""

    def __init__(self, tensors: dict[str, torch.Tensor]):
        self.tensors = tensors

    def dense(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def norm(self, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], eps)

    def image_states(self, pixels: torch.Tensor) -> torch.Tensor:
        get = lambda name: self.tensors[f"visual_encoder.{name}"]  # noqa: E731
        patches = conv2d(pixels, get("patch_embed.proj.weight"), get("patch_embed.proj.bias"), stride=PATCH)
        x = torch.cat([get("cls_token").expand(len(pixels), -1, -1), patches.flatten(2).transpose(1, 2)], dim=1)
        x = x + get("pos_embed")
        for layer in range(LAYERS):
            block = f"visual_encoder.blocks.{layer}"
            mixed = self.dense(f"{block}.attn.qkv", self.norm(f"{block}.norm1", x, 1e-6))
            query, key, value = mixed.reshape(*x.shape[:2], 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
            weights = (query @ key.transpose(-2, -1) * (WIDTH // HEADS) ** -0.5).softmax(dim=-1)
            x = x + self.dense(f"{block}.attn.proj", (weights @ value).transpose(1, 2).reshape(x.shape))
            hidden = gelu(self.dense(f"{block}.mlp.fc1", self.norm(f"{block}.norm2", x, 1e-6)))
            x = x + self.dense(f"{block}.mlp.fc2", hidden)
        return self.norm("visual_encoder.norm", x, 1e-6)

    def attend(self, part: str, x: torch.Tensor, other: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        def heads(name: str, y: torch.Tensor) -> torch.Tensor:
            return self.dense(f"{part}.self.{name}", y).reshape(*y.shape[:2], TEXT_HEADS, -1).transpose(1, 2)

        scores = heads("query", x) @ heads("key", other).transpose(-2, -1) / math.sqrt(TEXT_WIDTH // TEXT_HEADS)
        if mask is not None:
            scores = scores + (1.0 - mask[:, None, None].float()) * -10_000.0
        mixed = (scores.softmax(dim=-1) @ heads("value", other)).transpose(1, 2).reshape(x.shape)
        return self.norm(f"{part}.output.LayerNorm", self.dense(f"{part}.output.dense", mixed) + x, 1e-12)

    def text_states(self, images: torch.Tensor | None) -> torch.Tensor:
        get = lambda name: self.tensors[f"text_encoder.embeddings.{name}.weight"]  # noqa: E731
        x = get("word_embeddings")[WORD_IDS] + get("position_embeddings")[: WORD_IDS.shape[1]]
        x = self.norm("text_encoder.embeddings.LayerNorm", x, 1e-12)
        for layer in range(LAYERS):
            block = f"text_encoder.encoder.layer.{layer}"
            x = self.attend(f"{block}.attention", x, x, MASK)
            if images is not None:
                x = self.attend(f"{block}.crossattention", x, images, None)
            hidden = self.dense(f"{block}.output.dense", gelu(self.dense(f"{block}.intermediate.dense", x)))
            x = self.norm(f"{block}.output.LayerNorm", hidden + x, 1e-12)
        return x

    def matching(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.dense("itm_head", self.text_states(self.image_states(pixels))[:, 0])

    def cosine(self, pixels: torch.Tensor) -> torch.Tensor:
        image = normalize(self.dense("vision_proj", self.image_states(pixels)[:, 0]), dim=-1)
        return image @ normalize(self.dense("text_proj", self.text_states(None)[:, 0]), dim=-1).T


def pictures(side: int) -> torch.Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def assert_same(folder: Path, original: Original, side: int) -> None:
    model = transformers.BlipForImageTextRetrieval.from_pretrained(folder).eval()
    given = {"pixel_values": pictures(side), "input_ids": WORD_IDS, "attention_mask": MASK}
    logits, cosine = original.matching(pictures(side)), original.cosine(pictures(side))
    assert logits.std() > 0.1 and cosine.std() > 0.01, "the comparison must see differences"
    torch.testing.assert_close(model(**given).itm_score, logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(model(**given, use_itm_head=False).itm_score, cosine, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("form", ["BLIP", "LAVIS"])
def test_logits_and_cosines_are_those_of_the_original_code(form, tmp_path, tokenizer):  # noqa: F811
    tensors = original_tensors()
    held = {"model": tensors, "epoch": 5, **({"config": {"vit": "base"}} if form == "BLIP" else {"scaler": None})}
    torch.save(held, tmp_path / "model.pth")
    convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer))
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert config["architectures"] == ["BlipForImageTextRetrieval"] and config["image_text_hidden_size"] == SHARED
    assert_same(tmp_path / "out", Original(tensors), GRID * PATCH)


def test_another_image_size_interpolates_positions(tmp_path, tokenizer):  # noqa: F811
    tensors = original_tensors()
    torch.save({"model": tensors}, tmp_path / "model.pth")
    convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer), image_size=96)
    # `interpolate_pos_embed` of the original vit.py
    table = tensors["visual_encoder.pos_embed"]
    grid = table[:, 1:].reshape(1, GRID, GRID, WIDTH).permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
    assert_same(
        tmp_path / "out", Original({**tensors, "visual_encoder.pos_embed": torch.cat([table[:, :1], grid], 1)}), 96
    )
    processor = transformers.BlipProcessor.from_pretrained(tmp_path / "out")
    assert processor.image_processor.size["height"] == 96


def test_the_command_and_the_guard_that_uses_it(tmp_path, tokenizer, capsys):  # noqa: F811
    torch.save({"model": original_tensors()}, tmp_path / "model.pth")
    with pytest.raises(SystemExit) as stopped:
        main(["convert", str(tmp_path / "model.pth"), str(tmp_path / "out"), "--tokenizer", str(tokenizer)])
    printed = capsys.readouterr().out
    assert not stopped.value.code and "BlipForImageTextRetrieval" in printed and "--matching" in printed
    request = RefineRequest("a red dog", image=Image.new("RGB", (64, 64), "red"))
    scores = matching_probability(tmp_path / "out")(request, ["a red dog", "a blue cat on the grass"])
    assert all(0 < score < 1 for score in scores) and scores[0] != scores[1]
    with pytest.raises(ModelError, match="is a BlipForImageTextRetrieval, which cannot caption"):
        load_captioner(tmp_path / "out")


def test_a_file_with_a_part_missing_is_refused(tmp_path, tokenizer):  # noqa: F811
    for lost, why in (
        ("vision_proj.weight", "it has no vision_proj.weight"),
        ("itm_head.bias", "1 tensors do not fit"),
    ):
        tensors = {name: value for name, value in original_tensors().items() if name != lost}
        torch.save({"model": tensors}, tmp_path / "model.pth")
        with pytest.raises(ModelError, match=f"not a BLIP matching model: {why}"):
            convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer))
        assert not (tmp_path / "out").exists()
