"""Which column holds the image, which the caption: found where it is obvious, asked for where it is not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...errors import SourceFormatError

IMAGE_NAMES = (
    "image", "img", "picture", "photo", "jpg", "jpeg", "png", "webp", "image_path", "img_path", "image_file",
    "file_name", "filename", "file", "filepath", "file_path", "path", "image_name", "img_name", "image_url", "url",
)  # fmt: skip
CAPTION_NAMES = (
    "caption", "captions", "text", "txt", "texts", "sentence", "sentences", "raw", "description", "descriptions",
    "alt_text", "alt", "alttext", "title", "comment", "phrase",
)  # fmt: skip
ID_NAMES = ("image_id", "cocoid", "imgid", "id", "key", "__key__", "uid")
SPLIT_NAMES = ("split", "subset", "partition")
PROMPT_NAMES = ("prompt",)
NUMBERED_CAPTION = re.compile(r"^(caption|text|sentence|description|raw)s?[ _-]?(\d+)$")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table, by what they hold.

    Args:
        image (`str`): The picture, its path or its URL.
        captions (`tuple[str, ...]`): One column, or several (`caption_0` to `caption_4`); each a text or a list.
        image_id (`str`, *optional*): The image's name.
        split (`str`, *optional*): The image's split.
        prompt (`str`, *optional*): What the image's captions begin with.
    """

    image: str
    captions: tuple[str, ...]
    image_id: str | None = None
    split: str | None = None
    prompt: str | None = None

    @property
    def used(self) -> set[str | None]:
        """The columns that have a meaning; all others are metadata."""
        return {self.image, self.image_id, self.split, self.prompt, *self.captions}


@dataclass(frozen=True, slots=True)
class ColumnOptions:
    """What a user says of the columns of a table: options of every source that has columns.

    Args:
        image_column (`str`, *optional*): The column of the image; found by its name by default.
        caption_column (`str` or `Sequence[str]`, *optional*): The column or columns of captions; found by default.
        id_column (`str`, *optional*): The column of the image's name; found by default, may be missing.
        split_column (`str`, *optional*): The column of the split; found by default, may be missing.
        prompt_column (`str`, *optional*): The column of each image's prompt; "prompt" by default, may be missing.
        require_captions (`bool`, defaults to `True`): Whether images without captions are left out, and a table
            without any is refused.
    """

    image_column: str | None = None
    caption_column: str | Sequence[str] | None = None
    id_column: str | None = None
    split_column: str | None = None
    prompt_column: str | None = None
    require_captions: bool = True

    def find(self, names: Iterable[str], where: str) -> Columns:
        """Find the columns of a table.

        Args:
            names (`Iterable[str]`): The columns that are there.
            where (`str`): The table, for messages.

        Raises:
            SourceFormatError: A column is missing or ambiguous; the message lists what is there.
        """
        present = [str(name) for name in names]
        there = f"It has the columns {', '.join(map(repr, present)) or '(none)'}."
        given = (self.caption_column,) if isinstance(self.caption_column, str) else tuple(self.caption_column or ())
        for name in (self.image_column, self.id_column, self.split_column, self.prompt_column, *given):
            if name is not None and name not in present:
                raise SourceFormatError(f"{where} has no column {name!r}. {there}")

        image = self.image_column or _find(present, IMAGE_NAMES)
        if image is None:
            raise SourceFormatError(
                f"{where}: which column holds the image? {there} Name it: image_column=...",
                arguments=("image_column",),
            )
        others = [name for name in present if name != image]
        captions = given or _find_captions(others)
        if not captions and self.require_captions:
            raise SourceFormatError(
                f"{where}: which column holds the caption? {there} Name it: caption_column=...",
                arguments=("caption_column",),
            )
        return Columns(
            image=image,
            captions=captions,
            image_id=self.id_column or _find(others, ID_NAMES),
            split=self.split_column or _find(present, SPLIT_NAMES),
            prompt=self.prompt_column or _find([name for name in others if name not in captions], PROMPT_NAMES),
        )


FOUND_BY_NAME = ColumnOptions()
"""Nothing was said: columns are found where their names are obvious."""


def _find(present: Sequence[str], known: Sequence[str]) -> str | None:
    """The first of the known names that is there, in the order in which they are known."""
    by_folded = {name.strip().lower().replace(" ", "_"): name for name in reversed(present)}
    return next((by_folded[name] for name in known if name in by_folded), None)


def _find_captions(present: Sequence[str]) -> tuple[str, ...]:
    numbered = [(match[1], int(match[2]), name) for name in present if (match := NUMBERED_CAPTION.match(name.lower()))]
    if numbered:
        stem = numbered[0][0]
        return tuple(name for _, _, name in sorted(entry for entry in numbered if entry[0] == stem))
    found = _find(present, CAPTION_NAMES)
    return (found,) if found is not None else ()
