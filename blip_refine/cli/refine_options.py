"""The flags of refiners, written once for all commands, and what the other options of `blip-refine refine` stand for.

A command takes the flags that make sense for it by the aliases below, and turns them into options for its refiners by
[`refiner_options`]. A flag that no refiner knows is refused before anything is loaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError, SourceFormatError

if TYPE_CHECKING:
    from ..records import RefineRequest
    from ..refine.base import Refiner

RefinerName = Annotated[
    str | None,
    typer.Option("--refiner", help="rules, consensus, bart, instruct:MODEL, openai:MODEL; 'a>b': in a row."),
]
Instruction = Annotated[
    str | None, typer.Option("--instruction", help="instruct, openai: a free instruction on how to write.")
]
MaxOutputTokens = Annotated[
    int | None,
    typer.Option(
        "--max-output-tokens",
        min=1,
        help="instruct, openai: longest answer, thoughts included. Default: 200, reasoning models 8192.",
    ),
]
RefinerTemperature = Annotated[
    float | None,
    typer.Option("--refiner-temperature", help="instruct, openai: sampling temperature of the language model."),
]
ReasoningEffort = Annotated[
    str | None,
    typer.Option("--reasoning-effort", help="instruct, openai: none, minimal, low, medium, high or xhigh."),
]
SendImage = Annotated[bool, typer.Option("--send-image", help="openai: let the model see the image.")]
GuardNames = Annotated[
    str | None, typer.Option("--guards", help="form,facts,polarity, or none. Default: the refiner's own.")
]
Grounding = Annotated[
    str | None, typer.Option("--grounding", help="Reject a caption that this captioner scores below the draft.")
]
Matching = Annotated[
    str | None, typer.Option("--matching", help="Reject a caption that this BLIP image-text matching model rejects.")
]
BaseUrl = Annotated[
    str | None, typer.Option("--base-url", help="openai: another server, up to /v1. Default: OpenAI's.")
]
ApiKeyEnv = Annotated[
    str | None,
    typer.Option("--api-key-env", help="openai: environment variable with the key. Default: OPENAI_API_KEY."),
]
Prices = Annotated[str | None, typer.Option("--prices", help="openai: IN,OUT, dollars per million tokens.")]

FLAGS = {"temperature": "--refiner-temperature", "variables": "--var"}
"""Flags that are not called as the option of the refiner is."""

DEFAULT_CACHE = ".cache.sqlite"
_WITH_MODEL = ("bart", "instruct", "openai")


def flag_of(option: str) -> str:
    """The flag of a refiner's option."""
    return FLAGS.get(option, "--" + option.replace("_", "-"))


def refiner_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The refiner's options among the parameters of a command.

    Args:
        given (`Mapping[str, Any]`): Parameters by name (`locals()` at the command's first line); only those of
            [`RUN_OPTIONS`] are read. What was not given is `None` or `False`.

    Raises:
        ConfigurationError: --prices are not two numbers.
    """
    from ..refine.options import RUN_OPTIONS

    named = {option: given.get(name) for name, option in RUN_OPTIONS.items()}
    options = {option: value for option, value in named.items() if value is not None and value is not False}
    if isinstance(options.get("prices"), str):
        options["prices"] = parse_prices(options["prices"])
    return options


def share_flags(refiners: Iterable[str | None], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Options by refiner, each those that it knows.

    Args:
        refiners (`Iterable[str | None]`): Names of refiners; "none" and `None` are left out.
        options (`Mapping[str, Any]`): From [`refiner_options`].

    Raises:
        ConfigurationError: A flag can act on none of them.
    """
    from ..refine.options import share_options

    return share_options([name for name in refiners if name and name != "none"], options, flag_of)


def make_refiner(name: str | None, options: Mapping[str, Any]) -> Refiner | None:
    """The refiner that flags describe; `None` without --refiner.

    Raises:
        ConfigurationError: A flag cannot act, or has a value that cannot be.
    """
    from ..refine.base import load_refiner

    shared = share_flags([name], options)
    return load_refiner(name, **shared[name]) if name and name != "none" else None


def uses_model(refiner: str) -> bool:
    """Whether any refiner of the chain asks a model, so that its answers are worth keeping."""
    from ..refine.base import kinds_of

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


def parse_prices(text: str) -> tuple[float, float]:
    """`"0.15,0.60"` as two numbers."""
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


def check_images(options: Mapping[str, Any], requests: Sequence[RefineRequest]) -> None:
    """Refuse options that look at images where no row has one.

    Raises:
        ConfigurationError: There is such an option, and no image.
    """
    looking = [name for name in ("send_image", "grounding", "matching") if name in options]
    if looking and not any(request.image is not None for request in requests):
        flags = " and ".join(map(flag_of, looking))
        raise ConfigurationError(
            f"{flags} cannot act: no row has an `image` (a path, relative to --image-folder) to look at."
        )
