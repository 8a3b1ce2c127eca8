"""Encoder outputs computed once: never stale, never half, and training on them is training."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace

import pytest
import torch

from blip_refine.data.dataset import BlipCaptionDataset, FeatureDataset
from blip_refine.errors import ConfigurationError
from blip_refine.models.features import VisionFeatures, image_key
from blip_refine.models.freezing import freeze_vision_encoder
from blip_refine.records import CaptionRecord
from blip_refine.training.trainer import CaptionTrainer

from ..training.test_trainer import arguments, scenes


def frozen(tiny_captioner, **options):
    model, processor = tiny_captioner(**options)
    freeze_vision_encoder(model)
    return model, processor


def test_states_are_those_of_the_encoder_and_are_found_again(tiny_captioner, tmp_path):
    model, processor = frozen(tiny_captioner)
    data = scenes("train", 5)
    features = VisionFeatures(model, processor, tmp_path)
    done = []
    keys = features.build(data.records, batch_size=2, advance=done.append)
    assert sum(done) == 5 and len(keys) == 5
    pixels = processor.image_processor(images=[data[3]["image"]], return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        expected = model.vision_model(pixel_values=pixels).last_hidden_state[0]
    again = VisionFeatures(model, processor, tmp_path)
    assert not again.missing(data.records)[0]
    torch.testing.assert_close(again[keys[data.records[3].image_id]], expected, atol=1e-6, rtol=1e-5)
    half = VisionFeatures(model, processor, tmp_path, "bfloat16")
    assert len(half.missing(data.records)[0]) == 5 and half.bytes_per_image * 2 == features.bytes_per_image


def test_other_weights_pictures_or_preprocessing_are_never_taken_for_these(tiny_captioner, tmp_path):
    model, processor = frozen(tiny_captioner)
    picture = tmp_path / "one.png"
    data = scenes("train", 2)
    data[0]["image"].save(picture)
    record = CaptionRecord(str(picture), ("a",), "one")
    features = VisionFeatures(model, processor, tmp_path / "cache")
    features.build([record])
    assert not features.missing([record])[0]
    data[1]["image"].save(picture)
    assert len(features.missing([record])[0]) == 1
    features.build([record])

    processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert len(VisionFeatures(model, processor, tmp_path / "cache").missing([record])[0]) == 1
    model, processor = frozen(tiny_captioner, seed=1)
    assert len(VisionFeatures(model, processor, tmp_path / "cache").missing([record])[0]) == 1


def test_half_a_file_is_never_read(tiny_captioner, tmp_path, monkeypatch):
    model, processor = frozen(tiny_captioner)
    data = scenes("train", 3)
    features = VisionFeatures(model, processor, tmp_path)

    def dies(tensors, path, metadata=None):
        open(path, "wb").write(b"\x80")
        raise KeyboardInterrupt

    monkeypatch.setattr("blip_refine.models.features.save_file", dies)
    with pytest.raises(KeyboardInterrupt):
        features.build(data.records)
    assert not list(tmp_path.rglob("*.safetensors")) and not list(tmp_path.rglob("*.part"))
    assert len(VisionFeatures(model, processor, tmp_path).missing(data.records)[0]) == 3


def test_a_trained_encoder_augmentation_and_a_small_disk_are_refused(tiny_captioner, tmp_path, monkeypatch):
    model, processor = tiny_captioner()
    with pytest.raises(ConfigurationError, match="freeze_vision"):
        VisionFeatures(model, processor, tmp_path)
    with pytest.raises(ConfigurationError, match="needs freeze_vision"):
        arguments(tmp_path, cache_vision_features=True)
    freeze_vision_encoder(model)
    with pytest.raises(ConfigurationError, match="there are: float32"):
        VisionFeatures(model, processor, tmp_path, "int8")
    args = arguments(tmp_path, cache_vision_features=True, freeze_vision=True)
    data = scenes("train", 4)
    augmented = BlipCaptionDataset(data.records, transform=lambda picture, captions: (picture, captions))
    trainer = CaptionTrainer(model, args, augmented, processing_class=processor)
    with pytest.raises(ConfigurationError, match="exclude each other"):
        trainer.train()
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(10**9, 10**9 - 100, 100))
    with pytest.raises(ConfigurationError, match="features of 4 images take .* GiB free"):
        CaptionTrainer(model, args, data, processing_class=processor).train()


def test_training_on_features_gives_the_weights_of_training_on_pictures(tiny_captioner, tmp_path):
    train, validation = scenes("train", 8), scenes("validation", 3)
    results = []
    for cache in (False, True):
        model, processor = tiny_captioner()
        args = arguments(
            tmp_path / str(cache), freeze_vision=True, cache_vision_features=cache, learning_rate=1e-3,
            dataloader_num_workers=1 if cache else 0, num_train_epochs=1,
        )  # fmt: skip
        trainer = CaptionTrainer(model, args, train, validation, processor)
        trainer.train()
        results.append((model.state_dict(), trainer.evaluate()["eval_loss"]))
    assert isinstance(trainer.train_dataset, FeatureDataset)
    for name, value in results[0][0].items():
        torch.testing.assert_close(results[1][0][name], value, atol=1e-5, rtol=1e-4, msg=name)
    assert results[0][1] == pytest.approx(results[1][1], rel=1e-5)


def test_what_cannot_be_decoded_is_left_out(tiny_captioner, tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 no photo")
    broken = CaptionRecord(str(tmp_path / "broken.jpg"), ("a photo",), "broken.jpg")
    data = BlipCaptionDataset(
        [*scenes("train", 3).records, broken, replace(broken, image="gone.jpg", image_id="gone")]
    )
    model, processor = tiny_captioner()
    args = arguments(
        tmp_path, freeze_vision=True, cache_vision_features=True, max_steps=2, per_device_train_batch_size=1
    )
    trainer = CaptionTrainer(model, args, data, processing_class=processor)
    dataset = trainer.cache_features(data)
    assert set(dataset.keys) == {record.image_id for record in data.records[:3]}
    assert dataset[3]["image"] is None and "error" in dataset[4]
    assert image_key(data.records[0].image) != image_key(data.records[1].image)
