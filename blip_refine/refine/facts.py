"""Does a refined caption say more, or other, than what is known? Nouns, numbers, colours, names; "not" and how many.

What is known is the draft, the other candidates and the metadata: together, the *support*. A noun may stand if the
support has it in any form, or a synonym, or something that is a kind of it ("dog" supports "animal", not the reverse).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from ..records import RefineRequest
from .cleanup import COLOURS
from .lexicon import ADJECTIVE, NOUN, VERB, Lexicon, lexicon, words_of

NUMBERS = {
    **{"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"},
    **{"nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15"},
    **{"sixteen": "16", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100"},
    **{"couple": "2", "pair": "2", "trio": "3", "twin": "2", "twins": "2", "dozen": "12", "double": "2", "both": "2"},
    **{"triple": "3", "quartet": "4", "duo": "2"},
}
MANY = {"several", "many", "dozens", "numerous", "multiple", "various", "hundreds", "crowd", "crowds", "lots"}
NEGATIONS = {"no", "not", "n't", "never", "without", "none", "nobody", "nothing", "neither", "nor", "nowhere"}
SAME_COLOUR = {"grey": "gray", "golden": "gold", "blonde": "blond", "violet": "purple"}
FREE_NOUNS = {
    "group",
    "front",
    "side",
    "top",
    "bottom",
    "middle",
    "center",
    "centre",
    "way",
    "kind",
    "type",
    "bit",
    "part",
}
"""Nouns that name no thing ("a group of", "in front of"): they need no support."""
PERSONS = frozenset(
    """man woman boy girl child person guy lady people adult kid baby player toddler friend worker couple group crowd
    family team student skier surfer rider cyclist""".split()
)
NEARLY_SAME: dict[str, frozenset[str]] = {
    "people": PERSONS,
    "lady": frozenset({"woman"}),
    "guy": frozenset({"man"}),
    "gentleman": frozenset({"man", "guy"}),
    "kid": frozenset({"child", "boy", "girl", "toddler", "baby"}),
    "child": frozenset({"boy", "girl", "kid", "toddler", "baby"}),
    "motorbike": frozenset({"motorcycle"}),
    "couch": frozenset({"sofa"}),
    "sidewalk": frozenset({"pavement"}),
}
"""Nouns that the nouns behind them support, and that WordNet does not put above them."""


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a caption: as written, in lower case, its lemma as a noun, and its part of speech."""

    written: str
    lower: str
    noun: str
    part: int | None


@lru_cache(maxsize=8192)
def analyse(text: str, tagger: str = "lexicon") -> tuple[Word, ...]:
    """The words of `text` with their parts of speech.

    Args:
        text (`str`): A caption.
        tagger (`str`, defaults to `"lexicon"`): `"lexicon"`, or the name of an installed spaCy pipeline.
    """
    words = lexicon()
    if tagger != "lexicon":
        return _analyse_with_spacy(text, tagger)
    written = words_of(text)
    lower = [word.lower() for word in written]
    return tuple(
        Word(one, low, words.singular(low), words.part_of_speech(lower, place))
        for place, (one, low) in enumerate(zip(written, lower, strict=True))
    )


def _analyse_with_spacy(text: str, name: str) -> tuple[Word, ...]:
    parts = {"NOUN": NOUN, "PROPN": NOUN, "VERB": VERB, "ADJ": ADJECTIVE}
    words = lexicon()
    return tuple(
        Word(token.text, token.lower_, words.singular(token.lower_), parts.get(token.pos_))
        for token in _spacy_pipeline(name)(text)
        if token.is_alpha or token.like_num or "-" in token.text or token.lower_ == "n't"
    )


@lru_cache(maxsize=2)
def _spacy_pipeline(name: str) -> Any:
    from ..errors import ConfigurationError, MissingExtraError

    try:
        import spacy
    except ImportError as error:
        raise MissingExtraError("spacy", "spacy", "tag captions with spaCy") from error
    try:
        return spacy.load(name, disable=["parser", "ner"])
    except OSError as error:
        raise ConfigurationError(
            f"spaCy has no pipeline {name!r} installed: python -m spacy download {name}"
        ) from error


