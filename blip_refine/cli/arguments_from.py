"""Training arguments from a YAML file and from flags: every field of `CaptionTrainingArguments` is a flag."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, SourceFormatError, SourceNotFoundError


def parse_training_arguments(flags: Sequence[str], config: Path | None, own: dict[str, Any]) -> tuple[Any, dict]:
    """Put together what a file and the command line say. Flags win.

    Args:
        flags (`Sequence[str]`): What the command did not take itself: `--learning-rate 1e-5 ...`.
        config (`Path`, *optional*): A YAML file of a flat mapping.
        own (`dict`): The command's own options by name, for a file that sets them; `None` where none was given.

    Returns:
        `tuple`: [`CaptionTrainingArguments`], and the command's own options with what the file said of them.

    Raises:
        ConfigurationError: A flag or a key is unknown (the nearest is named), or has a value that it cannot have.
        SourceNotFoundError, SourceFormatError: The file is not there, or no mapping.
    """
    from ..training.arguments import RECIPES, CaptionTrainingArguments

    recipe = own.pop("recipe", None)
    names = [field.name for field in fields(CaptionTrainingArguments) if field.init]
    allowed = {*names, *own}
    given = _read_config(config, [*names, *own, "recipe"]) if config is not None else {}
    recipe = recipe or given.pop("recipe", None)
    if recipe is not None and recipe not in RECIPES:
        raise ConfigurationError(f"There is no recipe {recipe!r}; there are: {', '.join(RECIPES)}.")
    given.pop("recipe", None)
    # A recipe is the weakest: a file wins over it, and flags over both.
    given = {**{name: value for name, value in RECIPES.get(recipe or "", {}).items() if name in allowed}, **given}
    from_config = {name: given.pop(name, None) for name in own}
    own = {name: from_config[name] if value is None else value for name, value in own.items()}
    parser = _make_parser(CaptionTrainingArguments)
    from_file = [part for name, value in given.items() for part in _as_flag(name, value)]
    try:
        args, unknown = parser.parse_args_into_dataclasses(
            args=[*from_file, *flags], return_remaining_strings=True, look_for_args_file=False
        )
    except ConfigurationError:
        raise
    except (ValueError, TypeError, ImportError) as error:
        # What TrainingArguments refuses is something the user asked for; its own sentence says what.
        raise ConfigurationError(f"The training arguments do not fit together: {error}") from error
    if unknown:
        raise ConfigurationError(_unknown(unknown[0], names + list(own)))
    return args, own


def _make_parser(arguments_class: type) -> Any:
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str):
            raise ConfigurationError(f"{message[0].upper()}{message[1:]}.")

    return Parser(arguments_class, allow_abbrev=False, prog="blip-refine train")


def _as_flag(name: str, value: Any) -> list[str]:
    if value is None:
        return []
    if isinstance(value, dict):
        return [f"--{name}", json.dumps(value)]
    if isinstance(value, list):
        return [f"--{name}", *map(str, value)]
    return [f"--{name}", str(value)]


def _read_config(path: Path, names: Sequence[str]) -> dict[str, Any]:
    import yaml

    if not path.is_file():
        raise SourceNotFoundError(f"There is no configuration file {str(path)!r}.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise SourceFormatError(f"{path} must hold lines like 'learning_rate: 5e-5', one a setting.")
    settings = {str(key).replace("-", "_"): value for key, value in content.items()}
    for key in settings:
        if key not in names:
            raise ConfigurationError(f"{path}: {_unknown(key, names)}")
    return settings


def _unknown(given: str, names: Sequence[str]) -> str:
    bare = given.lstrip("-").partition("=")[0].replace("-", "_")
    near = difflib.get_close_matches(bare, names, n=1)
    hint = f" Did you mean --{near[0].replace('_', '-')}?" if near else " See blip-refine train --help-all."
    return f"There is no option {given!r}.{hint}"


def describe_fields() -> list[tuple[str, str, str]]:
    """Every training argument as `(flag, default, what it is)`."""
    from ..training.arguments import CaptionTrainingArguments

    described = []
    for field in fields(CaptionTrainingArguments):
        if field.init:
            text = " ".join(str(field.metadata.get("help", "")).split())
            default = field.default if not callable(field.default) else ""
            shown = "" if default is MISSING else str(default)
            described.append((f"--{field.name.replace('_', '-')}", shown, text[:100]))
    return sorted(described)
