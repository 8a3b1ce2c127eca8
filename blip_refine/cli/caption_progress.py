"""How far a captioning run is: a bar for a person, now and then a line in a log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from .output import output as sink

NOTE_SECONDS = 10.0
"""How often progress is told where there is no bar."""


class CaptionProgress:
    """Counts images as they are captioned or passed over, in whatever thread that is.

    Args:
        total (`int`, *optional*): How many there are, where that is known.
    """

    def __init__(self, total: int | None):
        self.total = total
        self.captioned = self.passed_over = 0
        self._advance: Callable[[], None] = lambda: None
        self._lock = threading.Lock()
        self._first_at: float | None = None
        self._told_at = time.monotonic()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show the progress while this lasts."""
        with sink.progress("Captioning", total=self.total) as advance:
            self._advance = advance
            self._told_at = time.monotonic()
            yield

    def count(self, captioned: bool) -> None:
        """One more image: captioned, or known from a run before."""
        with self._lock:
            now = time.monotonic()
            if captioned:
                self.captioned += 1
                self._first_at = self._first_at or now
            else:
                self.passed_over += 1
            self._advance()
            if now - self._told_at >= NOTE_SECONDS:
                self._told_at = now
                sink.note(self._line(now))

    def _line(self, now: float) -> str:
        done = self.captioned + self.passed_over
        text = f"{done}{'' if self.total is None else f' of {self.total}'} images"
        if self.passed_over:
            text += f" ({self.passed_over} done before)"
        # From the first caption on: what was passed over before it says nothing of how long captions take.
        if self._first_at is not None and now > self._first_at:
            rate = self.captioned / (now - self._first_at)
            text += f", {rate:.2f} images/s"
            if self.total is not None:
                text += f", {_minutes((self.total - done) / rate)} left"
        return text


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