def spacy_pipeline_installed(name: str = "en_core_web_sm") -> bool:
    """Whether spaCy and that pipeline are there."""
    from importlib.util import find_spec

    return find_spec("spacy") is not None and find_spec(name) is not None


class Support:
    """What a caption may say.

    Args:
        request (`RefineRequest`): Draft, candidates and metadata.
        tagger (`str`): As in [`analyse`].
    """

    def __init__(self, request: RefineRequest, tagger: str = "lexicon"):
        self.captions = [analyse(text, tagger) for text in (request.draft, *request.candidates)]
        facts = [word for value in flatten(request.metadata) for word in analyse(value, tagger)]
        self.words = [word for caption in self.captions for word in caption] + facts
        known = lexicon()
        self.lower = {word.lower for word in self.words}
        self.lemmas = set().union(*(known.lemmas(low) for low in self.lower)) if self.lower else set()
        self.nouns = [word for word in self.words if word.part == NOUN]
        self.senses: set[int] = set()
        for word in self.nouns:
            self.senses |= known.senses(word.lower, 2)
        self.kinds = known.hypernyms(self.senses)
        self.numbers = {number for word in self.words if (number := number_of(word.lower))}
        self.colours = {colour for word in self.words if (colour := colour_of(word.lower))}

    def holds_noun(self, word: Word, known: Lexicon, kinds: bool) -> bool:
        """Whether the support has the thing that `word` names, or a kind of it."""
        if known.lemmas(word.lower) & self.lemmas or any(
            # "fireman" and "fire man", "t-shirt" and "shirt".
            part in self.lemmas
            for part in word.lower.split("-")[1:]
        ):
            return True
        if any(word.lower in (a + b, f"{a}-{b}") for a, b in self._neighbours()):
            return True
        if kinds and NEARLY_SAME.get(word.noun, frozenset()) & {noun.noun for noun in self.nouns}:
            return True
        senses = known.senses(word.lower)
        return bool(senses & (self.kinds if kinds else self.senses))

    def _neighbours(self) -> Iterable[tuple[str, str]]:
        lower = [word.lower for word in self.words]
        return zip(lower, lower[1:], strict=False)


def flatten(value: Any) -> list[str]:
    """All texts and numbers in metadata, names of fields included: `{"place": "Lisbon"}` supports "place"."""
    if isinstance(value, dict) or hasattr(value, "items"):
        return [text for key, inner in value.items() for text in (str(key), *flatten(inner))]
    if isinstance(value, (list, tuple, set)):
        return [text for inner in value for text in flatten(inner)]
    if value is None or isinstance(value, bool):
        return []
    return [value if isinstance(value, str) else json.dumps(value, default=str)]


def number_of(word: str) -> str | None:
    """The number that a word says, in digits."""
    if any(char.isdigit() for char in word):
        return "".join(char for char in word if char.isdigit()) if word.strip("0123456789") == "" else word
    return NUMBERS.get(word)


def colour_of(word: str) -> str | None:
    """The colour that a word says, in one spelling."""
    for colour in (word, word.removesuffix("ish"), word.rpartition("-")[2]):
        if colour in COLOURS:
            return SAME_COLOUR.get(colour, colour)
    return None


