"""How long work tells what it is doing, without knowing where it is told: a terminal, a notebook, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol


class Narrator(Protocol):
    """What is called by work that takes time. The command line's output sink is one."""

    def heading(self, text: str) -> None:
        """A new part of the work begins."""

    def note(self, text: str = "") -> None:
        """A line about what is going on."""

    def warning(self, text: str) -> None:
        """Something that the user should know."""

    def progress(
        self, description: str, total: int | None = None, *, in_bytes: bool = False
    ) -> AbstractContextManager[Callable[..., None]]:
        """A progress bar, which may count bytes: a context that yields `advance(n=1)`."""


class Silent:
    """Tells nothing."""

    def heading(self, text: str) -> None:
        pass

    def note(self, text: str = "") -> None:
        pass

    def warning(self, text: str) -> None:
        pass

    def progress(
        self, description: str, total: int | None = None, *, in_bytes: bool = False
    ) -> AbstractContextManager[Callable[..., None]]:
        return nullcontext(lambda n=1: None)
