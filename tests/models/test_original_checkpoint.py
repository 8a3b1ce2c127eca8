"""Original `.pth` checkpoints: the logits of the model they were made from, sizes from tensors, and bad files."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from blip_refine.cli.main import main
from blip_refine.errors import ConfigurationError, ModelError
from blip_refine.models.captioner import load_captioner
from blip_refine.models.original_checkpoint import convert_original

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a picture of red blue dog cat on the grass".split()]
TO_ORIGINAL = (
    (r"^vision_model\.embeddings\.class_embedding$", "visual_encoder.cls_token"),
    (r"^vision_model\.embeddings\.position_embedding$", "visual_encoder.pos_embed"),
    (r"^vision_model\.embeddings\.patch_embedding", "visual_encoder.patch_embed.proj"),
    (r"^vision_model\.post_layernorm", "visual_encoder.norm"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn\.projection", r"visual_encoder.blocks.\1.attn.proj"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.self_attn", r"visual_encoder.blocks.\1.attn"),
    (r"^vision_model\.encoder\.layers\.(\d+)\.layer_norm", r"visual_encoder.blocks.\1.norm"),
    (r"^vision_model\.encoder\.layers", "visual_encoder.blocks"),
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Path:
    """BERT's kind of tokenizer, with a few words."""
    folder = tmp_path_factory.mktemp("tokenizer")
    (folder / "vocab.txt").write_text("\n".join(WORDS), encoding="utf-8")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    return folder


def make_model(layers: int = 2) -> transformers.BlipForConditionalGeneration:
    """A stock BLIP of two heads in the sizes that the original code has, with weights that say something."""
    torch.manual_seed(0)
    vision = {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": layers, "num_attention_heads": 2}
    text = {**vision, "encoder_hidden_size": 128, "vocab_size": len(WORDS) + 2, "max_position_embeddings": 40}
    config = transformers.BlipConfig(
        vision_config={**vision, "image_size": 64, "patch_size": 16, "layer_norm_eps": 1e-6, "initializer_range": 0.1},
        text_config={**text, "bos_token_id": len(WORDS), "sep_token_id": 3, "initializer_range": 0.1},
    )
    model = transformers.BlipForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def as_original(model) -> dict[str, torch.Tensor]:
    """Its tensors under the names of the original code."""
    tensors = {}
    for name, value in model.state_dict().items():
        for pattern, replacement in TO_ORIGINAL:
            if re.match(pattern, name):
                name = re.sub(pattern, replacement, name)
                break
        tensors[name] = value.clone()
    assert "visual_encoder.blocks.1.attn.qkv.weight" in tensors and not any("vision_model" in name for name in tensors)
    return tensors


def pretraining_extras() -> dict[str, torch.Tensor]:
    """What a pre-training checkpoint has beside the captioner."""
    names = ("text_encoder.encoder.layer.0.output.dense.weight", "visual_encoder_m.cls_token", "image_queue",
             "vision_proj.weight", "itm_head.weight", "temp")  # fmt: skip
    return {name: torch.zeros(2, 2) for name in names}


@torch.no_grad()
def logits(model) -> torch.Tensor:
    pixels = torch.linspace(-1, 1, 2 * 3 * 64 * 64).reshape(2, 3, 64, 64)
    return model(pixel_values=pixels, input_ids=torch.tensor([[15, 5, 6, 7], [15, 9, 10, 11]])).logits


@pytest.mark.parametrize("form", ["BLIP", "LAVIS", "pre-training", "tensors alone"])
def test_logits_are_those_of_the_model_that_was_saved(form, tmp_path, tokenizer):
    model = make_model()
    tensors = as_original(model) | {"text_decoder.bert.embeddings.position_ids": torch.arange(40)[None]}
    if form == "pre-training":
        tensors |= pretraining_extras()
    if form == "LAVIS":
        tensors.pop("text_decoder.cls.predictions.decoder.bias", None)
    held = {
        "BLIP": {"model": tensors, "optimizer": {"state": {}}, "config": {"vit": "base"}, "epoch": 4},
        "LAVIS": {"model": tensors, "scaler": None, "epoch": 4},
    }.get(form, {"model": tensors} if form == "pre-training" else tensors)
    torch.save(held, tmp_path / "model.pth")
    convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer))
    expected = logits(model)
    assert expected.std() > 0.3, "the comparison must see differences"
    ours, processor = load_captioner(tmp_path / "out")
    stock = transformers.BlipForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    for converted in (ours, stock):
        torch.testing.assert_close(logits(converted), expected, atol=1e-4, rtol=1e-4)
    assert ours.config.vision_config.layer_norm_eps == 1e-6 and ours.config.text_config.bos_token_id == 15
    assert processor.image_processor.size["height"] == 64


