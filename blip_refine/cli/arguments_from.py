"""Training arguments from a YAML file and from flags: every field of `CaptionTrainingArguments` is a flag."""

from __future__ import annotations

import difflib
import json
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from .decoding_options import in_flags


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

    recipe, preset = own.pop("recipe", None), own.pop("decoding", None)
    names = [field.name for field in fields(CaptionTrainingArguments) if field.init]
    allowed = {*names, *own}
    given = _read_config(config, [*names, *own, "recipe", "decoding"]) if config is not None else {}
    recipe = recipe or given.pop("recipe", None)
    if recipe is not None and recipe not in RECIPES:
        raise ConfigurationError(f"There is no recipe {recipe!r}; there are: {', '.join(RECIPES)}.")
    given.pop("recipe", None)
    of_file = given.pop("decoding", None)
    if recipe is not None and (preset or of_file) is not None:
        raise ConfigurationError("--recipe and --decoding both say how to decode: give one of them.")
    # A recipe or a preset is the weakest: a file wins over it, and flags over both. A preset that is a flag wins over
    # the file.
    given = {
        **{name: value for name, value in RECIPES.get(recipe or "", {}).items() if name in allowed},
        **({} if of_file is None or preset is not None else training_preset(of_file)),
        **given,
        **({} if preset is None else training_preset(preset)),
        **_implied({**given, **dict.fromkeys(_names(flags))}),
    }
    from_config = {name: given.pop(name, None) for name in own}
    _check_kinds(from_config, config)
    own = {name: from_config[name] if value is None else value for name, value in own.items()}
    parser = _make_parser(CaptionTrainingArguments)
    from_file = [part for name, value in given.items() for part in _as_flag(name, value)]
    try:
        args, unknown = parser.parse_args_into_dataclasses(
            args=[*from_file, *flags], return_remaining_strings=True, look_for_args_file=False
        )
    except ConfigurationError as error:
        raise ConfigurationError(in_flags(str(error))) from error
    except (ValueError, TypeError, ImportError) as error:
        # What TrainingArguments refuses is something the user asked for; its own sentence says what.
        raise ConfigurationError(f"The training arguments do not fit together: {error}") from error
    if unknown:
        raise ConfigurationError(_unknown(unknown[0], names + list(own)))
    return args, own


_WHOLE = ("train_images", "eval_images", "image_size", "spice_images", "max_output_tokens")
_SWITCHES = ("lora", "dora", "merge", "send_image")


def _check_kinds(settings: dict[str, Any], config: Path | None) -> None:
    """Refuse words where the command has numbers and switches: a flag is checked by the command, a file is not."""
    for names, kind, wanted in ((_WHOLE, int, "a whole number"), (_SWITCHES, bool, "true or false")):
        for name in names:
            value = settings.get(name)
            if value is not None and type(value) is not kind:
                raise ConfigurationError(f"{config}: {name} must be {wanted}, not {value!r}.")


def training_preset(name: str) -> dict[str, Any]:
    """The training arguments of a decoding preset.

    Args:
        name (`str`): "accurate", "fast" or "creative".

    Raises:
        ConfigurationError: There is no such preset, or it gives several captions per image, of which training scores
            one.
    """
    from ..models.decoding import DecodingOptions

    options = DecodingOptions.preset(name)
    if options.num_return_sequences > 1:
        raise ConfigurationError(
            f"--decoding {name} gives several captions per image, and training scores one: use accurate, fast or "
            "creative here, and --decoding candidates with caption, evaluate or compare."
        )
    fields_of_presets = ("num_beams", "max_new_tokens", "do_sample", "top_p")
    return {field: getattr(options, field) for field in fields_of_presets}


def _names(flags: Sequence[str]) -> list[str]:
    """The names of the flags among what was typed."""
    return [flag[2:].partition("=")[0].replace("-", "_") for flag in flags if flag.startswith("--")]


def _implied(asked: dict[str, Any]) -> dict[str, Any]:
    """What goes with the decoding options that were asked for: see [`with_sampling`].

    Raises:
        ConfigurationError: An option was given under two names.
    """
    from ..models.saved_defaults import with_sampling

    for ours, theirs in (("num_beams", "generation_num_beams"), ("max_new_tokens", "generation_max_length")):
        if ours in asked and theirs in asked:
            flags = [f"--{name.replace('_', '-')}" for name in (theirs, ours)]
            raise ConfigurationError(f"{flags[0]} and {flags[1]} are the same option: give {flags[1]} alone.")
    # Values do not matter here, only what was given.
    implied: dict[str, Any] = with_sampling(dict.fromkeys(asked, True))
    wanted: dict[str, Any] = {
        name: implied[name] for name in ("do_sample", "num_beams") if name in implied and name not in asked
    }
    if "generation_num_beams" in asked:
        wanted.pop("num_beams", None)
    return wanted


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
