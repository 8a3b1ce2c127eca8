"""The decoding flags of all commands that caption, written once, and what they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ConfigurationError

if TYPE_CHECKING:
    from ..models.decoding import DecodingOptions

Preset = Annotated[
    str | None,
    typer.Option("--decoding", help="accurate, fast, creative or candidates. Default: what is saved with the model."),
]
NumBeams = Annotated[int | None, typer.Option("--num-beams", min=1, help="Beams; 1 is greedy, or sampling.")]
MaxNewTokens = Annotated[
    int | None, typer.Option("--max-new-tokens", min=1, help="Longest caption in tokens, without the prompt.")
]
MinNewTokens = Annotated[int | None, typer.Option("--min-new-tokens", min=0, help="Shortest caption in tokens.")]
LengthPenalty = Annotated[
    float | None, typer.Option("--length-penalty", help="Of beam search; above 0 favors longer captions.")
]
RepetitionPenalty = Annotated[
    float | None, typer.Option("--repetition-penalty", help="Above 1 makes tokens that occurred less likely.")
]
NoRepeatNgramSize = Annotated[
    int | None, typer.Option("--no-repeat-ngram-size", min=0, help="No n-gram of this size occurs twice.")
]
TopK = Annotated[int | None, typer.Option("--top-k", min=0, help="Sample among this many tokens; 0 for all.")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Sample among the tokens of this probability (nucleus).")]
Temperature = Annotated[float | None, typer.Option("--temperature", help="Sample with logits divided by this.")]
NumReturnSequences = Annotated[
    int | None, typer.Option("--num-return-sequences", min=1, help="Captions per image; the first is the caption.")
]
SamplingSeed = Annotated[int | None, typer.Option("--seed", help="Random seed for sampling.")]
Prompt = Annotated[
    str | None,
    typer.Option(
        "--prompt",
        help='What every caption begins with ("a picture of "), or what another captioner is asked. Default: the '
        'model\'s own; "" for none.',
    ),
]
Loss = Annotated[
    bool, typer.Option("--loss/--no-loss", help="Also compute the test loss: one more pass over the images.")
]
TableForm = Annotated[
    str | None, typer.Option("--table", help="Print the tables alone, for a paper: latex, markdown or csv.")
]

FLAGS = (
    "num_beams",
    "max_new_tokens",
    "min_new_tokens",
    "length_penalty",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "top_k",
    "top_p",
    "temperature",
    "num_return_sequences",
    "seed",
    "prompt",
)
"""Options that are flags under their own names."""

TRAINING_FLAGS = tuple(name for name in FLAGS if name not in ("num_return_sequences", "seed"))
"""Those that are training arguments: one caption per image is scored, and `--seed` seeds all of training."""

_SAID = {
    "without `do_sample=True`": "without sampling: add --top-p, --top-k, --temperature or --decoding creative",
    "leave out `num_beam_groups` or `do_sample`": (
        "leave out --decoding candidates, or --top-k, --top-p and --temperature (with --num-return-sequences these "
        "give several captions too)"
    ),
}
"""What a person who types flags did not say in these words."""


def decoding_changes(arguments: Mapping[str, Any], leave_out: Sequence[str] = ()) -> dict[str, Any]:
    """The single options that a command's flags change.

    One of `--top-k`, `--top-p` and `--temperature` turns sampling on, with one beam unless `--num-beams` is given.

    Args:
        arguments (`Mapping[str, Any]`): The command's arguments by name (its `locals()`), others among them.
        leave_out (`Sequence[str]`, *optional*): Names that mean something else in this command, such as a `seed` that
            has a default.

    Returns:
        `dict[str, Any]`: Fields of [`DecodingOptions`], without what was not given.
    """
    from ..models.saved_defaults import with_sampling

    return with_sampling({name: arguments.get(name) for name in FLAGS if name not in leave_out})


def check_decoding(
    model: str, decoding: DecodingOptions | str | None, changes: Mapping[str, Any]
) -> DecodingOptions | None:
    """Refuse decoding options that contradict each other before a model is loaded.

    Args:
        model (`str`): A folder, a model id of the Hub, or "starter".
        decoding ([`DecodingOptions`] or `str`, *optional*): Options, or the name of a preset.
        changes (`Mapping[str, Any]`): Single fields that were asked for.

    Returns:
        [`DecodingOptions`]: How it will be decoded; `None` if that depends on what is saved with a model on the Hub.

    Raises:
        ConfigurationError: They contradict each other; the sentence names flags.
    """
    from ..models.captioner import resolve_checkpoint
    from ..models.saved_defaults import effective_decoding, read_defaults

    with naming_flags():
        place = Path(resolve_checkpoint(model))
        if place.is_dir():
            return effective_decoding(read_defaults(place), decoding, **changes)
        if decoding is not None:
            return effective_decoding(None, decoding, **changes)
        # What is saved with the model may sample or allow more tokens; all else is known now.
        known = {name: value for name, value in changes.items() if name != "seed"}
        longest = max(known.get("min_new_tokens") or 0, known.get("num_return_sequences") or 0, 30)
        effective_decoding(None, None, **{"max_new_tokens": longest, "num_beams": max(5, longest), **known})
        return None


def with_seed(
    model: str, decoding: DecodingOptions | str | None, changes: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The changes, with a seed if tokens are drawn: for commands whose `--seed` seeds more than that."""
    options = check_decoding(model, decoding, changes)
    return {**changes, "seed": seed} if options is not None and options.do_sample else dict(changes)


@contextmanager
def naming_flags() -> Iterator[None]:
    """Errors from within name options as they are written on the command line."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(in_flags(str(error))) from error


def in_flags(message: str) -> str:
    """A message about fields of [`DecodingOptions`] as one about flags."""
    for said, meant in _SAID.items():
        message = message.replace(said, meant)

    def flag(match: re.Match[str]) -> str:
        name, value = match["name"], match["value"] or ""
        return f"--{name.replace('_', '-')}{value}" if name in FLAGS else match[0]

    return re.sub(r"`(?P<name>\w+)(?P<value>=[^`]*)?`", flag, message)
