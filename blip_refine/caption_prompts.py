"""The prompt that a caption begins with: one for all images, one per image, or a template over an image's columns."""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import ConfigurationError
from .records import Caption, CaptionRecord


@dataclass(frozen=True)
class PromptTemplate:
    """A prompt with the names of columns in braces: `"a photo of {name}, "`.

    Only plain names are taken: neither attributes and indices (`{name.x}`, `{name[0]}`) nor conversions and formats
    (`{name!r}`, `{name:>9}`). A template may come from a stranger's file; it can write values and nothing else.

    Args:
        text (`str`): The template. `{{` and `}}` stand for braces.

    Raises:
        ConfigurationError: The braces do not match, or hold something else than the name of a column.
    """

    text: str

    def __post_init__(self) -> None:
        try:
            parts = list(string.Formatter().parse(self.text))
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigurationError(f"Cannot read the prompt template {self.text!r}: {error}.") from error
        for _, name, layout, conversion in parts:
            if name is not None and (layout or conversion or not name.strip() or set(name) & set(".[]{}")):
                raise ConfigurationError(
                    f"The prompt template {self.text!r} may hold names of columns in braces, such as {{name}}, and "
                    "nothing else in them."
                )
        if not self.columns:
            raise ConfigurationError(
                f"The prompt template {self.text!r} names no column. Write one in braces, such as {{name}}, or use a "
                "plain prompt."
            )

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it names, each once."""
        names = (name for _, name, _, _ in string.Formatter().parse(self.text) if name is not None)
        return tuple(dict.fromkeys(names))

    def fits(self, columns: Mapping[str, Any]) -> bool:
        """Whether an image has a value in every column that is named."""
        return all(_as_text(columns.get(name)) for name in self.columns)

    def fill(self, columns: Mapping[str, Any], image_id: str = "") -> str:
        """The prompt of one image.

        Args:
            columns (`Mapping[str, Any]`): Its columns: texts and numbers. Runs of white space become one space.
            image_id (`str`): What to call it in a message.

        Raises:
            ConfigurationError: A column is missing, or empty.
        """
        for name in self.columns:
            if name not in columns:
                present = ", ".join(columns) or "none"
                raise ConfigurationError(
                    f"The prompt template {self.text!r} names the column {name!r}, which the image {image_id!r} does "
                    f"not have. Its columns: {present}."
                )
            if not _as_text(columns[name]):
                raise ConfigurationError(
                    f"The prompt template {self.text!r} needs a value in the column {name!r}, which is empty for the "
                    f"image {image_id!r}."
                )
        filled: list[str] = []
        for literal, column, _, _ in string.Formatter().parse(self.text):
            filled += [literal, "" if column is None else _as_text(columns[column])]
        return "".join(filled)

    def fill_record(self, record: CaptionRecord) -> str:
        """The prompt of a record, over its metadata and `image_id`. See `fill`."""
        return self.fill(columns_of(record), record.image_id)


def columns_of(record: CaptionRecord) -> dict[str, Any]:
    """What a template can name: the record's metadata and its `image_id`. Captions are not among them."""
    return {**record.metadata, "image_id": record.image_id}


def _as_text(value: Any) -> str:
    return "" if value is None or isinstance(value, (Mapping, list, tuple, bytes)) else " ".join(str(value).split())


@dataclass(frozen=True)
class PromptChoice:
    """Chooses the prompt of an image: the template that was asked for, else the image's own prompt, else the template
    that was saved with the model if the image has its columns, else the prompt for all images.

    Args:
        fixed (`str`, defaults to `""`): For all images that have none of their own.
        template ([`PromptTemplate`], *optional*): For every image.
        saved_template ([`PromptTemplate`], *optional*): For images that have its columns.
    """

    fixed: str = ""
    template: PromptTemplate | None = None
    saved_template: PromptTemplate | None = None

    def of(self, image_id: str, own: str | None, columns: Mapping[str, Any]) -> str:
        """The prompt of one image.

        Args:
            image_id (`str`): What to call it in a message.
            own (`str`, *optional*): Its own prompt, from a column of that name.
            columns (`Mapping[str, Any]`): What else is known of it.

        Raises:
            ConfigurationError: The template names a column that it does not have.
        """
        known = {**columns, "image_id": image_id}
        if self.template is not None:
            return self.template.fill(known, image_id)
        if own is not None:
            return own
        if self.saved_template is not None and self.saved_template.fits(known):
            return self.saved_template.fill(known, image_id)
        return self.fixed


def check_template(template: PromptTemplate, records: Iterable[CaptionRecord]) -> None:
    """Refuse a template that does not fit all records, before anything slow starts.

    Raises:
        ConfigurationError: A record lacks a column that the template names.
    """
    for record in records:
        template.fill_record(record)


def prompts_in(records: Sequence[CaptionRecord]) -> int:
    """How many records bring a prompt of their own."""
    return sum(bool(record.prompt) for record in records)


def without_prompt(text: str, prompt: str | None) -> str:
    """A caption without the prompt that it begins with: no reference has it. Case and spaces do not matter.

    Args:
        text (`str`): The caption.
        prompt (`str`, *optional*): What it begins with. A caption that begins otherwise stays as it is.
    """
    if not prompt or not prompt.strip():
        return text
    words, beginning = text.split(), prompt.split()
    if [word.lower() for word in words[: len(beginning)]] == [word.lower() for word in beginning]:
        return " ".join(words[len(beginning) :])
    # Where the first new token is written onto the prompt: "a photo of boots" + ", " or "dog" + "s".
    held, wanted = " ".join(words), " ".join(beginning)
    return held[len(wanted) :].strip() if held.lower().startswith(wanted.lower()) else text


def for_scoring(caption: Caption) -> Caption:
    """A caption as it is scored: text, draft and candidates without the prompt."""
    if not caption.prompt:
        return caption
    return replace(
        caption,
        text=without_prompt(caption.text, caption.prompt),
        draft=without_prompt(caption.draft, caption.prompt),
        candidates=tuple(without_prompt(text, caption.prompt) for text in caption.candidates),
        prompt=None,
    )
