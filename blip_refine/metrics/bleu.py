"""BLEU-1 to 4 as the COCO caption evaluation computes them."""

from __future__ import annotations

import numpy as np

from .ngrams import ORDERS, PredictionGrams, ReferenceIndex

_SMALL, _TINY = 1e-9, 1e-15
"""Added to denominators and numerators, as COCO's scorer does: a score without a match is near zero, never 0 / 0."""


def bleu_rows(index: ReferenceIndex, predictions: PredictionGrams) -> np.ndarray:
    """Statistics of each image: length, closest reference length, matches of 1..4 words, guesses of 1..4 words.

    Returns:
        `np.ndarray` of shape `(images, 10)`.
    """
    lengths = predictions.words.lengths
    rows = np.zeros((index.n_images, 2 + 2 * ORDERS))
    rows[:, 0] = lengths
    rows[:, 1] = _closest_lengths(index, lengths)
    for order in range(ORDERS):
        entries, images = predictions.counts[order], index.images[order]
        places, there = predictions.matches[order]
        clipped = np.minimum(entries.counts[there], images.most[places[there]])
        rows[:, 2 + order] = np.bincount(entries.captions[there], weights=clipped, minlength=index.n_images)
        rows[:, 2 + ORDERS + order] = np.maximum(lengths - order, 0)
    return rows


def _closest_lengths(index: ReferenceIndex, lengths: np.ndarray) -> np.ndarray:
    """The reference length closest to each prediction's; of two equally close ones the shorter."""
    reference_lengths = index.words.lengths
    distance = np.abs(reference_lengths - lengths[index.image_of])
    first = np.concatenate([[0], np.cumsum(index.n_references)[:-1]])
    closest = np.minimum.reduceat((distance << 32) | reference_lengths, first)
    return closest & ((1 << 32) - 1)


def aggregate_bleu(sums: np.ndarray, order: int) -> np.ndarray:
    """BLEU of `order` words from summed statistics (Papineni et al. 2002; one brevity penalty over all captions).

    Args:
        sums (`np.ndarray` of shape `(..., 10)`): Sums of `bleu_rows`.
        order (`int`): 1 to 4.
    """
    matches, guesses = sums[..., 2 : 2 + order], sums[..., 2 + ORDERS : 2 + ORDERS + order]
    precision = np.prod((matches + _TINY) / (guesses + _SMALL), axis=-1) ** (1.0 / order)
    ratio = (sums[..., 0] + _TINY) / (sums[..., 1] + _SMALL)
    return precision * np.exp(np.minimum(0.0, 1.0 - 1.0 / ratio))
