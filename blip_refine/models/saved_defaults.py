"""How a captioner captions unless told otherwise: prompt, decoding and image size, saved with its weights.

They are kept in `generation_config.json`, which lies beside the weights of a whole model and of an adapter. What stock
`transformers` understands stands there under its own names (`num_beams`, `max_new_tokens`, ...); the rest stands in a
block `blip_refine` that stock loaders keep and ignore:

```json
{"num_beams": 5, "max_new_tokens": 30, "early_stopping": true,
 "blip_refine": {"prompt": "a photo showing ", "image_size": 384}}
```

A file without the block was not written here, and says nothing of how to caption.

Stock `BlipForConditionalGeneration.generate` does not read this file: it calls the `generate` of its text decoder,
whose own configuration is made from `config.json`, and that takes no generation options. They have to be handed to it,
as [`stock_arguments`] gives them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..caption_prompts import PromptTemplate
from ..errors import BlipRefineError, ConfigurationError, ModelError
from ..jsonlines import read_json_object

if TYPE_CHECKING:
    from torch import nn

    from .decoding import DecodingOptions

FILE = "generation_config.json"
BLOCK = "blip_refine"

STOCK = {
    **{"num_beams": int, "max_new_tokens": int, "min_new_tokens": int, "num_return_sequences": int, "top_k": int},
    **{"no_repeat_ngram_size": int, "length_penalty": float, "temperature": float, "top_p": float},
    **{"repetition_penalty": float, "early_stopping": bool, "do_sample": bool},
}
"""The fields of [`DecodingOptions`] that `transformers.GenerationConfig` has under the same name."""

OURS = {"num_beam_groups": int, "diversity_penalty": float, "bad_words": list, "seed": int}
"""Those that it does not have, or takes as something else."""


@dataclass(frozen=True)
class SavedDefaults:
    """What is saved with a captioner's weights.

    Args:
        decoding (`Mapping[str, Any]`): Fields of [`DecodingOptions`], without `prompt`.
        prompt (`str`, defaults to `""`): What captions begin with.
        prompt_template (`str`, *optional*): The template of the prompts that it was trained with.
        image_size (`int`, *optional*): Side of its pictures in pixels.
    """

    decoding: Mapping[str, Any] = field(default_factory=dict)
    prompt: str = ""
    prompt_template: str | None = None
    image_size: int | None = None

    def options(self) -> DecodingOptions:
        """The decoding with its prompt, as [`DecodingOptions`]."""
        from .decoding import DecodingOptions

        return DecodingOptions(**self.decoding, prompt=self.prompt)

    @property
    def template(self) -> PromptTemplate | None:
        """`prompt_template`, parsed."""
        return None if self.prompt_template is None else PromptTemplate(self.prompt_template)


def effective_decoding(
    saved: SavedDefaults | None, decoding: DecodingOptions | str | None = None, **changes: Any
) -> DecodingOptions:
    """How to decode: what was asked for, else what is saved with the model, else the defaults of the library.

    Args:
        saved ([`SavedDefaults`], *optional*): Of the model.
        decoding ([`DecodingOptions`] or `str`, *optional*): What was asked for: options, or the name of a preset.
            They replace the saved decoding, and keep the saved prompt unless they bring one.
        **changes: Single fields that were asked for; `None` stands for one that was not. `prompt=""` leaves out the
            saved prompt.

    With `num_beams=1` asked for, a length penalty that was not asked for is dropped: it only acts on beams.

    Raises:
        ConfigurationError: There is no such preset or field, or the options contradict each other.
    """
    from .decoding import DecodingOptions

    given = {name: value for name, value in changes.items() if value is not None}
    prompt = "" if saved is None else saved.prompt
    if decoding is None:
        options = DecodingOptions() if saved is None else saved.options()
    elif isinstance(decoding, str):
        options = DecodingOptions.preset(decoding, prompt=prompt)
    else:
        options = decoding if decoding.prompt else decoding.with_changes(prompt=prompt)
    unknown = sorted(set(given) - set(STOCK) - set(OURS) - {"prompt"})
    if unknown:
        raise ConfigurationError(f"There is no decoding option {unknown[0]!r}.")
    if given.get("num_beams") == 1:
        given = {"length_penalty": 1.0, **given}
    return options.with_changes(**given) if given else options


SAMPLING = ("top_k", "top_p", "temperature")
"""Options that act on drawn tokens alone."""


def with_sampling(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes that a person means: one who gives `top_k`, `top_p` or `temperature` wants tokens to be drawn.

    Args:
        changes (`Mapping[str, Any]`): Single fields of [`DecodingOptions`]; `None` for one that was not given.

    Returns:
        `dict[str, Any]`: The given fields. With one of the three and without `do_sample`, that is on, and `num_beams`
        is 1 unless it was given.
    """
    given = {name: value for name, value in changes.items() if value is not None}
    if any(name in given for name in SAMPLING) and "do_sample" not in given:
        return {**given, "num_beams": given.get("num_beams", 1), "do_sample": True}
    return given


def stock_arguments(decoding: DecodingOptions) -> dict[str, Any]:
    """The keywords that stock `generate` needs to decode in the same way, without those that would change nothing.

    Diverse beam groups and banned words are not among them: `transformers` has the first no more, and takes the second
    as tokens.
    """
    names = ["num_beams", "max_new_tokens"]
    if decoding.num_beams > 1:
        names += ["early_stopping", "length_penalty"]
    names += ["do_sample", *(("temperature", "top_k", "top_p") if decoding.do_sample else ())]
    arguments = {name: getattr(decoding, name) for name in names}
    unchanged = {"min_new_tokens": 0, "num_return_sequences": 1, "repetition_penalty": 1.0, "no_repeat_ngram_size": 0}
    for name, idle in unchanged.items():
        if getattr(decoding, name) != idle:
            arguments[name] = getattr(decoding, name)
    return arguments


