"""What training makes of data: pixels by the fast way, augmentation by name, streams, and what it has seen."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from blip_refine.data.augment import Augmentation, load_augmentation
from blip_refine.data.collator import CaptionCollator
from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.fingerprint import training_fingerprint
from blip_refine.data.images import load_image
from blip_refine.data.leakage import images_seen
from blip_refine.data.preprocess import ImagePreprocessor
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.data.streaming import CaptionStream, ShardedCaptionStream
from blip_refine.errors import ConfigurationError, LeakageError
from blip_refine.inputs import ImageSource
from blip_refine.models.captioner import load_captioner
from blip_refine.pipeline import CaptionPipeline
from blip_refine.records import CaptionRecord
from blip_refine.training.trainer import CaptionTrainer

from ..training.test_trainer import arguments, scenes
from .photos import encode, make_photo


@pytest.fixture(scope="module")
def photos():
    """A large JPEG, a small one, and a PNG."""
    files = [
        encode(make_photo(0, (1600, 1200))),
        encode(make_photo(1, (90, 70))),
        encode(make_photo(2, (50, 60)), "PNG"),
    ]
    return [CaptionRecord(data, (f"a thing number {n}",), str(n)) for n, data in enumerate(files)]


def collator_of(model, processor, **options) -> CaptionCollator:
    return CaptionCollator(processor, model.config.text_config.bos_token_id, **options)


@pytest.mark.parametrize("exact", [True, False])
def test_a_dataset_gives_the_pixels_that_the_pipeline_sees(tiny_captioner, photos, exact):
    model, processor = tiny_captioner()
    data = BlipCaptionDataset(photos, image_size=None if exact else 32)
    ours = collator_of(model, processor)([data[place] for place in range(3)])["pixel_values"]
    pipeline = CaptionPipeline(model, processor, exact_decoding=exact)
    prepared = [pipeline.prepare(ImageSource(record.image_id, record.image)).pixels for record in photos]
    theirs = ImagePreprocessor.from_processor(processor).normalize(prepared)
    assert torch.equal(ours, torch.from_numpy(theirs))


def test_pixels_are_the_processors_within_the_stated_tolerance(tiny_captioner, photos):
    model, processor = tiny_captioner()
    data = BlipCaptionDataset(photos, image_size=32)
    ours = collator_of(model, processor)([data[place] for place in range(3)])["pixel_values"]
    whole = [load_image(record.image) for record in photos]
    stock = processor.image_processor(images=whole, return_tensors="pt")["pixel_values"]
    levels = (ours - stock).abs() * torch.tensor(processor.image_processor.image_std)[:, None, None] * 255
    # docs/data.md: of 255 levels at most 1 on average over a photo, and at most 16 anywhere. Small ones are the same.
    assert 0 < levels[0].mean() < 1 and levels[0].max() < 16
    assert levels[1:].max() < 0.01


def test_a_processor_that_does_more_is_used_itself(tiny_captioner, photos):
    model, processor = tiny_captioner()
    processor.image_processor.do_resize = False
    assert ImagePreprocessor.find(processor) is None
    collator = collator_of(model, processor, normalize=False)
    batch = collator([{**BlipCaptionDataset(photos)[1], "index": 0}])
    expected = processor.image_processor(images=[load_image(photos[1].image)], return_tensors="pt")["pixel_values"]
    assert torch.equal(batch["pixel_values"], expected) and expected.shape == (1, 3, 70, 90)
    trainer = CaptionTrainer(model, arguments("unused"), BlipCaptionDataset(photos[1:2]), processing_class=processor)
    assert next(iter(trainer.get_train_dataloader()))["pixel_values"].dtype == torch.float32


def test_large_jpegs_are_decoded_no_larger_than_is_needed(photos):
    sizes = {
        name: BlipCaptionDataset(photos, **options)[0]["image"].size
        for name, options in {
            "whole": {},
            "model": {"image_size": 70},
            "crop": {"image_size": 70, "augment": Augmentation(flip=0, jitter=0, crop_scale=(0.5, 0.5))},
            "transform": {"image_size": 70, "transform": lambda picture, captions: (picture, captions)},
        }.items()
    }
    assert sizes["whole"] == sizes["transform"] == (1600, 1200)
    assert sizes["model"] == (200, 150)
    # Half the area of 1/4 scale: at 1/8 it would have too few pixels.
    assert sizes["crop"][0] * sizes["crop"][1] == pytest.approx(400 * 300 / 2, rel=0.02)
    assert load_augmentation("standard").smallest_side == pytest.approx((0.8 * 0.9) ** 0.5)


def test_workers_hand_over_levels_and_the_model_gets_the_same_values(tiny_captioner, photos, tmp_path):
    model, processor = tiny_captioner()
    data = BlipCaptionDataset(photos)
    args = arguments(tmp_path, dataloader_num_workers=1, per_device_train_batch_size=3)
    trainer = CaptionTrainer(model, args, data, BlipCaptionDataset(scenes("test", 2).records), processor)
    reduced = BlipCaptionDataset(photos, image_size=32)
    exact = CaptionTrainer(model, arguments(tmp_path, exact_decoding=True), data, processing_class=processor)
    for loader, seen in (
        (trainer.get_train_dataloader(), reduced),
        (trainer.get_eval_dataloader(data), data),
        (exact.get_train_dataloader(), data),
    ):
        batch = next(iter(loader))
        assert batch["pixel_values"].dtype == torch.uint8
        expected = trainer.data_collator([seen[place] for place in batch["indices"].tolist()])["pixel_values"]
        assert torch.equal(trainer._model_inputs(batch)["pixel_values"], expected)
    assert trainer.train_dataset is data and data[0]["image"].size == (1600, 1200)


def test_levels_become_values_on_any_device(tiny_captioner):
    preprocess = ImagePreprocessor.from_processor(tiny_captioner()[1])
    pixels = torch.arange(256, dtype=torch.uint8).repeat(2, 3, 32, 1)[:, :, :, :32]
    expected = torch.from_numpy(preprocess.levels)[:, None, :32].expand(3, 32, 32)
    assert torch.equal(preprocess.normalize_tensor(pixels)[1], expected)
    # The way taken on a GPU, on a device that has no data: shape and type.
    elsewhere = preprocess.normalize_tensor(pixels.to("meta"))
    assert elsewhere.shape == (2, 3, 32, 32) and elsewhere.dtype == torch.float32


# Augmentation by name


def test_augment_is_an_argument_by_name(tmp_path):
    plain = BlipCaptionDataset.from_source("scenes:everyday", split="train", count=6)
    data = BlipCaptionDataset.from_source("scenes:everyday", split="train", count=6, augment="standard")
    assert any(data[place]["image"].size != plain[place]["image"].size for place in range(6))
    assert not plain.reader.changes_pictures and data.reader.changes_pictures
    changed = plain.with_changes(augment="light", image_size=32)
    assert changed.reader.augment == load_augmentation("light") and changed.reader.image_size == (32, 32)
    assert plain.reader.augment is None and changed.with_changes(augment=None).reader.augment is None
    with pytest.raises(ConfigurationError, match="no augmentation 'strong'"):
        BlipCaptionDataset(plain.records, augment="strong")
    with pytest.raises(ConfigurationError, match="has no 'zoom'"):
        load_augmentation("standard", zoom=2)
    assert load_augmentation("light", jitter_colors=True) == Augmentation(
        crop_scale=(0.9, 1.0), crop_ratio=(0.95, 1.05), jitter=0.1, jitter_colors=True
    )
    assert pickle.loads(pickle.dumps(data))[0]["image"]  # workers that are not forked get a pickle


def test_a_mirrored_picture_brings_its_mirrored_caption():
    picture = make_photo(4, (64, 48))
    record = CaptionRecord(picture, ("a dog to the left of a boy",), "one")
    always = Augmentation(crop_scale=(1, 1), flip=1.0, jitter=0)
    item = BlipCaptionDataset([record], lambda image, captions: (image, captions + ("more",)), augment=always)[0]
    assert item["captions"] == ("a dog to the right of a boy", "more")
    assert np.array_equal(np.asarray(item["image"]), np.asarray(picture)[:, ::-1])


def test_training_images_are_augmented_and_evaluation_is_not(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    train, evaluation = scenes("train", 4), scenes("validation", 4)
    args = arguments(tmp_path, augment="standard", augment_jitter_colors=True)
    assert args.augmentation.jitter_colors and not args.augmentation.flip_writing
    trainer = CaptionTrainer(model, args, train, evaluation, processor)
    epochs = [next(iter(trainer.get_train_dataloader()))["pixel_values"] for _ in range(2)]
    assert not torch.equal(epochs[0].float().mean((1, 2, 3)).sort()[0], epochs[1].float().mean((1, 2, 3)).sort()[0])
    batch = trainer._model_inputs(next(iter(trainer.get_eval_dataloader())))
    expected = trainer.data_collator([evaluation[place] for place in range(4)])["pixel_values"]
    assert torch.equal(batch["pixel_values"], expected)
    assert train.reader.augment is None  # the user's own dataset is as it was


def test_augmentations_that_cannot_be_are_refused(tiny_captioner, tmp_path):
    with pytest.raises(ConfigurationError, match="cache_vision_features and augment exclude each other"):
        arguments(tmp_path, freeze_vision=True, cache_vision_features=True, augment="light")
    with pytest.raises(ConfigurationError, match="no augmentation to change"):
        arguments(tmp_path, augment_flip_writing=True)
    with pytest.raises(ConfigurationError, match="no augmentation 'srandard'"):
        arguments(tmp_path, augment="srandard")
    model, processor = tiny_captioner()
    twice = BlipCaptionDataset(scenes("train", 2).records, augment="light")
    with pytest.raises(ConfigurationError, match="augmented already"):
        CaptionTrainer(model, arguments(tmp_path, augment="light"), twice, processing_class=processor)
    args = arguments(tmp_path, freeze_vision=True, cache_vision_features=True)
    with pytest.raises(ConfigurationError, match="exclude each other"):
        CaptionTrainer(model, args, twice, processing_class=processor).train()


# Loaders of the trainer


def test_a_test_is_not_scored_on_the_validation_images(tiny_captioner, tmp_path):
    """Workers that are kept between evaluations belong to one dataset."""
    model, processor = tiny_captioner()
    args = arguments(tmp_path, dataloader_num_workers=1, dataloader_persistent_workers=True)
    trainer = CaptionTrainer(model, args, eval_dataset=scenes("validation", 3), processing_class=processor)
    trainer.evaluate()
    result = trainer.evaluate_coco(scenes("test", 2), metrics=["Bleu"])
    assert [one.record.image_id for one in result.images] == ["everyday-test-00000", "everyday-test-00001"]


def test_training_from_a_stream_keeps_every_caption(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    data = scenes("train", 10)
    stream = CaptionStream(data, batch_size=4)
    trainer = CaptionTrainer(model, arguments(tmp_path), stream, scenes("validation", 2), processor)
    batches = list(trainer.get_train_dataloader())
    assert [len(batch["input_ids"]) for batch in batches] == [20, 20, 10]
    assert sorted(place for batch in batches for place in batch["indices"].tolist()) == list(range(10))
    trainer.train()
    assert trainer.state.global_step == 6 and trainer.state.epoch == 2
    with pytest.raises(ConfigurationError, match="dispatch_batches"):
        arguments(tmp_path, accelerator_config={"dispatch_batches": True})
    broken = [CaptionRecord(b"no photo", ("a photo",), f"broken{n}") for n in range(20)]
    mostly_broken = ShardedCaptionStream([lambda: iter([*broken, *data.records])], shuffle_buffer=0)
    alone = CaptionTrainer(model, arguments(tmp_path, max_steps=7), mostly_broken, processing_class=processor)
    alone.train()
    assert alone.state.global_step == 7 and len(alone.unreadable) == 20


def test_a_stream_from_a_source_leaves_out_what_is_evaluated_on(tiny_captioner, tmp_path):
    """Its images cannot be compared beforehand: copies, re-encoded and resized too, are left out as they come."""
    model, processor = tiny_captioner()
    records = [CaptionRecord(encode(make_photo(n)), (f"photo {n}",), f"{n}") for n in range(8)]
    evaluation = BlipCaptionDataset(
        [
            CaptionRecord(encode(make_photo(2)), ("photo 2",), "the same"),
            CaptionRecord(encode(make_photo(5).resize((80, 60)), "PNG"), ("photo 5",), "resized"),
        ]
    )
    stream = ShardedCaptionStream([lambda: iter(records)], shuffle_buffer=0)
    trainer = CaptionTrainer(model, arguments(tmp_path, max_steps=2), stream, evaluation, processor)
    texts = [item["image_id"] for item in trainer.train_dataset]
    assert texts == ["0", "1", "3", "4", "6", "7"] and len(list(stream)) == 8
    trainer.train()
    assert not trainer.evaluate_coco(metrics=["Bleu"]).contaminated
    other = BlipCaptionDataset(records[:1])
    with pytest.raises(ConfigurationError, match=r"stream\.without\(evaluation\.records\)"):
        trainer.evaluate_coco(other)
    trainer.train_dataset = trainer.train_dataset.without(other.records)
    assert trainer.evaluate_coco(other, metrics=["Bleu"]).images
    given = ShardedCaptionStream([lambda: iter(records)], without=other.records, shuffle_buffer=0)
    broken = CaptionRecord(b"no photo", ("a",), "broken")
    assert given.leaves_out(other.records) and not given.leaves_out(evaluation.records)
    assert len(list(ShardedCaptionStream([lambda: iter([broken, *records])], without=other.records))) == 8


def test_streams_augment_too():
    data = scenes("train", 4)
    for stream in (
        CaptionStream(BlipCaptionDataset(data.records, augment="standard"), batch_size=2),
        ShardedCaptionStream([lambda: iter(data.records)], augment="standard", image_size=32),
    ):
        sizes = [item["image"].size for batch in DataLoader(stream, batch_size=2, collate_fn=list) for item in batch]
        assert len(sizes) == 4 and any(size != (96, 96) for size in sizes)


# What a checkpoint has seen


def test_a_checkpoint_says_what_it_was_trained_on_and_is_held_to_it(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    first = scenes("train", 4)
    trainer = CaptionTrainer(model, arguments(tmp_path / "one", num_train_epochs=1), first, processing_class=processor)
    trainer.train()
    checkpoint = next((tmp_path / "one").glob("checkpoint-*"))
    assert training_fingerprint(checkpoint).image_ids == tuple(record.image_id for record in first.records)

    # Trained on with other images, and evaluated on those that the checkpoint knows.
    second = BlipCaptionDataset(load_scenes(split="train", count=8)[4:])
    seen = BlipCaptionDataset([replace(first.records[2], image_id="renamed"), *scenes("test", 2).records])
    model, processor = load_captioner(checkpoint)
    with pytest.raises(LeakageError, match="'renamed' is 'everyday-train-00002'"):
        CaptionTrainer(model, arguments(tmp_path / "two"), second, seen, processor)
    with pytest.raises(LeakageError, match="'renamed'"):
        CaptionTrainer(model, arguments(tmp_path / "two"), processing_class=processor).evaluate_coco(seen)
    allowed = CaptionTrainer(model, arguments(tmp_path / "two", allow_overlap=True), second, seen, processor)
    assert allowed.overlap and allowed.evaluate_coco(metrics=["Bleu"]).contaminated

    # What is saved now has seen both.
    allowed.save_model(str(tmp_path / "both"))
    assert len(training_fingerprint(tmp_path / "both")) == 8
    assert training_fingerprint(tmp_path / "both", None, tmp_path / "nowhere", checkpoint) is not None


def test_an_adapter_is_held_to_what_it_and_its_base_have_seen(tiny_captioner, tmp_path):
    model, processor = tiny_captioner()
    base = CaptionTrainer(model, arguments(tmp_path / "base"), scenes("train", 2), processing_class=processor)
    base.save_model()
    model, processor = load_captioner(tmp_path / "base", lora=True)
    other = BlipCaptionDataset(load_scenes(split="train", count=4)[2:])
    CaptionTrainer(model, arguments(tmp_path / "lora"), other, processing_class=processor).save_model()
    model, processor = load_captioner(tmp_path / "lora")
    for known in ("everyday-train-00001", "everyday-train-00003"):
        record = next(record for record in load_scenes(split="train", count=4) if record.image_id == known)
        with pytest.raises(LeakageError, match=known):
            CaptionTrainer(
                model, arguments(tmp_path), eval_dataset=BlipCaptionDataset([record]), processing_class=processor
            )


def test_images_that_cannot_be_read_are_not_seen(tmp_path):
    records = [*scenes("train", 2).records, CaptionRecord(str(tmp_path / "gone.jpg"), ("a photo",), "gone")]
    assert images_seen(records).image_ids == tuple(record.image_id for record in records[:2])
    assert images_seen(None) is None
