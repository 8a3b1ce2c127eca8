"""`compare_with_base`: the trainer itself says what training did."""

from __future__ import annotations

import json

import pytest

from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.errors import ConfigurationError
from blip_refine.metrics import meteor
from blip_refine.models.adapters import add_lora
from blip_refine.training.arguments import CaptionTrainingArguments
from blip_refine.training.trainer import CaptionTrainer


@pytest.fixture(autouse=True)
def no_java(monkeypatch):
    """METEOR's program takes longer to start than all of this; what cannot be computed is left out of a comparison."""

    def missing(*_):
        raise ConfigurationError("there is no Java here")

    monkeypatch.setattr(meteor, "meteor", missing)


def scenes(split: str, count: int) -> BlipCaptionDataset:
    return BlipCaptionDataset(load_scenes("everyday", split, count=count, size=32))


def arguments(folder, **changes) -> CaptionTrainingArguments:
    settings = {
        "num_train_epochs": 2, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 1,
        "gradient_checkpointing": False, "num_beams": 1, "max_new_tokens": 8, "learning_rate": 3e-3,
        "disable_tqdm": True, "use_cpu": True, "compare_with_base": True, "samples_to_log": 0,
    }  # fmt: skip
    return CaptionTrainingArguments(str(folder), **{**settings, **changes})


def test_base_and_trained_weights_are_compared_on_the_same_images(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    base, _ = tiny_captioner()
    test = scenes("test", 5)
    trainer = CaptionTrainer(
        model, arguments(tmp_path), scenes("train", 8), scenes("validation", 3), processor, test_dataset=test
    )
    trainer.train()
    metrics = json.loads((tmp_path / "coco_metrics.json").read_text())
    assert list(metrics["systems"]) == ["before", "after"] and metrics["final"] == "after"
    assert metrics["Bleu_1"] == metrics["systems"]["after"]["Bleu_1"]
    assert {(one["system"], one["baseline"]) for one in metrics["comparisons"]} == {("after", "before")}
    rows = [json.loads(line) for line in (tmp_path / "predictions.jsonl").read_text().splitlines()]
    assert [row["image_id"] for row in rows] == [record.image_id for record in test.records]
    assert set(json.loads((tmp_path / "error_analysis.json").read_text())["systems"]) == {"before", "after"}

    # "before" is what the untouched weights say under the same decoding, and "after" what the trained ones say.
    for name, weights in (("before", base), ("after", trainer.model)):
        alone = CaptionTrainer(weights, arguments(tmp_path / name), processing_class=processor)
        captions = alone.evaluate_coco(test, metrics=["Bleu_1"], write=False).captions
        assert captions == {row["image_id"]: row["systems"][name] for row in rows}, name
    assert any(row["systems"]["before"] != row["systems"]["after"] for row in rows)


def test_the_base_of_an_adapter_is_the_model_without_it(tiny_captioner, tmp_path):
    import torch

    model, processor = tiny_captioner()
    plain = CaptionTrainer(
        model, arguments(tmp_path / "plain", compare_with_base=False), None, scenes("validation", 4), processor
    )
    expected = plain.evaluate_coco(metrics=["Bleu_1"], write=False).captions
    adapted = add_lora(model, {"r": 4})
    # One that was trained before: switched on, it says something else.
    torch.manual_seed(0)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn_like(parameter)
    trainer = CaptionTrainer(
        adapted, arguments(tmp_path / "lora"), scenes("train", 4), scenes("validation", 4), processor
    )
    switched_on = trainer.evaluate_coco(metrics=["Bleu_1"], write=False).captions
    trainer.train()
    assert trainer.comparison["before"].captions == expected != switched_on


def test_a_comparison_needs_images_and_captions(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    with pytest.raises(ConfigurationError, match="compare_with_base needs images"):
        CaptionTrainer(model, arguments(tmp_path), scenes("train", 4), processing_class=processor).train()
    with pytest.raises(ConfigurationError, match="loss_only generates none"):
        arguments(tmp_path, loss_only=True)
