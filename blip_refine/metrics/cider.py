"""CIDEr and CIDEr-D (Vedantam, Zitnick & Parikh 2015, "CIDEr: Consensus-based Image Description Evaluation").

What the COCO evaluation prints as "CIDEr" is CIDEr-D: clipped matches and a Gaussian penalty of the length
difference. It has two peculiarities, kept here: lengths are counted in *bigrams*, and no word is stemmed.
`clipped=False` gives the plain CIDEr of the paper's equation 3, without clipping and penalty.

How rare a phrase is among the references of all images decides its weight, so that the score of one image depends on
which others are scored with it. `DocumentFrequencies` holds that knowledge fixed: a small test set can be weighed by a
large training set, and two sets by one measure.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..errors import MetricError, SourceFormatError, SourceNotFoundError
from ..jsonlines import atomic_write
from .ngrams import ORDERS, GramCounts, GramVocabulary, PredictionGrams, ReferenceIndex
from .tokenizer import TOKENIZER, tokenize_captions

SIGMA = 6.0
"""Width of the length penalty, in words."""


@dataclass(frozen=True)
class DocumentFrequencies:
    """In the references of how many images each phrase of one to four words occurs.

    Args:
        images (`int`): How many images there are.
        counts (`Mapping[str, int]`): Phrase (words joined by spaces) to images.
        tokenizer (`str`): What the captions were tokenized with.
    """

    images: int
    counts: Mapping[str, int]
    tokenizer: str = TOKENIZER

    @classmethod
    def from_references(cls, references: Mapping[str, Sequence[str]]) -> DocumentFrequencies:
        """Count over references as people wrote them: image id to captions."""
        if not references:
            raise MetricError("Document frequencies need the references of at least one image.")
        index = ReferenceIndex([tokenize_captions(group) for group in references.values()])
        counts: dict[str, int] = {}
        for order, texts in enumerate(index.gram_vocabulary.texts(index.vocabulary.words)):
            frequency = np.bincount(index.images[order].grams, minlength=len(texts))
            counts.update(zip(texts, frequency.tolist(), strict=True))
        return cls(len(references), counts)

    @cached_property
    def fingerprint(self) -> str:
        """Eight hexadecimal digits that change with any count."""
        digest = hashlib.sha256(f"{self.tokenizer} {self.images}".encode())
        for phrase in sorted(self.counts):
            digest.update(f"\n{phrase}\t{self.counts[phrase]}".encode())
        return digest.hexdigest()[:8]

    def save(self, path: str | os.PathLike) -> None:
        """Write as JSON, compressed where the name ends in `.gz`."""
        text = json.dumps(
            {"images": self.images, "tokenizer": self.tokenizer, "counts": dict(self.counts)}, ensure_ascii=False
        )
        with atomic_write(path, "wb") as file:
            # No time in the header: the same counts are the same bytes.
            file.write(gzip.compress(text.encode(), mtime=0) if str(path).endswith(".gz") else text.encode())

    @classmethod
    def load(cls, path: str | os.PathLike) -> DocumentFrequencies:
        """Read what `save` wrote.

        Raises:
            SourceNotFoundError: There is no such file.
            SourceFormatError: It holds something else, or was counted with another tokenizer.
        """
        if not Path(path).is_file():
            raise SourceNotFoundError(f"There is no file of document frequencies at {os.fspath(path)!r}.")
        data = Path(path).read_bytes()
        try:
            value = json.loads(gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data)
            found = cls(int(value["images"]), value["counts"], str(value["tokenizer"]))
            sound = found.images > 0 and all(0 < count <= found.images for count in found.counts.values())
        except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise SourceFormatError(f"{os.fspath(path)} holds no document frequencies ({error}).") from error
        if not sound:
            raise SourceFormatError(f"{os.fspath(path)} holds counts that cannot be: below 1, or above its images.")
        if found.tokenizer != TOKENIZER:
            raise SourceFormatError(
                f"{os.fspath(path)} was counted with the tokenizer {found.tokenizer!r}; this version has "
                f"{TOKENIZER!r}. Count again."
            )
        return found


class CiderWeights:
    """Inverse document frequencies of the n-grams of a `ReferenceIndex`, and the norms of its references.

    Args:
        index (`ReferenceIndex`): The references.
        frequencies (`DocumentFrequencies`, *optional*): How rare phrases are; by default counted over these
            references.
    """

    def __init__(self, index: ReferenceIndex, frequencies: DocumentFrequencies | None = None):
        self.index, self.frequencies = index, frequencies
        self.log_documents = float(np.log(float(frequencies.images if frequencies else index.n_images)))
        if frequencies:
            self.weights = self._frozen_weights(index.vocabulary.words)
        else:
            self.weights = [
                self._weights(np.bincount(images.grams, minlength=len(keys)))
                for images, keys in zip(index.images, index.gram_vocabulary.keys, strict=True)
            ]
        self.norms = [
            _norms(counts, weights, self.log_documents, len(index.image_of))
            for counts, weights in zip(index.counts, self.weights, strict=True)
        ]

    def _weights(self, frequency: np.ndarray) -> np.ndarray:
        return self.log_documents - np.log(np.maximum(1.0, frequency))

    def _frozen_weights(self, words: list[str], new: GramVocabulary | None = None) -> list[np.ndarray]:
        assert self.frequencies is not None
        count_of = self.frequencies.counts.get
        return [
            self._weights(np.array([count_of(text, 0) for text in texts], dtype=np.float64))
            for texts in self.index.gram_vocabulary.texts(words, new)
        ]

    def score(self, predictions: PredictionGrams, clipped: bool = True) -> np.ndarray:
        """CIDEr-D (or plain CIDEr) of each image, on the scale of 0 to 10: an array of shape `(images,)`."""
        index = self.index
        n_references = len(index.image_of)
        similarity = np.zeros(n_references)
        # Phrases that no reference of this set holds may still be known to frozen frequencies.
        all_weights = self.weights
        if self.frequencies:
            all_weights = self._frozen_weights(predictions.vocabulary.words, predictions.new_grams)
        for order in range(ORDERS):
            entries, images, weights = predictions.counts[order], index.images[order], self.weights[order]
            places, there = predictions.matches[order]
            places = places[there]
            # Each matched gram of a prediction meets every reference of the image that holds it.
            first = images.first[places]
            times = images.first[places + 1] - first
            ends = np.cumsum(times)
            holding = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(first - ends + times, times)
            weight: np.ndarray = np.repeat(weights[images.grams[places]], times)
            own = np.repeat(entries.counts[there], times) * weight
            other = images.held[holding] * weight
            if clipped:
                own = np.minimum(own, other)
            sums = np.bincount(images.holders[holding], weights=own * other, minlength=n_references)
            own_norms = _norms(entries, all_weights[order], self.log_documents, index.n_images)
            norms = own_norms[index.image_of] * self.norms[order]
            similarity += np.divide(sums, norms, out=np.zeros(n_references), where=norms > 0)
        if clipped:
            bigrams = np.maximum(predictions.words.lengths - 1, 0)[index.image_of]
            gap = (bigrams - np.maximum(index.words.lengths - 1, 0)).astype(np.float64)
            similarity *= np.exp(-(gap**2) / (2 * SIGMA**2))
        totals = np.bincount(index.image_of, weights=similarity, minlength=index.n_images)
        return totals / ORDERS / index.n_references * 10.0


def _norms(entries: GramCounts, weights: np.ndarray, unknown: float, n_captions: int) -> np.ndarray:
    """Length of each caption's vector of one order. A gram that is not known weighs `unknown`."""
    known = entries.grams < len(weights)
    weight: np.ndarray = np.full(len(entries.grams), unknown)
    weight[known] = weights[entries.grams[known]]
    return np.sqrt(np.bincount(entries.captions, weights=(entries.counts * weight) ** 2, minlength=n_captions))
