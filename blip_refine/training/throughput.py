"""How fast training goes: images and captions a second, peak memory, and the time that is left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from .memory import GIB, peak_memory


class Throughput:
    """Counts what is trained on, and the time that training itself takes (not evaluation, not saving)."""

    def __init__(self) -> None:
        self._begun = self._since = time.monotonic()
        self._paused = self._paused_before = 0.0
        self._depth = 0
        self._images: Any = 0
        self._captions: Any = 0
        self._first_step: int | None = None

    def count(self, batch: dict[str, Any]) -> None:
        """A batch of [`CaptionCollator`] is about to be trained on."""
        if "caption_counts" in batch:
            # Without what stands in for a batch of which no image can be decoded: its place is below 0.
            real = (batch["indices"] >= 0).to(batch["caption_counts"].device)
            # Kept as tensors until a report: looking at them here would make a GPU wait at every step.
            self._images = self._images + real.sum()
            self._captions = self._captions + (batch["caption_counts"] * real).sum()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Something else than training goes on for the time of a `with`."""
        begun = time.monotonic()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if self._depth == 0:
                self._paused += time.monotonic() - begun

    def report(self, state: Any, processes: int = 1) -> dict[str, float]:
        """What to log since the last report.

        Args:
            state (`TrainerState`): For the steps done and to do.
            processes (`int`, defaults to 1): All of them are as fast as this one.

        Returns:
            `dict[str, float]`: `images_per_second`, `captions_per_second`, `peak_memory_gib` and `eta_seconds`.
        """
        now = time.monotonic()
        seconds = max(now - self._since - (self._paused - self._paused_before), 1e-9)
        report = {
            "images_per_second": round(processes * int(self._images) / seconds, 3),
            "captions_per_second": round(processes * int(self._captions) / seconds, 3),
            "peak_memory_gib": round(peak_memory() / GIB, 3),
        }
        if self._first_step is None:
            # Where a resumed run began is not known before; its first report tells no time.
            self._first_step, self._begun = state.global_step, now
        elif state.global_step > self._first_step:
            # Evaluations and saves to come are among it, as those that were are.
            a_step = (now - self._begun) / (state.global_step - self._first_step)
            report["eta_seconds"] = round(a_step * (state.max_steps - state.global_step), 1)
        self._since, self._paused_before, self._images, self._captions = now, self._paused, 0, 0
        return report
