"""Content-word F1 up to synonyms: a look at meaning that needs no Java and no download.

It is *not* SPICE: it compares words, not who does what to whom. A content word is any word that METEOR does not count
as a function word. Two words agree where they are the same, have the same base form, or share a WordNet synset. The
lexicon is WordNet 3.0 (Fellbaum 1998) as METEOR 1.5 ships it, read out of the jar that `pycocoevalcap` brings.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .meteor import meteor_jar

LEXICON = "wordnet3.0.meteor1.5"

# The suffixes that WordNet's own Morphy detaches, nouns, verbs and adjectives together.
_ENDINGS = (
    ("men", "man"), ("shes", "sh"), ("ches", "ch"), ("zes", "z"), ("xes", "x"), ("ses", "s"), ("ies", "y"),
    ("est", "e"), ("est", ""), ("ing", "e"), ("ing", ""), ("es", "e"), ("es", ""), ("ed", "e"), ("ed", ""),
    ("er", "e"), ("er", ""), ("s", ""),
)  # fmt: skip


@dataclass(frozen=True)
class SynsetLexicon:
    """Words with their synsets.

    Args:
        synsets (`dict[str, frozenset[str]]`): Base form (words joined by `_`) to the names of its synsets.
        irregular (`dict[str, tuple[str, ...]]`): Inflected form to base forms, where no suffix tells.
        function_words (`frozenset[str]`): What is no content word.
    """

    synsets: dict[str, frozenset[str]]
    irregular: dict[str, tuple[str, ...]]
    function_words: frozenset[str]

    @classmethod
    @lru_cache(maxsize=1)
    def load(cls) -> SynsetLexicon:
        """Read the lexicon once a process (a second).

        Raises:
            ConfigurationError: `pycocoevalcap` is not installed.
        """
        with zipfile.ZipFile(meteor_jar()) as jar:
            lines = jar.read("synonym/english.synsets").decode("utf-8").splitlines()
            exceptions = jar.read("synonym/english.exceptions").decode("utf-8").splitlines()
            function_words = jar.read("function/english.words").decode("utf-8").split()
        irregular: dict[str, tuple[str, ...]] = {}
        for base, forms in zip(exceptions[::2], exceptions[1::2], strict=True):
            for form in forms.split():
                irregular[form] = (*irregular.get(form, ()), base)
        synsets = {word: frozenset(names.split()) for word, names in zip(lines[::2], lines[1::2], strict=True)}
        return cls(synsets, irregular, frozenset(function_words))

    def base_forms(self, word: str) -> frozenset[str]:
        """The word itself and what it may be an inflection of."""
        bases = {word, *self.irregular.get(word, ())}
        for ending, replacement in _ENDINGS:
            if word.endswith(ending) and len(word) > len(ending) + 1:
                base = word[: -len(ending)] + replacement
                if base in self.synsets:
                    bases.add(base)
                # "running": the doubled consonant belongs to the ending.
                elif not replacement and len(base) > 2 and base[-1] == base[-2] and base[:-1] in self.synsets:
                    bases.add(base[:-1])
        return frozenset(bases)

    def meanings(self, unit: str) -> frozenset[str]:
        """What a unit is compared by: its base forms and all their synsets."""
        bases = self.base_forms(unit)
        return bases.union(*(self.synsets.get(base, frozenset()) for base in bases))

    def units(self, tokens: Sequence[str]) -> list[str]:
        """The content words of a caption; two words that are one entry ("fire hydrant") are one unit."""
        units, place = [], 0
        while place < len(tokens):
            pair = "_".join(tokens[place : place + 2])
            if place + 1 < len(tokens) and any(base in self.synsets for base in self._pair_forms(pair)):
                units.append(pair)
                place += 2
                continue
            if tokens[place] not in self.function_words:
                units.append(tokens[place])
            place += 1
        return units

    def _pair_forms(self, pair: str) -> tuple[str, ...]:
        first, second = pair.split("_", 1)
        if first in self.function_words or second in self.function_words:
            return ()
        return (pair, *(f"{first}_{base}" for base in self.base_forms(second)))


def synset_f1(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Content-word F1 of each image, against the content words of all its references together.

    Precision is the share of the caption's different content words that agree with a word of any reference; recall the
    share of the references' different content words that agree with one of the caption.

    Args:
        predictions (`Sequence[str]`): One tokenized caption an image.
        references (`Sequence[Sequence[str]]`): The tokenized references of each image.

    Returns:
        `np.ndarray` of shape `(images,)`, between 0 and 1. A caption without any content word scores 0.
    """
    lexicon = SynsetLexicon.load()
    remembered: dict[str, frozenset[str]] = {}

    def meanings(texts: Sequence[str]) -> list[frozenset[str]]:
        found = []
        for unit in dict.fromkeys(unit for text in texts for unit in lexicon.units(text.split())):
            if unit not in remembered:
                remembered[unit] = lexicon.meanings(unit)
            found.append(remembered[unit])
        return found

    scores = np.zeros(len(predictions))
    for place, (text, group) in enumerate(zip(predictions, references, strict=True)):
        own, other = meanings([text]), meanings(group)
        precise = sum(any(a & b for b in other) for a in own)
        recalled = sum(any(a & b for a in own) for b in other)
        if precise:
            precision, recall = precise / len(own), recalled / len(other)
            scores[place] = 2 * precision * recall / (precision + recall)
    return scores
