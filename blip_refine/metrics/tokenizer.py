"""Penn Treebank tokenization of captions, as the COCO evaluation does it, without Java.

The COCO caption evaluation splits captions with Stanford's `PTBTokenizer -preserveLines -lowerCase` and then drops
punctuation. This is written from the published Penn Treebank conventions and from what that tool prints, caption by
caption. One thing is done otherwise on purpose: the Java tool reads all captions as one text, so that the beginning of
the next caption can change the last token of this one (whether the full stop of "st." ends a sentence). Here each
caption is tokenized by itself, and a line or paragraph separator inside of a caption is a space.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

TOKENIZER = "ptb-1"
"""Name and version in signatures. The number changes with any change of a token."""

_PUNCTUATION = frozenset(["''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";", '"'])
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_ENTITIES = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'", "&nbsp;": " "}
_ENTITY = re.compile("|".join(_ENTITIES), re.IGNORECASE)
_ABBREVIATIONS = (
    "mr|mrs|ms|dr|st|ave|blvd|rd|jr|sr|co|corp|inc|ltd|ft|mt|vs|etc|prof|gen|capt|sgt|lt|col|gov|rep|sen|rev|ky|no"
)
_SENTENCE_STARTS = (
    "A|An|The|In|On|At|It|He|She|They|There|This|That|We|I|You|His|Her|Its|Their|Two|But|And|For|With|If|As|When|"
    "What|Who|Where"
)
_TOKEN = re.compile(
    rf"""
      https?://\S+ | www\.\S+
    | </?[A-Za-z][^<>\s]*>
    | n['’]t(?![A-Za-z])
    | ['’](?:s|re|ve|ll|d|m)(?![A-Za-z])
    | 'n'
    | (?:[A-Za-z]\.){{2,}}(?![A-Za-z]) | (?:[A-Za-z]\.)+[A-Za-z](?![A-Za-z])
    | (?<![\w'])[A-Za-z]\.(?=\s*$|\s+(?!(?-i:{_SENTENCE_STARTS})\b)[A-Za-z]|\s+["'])
    | (?<![\w'])(?:{_ABBREVIATIONS})\.
    | (?P<fraction>\d+\s\d/\d)
    | [A-Za-z]&[A-Za-z]
    | can(?=not(?![A-Za-z]))
    | gon(?=na(?![A-Za-z])) | wan(?=na(?![A-Za-z])) | got(?=ta(?![A-Za-z]))
    | \d+(?:[.,:/]\d+)+
    | (?:o'clock|ma'am|o'[A-Za-z]+|d'[A-Za-z]{{2,}}|[A-Za-z]+'[A-Za-z]{{2,}})(?<!'re)(?<!'ve)(?<!'ll)
    | \w+?(?=n['’]t(?![A-Za-z])) | \w+(?:-\w+)*(?:/\w+(?:-\w+)*)*(?:\.[A-Za-z]+(?![A-Za-z]))?
    | \.{{2,}} | !+ | \?+ | -{{2,}} | '' | `` | \S
    """,
    re.VERBOSE | re.IGNORECASE,
)
_PLAIN_WORD = re.compile(r"([A-Za-z]{2,}(?:-[A-Za-z]+)*|[AaI])[.,]?")
_SPLIT_WORD = re.compile(rf"(?:{_ABBREVIATIONS}|cannot|gonna|wanna|gotta|(?i:.*n't))", re.IGNORECASE)


class _WordCache(dict):
    """From a chunk between spaces to its token where the chunk's surroundings cannot matter, `None` where they may."""

    def __missing__(self, chunk: str) -> str | None:
        match = _PLAIN_WORD.fullmatch(chunk)
        token = match.group(1).lower() if match and not _SPLIT_WORD.fullmatch(match.group(1)) else None
        if len(self) < 200_000:
            self[chunk] = token
        return token


_words = _WordCache()


def tokenize(caption: str) -> str:
    """One caption as lower-cased Penn Treebank tokens without punctuation, joined by single spaces.

    Args:
        caption (`str`): The caption, in the case it was written in: some splits depend on it.

    Returns:
        `str`: The tokens, such as `"a man 's dog ca n't swim"`. Empty where the caption holds only punctuation.
    """
    words = [_words[chunk] for chunk in caption.split()]
    if None not in words:
        return " ".join(words)  # type: ignore[arg-type]
    return " ".join(_tokenize_in_context(caption))


def _tokenize_in_context(caption: str) -> list[str]:
    if "&" in caption:
        caption = _ENTITY.sub(lambda match: _ENTITIES[match.group().lower()], caption)
    tokens = []
    for match in _TOKEN.finditer(caption):
        token = match.group()
        if token in _PUNCTUATION or (token[0] == "." and not token.strip(".")):
            continue
        if match.lastgroup == "fraction":
            token = re.sub(r"\s", "\u00a0", token)
        tokens.append(_BRACKETS.get(token) or token.replace("’", "'").lower())
    return tokens


def tokenize_captions(captions: Iterable[str]) -> list[str]:
    """`tokenize` for each of `captions`."""
    return [tokenize(caption) for caption in captions]
