"""Captioned images one after the other: divided among workers and ranks, and to be taken up again in mid-epoch.

`CaptionStream` goes over records that can be reached in any order (files, tars, rows on disk). Which records make
which batch depends on the seed and the epoch alone, not on the number of workers: a run can go on with more or fewer.
`ShardedCaptionStream` goes over shards that can only be read from their start (a data set streamed from the Hub).

Both keep `state_dict` and `load_state_dict` for each worker, which `torchdata`'s `StatefulDataLoader` calls.
"""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from ..errors import ConfigurationError, ImageDecodeError
from ..records import CaptionRecord
from .augment import Augmentation
from .dataset import BlipCaptionDataset
from .duplicates import KnownImages, hash_image, hash_records
from .reading import RecordReader

Shard = Callable[[], Iterable[CaptionRecord]]


class CaptionStream(IterableDataset):
    """Records in batches that do not depend on who reads them.

    The epoch's order is cut into batches; batch `n` belongs to rank `n % world_size`, and there to the worker whose
    turn it is. So a `DataLoader` with the same `batch_size` returns the same batches with any number of workers.

    Args:
        dataset (`BlipCaptionDataset` or `Sequence[CaptionRecord]`): The images.
        batch_size (`int`): Images in a batch; give the `DataLoader` the same.
        shuffle (`bool`, defaults to `True`): Another order in each epoch.
        seed (`int`, defaults to 0): Of the order.
        rank (`int`, defaults to 0): Which of the processes this is.
        world_size (`int`, defaults to 1): How many processes share the data. Leave it at 1 where something else
            divides the batches among processes already (`accelerate` does).
        uneven (`"pad"`, `"drop"` or `"keep"`, *optional*): What to do where the images do not fill the batches of all
            ranks: take some from the start again, leave the rest out, or let the last batches be smaller or fewer. By
            default `"keep"` in one process and `"pad"` in several, which must all take equally many steps.

    Raises:
        ConfigurationError: Numbers that cannot be.

    Example:
        ```python
        >>> stream = CaptionStream(BlipCaptionDataset.from_source("scenes:everyday", split="train"), batch_size=8)
        >>> loader = DataLoader(stream, batch_size=8, num_workers=2, collate_fn=collator)
        >>> state = stream.state_after(batches=100)     # into the checkpoint
        >>> stream.load_state_dict(state)               # and back: the next batch is the 101st
        ```
    """

    def __init__(
        self,
        dataset: BlipCaptionDataset | Sequence[CaptionRecord],
        *,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        uneven: Literal["pad", "drop", "keep"] | None = None,
    ):
        if batch_size < 1:
            raise ConfigurationError(f"batch_size must be at least 1, not {batch_size}.")
        _check_rank(rank, world_size)
        if uneven not in (None, "pad", "drop", "keep"):
            raise ConfigurationError(f'uneven must be "pad", "drop" or "keep", not {uneven!r}.')
        self.dataset = dataset if isinstance(dataset, BlipCaptionDataset) else BlipCaptionDataset(dataset)
        self.batch_size, self.shuffle, self.seed = batch_size, shuffle, seed
        self.rank, self.world_size = rank, world_size
        self.uneven = uneven or ("keep" if world_size == 1 else "pad")
        # In shared memory: workers that outlive an epoch have a copy of everything else.
        self._place = torch.zeros(2, dtype=torch.int64).share_memory_()
        self._skipped = 0
        self._yielded = 0

    @property
    def records(self) -> list[CaptionRecord]:
        """The images, for whatever has to look at all of them: the search for overlap, the fingerprint."""
        return self.dataset.records

    @property
    def reader(self) -> RecordReader:
        """How the images are read."""
        return self.dataset.reader

    def with_changes(self, **changes: Any) -> CaptionStream:
        """The same stream, with pictures read in another way; see [`BlipCaptionDataset.with_changes`]."""
        changed = copy.copy(self)
        changed.dataset = self.dataset.with_changes(**changes)
        return changed

    @property
    def epoch(self) -> int:
        """The epoch, from 0."""
        return int(self._place[0])

    @property
    def first_batch(self) -> int:
        """The batch of this rank that the epoch begins with; not 0 after a resumption."""
        return int(self._place[1])

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch from its start. Call it before each epoch, but not after `load_state_dict`."""
        self._place[0], self._place[1], self._skipped = epoch, 0, 0

    def batches(self) -> list[np.ndarray]:
        """The batches of this rank in this epoch, as places in the dataset."""
        count = len(self.dataset)
        order = np.random.default_rng([self.seed, self.epoch]).permutation(count) if self.shuffle else np.arange(count)
        share = self.batch_size * self.world_size
        if self.uneven == "pad":
            order = np.resize(order, -(-count // share) * share)
        elif self.uneven == "drop":
            order = order[: count // share * share]
        starts = range(self.rank * self.batch_size, len(order), share)
        return [order[start : start + self.batch_size] for start in starts]

    def __len__(self) -> int:
        return sum(map(len, self.batches()[self.first_batch :]))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        mine = self.batches()[self.first_batch :][number::workers]
        places = [int(place) for batch in mine for place in batch]
        self._yielded, self._skipped = self._skipped, 0
        for place in places[self._yielded :]:
            self._yielded += 1
            yield self.dataset[place]

    def state_after(self, batches: int) -> dict[str, int]:
        """The state after so many batches of this epoch, for a plain `DataLoader`, whose workers nobody can ask.

        Args:
            batches (`int`): Batches that this rank has trained on in this epoch, those before a resumption included.
        """
        return {"epoch": self.epoch, "batches": batches, "batch_size": self.batch_size, "seed": self.seed}

    def state_dict(self) -> dict[str, int]:
        """Where this worker is: for `StatefulDataLoader`, which asks each worker after each batch."""
        return {**self.state_after(self.first_batch), "yielded": self._yielded}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a state was taken.

        Args:
            state (`dict[str, int]`): Of `state_after` or `state_dict`.

        Raises:
            ConfigurationError: It was taken with another seed or batch size, so that its batches are others.
        """
        for name in ("batch_size", "seed"):
            if state[name] != getattr(self, name):
                raise ConfigurationError(
                    f"The state was taken with {name}={state[name]}, this stream has {name}={getattr(self, name)}: "
                    "its batches are others. Use the same, or start the epoch again."
                )
        self._place[0], self._place[1] = state["epoch"], state["batches"]
        self._skipped = state.get("yielded", 0)


