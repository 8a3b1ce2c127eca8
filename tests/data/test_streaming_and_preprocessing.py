"""Streams that workers and ranks share and that go on in mid-epoch; `pixel_values` as the processor makes them."""

from __future__ import annotations

import numpy as np
import pytest
from torch.utils.data import DataLoader
from transformers import BlipImageProcessor

from blip_refine.data.preprocess import ImagePreprocessor
from blip_refine.data.sources.scenes import load_scenes
from blip_refine.data.streaming import CaptionStream, ShardedCaptionStream
from blip_refine.errors import ConfigurationError

from .photos import encode, make_photo

RECORDS = load_scenes(split="test", count=37)


def names(items):
    return [item["image_id"] for item in items]


def batches(stream, workers=0, size=4):
    return [names(batch) for batch in DataLoader(stream, batch_size=size, num_workers=workers, collate_fn=list)]


def stream(epoch=0, **options):
    made = CaptionStream(RECORDS, **{"batch_size": 4, **options})
    made.set_epoch(epoch)
    return made


def test_batches_do_not_depend_on_the_number_of_workers():
    alone = batches(stream())
    assert len(alone) == 10 and sorted(sum(alone, [])) == sorted(record.image_id for record in RECORDS)
    assert batches(stream(), 2) == alone
    assert batches(stream(epoch=1)) != alone != batches(stream(seed=1))
    assert sum(batches(stream(shuffle=False)), []) == [record.image_id for record in RECORDS]


@pytest.mark.parametrize("done", [0, 1, 6, 10])
def test_an_epoch_goes_on_where_it_was_with_other_workers(done):
    whole = batches(stream(epoch=3))
    for workers in (0, 2):
        again = stream()
        again.load_state_dict(stream(epoch=3).state_after(done))
        assert len(again) == sum(map(len, whole[done:]))
        assert batches(again, workers) == whole[done:]
    again.set_epoch(4)
    assert batches(again) == batches(stream(epoch=4))


@pytest.mark.parametrize(("uneven", "steps", "seen"), [("pad", 4, 37), ("drop", 3, 36), ("keep", None, 37)])
def test_ranks_share_an_epoch(uneven, steps, seen):
    ranks = [batches(stream(rank=rank, world_size=3, uneven=uneven)) for rank in range(3)]
    if steps:
        assert [len(rank) for rank in ranks] == [steps] * 3 and {len(b) for rank in ranks for b in rank} == {4}
    assert len({name for rank in ranks for batch in rank for name in batch}) == seen


def test_each_worker_keeps_its_state():
    whole, interrupted = names(stream()), stream()
    reader = iter(interrupted)
    first = names(next(reader) for _ in range(11))
    again = stream()
    again.load_state_dict(interrupted.state_dict())
    assert first + names(again) == whole


def test_stateful_data_loaders_go_on():
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader
    shards = [lambda place=place: iter(RECORDS[place::3]) for place in range(3)]
    for make in (stream, lambda: ShardedCaptionStream(shards, shuffle_buffer=5)):
        whole = [names(batch) for batch in stateful(make(), batch_size=4, num_workers=2, collate_fn=list)]
        loader = stateful(make(), batch_size=4, num_workers=2, collate_fn=list)
        reader = iter(loader)
        first = [names(next(reader)) for _ in range(5)]
        other = stateful(make(), batch_size=4, num_workers=2, collate_fn=list)
        other.load_state_dict(loader.state_dict())
        assert first + [names(batch) for batch in other] == whole


def test_shards_are_shared_without_loss():
    shards = [lambda place=place: iter(RECORDS[place::3]) for place in range(3)]
    every = sorted(record.image_id for record in RECORDS)
    for world_size, workers in ((1, 1), (3, 1), (2, 2)):
        seen = [
            record.image_id
            for rank in range(world_size)
            for worker in range(workers)
            for record in ShardedCaptionStream(shards, rank=rank, world_size=world_size).records(worker, workers)
        ]
        assert sorted(seen) == every
    ordered = ShardedCaptionStream(shards[:1], shuffle_buffer=0)
    assert names(ordered) == [record.image_id for record in RECORDS[::3]]
    reader = iter(ordered)
    first = names(next(reader) for _ in range(5))
    again = ShardedCaptionStream(shards[:1], shuffle_buffer=0)
    again.load_state_dict(ordered.state_dict())
    assert first + names(again) == [record.image_id for record in RECORDS[::3]]


def test_what_cannot_be_is_refused():
    for options in ({"batch_size": 0}, {"rank": 2, "world_size": 2}, {"uneven": "maybe"}):
        with pytest.raises(ConfigurationError):
            stream(**options)
    with pytest.raises(ConfigurationError, match="batch_size=4, this stream has batch_size=8"):
        stream(batch_size=8).load_state_dict(stream().state_after(1))
    with pytest.raises(ConfigurationError, match="at least one shard"):
        ShardedCaptionStream([])
    sharded = ShardedCaptionStream([lambda: iter(RECORDS)])
    with pytest.raises(ConfigurationError, match="4 workers in all, now there are 1"):
        sharded.load_state_dict({**sharded.state_dict(), "readers": 4})


def test_pixel_values_are_the_processors():
    processor = BlipImageProcessor(size={"height": 48, "width": 64})
    preprocess = ImagePreprocessor.from_processor(processor)
    pictures = [make_photo(n, size) for n, size in enumerate([(90, 70), (64, 48), (30, 200)])]
    theirs = np.asarray(processor(images=pictures, return_tensors="np")["pixel_values"])
    ours = preprocess(pictures)
    assert ours.dtype == np.float32 and ours.shape == (3, 3, 48, 64)
    assert np.abs(ours - theirs).max() < 0.05  # exact with Pillow; torchvision resizes to within a level or two
    large = encode(make_photo(5, (1600, 1200)))
    whole = np.asarray(processor(images=[make_photo(5, (1600, 1200))], return_tensors="np")["pixel_values"])
    assert preprocess.load(large).size == (200, 150) and np.abs(preprocess([large]) - whole).mean() < 0.05


def test_a_processor_that_crops_is_refused():
    processor = BlipImageProcessor()
    processor.do_resize = False
    with pytest.raises(ConfigurationError, match="does not simply resize to a fixed size"):
        ImagePreprocessor.from_processor(processor)
