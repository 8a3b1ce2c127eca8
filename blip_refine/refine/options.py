"""Which option goes to which refiner, and the guards that are named by their models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

from ..errors import ConfigurationError
from .base import Refiner, find_refiner, option_names, parts_of, split_name

LOOKING_GUARDS = ("grounding", "matching")
"""Options of [`load_refiner`] for every refiner with guards: the models of the guards that look at the image."""

RUN_OPTIONS = {
    "instruction": "instruction",
    "max_output_tokens": "max_output_tokens",
    "refiner_temperature": "temperature",
    "reasoning_effort": "reasoning_effort",
    "send_image": "send_image",
    "guards": "guards",
    "grounding": "grounding",
    "matching": "matching",
    "base_url": "base_url",
    "api_key_env": "api_key_env",
    "prices": "prices",
}
"""What the settings of a run (flags, YAML keys, hyperparameters) call the options of a refiner."""


def takes_option(refiner: str, option: str) -> bool:
    """Whether a refiner of the chain `refiner` knows `option`, and its name does not set it already."""
    for part in parts_of(refiner):
        kind, _, written = split_name(part)
        known = option_names(find_refiner(kind))
        if (known is None or option in known) and option not in written:
            return True
    return False


def share_options(
    refiners: Sequence[str], options: Mapping[str, Any], called: Callable[[str], str] = "`{}`".format
) -> dict[str, dict[str, Any]]:
    """Give each refiner the options that it knows.

    Args:
        refiners (`Sequence[str]`): Names as [`load_refiner`] takes them.
        options (`Mapping[str, Any]`): Options by name.
        called (`Callable[[str], str]`): What the user calls an option, for messages.

    Returns:
        `dict[str, dict[str, Any]]`: Options by refiner.

    Raises:
        ConfigurationError: There is no such refiner, no refiner at all, or none of them knows an option.
    """
    shared = {
        refiner: {name: value for name, value in options.items() if takes_option(refiner, name)}
        for refiner in refiners
    }
    for name in options:
        if not refiners:
            raise ConfigurationError(f"{called(name)} is for a refiner, and no refiner is given.")
        if not any(name in taken for taken in shared.values()):
            raise ConfigurationError(f"{called(name)} cannot act: {_who_lacks(refiners, name)}.")
    return shared


def _who_lacks(refiners: Sequence[str], option: str) -> str:
    if any(option in split_name(part)[2] for refiner in refiners for part in parts_of(refiner)):
        return f"the name of the refiner sets {option!r} already"
    if len(refiners) == 1:
        return f"the refiner {refiners[0]!r} has no option {option!r}"
    return f"none of the refiners {', '.join(map(repr, refiners))} has an option {option!r}"


def add_looking_guards(refiner: Refiner, models: Mapping[str, str]) -> None:
    """Put the guards that look at the image into a refiner. Their models are loaded now, each once per process.

    Args:
        refiner (`Refiner`): The refiner.
        models (`Mapping[str, str]`): Of "grounding" (a captioner) and "matching" (an image-text matching model).

    Raises:
        ModelError: A model cannot be loaded.
    """
    from .guards import GroundingGuard, Guards, MatchingGuard

    guards = refiner.guards or Guards.only("none")
    if "grounding" in models:
        guards = replace(guards, grounding=GroundingGuard(_scorer("captioner_likelihood", models["grounding"])))
    if "matching" in models:
        guards = replace(guards, matching=MatchingGuard(_scorer("matching_probability", models["matching"])))
    refiner.guards = guards


@lru_cache(maxsize=4)
def _scorer(kind: str, model: str) -> Any:
    from . import grounding

    return getattr(grounding, kind)(model)
