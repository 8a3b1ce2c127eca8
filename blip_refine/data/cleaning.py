"""Clean captions and records. Pure functions; what is left out is counted by its reason, never dropped silently."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..errors import ConfigurationError
from ..records import CaptionRecord
from .language import language_filter
from .rejections import Rejections

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_URL = re.compile(r"https?://\S|\bwww\.\S|\S@[\w-]+\.\w{2,}\b", re.IGNORECASE)
_FILE_NAME = re.compile(
    r"^[\w() -]*\.(?:jpe?g|png|gif|webp|bmp|tiff?|heic)$|^(?:img|dsc|dscn|dscf|p|pict)[_-]?\d{3,}$", re.I
)
_WHOLE_BOILERPLATE = re.compile(
    r"^(?:an? |the )?(?:image|picture|photo|photograph|thumbnail|logo|icon|banner|avatar|untitled"
    r"|no caption|no description|no image available|image not available|caption|description"
    r"|none|null|nan|n/?a|todo|test|unknown|placeholder"
    r"|lorem ipsum.*)\W*$",
    re.IGNORECASE,
)
_BOILERPLATE = re.compile(
    r"click (?:here|to|for|image)|(?:royalty[- ]free|stock) (?:photo|image|illustration|vector|footage|picture)s?"
    r"|shutterstock|getty ?images|istock|alamy|dreamstime|all rights reserved|©|\(c\) ?\d{4}|copyright (?:by|\d)"
    r"|photo(?:graph)? (?:credit|courtesy|by)\b|image (?:credit|courtesy|may contain|result for|source)\b"
    r"|read more\b|view (?:full size|larger)|free (?:download|shipping)|add to cart|lorem ipsum",
    re.IGNORECASE,
)
# Invisible, and never part of a word: zero-width space, word joiner, byte order mark, soft hyphen, direction marks.
# The joiners U+200C and U+200D stay: Persian, Hindi and emoji are spelt with them.
_INVISIBLE = re.compile("[\u200b\u2060\ufeff\u00ad\u200e\u200f\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_PUNCTUATION = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True)
class CleaningRules:
    """What a caption and an image have to be.

    Args:
        min_words (`int`, defaults to 2): Captions with fewer words are left out.
        max_words (`int`, defaults to 60): Captions with more words are left out.
        max_characters (`int`, defaults to 500): The same for languages that are written without spaces.
        drop_urls (`bool`, defaults to `True`): Leave out captions with a web or mail address.
        drop_boilerplate (`bool`, defaults to `True`): Leave out what web pages write beside pictures instead of a
            caption: stock-photo lines, credits, file names, "untitled".
        drop_duplicates (`bool`, defaults to `True`): Keep one of an image's captions that differ in case and
            punctuation only.
        language (`str`, *optional*): An ISO 639-1 code; captions that are surely in another language are left out.
            Needs the extra `language`.
        min_side (`int`, defaults to 32): Images with a shorter side, in pixels, are left out.
        max_aspect_ratio (`float`, defaults to 5): Images whose longer side is more than so many times the shorter
            one are left out: the model sees a square.

    Raises:
        ConfigurationError: Limits that nothing can meet.
    """

    min_words: int = 2
    max_words: int = 60
    max_characters: int = 500
    drop_urls: bool = True
    drop_boilerplate: bool = True
    drop_duplicates: bool = True
    language: str | None = None
    min_side: int = 32
    max_aspect_ratio: float = 5.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_words <= self.max_words or self.max_characters < 1:
            raise ConfigurationError(
                f"No caption has at least {self.min_words} and at most {self.max_words} words "
                f"and at most {self.max_characters} characters."
            )
        if self.max_aspect_ratio < 1 or self.min_side < 0:
            raise ConfigurationError("max_aspect_ratio must be at least 1, and min_side not negative.")


def normalize_caption(text: str) -> str:
    """A caption in plain form: entities decoded, tags and invisible characters gone, one space between words, NFC.

    Args:
        text (`str`): The caption as it was found.

    Returns:
        `str`: The caption; its words and punctuation are untouched. Applying this twice changes nothing more.
    """
    text = text.encode("utf-8", "replace").decode("utf-8")  # half of a surrogate pair cannot be written to a file
    while "&" in text or "<" in text:  # "&amp;amp;#39;" has been escaped three times; each round takes one layer off
        plain = _TAG.sub(" ", html.unescape(text))
        if plain == text:
            break
        text = plain
    text = _CONTROL.sub(" ", _INVISIBLE.sub("", text))
    return unicodedata.normalize("NFC", " ".join(text.split()))


def caption_fault(text: str, rules: CleaningRules) -> str | None:
    """Why a caption (in plain form) cannot be used, or `None` where it can.

    Args:
        text (`str`): As `normalize_caption` returns it.
        rules (`CleaningRules`): What it has to be.

    Returns:
        `str`, *optional*: `"empty caption"`, `"no words"`, `"too few words"`, `"too long"`, `"URL"`, `"boilerplate"`
        or `"other language"`.
    """
    if not text:
        return "empty caption"
    words = _WORD.findall(text)
    if not any(character.isalpha() for character in text):
        return "no words"
    if rules.drop_urls and _URL.search(text):
        return "URL"
    if rules.drop_boilerplate and (
        _WHOLE_BOILERPLATE.match(text) or _FILE_NAME.match(text) or _BOILERPLATE.search(text)
    ):
        return "boilerplate"
    if len(words) < rules.min_words and not _is_unspaced(text):
        return "too few words"
    if len(words) > rules.max_words or len(text) > rules.max_characters:
        return "too long"
    if rules.language is not None and not language_filter(rules.language)(text):
        return "other language"
    return None


def clean_captions(
    captions: Sequence[str], rules: CleaningRules | None = None, rejections: Rejections | None = None, where: str = ""
) -> tuple[str, ...]:
    """The captions of one image, cleaned, in their order.

    Args:
        captions (`Sequence[str]`): As they were found.
        rules (`CleaningRules`, *optional*): What they have to be.
        rejections (`Rejections`, *optional*): Each caption that is left out is noted here.
        where (`str`, defaults to `""`): The image, for the notes.
    """
    rules = rules or CleaningRules()
    kept: list[str] = []
    seen: set[str] = set()
    for caption in captions:
        text = normalize_caption(caption)
        reason = caption_fault(text, rules)
        folded = _PUNCTUATION.sub(" ", text.casefold()).strip()
        if reason is None and rules.drop_duplicates and folded in seen:
            reason = "duplicate caption"
        if reason is None:
            seen.add(folded)
            kept.append(text)
        elif rejections is not None:
            rejections.add(reason, caption[:200], where)
    return tuple(kept)


def clean_records(
    records: Sequence[CaptionRecord], rules: CleaningRules | None = None, rejections: Rejections | None = None
) -> list[CaptionRecord]:
    """Records with clean captions; those that had captions and have none left are left out.

    Args:
        records (`Sequence[CaptionRecord]`): Unchanged; images are not looked at, see `inspection.inspect_images`.
        rules (`CleaningRules`, *optional*): What captions have to be.
        rejections (`Rejections`, *optional*): What is left out is noted here.
    """
    kept: list[CaptionRecord] = []
    for record in records:
        captions = clean_captions(record.captions, rules, rejections, record.image_id)
        if captions or not record.captions:
            kept.append(record if captions == record.captions else replace(record, captions=captions))
        elif rejections is not None:
            rejections.add("no caption left", record.image_id, record.source)
    return kept


def _is_unspaced(text: str) -> bool:
    """Whether a text is in a script without spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese)."""
    return any(
        "\u0e00" <= character <= "\u0eff" or "\u1000" <= character <= "\u109f" or "\u1780" <= character <= "\u17ff"
        or "\u3040" <= character <= "\u30ff" or "\u3400" <= character <= "\u9fff"
        for character in text
    )  # fmt: skip
