"""The things that a caption names: each noun with its colour and how many of it there are.

A caption is short and mostly a chain of noun phrases: a lexicon and the neighbouring words are enough, nothing is
parsed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..records import SceneObject
from ..refine.implied import FREE_NOUNS, NEARLY_SAME
from ..refine.lexicon import ADJECTIVE, DETERMINERS, NOUN, lexicon
from ..refine.support import MANY, Word, analyse, colour_of, number_of

PICTURE_NOUNS = frozenset(
    "image photo photograph picture drawing illustration scene view shot background foreground".split()
)
"""Nouns that name the picture and not something in it ("a photo of")."""

_MEASURES = frozenset("group bunch couple pair crowd herd flock set row pile stack lot number variety team".split())


@dataclass(frozen=True, slots=True)
class Element:
    """A thing that a caption names.

    Args:
        noun (`str`): The noun in its singular ("ball").
        text (`str`): The noun as it is said, in lower case ("balls").
        colors (`frozenset[str]`): The colours that it is given, in one spelling.
        count (`int`, *optional*): How many, where a number or "a" says so; `None` for an unnumbered plural or a mass.
        plural (`bool`): Whether there are several.
        phrase (`str`): The noun with what stands before it, but for its article ("small red balls").
    """

    noun: str
    text: str
    colors: frozenset[str] = frozenset()
    count: int | None = None
    plural: bool = False
    phrase: str = ""


@lru_cache(maxsize=65536)
def elements(caption: str) -> tuple[Element, ...]:
    """The things that a caption names, in its order.

    Args:
        caption (`str`): In English.

    Example:
        ```python
        >>> [(one.noun, sorted(one.colors), one.count) for one in elements("two red boats near a house")]
        [('boat', ['red'], 2), ('house', [], 1)]
        ```
    """
    words = analyse(caption)
    found: list[Element] = []
    start = 0
    for place, word in enumerate(words):
        if not _is_head(words, place):
            continue
        if word.noun in _MEASURES and place + 1 < len(words) and words[place + 1].lower == "of":
            # "a group of people": the people are the thing.
            continue
        if word.noun in FREE_NOUNS or word.noun in PICTURE_NOUNS or word.lower in NEVER_THINGS:
            start = place + 1
            continue
        found.append(_element(words, start, place))
        start = place + 1
    return tuple(found)


NOT_COUNTS = frozenset(("double", "twin", "both", "triple"))
"""Words with a number in them that do not count the noun behind them ("a double bed")."""

_SINGULARS = {"cacti": "cactus", "fungi": "fungus"}
"""Irregular plurals of plants, which the lexicon leaves out."""

NEVER_THINGS = frozenset(("s", "t", "something", "thing", "things", "else", "day", "time", "left", "right"))
"""What the lexicon takes for nouns and nobody can point at in a picture."""


def _is_head(words: Sequence[Word], place: int) -> bool:
    """Whether the noun phrase ends here: "hydrant" in "a red fire hydrant on"."""
    word = words[place]
    if number_of(word.lower) is not None or word.lower in MANY:
        return False
    after = words[place + 1] if place + 1 < len(words) else None
    if colour_of(word.lower) is not None:
        # "an orange" at the end of its phrase is the fruit; "in orange" and "orange car" are the colour.
        before = words[place - 1].lower if place else ""
        return word.part == NOUN and before in DETERMINERS and (after is None or after.part is None)
    return word.part == NOUN and not (after is not None and after.part == NOUN and number_of(after.lower) is None)


def _element(words: Sequence[Word], start: int, place: int) -> Element:
    head, known = words[place], lexicon()
    colors: set[str] = set()
    count, first = None, place
    several = known.is_plural(head.lower)
    for back in range(place - 1, start - 1, -1):
        word = words[back]
        number = number_of(word.lower)
        if word.noun in _MEASURES:
            # "a herd of sheep", "a couple of dogs": several, and nobody says how many.
            several = True
            break
        if number is not None and number.isdigit() and word.lower not in NOT_COUNTS:
            count = int(number)
            break
        if word.lower in ("a", "an", "another"):
            count = None if several else 1
            first = back if word.lower == "another" else first
            break
        if word.lower in MANY:
            several = True
            break
        if (colour := colour_of(word.lower)) is not None:
            colors.add(colour)
        elif word.lower not in ("of", "and") and word.part not in (NOUN, ADJECTIVE):
            break
        first = back
    if not colors and (behind := _colour_behind(words, place)):
        colors.add(behind)
    phrase = " ".join(word.lower for word in words[first : place + 1])
    noun = _SINGULARS.get(head.lower, head.noun)
    return Element(noun, head.lower, frozenset(colors), count, several or (count or 0) > 1, phrase)


def _colour_behind(words: Sequence[Word], place: int) -> str | None:
    """The colour in "a robot in red" and "the ball is red"."""
    behind = words[place + 1 : place + 4]
    if len(behind) < 2 or behind[0].lower not in ("in", "is", "are"):
        return None
    colour = colour_of(behind[1].lower)
    followed = len(behind) > 2 and behind[2].part in (NOUN, ADJECTIVE) and colour_of(behind[2].lower) is None
    return None if followed else colour


@lru_cache(maxsize=65536)
def _meanings(noun: str) -> tuple[frozenset[int], frozenset[int]]:
    """The two commonest synsets of a noun, and everything that these are kinds of."""
    senses = frozenset(lexicon().senses(noun, 2))
    return senses, frozenset(lexicon().hypernyms(senses))


@lru_cache(maxsize=262144)
def names_same(general: str, special: str) -> bool:
    """Whether `general` may be said of a `special`: the same noun, a synonym, or what it is a kind of.

    Args:
        general (`str`): A singular noun ("animal").
        special (`str`): A singular noun ("dog").
    """
    if general == special or special in NEARLY_SAME.get(general, ()) or general in NEARLY_SAME.get(special, ()):
        return True
    return bool(_meanings(general)[0] & _meanings(special)[1])


def related(one: str, other: str) -> bool:
    """Whether two nouns may be said of the same thing, whichever is the more general."""
    return names_same(one, other) or names_same(other, one)


def true_elements(objects: Iterable[SceneObject]) -> tuple[Element, ...]:
    """What is truly in a picture, in the same form."""
    known = lexicon()
    return tuple(
        Element(
            noun=known.singular(item.name.lower()),
            text=item.name,
            colors=frozenset({colour_of(item.color.lower()) or item.color.lower()} if item.color else ()),
            count=item.count,
            plural=item.count > 1,
        )
        for item in objects
    )