def test_another_image_size_interpolates_positions(tmp_path, tokenizer):
    torch.save({"model": as_original(make_model())}, tmp_path / "model.pth")
    convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer), image_size=96)
    model, processor = load_captioner(tmp_path / "out")
    assert model.vision_model.embeddings.position_embedding.shape == (1, 37, 128)
    assert processor.image_processor.size["height"] == 96


def test_what_is_no_captioner_is_said_plainly(tmp_path, tokenizer):
    tensors = as_original(make_model())
    vision = {name: value for name, value in tensors.items() if name.startswith("visual")}
    one_lost = {name: value for name, value in tensors.items() if "blocks.1.mlp.fc2.bias" not in name}
    unknown = {**tensors, "text_decoder.extra.weight": torch.zeros(1)}
    cases = (
        ({"model": vision | pretraining_extras()}, "not a BLIP matching model: it has no text_encoder"),
        ({"model": vision | {"text_encoder.a": torch.zeros(1), "cls_head.0.weight": torch.zeros(1)}}, "another task"),
        ({"model": tensors | {"text_encoder.encoder.layer.0.a": torch.zeros(1)}}, "question-answering model .VQA."),
        ({"model": {"conv1.weight": torch.zeros(1)}}, "no text decoder.*no BLIP"),
        ({"model": one_lost}, "1 tensors do not fit, such as .*layers.1.mlp.fc2.bias"),
        ({"model": unknown}, "1 tensors do not fit, such as text_decoder.extra.weight"),
        (
            {"model": {name: value for name, value in tensors.items() if "pos_embed" not in name}},
            "it has no .*position",
        ),
        ([1, 2], "does not hold a model's weights"),
    )
    for held, why in cases:
        torch.save(held, tmp_path / "model.pth")
        with pytest.raises(ModelError, match=why):
            convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer))
        assert not (tmp_path / "out").exists(), "nothing half-made is left behind"
    torch.save({"model": tensors}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="--tokenizer FOLDER"):
        convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tmp_path / "nowhere"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not an empty folder"):
        convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer))


def test_a_pickle_that_holds_code_is_refused(tmp_path, tokenizer):
    class Payload:
        def __reduce__(self):
            return (Path("ran.txt").write_text, ("code ran",))

    torch.save({"model": as_original(make_model()), "config": Payload()}, tmp_path / "model.pth")
    with pytest.raises(ModelError, match="holds more than tensors"):
        convert_original(tmp_path / "model.pth", tmp_path / "out", tokenizer=str(tokenizer))
    assert not Path("ran.txt").exists()


def test_the_command_prints_its_own_sentence_alone(tmp_path):
    (tmp_path / "model.pth").write_bytes(b"no checkpoint")
    run = subprocess.run(
        [sys.executable, "-m", "blip_refine", "convert", str(tmp_path / "model.pth"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        timeout=120,
        # Old releases of torch warn of a package of theirs when they are imported.
        env={**os.environ, "COLUMNS": "500", "PYTHONWARNINGS": "ignore::FutureWarning"},
    )
    assert run.returncode == 2 and run.stdout == ""
    assert run.stderr.startswith("Error: ") and len(run.stderr.strip().splitlines()) == 1


def test_the_command(tmp_path, tokenizer, capsys):
    torch.save({"model": as_original(make_model())}, tmp_path / "model.pth")
    for source, code, said in (
        ("nothing.pth", 2, "There is no file"),
        ("model.pth", 0, "64x64 pixels; loads in blip_refine and in stock transformers"),
        ("model.pth", 2, "is not an empty folder"),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["convert", str(tmp_path / source), str(tmp_path / "out"), "--tokenizer", str(tokenizer)])
        captured = capsys.readouterr()
        assert (stopped.value.code or 0) == code and said in captured.out + captured.err
