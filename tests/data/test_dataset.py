"""`BlipCaptionDataset` and `CaptionCollator`, with literal tensors and real files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.data import DataLoader

from blip_refine.data.collator import IGNORED, CaptionCollator
from blip_refine.data.dataset import BlipCaptionDataset
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.errors import ConfigurationError, DataError
from blip_refine.records import CaptionRecord

from .photos import difference, encode, make_photo


@pytest.fixture
def collator(tiny_captioner):
    model, processor = tiny_captioner()
    return lambda **options: CaptionCollator(processor, model.config.text_config.bos_token_id, **options)


def test_an_item_is_an_image_with_all_its_captions():
    data = BlipCaptionDataset(load_scenes(split="train", count=3))
    item = data[1]
    assert len(data) == 3 and len(item["captions"]) == 5 and item["index"] == 1
    assert item["image"].size == (96, 96)
    assert data.references[item["image_id"]] == list(item["captions"])


def test_the_same_image_twice_is_refused():
    record = load_scenes(split="train", count=1)[0]
    with pytest.raises(DataError, match="'everyday-train-00000' is there twice"):
        BlipCaptionDataset([record, replace(record, captions=("another",))])
    with pytest.raises(DataError, match="at least one image"):
        BlipCaptionDataset([])


def test_a_transform_sees_picture_and_captions():
    record = load_scenes(split="train", count=1)[0]
    data = BlipCaptionDataset([record], transform=lambda image, captions: (image.resize((8, 8)), captions[:1]))
    assert data[0]["image"].size == (8, 8) and len(data[0]["captions"]) == 1


def test_one_broken_file_is_left_out_and_named(tmp_path, collator):
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 this is no photo")
    broken = CaptionRecord(str(tmp_path / "broken.jpg"), ("a photo",), "broken.jpg")
    good = load_scenes(split="train", count=2)
    data = BlipCaptionDataset([good[0], broken, good[1]])
    batch = collator()([data[i] for i in range(3)])
    assert batch["pixel_values"].shape[0] == 2 and batch["indices"].tolist() == [0, 2]
    assert batch["unreadable"][0][0] == "broken.jpg" and "broken.jpg" in batch["unreadable"][0][1]
    # A batch of nothing else ends no run either: it adds nothing to the loss, and is empty in evaluation.
    alone = collator()([data[1]])
    assert alone["unreadable"][0][0] == "broken.jpg" and (alone["labels"] == IGNORED).all()
    evaluation = collator(training=False)([data[1]])
    assert len(evaluation["indices"]) == 0 and "pixel_values" not in evaluation


def test_a_truncated_file_is_kept_where_that_is_asked_for(tmp_path):
    whole = encode(make_photo(3, (64, 48)))
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    record = CaptionRecord(str(tmp_path / "cut.jpg"), ("a photo",), "cut.jpg")
    assert "truncated" in BlipCaptionDataset([record])[0]["error"]
    item = BlipCaptionDataset([record], truncated="recover")[0]
    assert item["image"].size == (64, 48) and "error" not in item
    top = (0, 0, 64, 16)
    assert difference(item["image"].crop(top), make_photo(3, (64, 48)).crop(top)) < 10


def test_tensors_of_a_batch(collator, tiny_captioner):
    _, processor = tiny_captioner()
    word = processor.tokenizer.convert_tokens_to_ids
    records = load_scenes(split="train", count=2)
    data = BlipCaptionDataset(
        [replace(records[0], captions=("a red ball", "red")), replace(records[1], captions=("two fish",))]
    )
    batch = collator()([data[0], data[1]])
    start, end, pad = len(processor.tokenizer), word("[SEP]"), word("[PAD]")
    assert batch["input_ids"].tolist() == [
        [start, word("a"), word("red"), word("ball"), end],
        [start, word("red"), end, pad, pad],
        [start, word("two"), word("fish"), end, pad],
    ]
    assert batch["labels"].tolist() == [
        [IGNORED, word("a"), word("red"), word("ball"), end],
        [IGNORED, word("red"), end, IGNORED, IGNORED],
        [IGNORED, word("two"), word("fish"), end, IGNORED],
    ]
    assert batch["attention_mask"].tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]]
    assert batch["caption_counts"].tolist() == [2, 1]
    assert batch["pixel_values"].shape == (2, 3, 32, 32)


def test_the_prompt_is_given_and_not_learnt(collator, tiny_captioner):
    _, processor = tiny_captioner()
    batch = collator(prompt="a picture of ").encode(["a red ball"])
    words = processor.tokenizer.convert_ids_to_tokens(batch["input_ids"][0, 1:].tolist())
    assert words == ["a", "picture", "of", "a", "red", "ball", "[SEP]"]
    assert batch["labels"][0].tolist() == [IGNORED] * 4 + batch["input_ids"][0, 4:].tolist()


def test_long_captions_are_cut_at_max_txt_len(collator):
    batch = collator(max_txt_len=6).encode(["one two three four red blue green white"])
    assert batch["input_ids"].shape == (1, 6)
    with pytest.raises(ConfigurationError, match="leaves no room"):
        collator(max_txt_len=5, prompt="a picture of ")


def test_some_captions_are_drawn_in_training_and_all_are_used_in_evaluation(collator):
    data = BlipCaptionDataset(load_scenes(split="train", count=4))
    items = [data[i] for i in range(4)]
    drawn = collator(captions_per_image=2)
    assert drawn(items)["caption_counts"].tolist() == [2, 2, 2, 2]
    assert any(not torch.equal(drawn(items)["labels"], drawn(items)["labels"]) for _ in range(5))
    assert collator(captions_per_image=2, training=False)(items)["caption_counts"].tolist() == [5, 5, 5, 5]
    assert collator(captions_per_image=9)(items)["caption_counts"].tolist() == [5, 5, 5, 5]
    with pytest.raises(ConfigurationError, match="captions_per_image"):
        collator(captions_per_image=0)


def test_workers_draw_different_captions(collator):
    data = BlipCaptionDataset(load_scenes(split="train", count=16))
    loader = DataLoader(data, batch_size=4, num_workers=2, collate_fn=collator(captions_per_image=1))
    torch.manual_seed(0)
    once = [batch["input_ids"] for batch in loader]
    again = [batch["input_ids"] for batch in loader]
    assert sum(a.shape == b.shape and torch.equal(a, b) for a, b in zip(once, again, strict=True)) < 4


def test_images_without_captions_can_be_captioned_and_not_trained_on(collator):
    records = load_scenes(split="train", count=2)
    silent = BlipCaptionDataset([replace(record, captions=()) for record in records])
    batch = collator()([silent[0], silent[1]])
    assert "labels" not in batch and batch["caption_counts"].tolist() == [0, 0]
    mixed = BlipCaptionDataset([replace(records[0], captions=()), records[1]])
    with pytest.raises(DataError, match="has no caption"):
        collator()([mixed[0], mixed[1]])
