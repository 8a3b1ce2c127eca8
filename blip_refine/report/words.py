"""Captions as words, and what differs between them: what the gallery marks."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..refine.lexicon import FUNCTION_WORDS

_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True, slots=True)
class Word:
    """A stretch of a caption.

    Args:
        text (`str`): As it stands in the caption.
        new (`bool`): A word that the system before did not say here.
        unsupported (`bool`): A word that no reference holds.
        missed (`bool`): In a reference: a word of at least half of the references that the caption lacks.
    """

    text: str
    new: bool = False
    unsupported: bool = False
    missed: bool = False


def words_of(caption: str) -> list[str]:
    """The words of a caption in lower case, without punctuation."""
    return [match.group().lower() for match in _WORD.finditer(caption)]


def pieces(caption: str) -> Iterator[tuple[str, bool]]:
    """The caption cut into words and what stands between them, in order: `(text, is_word)`."""
    end = 0
    for match in _WORD.finditer(caption):
        if match.start() > end:
            yield caption[end : match.start()], False
        yield match.group(), True
        end = match.end()
    if end < len(caption):
        yield caption[end:], False


def mark_caption(caption: str, previous: str | None, references: Sequence[str]) -> list[Word]:
    """The caption with its new and its unsupported words marked.

    Args:
        caption (`str`): What the system said.
        previous (`str`, *optional*): What the system before it said of the same image.
        references (`Sequence[str]`): What people wrote; without any, nothing is called unsupported.
    """
    said = words_of(caption)
    new = [False] * len(said)
    if previous is not None:
        matcher = difflib.SequenceMatcher(a=words_of(previous), b=said, autojunk=False)
        for tag, _, _, start, end in matcher.get_opcodes():
            if tag != "equal":
                new[start:end] = [True] * (end - start)
    known = {word for reference in references for word in words_of(reference)}
    marked, index = [], 0
    for text, is_word in pieces(caption):
        if not is_word:
            marked.append(Word(text))
            continue
        marked.append(Word(text, new=new[index], unsupported=bool(references) and said[index] not in known))
        index += 1
    return marked


def mark_reference(reference: str, caption: str, references: Sequence[str]) -> list[Word]:
    """A reference with the words marked that at least half of the references hold and the caption lacks."""
    said = set(words_of(caption))
    holds = [set(words_of(other)) for other in references]
    return [
        Word(
            text,
            missed=is_word
            and text.lower() not in said
            and text.lower() not in FUNCTION_WORDS
            and len(references) > 1
            and 2 * sum(text.lower() in words for words in holds) >= len(references),
        )
        for text, is_word in pieces(reference)
    ]