@dataclass(frozen=True, slots=True)
class FactsGuard:
    """No thing, number, colour, place or name that the support does not have.

    Args:
        nouns (`bool`, defaults to `True`): Check nouns.
        numbers (`bool`, defaults to `True`): Check numbers, and words such as "couple" and "dozen".
        colours (`bool`, defaults to `True`): Check colours.
        names (`bool`, defaults to `True`): Check words with a capital inside of a sentence.
        least_supported (`float`, defaults to 0.5): The share of its nouns, verbs and adjectives that must be in the
            support. What has hardly a word in common with the caption is another text.
        adjectives (`bool`, defaults to `True`): Check all other adjectives, too ("happy", "old").
        kinds (`bool`, defaults to `True`): Let a word stand for something that is a kind of it (WordNet hypernyms).
        allow (`frozenset[str]`): Nouns that need no support, besides "group", "front", "side" and their like.
        tagger (`str`, defaults to `"auto"`): `"lexicon"`, the name of a spaCy pipeline, or `"auto"`: spaCy's
            `en_core_web_sm` where it is installed, the lexicon otherwise.
    """

    nouns: bool = True
    numbers: bool = True
    colours: bool = True
    names: bool = True
    least_supported: float = 0.5
    adjectives: bool = True
    kinds: bool = True
    allow: frozenset[str] = frozenset()
    tagger: str = "auto"

    def check(self, request: RefineRequest, text: str) -> str | None:
        """Why `text` cannot stand; `None` if it can."""
        invented = self.invented(request, text)
        if invented:
            return f"it adds {invented[0][0]} {invented[0][1]!r}, which nothing supports"
        tagger = resolve_tagger(self.tagger)
        content = [word for word in analyse(text, tagger) if word.part in (NOUN, VERB, ADJECTIVE)]
        support, known = Support(request, tagger), lexicon()
        held = sum(support.holds_noun(word, known, self.kinds) for word in content)
        if held < self.least_supported * len(content):
            return f"it has little in common with the caption: {held} of its {len(content)} words"
        return None

    def invented(self, request: RefineRequest, text: str) -> list[tuple[str, str]]:
        """Everything in `text` that the support does not have, as (what, word)."""
        tagger = resolve_tagger(self.tagger)
        support, known = Support(request, tagger), lexicon()
        found: list[tuple[str, str]] = []
        words = analyse(text, tagger)
        for place, word in enumerate(words):
            number, colour = number_of(word.lower), colour_of(word.lower)
            follows = words[place - 1].lower if place else ""
            if number is not None:
                # "one" is a pronoun as often as a number ("one in red"), and a unit adds nothing to a singular.
                if self.numbers and number not in support.numbers and word.lower not in ("one", "both"):
                    found.append(("the number", word.written))
            elif colour is not None:
                if self.colours and colour not in support.colours and word.lower not in support.lower:
                    found.append(("the colour", word.written))
            elif self.names and self._is_name(word, place, known) and not support.holds_noun(word, known, False):
                found.append(("the name", word.written))
            elif word.part == NOUN and self.nouns:
                free = word.noun in FREE_NOUNS or word.lower in self.allow or word.noun in self.allow
                if not free and follows != "'s" and not support.holds_noun(word, known, self.kinds):
                    found.append(("the noun", word.written))
            elif word.part == ADJECTIVE and self.adjectives and not support.holds_noun(word, known, self.kinds):
                found.append(("the word", word.written))
        return found

    @staticmethod
    def _is_name(word: Word, place: int, known: Lexicon) -> bool:
        entry = known.entries.get(word.lower)
        if entry is not None and entry.proper:
            return True
        capital = word.written[:1].isupper() and word.written != "I"
        return capital and place > 0 and not known.knows(word.lower) or (capital and place > 0 and word.part == NOUN)


def resolve_tagger(tagger: str) -> str:
    """`"auto"` as what it means here."""
    if tagger != "auto":
        return tagger
    return "en_core_web_sm" if spacy_pipeline_installed() else "lexicon"