def set_defaults(model: nn.Module, decoding: DecodingOptions, prompt_template: str | None = None) -> None:
    """Make options the defaults of a captioner, in place. `save_pretrained` of a whole model writes them; beside an
    adapter [`save_defaults`] does.

    Args:
        model (`nn.Module`): The captioner, wrapped or not.
        decoding ([`DecodingOptions`]): How it captions, with its prompt.
        prompt_template (`str`, *optional*): The template of the prompts that it was trained with.
    """
    from transformers import GenerationConfig

    from .families import base_model

    captioner = base_model(model)
    # Tokens and whatever else the model needs stay; a fresh object, since the old one may be one that `generate` makes
    # anew from `config.json`.
    replaced = {*STOCK, "min_length", "max_length", "transformers_version", BLOCK}
    kept = {
        name: value
        for name, value in captioner.generation_config.to_diff_dict().items()
        if name not in replaced and not name.startswith("_")
    }
    block: dict[str, Any] = {"prompt": decoding.prompt, "image_size": captioner.config.vision_config.image_size}
    if prompt_template is not None:
        block["prompt_template"] = prompt_template
    rest = {name: getattr(decoding, name) for name in OURS if name in decoding.to_dict()}
    if rest:
        block["decoding"] = {name: list(value) if name == "bad_words" else value for name, value in rest.items()}
    captioner.generation_config = GenerationConfig(**kept, **stock_arguments(decoding), **{BLOCK: block})


def save_defaults(model: nn.Module, folder: str | os.PathLike) -> None:
    """Write `generation_config.json` beside the weights, for adapters too, whose `save_pretrained` does not.

    Args:
        model (`nn.Module`): The captioner, wrapped or not. Nothing is written for one without saved defaults.
        folder (`str` or `os.PathLike`): Where its weights are.
    """
    from .families import base_model

    config = getattr(base_model(model), "generation_config", None)
    if getattr(config, BLOCK, None) is not None:
        config.save_pretrained(folder)  # type: ignore[union-attr]


def load_defaults(model: nn.Module, folder: str | os.PathLike) -> None:
    """Give a captioner the defaults that lie in the folder of its adapter, in place of its base's.

    Args:
        model (`nn.Module`): The captioner.
        folder (`str` or `os.PathLike`): The adapter's folder. Nothing changes where it has no defaults.

    Raises:
        ModelError: The file is broken.
    """
    from .families import base_model

    saved = read_defaults(folder)
    if saved is not None:
        set_defaults(model, saved.options(), saved.prompt_template)
        if saved.image_size is not None:
            getattr(base_model(model).generation_config, BLOCK)["image_size"] = saved.image_size


def saved_defaults(model: nn.Module) -> SavedDefaults | None:
    """The defaults that a captioner was saved with, or given by [`set_defaults`]; `None` where it has none.

    Args:
        model (`nn.Module`): The captioner, wrapped or not.

    Raises:
        ModelError: They cannot be.
    """
    from .families import base_model

    config = getattr(base_model(model), "generation_config", None)
    if getattr(config, BLOCK, None) is None:
        return None
    return _parse({name: getattr(config, name, None) for name in (*STOCK, BLOCK)}, FILE)


def read_defaults(folder: str | os.PathLike) -> SavedDefaults | None:
    """The defaults in the folder of a whole model or an adapter; `None` where it has none. Loads no model.

    Raises:
        ModelError: The file is broken.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        return None
    try:
        content = read_json_object(path)
    except BlipRefineError as error:
        raise ModelError(str(error)) from error
    return None if content.get(BLOCK) is None else _parse(content, str(path))


def _parse(content: Mapping[str, Any], where: str) -> SavedDefaults:
    """Saved defaults from the content of a file, which may be a stranger's."""
    block = content[BLOCK]
    if not isinstance(block, Mapping):
        raise ModelError(f"{where}: `{BLOCK}` must be an object with `prompt`, `image_size` and `decoding`.")
    ours = block.get("decoding", {})
    if not isinstance(ours, Mapping):
        raise ModelError(f"{where}: `{BLOCK}.decoding` must be an object.")
    decoding: dict[str, Any] = {}
    for known, values in ((STOCK, content), (OURS, ours)):
        for name, kind in known.items():
            value = values.get(name)
            if value is None:
                continue
            if not isinstance(value, (int, float) if kind is float else kind) or (
                isinstance(value, bool) and kind is not bool
            ):
                raise ModelError(f"{where}: `{name}` must be a {kind.__name__}, not {value!r}.")
            decoding[name] = value
    if "bad_words" in decoding:
        decoding["bad_words"] = tuple(map(str, decoding["bad_words"]))
    prompt, template, size = block.get("prompt", ""), block.get("prompt_template"), block.get("image_size")
    if not isinstance(prompt, str) or not isinstance(template, str | None):
        raise ModelError(f"{where}: `prompt` and `prompt_template` must be texts.")
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
        raise ModelError(f"{where}: `image_size` must be a number of pixels, not {size!r}.")
    saved = SavedDefaults(decoding, prompt, template, size)
    try:
        saved.options()
        _ = saved.template
    except ConfigurationError as error:
        raise ModelError(f"{where} holds decoding options that cannot be: {error}") from error
    return saved
