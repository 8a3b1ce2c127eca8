"""What a refined caption may say: the words of the draft, the other candidates and the metadata, and what they imply.

A word may stand if the support has it in any form, a synonym of it, something that is a kind of it ("dog" supports
"animal", not the reverse), a word that it is derived from ("ski" and "skier"), or one of the words that imply it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import lru_cache
from typing import Any

from ..records import RefineRequest
from .cleanup import COLOURS
from .implied import (
    ALIKE,
    BROADER,
    FREE_VERBS,
    FREE_WORDS,
    IMPLIED_BY,
    MOTIONS,
    NEARLY_SAME,
    PERSONS,
    POSTURES,
    RIDDEN,
    WIDE_VERBS,
    YOUNG,
    YOUNG_PERSONS,
)
from .lexicon import ADJECTIVE, FUNCTION_WORDS, NOUN, VERB, Lexicon, lexicon, words_of

NUMBERS = {
    **{"one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6", "seven": "7", "eight": "8"},
    **{"nine": "9", "ten": "10", "eleven": "11", "twelve": "12", "thirteen": "13", "fourteen": "14", "fifteen": "15"},
    **{"sixteen": "16", "twenty": "20", "thirty": "30", "forty": "40", "fifty": "50", "hundred": "100"},
    **{"couple": "2", "pair": "2", "trio": "3", "twin": "2", "twins": "2", "dozen": "12", "double": "2", "both": "2"},
    **{"triple": "3", "quartet": "4", "duo": "2", "dual": "2"},
}
MANY = {"several", "many", "dozens", "numerous", "multiple", "various", "hundreds", "crowd", "crowds", "lots"}
NEGATIONS = {"no", "not", "n't", "never", "without", "none", "nobody", "nothing", "neither", "nor", "nowhere"}
SAME_COLOUR = {"grey": "gray", "golden": "gold", "blonde": "blond", "violet": "purple"}


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
        kinds (`bool`, defaults to `True`): Let a word stand for what is a kind of it.
    """

    def __init__(self, request: RefineRequest, tagger: str = "lexicon", kinds: bool = True):
        self.captions = [analyse(text, tagger) for text in (request.draft, *request.candidates)]
        facts = [word for value in flatten(request.metadata) for word in analyse(value, tagger)]
        self.words = [word for caption in self.captions for word in caption] + facts
        known = self.known = lexicon()
        self.lower = {word.lower for word in self.words}
        self.lower |= {part for low in self.lower for part in low.split("-")}
        self.lemmas = set().union(*(known.lemmas(low) for low in self.lower)) if self.lower else set()
        self.nouns = [word for word in self.words if word.part == NOUN]
        self.names_of_nouns = {noun.noun for noun in self.nouns}
        self.joined = self.lower | {a + b for a, b in zip(self._in_a_row(), self._in_a_row()[1:], strict=False)}
        self.joined |= {low.replace("-", "") for low in self.lower}
        self.young = {
            after.noun
            for before, after in zip(self.words, self.words[1:], strict=False)
            if before.lower in ("young", "little", "small", "teenage")
        }
        self.senses: set[int] = set()
        for word in self.words:
            if word.part is not None:
                for part in (NOUN, VERB, ADJECTIVE):
                    self.senses |= known.senses(word.lower, 5, part)
        self.with_kinds = kinds
        self.kinds = known.hypernyms(self.senses) if kinds else self.senses
        self.numbers = {number for word in self.words if (number := number_of(word.lower))} | self._counted()
        self.colours = {colour for word in self.words if (colour := colour_of(word.lower))}
        self.colours |= {SAME_COLOUR.get(low, low) for low in self.lower | self.lemmas if low in COLOURS}

    def _in_a_row(self) -> list[str]:
        return [word.lower for word in self.words]

    def _counted(self) -> set[str]:
        """Numbers that a caption does not say, and that can be counted in it: "a man and a woman" are two."""
        found = set()
        for caption in self.captions:
            persons = [word for word in caption if word.noun in PERSONS and word.noun not in ("people", "couple")]
            if len(persons) > 1 and not any(self.known.is_plural(word.lower) for word in persons):
                found.add(str(len(persons)))
            if (total := _persons_in(caption, self.known)) > 1:
                found.add(str(total))
            for place, word in enumerate(caption):
                before, after = caption[:place], [one for one in caption[place + 1 :] if one.lower not in ("a", "an")]
                pair = (*before[-1:], *after[:1])
                if word.lower == "and" and len(pair) == 2 and all(self._is_one_living(one) for one in pair):
                    found.add("2")
            nouns = [word.noun for word in caption if word.part == NOUN]
            if any(word.lower == "another" for word in caption) or any(nouns.count(noun) == 2 for noun in nouns):
                found.add("2")
        return found

    def _is_misspelt(self, lower: str) -> bool:
        """Whether the support has the word with a slip of the pen: "skiis", "siting"."""
        unknown = [one for one in self.lower if len(one) > 4 and one.isalpha() and not self.known.knows(one)]
        return len(lower) > 3 and any(SequenceMatcher(None, one, lower).ratio() > 0.85 for one in unknown)

    def _is_one_living(self, word: Word) -> bool:
        return word.part == NOUN and self.known.is_living(word.lower) and not self.known.is_plural(word.lower)

    def holds(self, word: Word, of_a_thing: bool = False) -> bool:
        """Whether the support has what `word` says, or implies it.

        Args:
            word (`Word`): A noun, verb, adjective or adverb.
            of_a_thing (`bool`, defaults to `False`): The word is a verb, and a thing does it, not a person or animal.
        """
        known, lower = self.known, word.lower
        lemmas = known.lemmas(lower)
        if lemmas & self.lemmas or lower.replace("-", "") in self.joined:
            return True
        if lower in FREE_WORDS or (lower in MANY and word.part != NOUN):
            return True
        if self._is_misspelt(lower):
            return True
        parts = lower.split("-")
        if len(parts) > 1 and all(self._holds_part(part) for part in parts if len(part) > 1):
            # "t-shirt" and "shirt", "snow-covered" and "snow".
            return True
        if word.part == VERB and (lemmas & FREE_VERBS or (of_a_thing and lemmas & POSTURES)):
            return True
        if word.part == VERB and of_a_thing and lemmas & MOTIONS and self.lemmas & MOTIONS:
            return True
        if not self.with_kinds:
            return bool(known.senses(lower) & self.senses)
        if NEARLY_SAME.get(word.noun, frozenset()) & self.names_of_nouns:
            return True
        if lower.endswith("less") and self.lower & NEGATIONS and lower.removesuffix("less") in self.lemmas:
            # "without a shirt".
            return True
        if YOUNG.get(word.noun, frozenset()) & self.names_of_nouns and {"baby", "young", "small"} & self.lemmas:
            return True
        if YOUNG_PERSONS.get(word.noun, frozenset()) & self.young:
            return True
        if any(_behind(lemma) & self._all for lemma in lemmas):
            return True
        # A heap is a "crowd" to WordNet; in captions a crowd is of persons.
        crowd = word.noun == "crowd"
        if not crowd and any(known.senses(lower, 5, part) & self.kinds for part in (NOUN, VERB, ADJECTIVE)):
            return True
        if word.part == VERB and not of_a_thing and "ride" in lemmas and "on" in self.lower and RIDDEN & self.lemmas:
            return True
        broader = {other for lemma in lemmas for other in BROADER.get(lemma, ())} if word.part == VERB else set()
        if any(known.senses(other, 1, VERB) & self.kinds for other in broader):
            return True
        return self._holds_narrower(word) or self._holds_derived(word, lemmas)

    def _holds_narrower(self, word: Word) -> bool:
        """Whether an adjective clusters with one of the support, or a verb is one way to do what the support says.

        "arid" is "dry", and "gazes" is "looks"; "flies" is not "moves", for verbs of motion have very different kinds.
        """
        known = self.known
        if word.part == ADJECTIVE:
            own, theirs = known.senses(word.lower, 4, ADJECTIVE), self._senses_of(ADJECTIVE, 4)
            around = known.directly_above(own)
            return bool(around & theirs or around & known.directly_above(theirs))
        if word.part == VERB:
            return bool(known.directly_above(known.senses(word.lower, 3, VERB)) & self._senses_of(VERB, 3))
        return False

    def _senses_of(self, part: int, most: int) -> set[int]:
        """The commonest senses of the adjectives or the verbs of the support, but for verbs that say little."""
        words = [word for word in self.words if word.part == part and colour_of(word.lower) is None]
        if part == VERB:
            words = [word for word in words if not self.known.lemmas(word.lower) & (FREE_VERBS | WIDE_VERBS)]
        return {sense for word in words for sense in self.known.senses(word.lower, most, part)}

    def _holds_part(self, part: str) -> bool:
        lemmas = self.known.lemmas(part)
        if part == "mid" or (part == "free" and self.lower & NEGATIONS) or number_of(part) in self.numbers:
            return True
        if part in FUNCTION_WORDS or lemmas & (FREE_VERBS | POSTURES | self.lemmas):
            return True
        return any(one in self.lemmas for lemma in lemmas for one in self.known.derived(lemma))

    @property
    def _all(self) -> set[str]:
        return self.lemmas | self.joined

    def _holds_derived(self, word: Word, lemmas: set[str]) -> bool:
        """Whether the support has what `word` is derived from: "a man skiing" is a "skier", "fog" makes "foggy"."""
        known, lower = self.known, word.lower
        for lemma in lemmas:
            for one in known.derived(lemma):
                if one in self.lemmas:
                    return True
                if any(known.senses(one, 3, part) & self.kinds for part in (NOUN, VERB)) or _behind(one) & self._all:
                    return True
            if any(one in self._all for other in _behind(lemma) for one in known.derived(other)):
                return True
        if known.is_living(lower) and any(stem in self.lemmas for stem in _stems_of_agent(word.noun)):
            return True
        if (
            word.part == NOUN
            and len(word.noun) > 3
            and any(
                # A snowboard is a board, an airplane is a plane.
                one.endswith(word.noun) and one[: -len(word.noun)] in known.entries
                for one in self.names_of_nouns
            )
        ):
            return True
        stem = next((lower.removesuffix(end) for end in ("side", "top") if lower.endswith(end) and lower != end), None)
        if stem is not None and stem in self.lemmas:
            # "tabletop", "hillside".
            return True
        if word.part == VERB and any(
            # Who is on a skateboard skateboards, who has a surfboard surfs.
            one.startswith(lemma) and one[len(lemma) :] in known.entries
            for lemma in lemmas
            if len(lemma) > 3
            for one in self.lemmas
        ):
            return True
        return False


