"""What is wrong with one caption, judged by its references and, where it is known, by what is truly in the picture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from ..records import SceneObject
from ..refine.cleanup import ADJECTIVES, CANNOT_END, SAID_TWICE
from ..refine.lexicon import FUNCTION_WORDS, lexicon, words_of
from ..refine.support import analyse
from .elements import Element, elements, names_same, related, true_elements

FAULTS = {
    "hallucination": "names a thing that no reference mentions and that is not in the picture",
    "wrong colour": "gives a thing a colour that no reference gives it",
    "wrong count": "says another number of a thing than the references",
    "omission": "leaves out a thing that most references mention",
    "repetition": "says the same twice",
    "truncation": "stops in the middle",
    "empty": "says nothing",
    "generic": "is said of several different images",
}
"""Kinds of faults and what they mean, in the order in which they are shown."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a caption.

    Args:
        kind (`str`): A key of `FAULTS`.
        word (`str`): The word that it hangs on, as it is written; for an omission the word that is missing.
        detail (`str`): What is wrong, as the end of "the caption ...".
        by (`str`): What it was judged by: "references", "objects" (the truth), or "itself".
    """

    kind: str
    word: str
    detail: str
    by: str = "references"


def find_faults(
    caption: str,
    references: Sequence[str] = (),
    objects: Sequence[SceneObject] | None = None,
    vocabulary: frozenset[str] = frozenset(),
    background: Sequence[str] = (),
) -> list[Fault]:
    """Everything that is wrong with a caption.

    A hallucination is a noun that no reference supports by any word form, synonym or kind of it; where the true
    objects are known, also a noun of their `vocabulary` that is not among them (Rohrbach et al. 2018, CHAIR).
    References do not say everything: by them alone, a true detail that nobody else mentioned counts as one too.

    Args:
        caption (`str`): In English.
        references (`Sequence[str]`): What people wrote.
        objects (`Sequence[SceneObject]`, *optional*): What is truly in the picture, where it is known.
        vocabulary (`frozenset[str]`): Nouns whose presence the `objects` of this dataset decide.
        background (`Sequence[str]`): What may truly be said of what is behind the objects ("in a green field"). Its
            things are there, and their colour and number are not those of an object.

    Returns:
        `list[Fault]`: Its faults; empty for a good caption.
    """
    if not words_of(caption):
        return [Fault("empty", "", "says nothing", "itself")]
    faults = repetitions(caption) + truncation(caption)
    said = elements(caption)
    truth = None if objects is None else true_elements(objects)
    told = [elements(reference) for reference in references]
    if references or truth is not None:
        behind = {one.noun for phrase in background for one in elements(phrase)}
        front = [one for one in said if one.noun not in behind or one.noun in vocabulary]
        faults += _hallucinations(front, references, truth, vocabulary)
        faults += _attributes(front, told, truth)
        faults += _omissions(caption, said, told, truth)
    return faults


def repetitions(caption: str) -> list[Fault]:
    """A word doubled, the same thing introduced twice ("a dog and a dog"), or three words or more said twice."""
    words = [word.lower() for word in words_of(caption)]
    for before, word in zip(words, words[1:], strict=False):
        if before == word and word not in SAID_TWICE and not word.isdigit():
            return [Fault("repetition", word, f"says {word!r} twice in a row", "itself")]
    for size in (5, 4, 3):
        phrases = Counter(tuple(words[place : place + size]) for place in range(len(words) - size + 1))
        for run, times in phrases.items():
            if times > 1 and sum(word not in FUNCTION_WORDS for word in run) > 1:
                text = " ".join(run)
                return [Fault("repetition", text, f"says {text!r} {times} times", "itself")]
    introduced = Counter(one.phrase for one in elements(caption) if one.count == 1)
    for phrase, times in introduced.items():
        if times > 1:
            return [Fault("repetition", phrase, f"introduces {phrase!r} {times} times", "itself")]
    return []


def truncation(caption: str) -> list[Fault]:
    """An end after which something has to follow ("sitting on a", "a dog and", "in a blue")."""
    words = [word.lower() for word in words_of(caption)]
    if len(words) < 2:
        return []
    last, before = words[-1], words[-2]
    # "in the dark" and "one another" are ends; "in a dark" and "near another" are not.
    hanging = last in CANNOT_END and (before, last) != ("one", "another")
    if hanging or (last in ADJECTIVES and before in ("a", "an")):
        return [Fault("truncation", last, f"stops after {last!r}", "itself")]
    return []


@lru_cache(maxsize=65536)
def _lemmas(text: str) -> frozenset[str]:
    """All lemmas of all words of a text, and of the parts of words with a hyphen."""
    known = lexicon()
    lower = {word.lower for word in analyse(text)}
    lower |= {part for word in lower for part in word.split("-")}
    return frozenset().union(*(known.lemmas(word) for word in lower)) if lower else frozenset()


def _hallucinations(
    said: Sequence[Element],
    references: Sequence[str],
    truth: Sequence[Element] | None,
    vocabulary: frozenset[str],
) -> list[Fault]:
    told = {one.noun for reference in references for one in elements(reference)}
    found, seen = [], set()
    for one in said:
        if one.noun in seen:
            continue
        seen.add(one.noun)
        present = truth is not None and any(names_same(one.noun, thing.noun) for thing in truth)
        if truth is not None and one.noun in vocabulary:
            if not present:
                names = ", ".join(thing.text for thing in truth) or "nothing nameable"
                found.append(Fault("hallucination", one.text, f"names {one.text!r}; there is {names}", "objects"))
            continue
        if present or not references:
            continue
        supported = any(one.noun in _lemmas(text) for text in references) or any(
            names_same(one.noun, noun) for noun in told
        )
        if not supported:
            found.append(Fault("hallucination", one.text, f"names {one.text!r}, which no reference mentions"))
    return found


def _attributes(
    said: Sequence[Element], told: Sequence[Sequence[Element]], truth: Sequence[Element] | None
) -> list[Fault]:
    """Wrong colours and counts of things that are there."""
    found: list[Fault] = []
    for one in said:
        if truth is not None:
            known, by = [thing for thing in truth if related(one.noun, thing.noun)], "objects"
        else:
            # By the very same noun alone: "two people" is no contradiction to "a man and a woman".
            known, by = [thing for held in told for thing in held if one.noun == thing.noun], "references"
        colors = frozenset[str]().union(*(thing.colors for thing in known))
        if one.colors and colors and not one.colors & colors:
            wrong, right = " and ".join(sorted(one.colors)), " or ".join(sorted(colors))
            found.append(Fault("wrong colour", wrong, f"says {wrong} of the {one.noun}, not {right}", by))
        found += _wrong_count(one, known, by)
    return found


def _wrong_count(one: Element, known: Sequence[Element], by: str) -> list[Fault]:
    # One person's word is not enough: "the woods" and "a wood", "a pizza" and "three slices of pizza" are both right.
    needed = 1 if by == "objects" else 2
    if len(known) < needed:
        return []
    if one.count == 1 and all(thing.plural for thing in known):
        return [Fault("wrong count", one.text, f"says one {one.noun!r} where there are several", by)]
    counts = [thing.count for thing in known if thing.count is not None]
    vague = one.count == 1 and any(thing.count is None and not thing.plural for thing in known)
    if one.count is not None and len(counts) >= needed and one.count not in counts and not vague:
        right = " or ".join(str(count) for count in sorted(set(counts)))
        return [Fault("wrong count", one.text, f"says {one.count} of {one.noun!r}, not {right}", by)]
    if one.plural and counts == [1] * len(known):
        return [Fault("wrong count", one.text, f"says several of {one.noun!r} where there is one", by)]
    return []


def _omissions(
    caption: str, said: Sequence[Element], told: Sequence[Sequence[Element]], truth: Sequence[Element] | None
) -> list[Fault]:
    lemmas = _lemmas(caption)

    def named(noun: str) -> bool:
        return noun in lemmas or any(related(noun, one.noun) for one in said)

    if truth is not None:
        return [
            Fault("omission", thing.text, f"leaves out {thing.text!r}, which is there", "objects")
            for thing in truth
            if not named(thing.noun)
        ]
    holders: Counter[str] = Counter()
    for reference in told:
        holders.update({one.noun for one in reference})
    # Half of the references, and never on the word of one person where there are several.
    needed = max(len(told) / 2, min(2, len(told)))
    return [
        Fault("omission", noun, f"leaves out {noun!r}, which {times} of {len(told)} references mention")
        for noun, times in holders.items()
        if times >= needed and not named(noun)
    ]
