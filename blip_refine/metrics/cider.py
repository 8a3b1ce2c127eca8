"""CIDEr and CIDEr-D (Vedantam, Zitnick & Parikh 2015).

What the COCO evaluation prints as "CIDEr" is CIDEr-D: clipped matches and a Gaussian penalty of the length difference.
It has two peculiarities, kept here: lengths are counted in *bigrams*, and no word is stemmed. `clipped=False` gives the
plain CIDEr of the paper's equation, without clipping and penalty.
"""

from __future__ import annotations

import numpy as np

from .ngrams import ORDERS, GramCounts, PredictionGrams, ReferenceIndex

SIGMA = 6.0
"""Width of the length penalty, in words."""


class CiderWeights:
    """Inverse document frequencies of the n-grams of a `ReferenceIndex`, and the norms of its references.

    Args:
        index (`ReferenceIndex`): The references.
    """

    def __init__(self, index: ReferenceIndex):
        self.index = index
        self.log_documents = float(np.log(float(index.n_images)))
        self.weights, self.norms = [], []
        for order in range(ORDERS):
            known = len(index.gram_vocabulary.keys[order])
            frequency = np.bincount(index.images[order].grams, minlength=known)
            weights = self.log_documents - np.log(np.maximum(1.0, frequency))
            self.weights.append(weights)
            self.norms.append(_norms(index.counts[order], weights, self.log_documents, len(index.image_of)))

    def score(self, predictions: PredictionGrams, clipped: bool = True) -> np.ndarray:
        """CIDEr-D (or plain CIDEr) of each image, on the scale of 0 to 10: an array of shape `(images,)`."""
        index = self.index
        n_references = len(index.image_of)
        similarity = np.zeros(n_references)
        for order in range(ORDERS):
            entries, images, weights = predictions.counts[order], index.images[order], self.weights[order]
            places, there = predictions.matches[order]
            places = places[there]
            # Each matched gram of a prediction meets every reference of the image that holds it.
            times = images.first[places + 1] - images.first[places]
            ends = np.cumsum(times)
            holding = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(
                images.first[places] - ends + times, times
            )
            weight = np.repeat(weights[images.grams[places]], times)
            own = np.repeat(entries.counts[there], times) * weight
            other = images.held[holding] * weight
            if clipped:
                own = np.minimum(own, other)
            sums = np.bincount(images.holders[holding], weights=own * other, minlength=n_references)
            norms = _norms(entries, weights, self.log_documents, index.n_images)[index.image_of] * self.norms[order]
            similarity += np.divide(sums, norms, out=np.zeros(n_references), where=norms > 0)
        if clipped:
            bigrams = np.maximum(predictions.words.lengths - 1, 0)[index.image_of]
            gap = (bigrams - np.maximum(index.words.lengths - 1, 0)).astype(np.float64)
            similarity *= np.exp(-(gap**2) / (2 * SIGMA**2))
        totals = np.bincount(index.image_of, weights=similarity, minlength=index.n_images)
        return totals / ORDERS / index.n_references * 10.0


def _norms(entries: GramCounts, weights: np.ndarray, unknown: float, n_captions: int) -> np.ndarray:
    """Length of each caption's vector of one order. A gram that no reference holds weighs `unknown`."""
    known = entries.grams < len(weights)
    weight = np.full(len(entries.grams), unknown)
    weight[known] = weights[entries.grams[known]]
    return np.sqrt(np.bincount(entries.captions, weights=(entries.counts * weight) ** 2, minlength=n_captions))
