"""Requests that come one by one, captioned together: what waits while the model works becomes its next batch."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class QueueFull(Exception):
    """So many requests wait already that another would only wait in vain."""


@dataclass(eq=False)
class _Waiting(Generic[Item, Result]):
    item: Item
    future: asyncio.Future[Result]


class DynamicBatcher(Generic[Item, Result]):
    """Puts concurrent calls of `submit` together and hands them to a function of a whole batch.

    Args:
        function (`Callable[[Sequence[Item]], Sequence[Result]]`): n items to n results, in the same order. It is
            called in one thread of its own, never twice at a time.
        batch_size (`int`): The most items it is given at once.
        queue_size (`int`): The most items that may wait.
        max_wait (`float`): Seconds that the first item of a batch waits for others while the function has nothing
            to do.
    """

    def __init__(
        self,
        function: Callable[[Sequence[Item]], Sequence[Result]],
        *,
        batch_size: int,
        queue_size: int,
        max_wait: float = 0.005,
    ):
        self._function, self.batch_size, self.queue_size, self._max_wait = function, batch_size, queue_size, max_wait
        self._queue: deque[_Waiting[Item, Result]] = deque()
        self._arrived = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="blip-refine-model")
        self._task: asyncio.Task[None] | None = None
        self.batches = self.served = 0

    @property
    def waiting(self) -> int:
        """How many items wait for the function."""
        return len(self._queue)

    def start(self) -> None:
        """Begin to work. Called in the event loop."""
        self._task = asyncio.get_running_loop().create_task(self._work())

    async def submit(self, item: Item) -> Result:
        """Have one item worked on. Cancelling it takes it from the queue.

        Raises:
            QueueFull: `queue_size` items wait already.
        """
        if len(self._queue) >= self.queue_size:
            raise QueueFull
        waiting: _Waiting[Item, Result] = _Waiting(item, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived.set()
        try:
            return await waiting.future
        finally:
            if waiting in self._queue:
                self._queue.remove(waiting)

    async def close(self) -> None:
        """Finish what waits, then stop."""
        while self._queue or (self._task is not None and self._busy):
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._pool.shutdown(wait=True)

    _busy = False

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            if len(self._queue) < self.batch_size:
                await asyncio.sleep(self._max_wait)
            batch = [self._queue.popleft() for _ in range(min(self.batch_size, len(self._queue)))]
            if not self._queue:
                self._arrived.clear()
            if not batch:
                continue
            self._busy = True
            try:
                results = await loop.run_in_executor(self._pool, self._function, [one.item for one in batch])
                for one, result in zip(batch, results, strict=True):
                    if not one.future.done():
                        one.future.set_result(result)
                self.batches += 1
                self.served += len(batch)
            except Exception as error:
                # Not swallowed: every request of the batch gets it.
                for one in batch:
                    if not one.future.done():
                        one.future.set_exception(error)
            finally:
                self._busy = False