@dataclass(frozen=True, slots=True)
class PolarityGuard:
    """No "not" added or lost, and no change of how many.

    Args:
        negation (`bool`, defaults to `True`): "no", "not", "without" and their like must be in both or in neither.
        quantity (`bool`, defaults to `True`): A noun keeps its number: "a dog" does not become "dogs" or the reverse,
            "several" is not added to one thing, and "two men and a dog" does not become "a man and two dogs".
        tagger (`str`, defaults to `"auto"`): As in [`FactsGuard`].
    """

    negation: bool = True
    quantity: bool = True
    tagger: str = "auto"

    def check(self, request: RefineRequest, text: str) -> str | None:
        """Why `text` cannot stand; `None` if it can."""
        tagger = resolve_tagger(self.tagger)
        words = analyse(text, tagger)
        support = Support(request, tagger)
        if self.negation:
            problem = self._negation(words, support)
            if problem:
                return problem
        return self._quantity(words, support) if self.quantity else None

    @staticmethod
    def _negation(words: Sequence[Word], support: Support) -> str | None:
        said = [word.lower for word in words if word.lower in NEGATIONS]
        drafts = [[word.lower for word in caption if word.lower in NEGATIONS] for caption in support.captions]
        if said and not any(drafts):
            return f"it adds the negation {said[0]!r}"
        if not said and drafts[0]:
            return f"it loses the negation {drafts[0][0]!r}"
        return None

    @staticmethod
    def _quantity(words: Sequence[Word], support: Support) -> str | None:
        known = lexicon()
        plural: dict[str, set[bool]] = {}
        for word in support.nouns:
            plural.setdefault(word.noun, set()).add(known.is_plural(word.lower))
        for caption in support.captions:
            # "two woman" is more than one, whatever its form.
            for nouns in _bindings(caption, vague=True).values():
                for noun in nouns:
                    plural.setdefault(noun, set()).add(True)
        persons = sum(word.noun in PERSONS for word in support.captions[0])
        for word in words:
            if word.part != NOUN or not known.is_plural(word.lower):
                if word.part == NOUN and plural.get(word.noun) == {True} and _counted_as_one(words, word):
                    return f"it makes one of several: {word.written!r}"
                continue
            seen = plural.get(word.noun)
            if seen == {False}:
                singles = [sum(one.noun == word.noun for one in caption) for caption in support.captions]
                if max(singles) < 2:
                    return f"it makes several of one: {word.written!r}"
            elif seen is None and word.lower == "people" and persons == 1 and not _any_plural(support, known):
                return f"it makes several of one: {word.written!r}"
        said_many = next((word for word in words if word.lower in MANY), None)
        if said_many and said_many.lower not in support.lower and not _any_plural(support, known):
            return f"it makes several of one: {said_many.written!r}"
        return _moved_number(words, support)


def _any_plural(support: Support, known: Lexicon) -> bool:
    return any(known.is_plural(word.lower) for word in support.nouns) or bool(support.lower & MANY)


def _counted_as_one(words: Sequence[Word], noun: Word) -> bool:
    """Whether "a", "one" or the like stands before the noun, with nothing but adjectives in between."""
    place = next(k for k, word in enumerate(words) if word is noun)
    while place and words[place - 1].part is not None and words[place - 1].part != VERB:
        place -= 1
    return bool(place) and words[place - 1].lower in {"a", "an", "one", "another", "this", "that"}


def _bindings(words: Sequence[Word], vague: bool = False) -> dict[str, set[str]]:
    """For each number but one, the nouns that it counts; with `vague` also what "several" or "a couple of" counts."""
    bound: dict[str, set[str]] = {}
    for place, word in enumerate(words):
        number = number_of(word.lower)
        if vague and word.lower in MANY:
            number = word.lower
        if number is None or number == "1" or (word.lower in ("couple", "pair", "both") and not vague):
            continue
        noun = None
        for after in words[place + 1 : place + 5]:
            if after.lower == "of":
                continue
            if after.part is None or after.part == VERB:
                break
            if after.part == NOUN and number_of(after.lower) is None:
                noun = after.noun
        if noun is not None:
            bound.setdefault(number, set()).add(noun)
    return bound


def _moved_number(words: Sequence[Word], support: Support) -> str | None:
    before: dict[str, set[str]] = {}
    for caption in support.captions:
        for number, nouns in _bindings(caption).items():
            before.setdefault(number, set()).update(nouns)
    supported = {word.noun for word in support.nouns}
    for number, nouns in _bindings(words).items():
        moved = (nouns & supported) - before.get(number, nouns)
        if moved:
            return f"it counts something else: {number} {sorted(moved)[0]}"
    return None
