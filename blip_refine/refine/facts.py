"""Does a refined caption say more, or other, than what is known? Things, actions, qualities, numbers, colours, names;
"not" and how many.

What is known is the draft, the other candidates and the metadata: together, the *support* ([`Support`]).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..records import RefineRequest
from .implied import COLLECTIVES, DEGREES, FREE_NOUNS, NEGATIVE, SAID_AS_PLURAL, ZERO_PLURALS
from .lexicon import ADJECTIVE, ADVERB, FUNCTION_WORDS, NOUN, PAIRED, VERB, Lexicon, lexicon
from .support import (
    MANY,
    NEGATIONS,
    Support,
    Word,
    analyse,
    colour_of,
    number_of,
    spacy_pipeline_installed,
)


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
        adjectives (`bool`, defaults to `True`): Check all other adjectives, too ("happy", "old"), and adverbs in -ly.
        actions (`bool`, defaults to `True`): Check verbs, but for those that tell no action of their own ("features").
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
    actions: bool = True
    kinds: bool = True
    allow: frozenset[str] = frozenset()
    tagger: str = "auto"

    def check(self, request: RefineRequest, text: str) -> str | None:
        """Why `text` cannot stand; `None` if it can."""
        invented = self.invented(request, text)
        if invented:
            return f"it adds {invented[0][0]} {invented[0][1]!r}, which nothing supports"
        tagger = resolve_tagger(self.tagger)
        words, known = analyse(text, tagger), lexicon()
        # Words that need no support are in no text's favour, and not against it.
        content = [
            (word, word.part == VERB and _is_done_by_a_thing(words, place, known))
            for place, word in enumerate(words)
            if word.part in (NOUN, VERB, ADJECTIVE) and not (word.part == NOUN and word.noun in FREE_NOUNS)
        ]
        support = Support(request, tagger, self.kinds)
        held = sum(support.holds(word, of_a_thing) for word, of_a_thing in content)
        if held < self.least_supported * len(content):
            return f"it has little in common with the caption: {held} of its {len(content)} words"
        return None

    def invented(self, request: RefineRequest, text: str) -> list[tuple[str, str]]:
        """Everything in `text` that the support does not have, as (what, word)."""
        tagger = resolve_tagger(self.tagger)
        support, known = Support(request, tagger, self.kinds), lexicon()
        found: list[tuple[str, str]] = []
        words = analyse(text, tagger)
        for place, word in enumerate(words):
            number, colour = number_of(word.lower), colour_of(word.lower)
            follows = words[place - 1].lower if place else ""
            if number is not None:
                # "one" is a pronoun as often as a number ("one in red"), and a unit adds nothing to a singular.
                free = word.lower in ("one", "both") or _is_of_one_thing(words, place)
                if self.numbers and number not in support.numbers and not free:
                    found.append(("the number", word.written))
            elif colour is not None:
                if self.colours and colour not in support.colours and word.lower not in support.lower:
                    found.append(("the colour", word.written))
            elif self.names and self._is_name(word, place, known) and not support.holds(word):
                found.append(("the name", word.written))
            elif word.part is not None and not self._is_free(words, place) and follows != "'s":
                of_a_thing = word.part == VERB and _is_done_by_a_thing(words, place, known)
                if not support.holds(word, of_a_thing) and not self._holds_as_verb(support, words, place):
                    found.append((_KINDS_OF_WORD[word.part], word.written))
        return found

    @staticmethod
    def _holds_as_verb(support: Support, words: Sequence[Word], place: int) -> bool:
        """Whether what was taken for a plural may be a verb that the support holds: "a pair of pizzas rests"."""
        word = words[place]
        before = words[place - 1].part if place else None
        if word.part != NOUN or before != NOUN or not word.lower.endswith("s"):
            return False
        known = support.known
        of_a_thing = _is_done_by_a_thing(words, place, known)
        return bool(known.base_forms(word.lower, VERB)) and support.holds(replace(word, part=VERB), of_a_thing)

    def _is_free(self, words: Sequence[Word], place: int) -> bool:
        """Whether a word needs no support."""
        word = words[place]
        if word.lower in self.allow or word.noun in self.allow:
            return True
        if word.part == NOUN:
            return not self.nouns or word.noun in FREE_NOUNS
        if word.part == VERB:
            return not self.actions
        after = words[place + 1] if place + 1 < len(words) else None
        if word.lower in DEGREES and after is not None and after.noun in FREE_NOUNS:
            return True
        return not self.adjectives or (word.part == ADVERB and not word.lower.endswith("ly"))

    @staticmethod
    def _is_name(word: Word, place: int, known: Lexicon) -> bool:
        entry = None if word.lower in FUNCTION_WORDS else known.entries.get(word.lower)
        if entry is not None and entry.proper:
            return True
        capital = word.written[:1].isupper() and word.written != "I"
        return capital and place > 0 and not known.knows(word.lower) or (capital and place > 0 and word.part == NOUN)


_KINDS_OF_WORD = {NOUN: "the noun", VERB: "the action", ADJECTIVE: "the word", ADVERB: "the word"}


def _is_of_one_thing(words: Sequence[Word], place: int) -> bool:
    """Whether "a pair of" counts what is always said in the plural: "a pair of scissors"."""
    return words[place].lower == "pair" and any(word.lower in PAIRED for word in words[place + 1 : place + 5])


def _is_done_by_a_thing(words: Sequence[Word], place: int, known: Lexicon) -> bool:
    """Whether the noun before a verb, or else the one behind it, is neither a person nor an animal."""
    nouns = [word for word in (*reversed(words[:place]), *words[place + 1 :]) if word.part == NOUN]
    return bool(nouns) and not known.is_living(nouns[0].lower)


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
        if said and not any(_denies(word) for caption in support.captions for word in caption):
            return f"it adds the negation {said[0]!r}"
        draft = support.captions[0]
        lost = next((place for place, word in enumerate(draft) if word.lower in NEGATIONS), None)
        if lost is None or any(_denies(word) for word in words):
            return None
        # What was denied may be left out; it may not be said.
        denied: list[Word] = []
        for word in draft[lost + 1 :]:
            if word.part is not None:
                denied.append(word)
            elif denied:
                break
        if any(word.noun == one.noun or word.lower == one.lower for word in words for one in denied):
            return f"it loses the negation {draft[lost].lower!r}"
        return None

    @staticmethod
    def _quantity(words: Sequence[Word], support: Support) -> str | None:
        known = lexicon()
        plural: dict[str, set[bool]] = {}
        for caption in support.captions:
            for word in _heads(caption):
                several = known.is_plural(word.lower)
                # "a plate of carrot and rice" does not say how many carrots.
                if several or known.is_living(word.lower) or _counted_as_one(caption, word, _SINGULAR):
                    plural.setdefault(word.noun, set()).add(several)
        for caption in support.captions:
            # "two woman" is more than one, whatever its form.
            for nouns in _bindings(caption, vague=True).values():
                for noun in nouns:
                    plural.setdefault(noun, set()).add(True)
            for noun in _of_collectives(caption):
                plural.setdefault(noun, set()).add(True)
        living = [word for word in support.captions[0] if word.part == NOUN and known.is_living(word.lower)]
        alone = len(living) == 1 and not known.is_plural(living[0].lower) and not _says_several(support)
        if alone and living[0].noun in ZERO_PLURALS:
            alone = _counted_as_one(support.captions[0], living[0])
        for word in _heads(words):
            seen = None if word.noun in SAID_AS_PLURAL else plural.get(word.noun)
            if not known.is_plural(word.lower):
                if seen == {True} and _counted_as_one(words, word) and not _of_several(words):
                    return f"it makes one of several: {word.written!r}"
                continue
            if word.lower in support.lower:
                continue
            if seen == {False} and not (word.noun in ZERO_PLURALS or _may_be_verb(words, word, known)):
                singles = [sum(one.noun == word.noun for one in caption) for caption in support.captions]
                if max(singles) < 2 and "another" not in support.lower:
                    return f"it makes several of one: {word.written!r}"
            elif seen is None and alone and known.is_living(word.lower):
                return f"it makes several of one: {word.written!r}"
        said_many = next((word for word in words if word.lower in MANY), None)
        if said_many and said_many.lower not in support.lower and not _any_plural(support, known):
            return f"it makes several of one: {said_many.written!r}"
        return _moved_number(words, support)


def _heads(words: Sequence[Word]) -> list[Word]:
    """Nouns, but for those before another noun, which have no number of their own: "laptop computers" are laptops."""
    after = [*(word.part for word in words[1:]), None]
    return [word for word, following in zip(words, after, strict=True) if word.part == NOUN and following != NOUN]


def _says_several(support: Support) -> bool:
    return bool(support.lower & (MANY | {"other", "others", "another", "group", "each"}) or support.numbers - {"1"})


def _any_plural(support: Support, known: Lexicon) -> bool:
    if support.lower & (MANY | COLLECTIVES | {"others", "they", "them", "their"}):
        return True
    return any(known.is_plural(word.lower) for word in support.nouns)


def _of_several(words: Sequence[Word]) -> bool:
    """Whether each of several is told of: "a man stands while another sits"."""
    return any(word.lower in ("another", "other", "others", "each") for word in words)


def _denies(word: Word) -> bool:
    lemmas = lexicon().lemmas(word.lower)
    return word.lower in NEGATIONS or bool(lemmas & NEGATIVE) or word.lower.endswith(("-free", "less"))


def _of_collectives(words: Sequence[Word]) -> set[str]:
    """The nouns behind "a herd of" and the like."""
    found = set()
    for place, word in enumerate(words[:-1]):
        if word.noun in COLLECTIVES and words[place + 1].lower == "of":
            behind = []
            for after in words[place + 2 : place + 6]:
                if after.part is None or after.part == VERB:
                    break
                if after.part == NOUN:
                    behind.append(after.noun)
            found.update(behind[-1:])
    return found


_ONE = frozenset({"a", "an", "one", "another", "this", "that"})
_SINGULAR = _ONE | {"the", "his", "her", "its"}


def _may_be_verb(words: Sequence[Word], noun: Word, known: Lexicon) -> bool:
    """Whether what looks like a plural may be what the noun before it does: "the child surfs"."""
    place = next(k for k, word in enumerate(words) if word is noun)
    before = words[place - 1] if place else None
    single = before is not None and before.part == NOUN and not known.is_plural(before.lower)
    return single and bool(known.base_forms(noun.lower, VERB)) and known.is_living(before.lower if before else "")


def _counted_as_one(words: Sequence[Word], noun: Word, by: frozenset[str] = _ONE) -> bool:
    """Whether "a", "one" or the like stands before the noun, with nothing but adjectives in between."""
    place = next(k for k, word in enumerate(words) if word is noun)
    while place and words[place - 1].part is not None and words[place - 1].part != VERB:
        place -= 1
    return bool(place) and words[place - 1].lower in by


def _bindings(words: Sequence[Word], vague: bool = False, loosely: bool = False) -> dict[str, set[str]]:
    """For each number but one, the nouns that it counts.

    With `vague` also what "several" or "a couple of" counts; with `loosely` all nouns up to the one that it counts:
    "two statues of cows" are "two cow statues".
    """
    bound: dict[str, set[str]] = {}
    for place, word in enumerate(words):
        number = number_of(word.lower)
        if vague and word.lower in MANY:
            number = word.lower
        if number is None or number == "1" or (word.lower in ("couple", "pair", "both") and not vague):
            continue
        nouns: list[str] = []
        for after in words[place + 1 : place + 7]:
            if after.lower == "of" or (after.lower in ("and", "very") and not nouns) or colour_of(after.lower):
                # "two red and white trucks"
                continue
            if after.part is None or after.part == VERB:
                break
            if after.part == NOUN and number_of(after.lower) is None:
                nouns.append(after.noun)
        if nouns:
            bound.setdefault(number, set()).update(nouns if loosely else nouns[-1:])
    return bound


def _moved_number(words: Sequence[Word], support: Support) -> str | None:
    before: dict[str, set[str]] = {}
    for caption in support.captions:
        for number, nouns in _bindings(caption, loosely=True).items():
            before.setdefault(number, set()).update(nouns)
    supported = {word.noun for word in support.nouns}
    for number, nouns in _bindings(words).items():
        moved = (nouns & supported) - before.get(number, nouns)
        if moved:
            return f"it counts something else: {number} {sorted(moved)[0]}"
    return None