class ShardedCaptionStream(IterableDataset):
    """Records of shards that can only be read from their start.

    A worker of a rank reads whole shards, or, where there are fewer shards than workers in all, every n-th record of
    all of them. What it has read already it passes over without decoding when it goes on in mid-epoch.

    Args:
        shards (`Sequence[Callable[[], Iterable[CaptionRecord]]]`): Each gives its records anew when it is called; must
            be picklable for workers that are not forked.
        shuffle_buffer (`int`, defaults to 1000): Records among which the next one is drawn; 0 keeps their order.
        seed (`int`, defaults to 0): Of the order of shards and records.
        rank (`int`, defaults to 0): Which of the processes this is.
        world_size (`int`, defaults to 1): How many processes share the data.
        without (`Sequence[CaptionRecord]`): Images to be evaluated on. What is a copy of one of them, re-encoded or
            resized too, is left out as it comes, which costs a look at each picture of 64 by 64 pixels.
        transform, augment, image_size, truncated: See [`BlipCaptionDataset`].

    Raises:
        ConfigurationError: There are no shards, or a number cannot be.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        shuffle_buffer: int = 1000,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        without: Sequence[CaptionRecord] = (),
        transform: Callable | None = None,
        augment: str | Augmentation | None = None,
        image_size: int | tuple[int, int] | None = None,
        truncated: Literal["error", "recover"] = "error",
    ):
        if not shards:
            raise ConfigurationError("A stream needs at least one shard; there is none.")
        if shuffle_buffer < 0:
            raise ConfigurationError(f"shuffle_buffer must not be negative; it was {shuffle_buffer}.")
        _check_rank(rank, world_size)
        self.shards, self.shuffle_buffer, self.seed = list(shards), shuffle_buffer, seed
        self.rank, self.world_size = rank, world_size
        self.reader = RecordReader.make(transform, augment, image_size, truncated)
        self.excluded = tuple(hash_records(without))
        self._known = KnownImages(self.excluded)
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()
        self._skipped = 0
        self._yielded = 0

    @classmethod
    def from_source(cls, source: Any, *, split: str = "train", **options: Any) -> ShardedCaptionStream:
        """Stream a data set: from the Hub by its id, or one that is iterable already.

        Args:
            source (`str` or `datasets.IterableDataset`): Its id or itself.
            split (`str`, defaults to `"train"`): The repository's split.
            **options: Arguments of the class; `config`, `revision` and `token` of the repository; and column names,
                see `ColumnOptions`.

        Raises:
            HubError, SourceNotFoundError, SourceFormatError: See `load_source`.
        """
        from .sources.columns import ColumnOptions
        from .sources.hub import HubShard, open_dataset
        from .undecoded import is_dataset

        own = inspect.signature(cls).parameters.keys() - {"shards"}
        settings = {name: options.pop(name) for name in own if name in options}
        if not is_dataset(source):
            access = {name: options.pop(name) for name in ("config", "revision", "token") if name in options}
            name, dataset = source, open_dataset(source, split=split, streaming=True, **access)
        else:
            name, dataset = "dataset", source
        columns = ColumnOptions(**options)
        count = dataset.num_shards
        return cls([HubShard(dataset, number, count, name, split, columns) for number in range(count)], **settings)

    def with_changes(self, **changes: Any) -> ShardedCaptionStream:
        """The same stream, with pictures read in another way; see [`BlipCaptionDataset.with_changes`]."""
        changed = copy.copy(self)
        changed.reader = self.reader.with_changes(**changes)
        return changed

    def without(self, records: Sequence[CaptionRecord]) -> ShardedCaptionStream:
        """The same stream, with copies of these images left out too."""
        changed = copy.copy(self)
        changed.excluded = self.excluded + tuple(hash_records(records))
        changed._known = KnownImages(changed.excluded)
        return changed

    def leaves_out(self, records: Sequence[CaptionRecord]) -> bool:
        """Whether every one of these images is left out, so that they can be evaluated on."""
        return all(hashed in self._known for hashed in hash_records(records))

    def _is_wanted(self, record: CaptionRecord) -> bool:
        try:
            return not self.excluded or hash_image(record.image) not in self._known
        except ImageDecodeError:
            return True  # whoever reads it is told why it cannot be read

    @property
    def epoch(self) -> int:
        """The epoch, from 0."""
        return int(self._epoch[0])

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch from its start. Call it before each epoch, but not after `load_state_dict`."""
        self._epoch[0], self._skipped = epoch, 0

    def records(self, worker: int = 0, workers: int = 1) -> Iterator[CaptionRecord]:
        """The records of one worker of this rank in this epoch, not decoded.

        Args:
            worker (`int`, defaults to 0): Which worker.
            workers (`int`, defaults to 1): How many there are in each rank.
        """
        readers, reader = self.world_size * workers, self.rank * workers + worker
        shards = list(self.shards)
        if self.shuffle_buffer:
            random.Random(f"{self.seed}:{self.epoch}").shuffle(shards)
        if len(shards) >= readers:
            found = self._chained(shards[reader::readers])
        else:
            found = islice(self._chained(shards), reader, None, readers)
        return self._shuffled(
            filter(self._is_wanted, found), random.Random(f"{self.seed}:{self.epoch}:{reader}:{readers}")
        )

    @staticmethod
    def _chained(shards: Sequence[Shard]) -> Iterator[CaptionRecord]:
        for shard in shards:
            yield from shard()

    def _shuffled(self, records: Iterator[CaptionRecord], rng: random.Random) -> Iterator[CaptionRecord]:
        buffer = list(islice(records, self.shuffle_buffer))
        for record in records:
            if not buffer:
                yield record
                continue
            place = rng.randrange(len(buffer))
            yield buffer[place]
            buffer[place] = record
        rng.shuffle(buffer)
        yield from buffer

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        records = self.records(worker.id, worker.num_workers) if worker else self.records()
        self._yielded, self._skipped = self._skipped, 0
        for record in islice(records, self._yielded, None):
            self._yielded += 1
            yield self.reader(record, self._yielded - 1)

    def state_dict(self) -> dict[str, int]:
        """Where this worker is: for `StatefulDataLoader`, which asks each worker after each batch."""
        worker = get_worker_info()
        workers = worker.num_workers if worker else 1
        return {"epoch": self.epoch, "yielded": self._yielded, "seed": self.seed, "readers": self.world_size * workers}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where a state was taken.

        Raises:
            ConfigurationError: It was taken with another seed.
        """
        if state["seed"] != self.seed:
            raise ConfigurationError(f"The state was taken with seed={state['seed']}, this stream has {self.seed}.")
        worker = get_worker_info()
        readers = self.world_size * (worker.num_workers if worker else 1)
        if state["readers"] != readers:
            raise ConfigurationError(
                f"The state was taken with {state['readers']} workers in all, now there are {readers}: each has read "
                "other records. Use as many, or start the epoch again."
            )
        self._epoch[0], self._skipped = state["epoch"], state["yielded"]


def _check_rank(rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ConfigurationError(f"rank {rank} is not one of {world_size} processes, which count from 0.")
