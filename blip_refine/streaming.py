"""Decode ahead of the model: worker threads prepare images while the model captions, in order and in bounded memory.

At most `ahead` images are in the hands of the workers or waiting for the model. The input is only asked for the next
image when there is room, in the thread of whoever consumes: an endless generator is never run ahead of, and need not
be safe to call from other threads.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_WORKERS = 16


def default_workers() -> int:
    """As many decode workers as there are processors for this process, up to 16."""
    affinity = getattr(os, "sched_getaffinity", None)
    available = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, min(MAX_WORKERS, available))


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], *, workers: int, ahead: int
) -> Generator[tuple[Item, Result], None, None]:
    """`function` of each item, worked out in threads, in the order of the items.

    Closing the iterator (also by an exception or Ctrl-C in the loop that consumes it) drops what has not begun and
    does not wait for what has. If the items end with an exception, the results of those before it come first.

    Args:
        function (`Callable`): Called in a worker thread. What it raises is raised here, in its turn.
        items (`Iterable`): Endless if need be.
        workers (`int`): How many threads; 0 does the work in this thread, when it is asked for.
        ahead (`int`): The most items begun and not consumed yet.

    Yields:
        `tuple`: An item and its result.
    """
    if workers == 0:
        for item in items:
            yield item, function(item)
        return
    source = iter(items)
    waiting: deque[tuple[Item, Future[Result]]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="blip-refine-decode")
    ending: Exception | None = None
    try:
        while True:
            while ending is None and len(waiting) < ahead:
                try:
                    item = next(source)
                except Exception as error:  # StopIteration, or what went wrong in the user's generator
                    ending = error
                else:
                    waiting.append((item, pool.submit(function, item)))
            if not waiting:
                break
            item, future = waiting.popleft()
            yield item, future.result()
        if ending is not None and not isinstance(ending, StopIteration):
            raise ending
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def in_batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Items in lists of `size`; the last may be shorter. What came before an exception comes before it here, too."""
    batch: list[Item] = []
    source = iter(items)
    while True:
        try:
            item = next(source)
        except StopIteration:
            break
        except Exception:
            if batch:
                yield batch
            raise
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def one_behind(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`function` of each item, worked out in one thread while the next item is being made.

    This is how captions are refined, which often means waiting for a server, while the model captions the next batch.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix="blip-refine-refine")
    pending: Future[Result] | None = None
    source = iter(items)
    ending: BaseException | None = None
    try:
        while ending is None:
            following = None
            try:
                following = pool.submit(function, next(source))
            except BaseException as error:  # also Ctrl-C: what is on its way is handed out before it takes effect
                ending = error
            if pending is not None:
                yield pending.result()
            pending = following
        if not isinstance(ending, StopIteration):
            raise ending
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
