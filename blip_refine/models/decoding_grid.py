"""Ways of decoding written as text: "accurate", "fast max_new_tokens=12", "num_beams=1,3,5 length_penalty=0.8,1"."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ..errors import ConfigurationError
from .saved_defaults import OURS, STOCK, effective_decoding, with_sampling

OPTIONS = {**STOCK, **{name: kind for name, kind in OURS.items() if kind is not list}}
"""Options of a grid with their types. The others are texts, which commands have flags for."""

EXAMPLE = "num_beams=1,3,5 length_penalty=0.8,1,1.2"


@dataclass(frozen=True)
class DecodingChoice:
    """One way of decoding.

    Args:
        name (`str`): As it is written: a preset, options as `name=value`, or both, separated by spaces.
        preset (`str`, *optional*): The preset; the model's own decoding without one.
        changes (`dict[str, Any]`): Fields of [`DecodingOptions`] that are to differ from it.
    """

    name: str
    preset: str | None = None
    changes: dict[str, Any] = field(default_factory=dict, hash=False)


def expand_decodings(texts: Sequence[str]) -> list[DecodingChoice]:
    """All ways of decoding of a grid, each once.

    An option with several values, separated by commas, stands for each of them; several such options for all
    combinations. A length penalty is left out where there is one beam, which it does not act on, so that no two ways
    are the same. `top_k`, `top_p` and `temperature` turn sampling on ([`with_sampling`]).

    Args:
        texts (`Sequence[str]`): Presets and options: "accurate", "accurate num_beams=3",
            "num_beams=1,3,5 length_penalty=0.8,1,1.2".

    Raises:
        ConfigurationError: An entry cannot be read, or its options contradict each other; the message names it.
    """
    found: dict[str, DecodingChoice] = {}
    for text in texts:
        presets, columns = _parse(text)
        for preset, *values in product(presets, *columns.values()):
            given = dict(zip(columns, values, strict=True))
            changes = with_sampling(given)
            try:
                options = effective_decoding(None, preset, **{key: changes[key] for key in changes if key != _IDLE})
                if options.num_beams == 1:
                    given.pop(_IDLE, None)
                    changes.pop(_IDLE, None)
                effective_decoding(None, preset, **changes)
            except ConfigurationError as error:
                raise ConfigurationError(f"The decoding {text!r} cannot be: {error}") from error
            parts = [*([] if preset is None else [preset]), *(f"{key}={_written(one)}" for key, one in given.items())]
            choice = DecodingChoice(" ".join(parts), preset, changes)
            found.setdefault(choice.name, choice)
    return list(found.values())


_IDLE = "length_penalty"


def _parse(text: str) -> tuple[list[str | None], dict[str, list[Any]]]:
    """The presets of an entry, and its options with their values."""
    presets: list[str | None] = []
    columns: dict[str, list[Any]] = {}
    for part in text.split():
        name, sign, values = part.partition("=")
        if not sign:
            presets += [preset for preset in part.split(",") if preset]
            continue
        name = name.replace("-", "_")
        if name not in OPTIONS:
            near = difflib.get_close_matches(name, OPTIONS, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(OPTIONS)}."
            raise ConfigurationError(f"There is no decoding option {name!r} in {text!r}; {hint}")
        if name in columns:
            raise ConfigurationError(f"{name} is given twice in {text!r}: write {name}=A,B.")
        columns[name] = list(dict.fromkeys(_value(name, value, text) for value in values.split(",")))
    if not presets and not columns:
        raise ConfigurationError(f"A way of decoding is a preset or options, such as 'accurate' or '{EXAMPLE}'.")
    return list(dict.fromkeys(presets)) or [None], columns


def _value(name: str, value: str, text: str) -> Any:
    kind = OPTIONS[name]
    try:
        if kind is bool:
            return {"true": True, "false": False}[value.lower()]
        return kind(value)
    except (ValueError, KeyError):
        what = {int: "a whole number", float: "a number", bool: "true or false"}[kind]
        raise ConfigurationError(f"{name} takes {what}, not {value!r}, in {text!r}; write '{EXAMPLE}'.") from None


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