@lru_cache(maxsize=8192)
def _behind(lemma: str) -> frozenset[str]:
    """The words that support `lemma` by the tables, over one word in between: "blossom", "flower", "rose"."""
    alike = ALIKE.get(lemma, frozenset())
    return alike.union(IMPLIED_BY.get(lemma, ()), *(IMPLIED_BY.get(one, ()) for one in alike))


def _persons_in(caption: Sequence[Word], known: Lexicon) -> int:
    """How many persons "two men and a woman" are; 0 where somebody is not counted."""
    total = 0
    for place, word in enumerate(caption):
        if word.part == NOUN and word.noun in PERSONS:
            before = place - 1
            while before > 0 and caption[before].part == ADJECTIVE:
                before -= 1
            said = number_of(caption[before].lower) or ("1" if caption[before].lower in ("a", "an", "another") else "")
            if before < 0 or not said.isdigit():
                return 0
            total += int(said)
    return total


def _stems_of_agent(noun: str) -> set[str]:
    """What "skateboarder", "smoker" and "fisherman" may do."""
    if noun.endswith(("man", "ist")):
        return {noun[:-3], noun[:-3] + "e"}
    if not noun.endswith("er") or len(noun) < 6:
        return set()
    return {noun[:-2], noun[:-1], noun[:-3]}


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
