"""Which words are nouns, what is a kind of what, what is derived from what: a small part of WordNet, always at hand.

No model and no download: 850 kB in the package, read in a second when a guard first needs it. Lemmas are found
as WordNet's own `morphy` does it: irregular forms first, then the endings. The part of speech of a word that can be
several is told from its neighbours and from how often it is which in WordNet's tagged texts.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files

NOUN, VERB, ADJECTIVE, ADVERB = range(4)

_ENDINGS: tuple[tuple[tuple[str, str], ...], ...] = (
    (("ses", "s"), ("ves", "f"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"))
    + (("ies", "y"), ("s", "")),
    (("ies", "y"), ("es", "e"), ("es", ""), ("s", ""), ("ed", "e"), ("ed", ""), ("ing", "e"), ("ing", "")),
    (("er", ""), ("est", ""), ("er", "e"), ("est", "e")),
    (),
)

FUNCTION_WORDS = frozenset(
    """a an the this that these those some any each every no another other others such same own all both half either
    neither one ones i me my mine myself you your yours yourself he him his himself she her hers herself it its itself
    we us our ours ourselves they them their theirs themselves who whom whose which what whatever someone somebody
    something anyone anybody anything everyone everybody everything nobody none nothing and or but nor so yet if
    while as than because although though until unless since when whenever where wherever why how whether of in on at
    by to from with without into onto upon within inside outside over under above below beneath underneath beside
    besides between among amongst amid against along alongside across around about through throughout toward towards
    near next off out up down after before behind during for like via per past atop away back together apart ahead
    is are was were be been being am do does did doing done have has had having will would can could shall should may
    might must not n't also very too just only even still again there here then now more most much many few several
    lot lots less least enough rather quite almost nearly not never ever always often""".split()
)
DETERMINERS = frozenset(
    """a an the this that these those some any each every no another his her its their my your our several many few
    both all two three four five six seven eight nine ten eleven twelve""".split()
)
PAIRED = frozenset("glasses eyeglasses sunglasses pants shorts jeans trousers scissors binoculars goggles".split())
"""Plurals of which one is two: "a pair of glasses" is glasses."""
_FINITE = frozenset("is are was were has have".split())
_SUBJECTS = frozenset("he she it who which that".split())
_PREPOSITIONS = frozenset(
    """of in on at by from with without into onto over under for through across during behind near above below along
    around beside between""".split()
)
_PLACES = frozenset("beside next behind above below under underneath in on at over outside inside before near".split())
_AFTER_NOUN = frozenset("is are was were has have and or while".split())
_BEFORE_VERB = frozenset("is are was were be been being am to not while and who that has have had".split())
_WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|n't")


@dataclass(frozen=True, slots=True)
class Entry:
    """A word of the lexicon.

    Args:
        counts (`tuple[int | None, ...]`): How often it is a noun, verb, adjective, adverb in tagged texts; `None`
            where it cannot be that.
        senses (`tuple[tuple[int, ...], ...]`): Its first synsets as noun, verb and adjective, the commonest first.
        proper (`bool`): Whether it is only a name ("paris").
    """

    counts: tuple[int | None, ...]
    senses: tuple[tuple[int, ...], ...]
    proper: bool


class Lexicon:
    """Words, lemmas and hypernyms of English."""

    def __init__(self, lines: Iterable[str]):
        self.entries: dict[str, Entry] = {}
        self._above: list[tuple[int, ...]] = []
        self._irregular: dict[tuple[int, str], str] = {}
        self._derived: dict[str, tuple[str, ...]] = {}
        for line in lines:
            kind, _, rest = line.rstrip("\n").partition("\t")
            if kind == "s":
                self._above.append(tuple(map(int, rest.split())))
            elif kind == "w":
                word, counts, senses, *proper = rest.split("\t")
                seen = tuple(None if count == "-" else int(count) for count in counts.split())
                by_part = tuple(tuple(map(int, of_part.split())) for of_part in senses.split("|"))
                self.entries[word] = Entry(seen, by_part, bool(proper))
            elif kind == "d":
                word, derived = rest.split("\t")
                self._derived[word] = tuple(derived.split())
            elif kind == "x":
                part, form, base = rest.split("\t")
                self._irregular[int(part), form] = base

    def base_forms(self, word: str, part: int) -> list[str]:
        """The lemmas that `word` (lower case) may be a form of, as that part of speech."""
        irregular = self._irregular.get((part, word))
        if irregular is not None:
            return [irregular]
        found = [word] if self._can_be(word, part) else []
        for ending, instead in _ENDINGS[part]:
            if word.endswith(ending) and len(word) > len(ending) + 1:
                base = word[: -len(ending)] + instead
                if self._can_be(base, part):
                    found.append(base)
        return found

    def _can_be(self, word: str, part: int) -> bool:
        entry = self.entries.get(word)
        return entry is not None and entry.counts[part] is not None

    def lemmas(self, word: str) -> set[str]:
        """All lemmas of `word` (lower case) as any part of speech, and `word` itself."""
        found = {word}
        for part in range(4):
            found.update(self.base_forms(word, part))
        return found

    def singular(self, word: str) -> str:
        """The noun that `word` is a form of; `word` itself where none is known and it has no plural ending."""
        bases = self.base_forms(word, NOUN)
        if bases:
            # "glasses" is a word of its own, and of "glass": the shorter one is what a picture is asked about.
            return min(bases, key=len)
        if word.endswith("s") and not word.endswith(("ss", "us", "is")) and len(word) > 3:
            return word[:-1]
        return word

    def is_plural(self, word: str) -> bool:
        """Whether `word` is the plural of a noun ("dogs", "men", "people")."""
        if word in ("people", "others", "ones"):
            return True
        if word in PAIRED:
            # One pair of glasses is glasses: says nothing of how many.
            return False
        return self.singular(word) != word

    def senses(self, word: str, most: int = 3, part: int = NOUN) -> set[int]:
        """The commonest synsets of `word` (any form, lower case) as that part of speech: noun, verb or adjective."""
        found: list[int] = []
        bases = {*self.base_forms(word, part)}
        if part == NOUN:
            bases.add(self.singular(word))
        for base in bases:
            entry = self.entries.get(base)
            if entry is not None and part < len(entry.senses):
                found += entry.senses[part][:most]
        return set(found)

    def derived(self, lemma: str) -> tuple[str, ...]:
        """Words that `lemma` is derived from, or that are derived from it ("surf": "surfer", "surfing")."""
        return self._derived.get(lemma, ())

    def is_living(self, word: str) -> bool:
        """Whether the noun `word` (any form, lower case) names persons or animals in the first place."""
        return word == "people" or bool(self.hypernyms(self.senses(word, 1)) & self._living)

    @cached_property
    def _living(self) -> set[int]:
        return self.senses("person", 1) | self.senses("animal", 1)

    def hypernyms(self, synsets: Iterable[int]) -> set[int]:
        """`synsets` and everything that they are kinds of, up to "entity"."""
        found: set[int] = set()
        waiting = list(synsets)
        while waiting:
            synset = waiting.pop()
            if synset not in found:
                found.add(synset)
                waiting += self._above[synset]
        return found

    def directly_above(self, synsets: Iterable[int]) -> set[int]:
        """What `synsets` are kinds of, one step up; of adjectives what they cluster around ("arid": "dry")."""
        return {above for synset in synsets for above in self._above[synset]}

    def part_of_speech(self, words: Sequence[str], place: int) -> int | None:
        """What `words[place]` is there; `None` for a function word. `words` are in lower case.

        An unknown word is a noun, unless it ends in -ly: a guard must not overlook a thing that it does not know.
        """
        word = words[place]
        if word in FUNCTION_WORDS or word == "'s":
            return None
        weight = self._weights(word)
        if not weight:
            return ADVERB if word.endswith("ly") else NOUN
        if self._is_finite_verb(words, place, weight):
            return VERB
        before = words[place - 1] if place else ""
        after = words[place + 1] if place + 1 < len(words) else ""
        ends = not after or after in _AFTER_NOUN
        if word.endswith(("ing", "ed")) and VERB in weight and before not in DETERMINERS:
            # "a building" and "a brick building" are things, "is painting" and "a man painting a wall" are not.
            weight[VERB] *= 0.1 if ends and NOUN in weight else 4
        if before in DETERMINERS or self._is(before, ADJECTIVE):
            weight.pop(VERB, None)
        if NOUN in weight and after in _FINITE and not word.endswith(("ing", "ed")):
            # "a tennis match is played".
            weight.pop(VERB, None)
        if NOUN in weight and (
            self._cannot_be_verb(words, place) or (before in _PREPOSITIONS and not word.endswith(("ing", "ed")))
        ):
            weight.pop(VERB, None)
        if ADJECTIVE in weight and NOUN in weight and self._is(before, NOUN) and not self._is(after, NOUN):
            # "a mosquito net hangs"
            weight.pop(ADJECTIVE)
        if ADVERB in weight and after in _PLACES and before not in DETERMINERS and not self._is(before, ADJECTIVE):
            # "right beside", "high above".
            return ADVERB
        if before in _BEFORE_VERB and VERB in weight:
            weight[VERB] *= 4
        if ADJECTIVE in weight and NOUN in weight and after and NOUN in self._weights(after):
            weight[ADJECTIVE] *= 2
        return max(weight, key=lambda part: (weight[part], -part)) if weight else NOUN

    def _is_finite_verb(self, words: Sequence[str], place: int, weight: dict[int, float]) -> bool:
        """Whether the word is a verb by its ending and its subject: "a man skis", and not "a pair of tennis skis"."""
        word = words[place]
        if VERB not in weight or NOUN not in weight or not word.endswith("s") or not place:
            return False
        subject = words[place - 1]
        if subject in _SUBJECTS:
            return True
        if NOUN not in self._weights(subject) or self.is_plural(subject):
            return False
        if self._is(subject, NOUN) and self.is_living(subject):
            return True
        if place + 1 < len(words) and words[place + 1] in DETERMINERS:
            # "the kitchen features a table".
            return True
        # Nothing that begins with "a" is a plural.
        start = place - 1
        while start and words[start - 1] not in FUNCTION_WORDS:
            start -= 1
        return bool(start) and words[start - 1] in ("a", "an", "one", "another", "each", "every")

    def _cannot_be_verb(self, words: Sequence[str], place: int) -> bool:
        """Whether the word is a bare stem behind a noun of which there is one: "a horse ride", not "a horse rides"."""
        start = place - 1
        if start < 0 or words[place].endswith(("s", "ed", "ing")) or NOUN not in self._weights(words[start]):
            return False
        while start and words[start - 1] not in FUNCTION_WORDS and place - start < 3:
            start -= 1
        # "a man and a woman walk"
        together = start > 1 and words[start - 2] in ("and", "or")
        return bool(start) and words[start - 1] in ("a", "an", "another", "each", "every") and not together

    def _is(self, word: str, part: int) -> bool:
        weight = self._weights(word)
        return part in weight and weight[part] == max(weight.values())

    def _weights(self, word: str) -> dict[int, float]:
        weight: dict[int, float] = {}
        if word in FUNCTION_WORDS:
            return weight
        for part in range(4):
            for base in self.base_forms(word, part):
                count = self.entries[base].counts[part] or 0
                weight[part] = max(weight.get(part, 0.0), count + 0.5)
        return weight

    def knows(self, word: str) -> bool:
        """Whether `word` (any form, lower case) is English, as far as this lexicon goes."""
        return word in FUNCTION_WORDS or len(self.lemmas(word)) > 1 or word in self.entries


def words_of(text: str) -> list[str]:
    """The words of `text` as they are written, contractions in two ("isn't": "is", "n't"), without punctuation."""
    text = re.sub(r"(?i)n['\u2019]t\b", " n't", text.replace("cannot", "can not"))
    text = re.sub(r"(?i)['\u2019]s\b", " ", text)
    return _WORD.findall(text)


@lru_cache(maxsize=1)
def lexicon() -> Lexicon:
    """The lexicon of this package, read once."""
    packed = files(__package__).joinpath("lexicon.tsv.gz").read_bytes()
    return Lexicon(gzip.decompress(packed).decode().splitlines())
