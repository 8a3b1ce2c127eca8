"""N-grams of many captions at once: words become numbers, and counting becomes sorting.

`ReferenceIndex` is what is kept of the references. It is built once, serves BLEU, ROUGE-L and CIDEr, and scores any
number of systems: an evaluation during training pays for the references once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ORDERS = 4
"""BLEU and CIDEr count n-grams of 1 to 4 words."""
_SHIFT = 32
"""A gram is named by (the number of its beginning) << 32 | (the number of its last word)."""


class Vocabulary(dict):
    """From a word to its number; a word that is not known yet gets the next one."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number

    @property
    def words(self) -> list[str]:
        """All words, each at its number."""
        return list(self)


@dataclass(frozen=True)
class Words:
    """Captions as one long array of word numbers: caption `i` is `numbers[starts[i]:starts[i + 1]]`."""

    numbers: np.ndarray
    starts: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.starts)

    @property
    def captions(self) -> np.ndarray:
        """The caption that each word belongs to."""
        return np.repeat(np.arange(len(self.starts) - 1), self.lengths)


def encode(texts: Sequence[str], vocabulary: Vocabulary, separator: str | None = None) -> Words:
    """Tokenized captions as word numbers. `separator` is what `str.split` splits at."""
    number_of = vocabulary.__getitem__
    numbered = [list(map(number_of, text.split(separator))) for text in texts]
    starts: np.ndarray = np.zeros(len(texts) + 1, dtype=np.int64)
    np.cumsum([len(numbers) for numbers in numbered], out=starts[1:])
    flat = np.fromiter((number for numbers in numbered for number in numbers), dtype=np.int64, count=int(starts[-1]))
    return Words(flat, starts)


