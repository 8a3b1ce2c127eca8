"""`pytorch_model.bin`: loaded from folders and a Hub, whole and in shards, converted once, and never unpickled."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file

from blip_refine.errors import ModelError
from blip_refine.models import pickled_weights
from blip_refine.models.captioner import load_captioner
from blip_refine.models.known_checkpoints import what_is_known_of

from ..hub.conftest import hub as hub  # noqa: F401
from .make_golden import STARTER, golden_pixels


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "blip_refine" / "converted"


def as_official(folder: Path, shards: int = 1) -> Path:
    """The starter in the file set of Salesforce/blip-image-captioning-base: pickled, with tied weights and a buffer
    that newer releases do not know."""
    folder.mkdir()
    for path in STARTER.iterdir():
        if (
            path.suffix == ".json"
            and "tokenizer" in path.name
            or path.name in ("config.json", "processor_config.json")
        ):
            (folder / path.name).write_bytes(path.read_bytes())
    tensors = load_file(STARTER / "model.safetensors")
    head, bert = "text_decoder.cls.predictions", "text_decoder.bert.embeddings"
    tensors[f"{head}.decoder.weight"] = tensors[f"{bert}.word_embeddings.weight"]
    tensors[f"{head}.decoder.bias"] = tensors[f"{head}.bias"]
    tensors[f"{bert}.position_ids"] = torch.arange(64)[None]
    if shards == 1:
        torch.save(tensors, folder / "pytorch_model.bin")
        return folder
    names = sorted(tensors)
    weight_map = {}
    for number in range(shards):
        file = f"pytorch_model-{number + 1:05}-of-{shards:05}.bin"
        part = {name: tensors[name] for name in names[number::shards]}
        torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def logits(name) -> torch.Tensor:
    model, _ = load_captioner(name)
    with torch.no_grad():
        return model(
            pixel_values=golden_pixels()[:2], input_ids=torch.tensor([[772, 20, 30, 40], [772, 9, 8, 7]])
        ).logits


@pytest.mark.parametrize("shards", [1, 3])
def test_a_folder_with_pickled_weights_loads_and_is_converted_once(tmp_path, cache, caplog, shards):
    folder = as_official(tmp_path / "official", shards)
    with caplog.at_level(logging.WARNING):
        found = logits(folder)
    assert torch.equal(found, logits("starter"))
    (converted,) = cache.iterdir()
    assert "was converted once" in caplog.text and str(converted) in caplog.text
    assert sorted(path.name for path in converted.iterdir()) == [
        *sorted(path.name for path in STARTER.iterdir() if (folder / path.name).is_file() and path.name < "m"),
        "model.safetensors",
        *sorted(path.name for path in STARTER.iterdir() if (folder / path.name).is_file() and path.name > "n"),
    ]
    before = (converted / "model.safetensors").stat().st_mtime_ns
    caplog.clear()
    logits(folder)
    assert "converted" not in caplog.text and (converted / "model.safetensors").stat().st_mtime_ns == before


def test_changed_weights_are_converted_anew(tmp_path, cache):
    folder = as_official(tmp_path / "official")
    first = logits(folder)
    tensors = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(
        {name: value * 1.1 if value.is_floating_point() else value for name, value in tensors.items()},
        folder / "pytorch_model.bin",
    )
    os.utime(folder / "pytorch_model.bin", ns=(1, 1))
    assert not torch.equal(logits(folder), first) and len(list(cache.iterdir())) == 2


def test_the_hub_repository_of_every_example_loads_online_pinned_and_from_the_cache(hub, tmp_path, cache, monkeypatch):  # noqa: F811
    repository = hub.create("models/Salesforce/blip-image-captioning-base")
    for path in as_official(tmp_path / "official").iterdir():
        key = hashlib.sha256(path.read_bytes()).hexdigest()
        hub.store[key] = path.read_bytes()
        repository.branches["main"][0].files[path.name] = key
    expected = logits("starter")
    name = "Salesforce/blip-image-captioning-base"
    assert torch.equal(logits(name), expected)
    model, _ = load_captioner(name, revision=repository.branches["main"][0].oid, lora=True)
    assert model.peft_config["default"].base_model_name_or_path == name and model.config.name_or_path == name
    assert "not the file that was fine-tuned on COCO" in what_is_known_of(model)
    asked = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert torch.equal(logits(name), expected)
    assert len(hub.requests) == asked and len(list(cache.iterdir())) == 1


class Payload:
    def __reduce__(self):
        return (Path("ran.txt").write_text, ("code ran",))


@pytest.mark.parametrize("inside", [False, True])
def test_code_in_a_pickle_never_runs(tmp_path, cache, inside):
    folder = as_official(tmp_path / "official")
    torch.save({"weight": Payload()} if inside else Payload(), folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pytorch_model.bin holds more than tensors"):
        load_captioner(folder)
    assert not Path("ran.txt").exists() and not cache.exists()


def test_damaged_weights_are_said_plainly(tmp_path, cache):
    folder = as_official(tmp_path / "official")
    whole = (folder / "pytorch_model.bin").read_bytes()
    for content, why in ((whole[:1000], "damaged"), (b"", "damaged"), (b"not loaded", "damaged")):
        (folder / "pytorch_model.bin").write_bytes(content)
        with pytest.raises(ModelError, match=why):
            load_captioner(folder)
    torch.save([1, 2], folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="does not hold a model's weights"):
        load_captioner(folder)
    shards = as_official(tmp_path / "shards", 3)
    (shards / "pytorch_model-00002-of-00003.bin").unlink()
    with pytest.raises(ModelError, match="names 'pytorch_model-00002-of-00003.bin', which is not in that folder"):
        load_captioner(shards)
    for text in ("{", "[]", '{"weight_map": 3}', '{"weight_map": {"a": "../secret.bin"}}'):
        (shards / "pytorch_model.bin.index.json").write_text(text)
        with pytest.raises(ModelError, match="Cannot read .* as an index|which is not in that folder"):
            load_captioner(shards)
    assert not list(cache.glob("*")), "nothing half-made is left behind"


def test_a_release_of_torch_that_is_not_safe_is_refused(tmp_path, monkeypatch):
    folder = as_official(tmp_path / "official")
    monkeypatch.setattr(pickled_weights.torch, "__version__", "2.5.1")
    with pytest.raises(ModelError, match="needs torch 2.6 or newer; this is torch 2.5.1"):
        load_captioner(folder)
