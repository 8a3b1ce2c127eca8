"""What the options of `blip-refine refine` stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError, SourceFormatError
from ..records import RefineRequest
from ..refine.base import kinds_of

if TYPE_CHECKING:
    from ..refine.guards import Guards

DEFAULT_CACHE = ".cache.sqlite"
_WITH_MODEL = ("bart", "instruct", "openai")


def uses_model(refiner: str) -> bool:
    """Whether any refiner of the chain asks a model, so that its answers are worth keeping."""
    return any(kind in _WITH_MODEL for kind in kinds_of(refiner))


def parse_variables(texts: Sequence[str] | None) -> dict[str, str] | None:
    """`["brand=Acme"]` as a mapping."""
    if not texts:
        return None
    pairs = [text.partition("=") for text in texts]
    for name, equals, _ in pairs:
        if not equals or not name.isidentifier():
            raise ConfigurationError(f"--var is written name=value, not {name!r}.")
    return {name: value for name, _, value in pairs}


def parse_prices(text: str | None) -> tuple[float, float] | None:
    """`"0.15,0.60"` as two numbers."""
    if text is None:
        return None
    try:
        read, written = (float(part) for part in text.split(","))
    except ValueError:
        raise ConfigurationError(f"--prices is written IN,OUT, such as 0.15,0.60, not {text!r}.") from None
    return read, written


def read_corpus(path: Path) -> list[str]:
    """All captions of a JSON Lines file, `caption` and `captions`."""
    from ..jsonlines import read_jsonl

    texts: list[str] = []
    for row in read_jsonl(path):
        found = [row["caption"]] if "caption" in row else row.get("captions")
        if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
            raise SourceFormatError(f"{path}: a row has neither `caption` nor a list of `captions`.")
        texts += found
    return texts


def build_guards(
    names: str | None, grounding: str | None, matching: str | None, requests: Sequence[RefineRequest]
) -> Guards | None:
    """The guards that the options ask for; `None` leaves the choice to the refiner.

    Raises:
        ConfigurationError: A guard that looks at pictures was asked for, and no row has one.
    """
    if names is None and grounding is None and matching is None:
        return None
    from ..refine.guards import GroundingGuard, Guards, MatchingGuard

    guards = Guards() if names is None else Guards.only(names)
    if grounding is None and matching is None:
        return guards
    if not any(request.image is not None for request in requests):
        raise ConfigurationError(
            "--grounding and --matching look at the pictures, and no row has an `image`: a path, relative to "
            "--image-folder."
        )
    from ..refine.grounding import captioner_likelihood, matching_probability

    if grounding is not None:
        guards = replace(guards, grounding=GroundingGuard(captioner_likelihood(grounding)))
    if matching is not None:
        guards = replace(guards, matching=MatchingGuard(matching_probability(matching)))
    return guards