def find(sorted_keys: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where `keys` stand in `sorted_keys`: positions (any, where absent) and whether each is there."""
    if not len(sorted_keys):
        return np.zeros(len(keys), dtype=np.int64), np.zeros(len(keys), dtype=bool)
    positions = np.asarray(np.searchsorted(sorted_keys, keys))
    positions[positions == len(sorted_keys)] = 0
    return positions, sorted_keys[positions] == keys


@dataclass(frozen=True)
class GramCounts:
    """How often each n-gram of one order occurs in each caption: entries sorted by caption, then gram."""

    captions: np.ndarray
    grams: np.ndarray
    counts: np.ndarray


def count_grams(captions: np.ndarray, grams: np.ndarray) -> GramCounts:
    """Entries from the gram at each position and the caption it is in."""
    keys, counts = np.unique((captions << _SHIFT) | grams, return_counts=True)
    return GramCounts(keys >> _SHIFT, keys & ((1 << _SHIFT) - 1), counts)


@dataclass(frozen=True)
class GramVocabulary:
    """All n-grams of the references, of every order: `keys[n - 1]` sorted, a gram's number is its place there."""

    keys: tuple[np.ndarray, ...]

    @classmethod
    def learn(cls, words: Words, orders: int = ORDERS) -> tuple[GramVocabulary, list[tuple[np.ndarray, np.ndarray]]]:
        """The vocabulary of `words`, and for each order the caption and the gram at every position."""
        captions, all_keys, positions = words.captions, [], []
        grams: np.ndarray = np.zeros(len(words.numbers), dtype=np.int64)
        for order in range(orders):
            grams, captions, keys = _extend(grams, captions, words, order)
            unique, numbers = np.unique(keys, return_inverse=True)
            grams = numbers.reshape(-1)
            all_keys.append(unique)
            positions.append((captions, grams))
        return cls(tuple(all_keys)), positions

    def read(self, words: Words) -> tuple[list[tuple[np.ndarray, np.ndarray]], GramVocabulary]:
        """The caption and the gram at every position of `words`, for each order.

        Grams that are not known get numbers above the known ones; their keys are returned as a vocabulary of its own.
        """
        captions, positions, new_keys = words.captions, [], []
        grams: np.ndarray = np.zeros(len(words.numbers), dtype=np.int64)
        for order, known in enumerate(self.keys):
            grams, captions, keys = _extend(grams, captions, words, order)
            places, there = find(known, keys)
            new, numbers = np.unique(keys[~there], return_inverse=True)
            grams = places
            grams[~there] = len(known) + numbers.reshape(-1)
            positions.append((captions, grams))
            new_keys.append(new)
        return positions, GramVocabulary(tuple(new_keys))

    def texts(self, words: Sequence[str], new: GramVocabulary | None = None) -> list[list[str]]:
        """The grams of each order as text, words joined by spaces; those of `new` after the known ones."""
        texts: list[list[str]] = []
        for order, known in enumerate(self.keys):
            keys = np.concatenate([known, new.keys[order]]) if new else known
            beginnings, lasts = (keys >> _SHIFT).tolist(), (keys & ((1 << _SHIFT) - 1)).tolist()
            if order:
                shorter = texts[-1]
                texts.append([f"{shorter[b]} {words[w]}" for b, w in zip(beginnings, lasts, strict=True)])
            else:
                texts.append([words[w] for w in lasts])
        return texts


def _extend(
    grams: np.ndarray, captions: np.ndarray, words: Words, order: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """From grams of `order` words at each position to the keys of those of one word more."""
    if order:
        # A position can be extended where the next position of the shorter gram is in the same caption.
        inside = np.flatnonzero(captions[:-1] == captions[1:])
        place = _places(words, order)
        grams, captions = grams[inside], captions[inside]
        return grams, captions, (grams << _SHIFT) | words.numbers[place]
    return grams, captions, words.numbers.copy()


def _places(words: Words, order: int) -> np.ndarray:
    """Positions of the last words of all grams of `order + 1` words."""
    offsets = np.arange(len(words.numbers)) - np.repeat(words.starts[:-1], words.lengths)
    return np.flatnonzero(offsets >= order)


@dataclass(frozen=True)
class ImageGrams:
    """The grams of one order of all references of each image: entries sorted by image, then gram.

    Entry `e` is held by the references `holders[first[e]:first[e + 1]]`, `held` times each.
    """

    keys: np.ndarray
    grams: np.ndarray
    most: np.ndarray
    first: np.ndarray
    holders: np.ndarray
    held: np.ndarray


class ReferenceIndex:
    """What BLEU, ROUGE-L and CIDEr need of the references, computed once.

    Args:
        references (`Sequence[Sequence[str]]`): The tokenized references of each image, as `tokenize` returns them.
    """

    def __init__(self, references: Sequence[Sequence[str]]):
        self.n_images = len(references)
        self.n_references = np.array([len(texts) for texts in references], dtype=np.int64)
        self.image_of: np.ndarray = np.repeat(np.arange(self.n_images), self.n_references)
        texts = [text for group in references for text in group]
        self.vocabulary = Vocabulary()
        self.words = encode(texts, self.vocabulary)
        # COCO's ROUGE-L splits at spaces alone and its BLEU and CIDEr at any white space, which differ for the
        # no-break space inside of "22 3/4"; and an empty caption is one empty word to the former.
        self.spaced_words = encode(texts, self.vocabulary, " ")
        self.gram_vocabulary, positions = GramVocabulary.learn(self.words)
        self.counts = [count_grams(captions, grams) for captions, grams in positions]
        self.images = [self._by_image(counts) for counts in self.counts]

    def _by_image(self, entries: GramCounts) -> ImageGrams:
        keys = (self.image_of[entries.captions] << _SHIFT) | entries.grams
        order = np.argsort(keys, kind="stable")
        unique, first = np.unique(keys[order], return_index=True)
        held = entries.counts[order]
        most = np.maximum.reduceat(held, first) if len(first) else held
        return ImageGrams(
            keys=unique,
            grams=unique & ((1 << _SHIFT) - 1),
            most=most,
            first=np.append(first, len(held)),
            holders=entries.captions[order],
            held=held,
        )

    def read(self, predictions: Sequence[str]) -> PredictionGrams:
        """The tokenized predictions, one an image in the order of the references, as grams of this index."""
        if len(predictions) != self.n_images:
            raise ValueError(f"{len(predictions)} predictions for the references of {self.n_images} images")
        vocabulary = _Overlay(self.vocabulary)
        words = encode(predictions, vocabulary)
        spaced = encode(predictions, vocabulary, " ")
        positions, new_grams = self.gram_vocabulary.read(words)
        counts = [count_grams(captions, grams) for captions, grams in positions]
        matches = []
        for entries, images in zip(counts, self.images, strict=True):
            matches.append(find(images.keys, (entries.captions << _SHIFT) | entries.grams))
        return PredictionGrams(words, spaced, counts, matches, new_grams, vocabulary)


class _Overlay(Vocabulary):
    """Word numbers of the references, and new ones for words that only predictions hold; the references' stay."""

    def __init__(self, known: Vocabulary):
        self.known, self.size = known, len(known)

    def __missing__(self, word: str) -> int:
        number = self.known.get(word)
        if number is None:
            number, self.size = self.size, self.size + 1
        self[word] = number
        return number

    @property
    def words(self) -> list[str]:
        words = self.known.words + [""] * (self.size - len(self.known))
        for word, number in self.items():
            words[number] = word
        return words


@dataclass(frozen=True)
class PredictionGrams:
    """One system's predictions as grams of a `ReferenceIndex`. `matches[n - 1]` finds each entry among the image's."""

    words: Words
    spaced_words: Words
    counts: list[GramCounts]
    matches: list[tuple[np.ndarray, np.ndarray]]
    new_grams: GramVocabulary
    vocabulary: Vocabulary
