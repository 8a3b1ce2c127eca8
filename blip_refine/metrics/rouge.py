"""ROUGE-L as the COCO caption evaluation computes it."""

from __future__ import annotations

import numpy as np

from .ngrams import PredictionGrams, ReferenceIndex, Words, find

BETA = 1.2
_WIDTH = 64


def rouge_l(index: ReferenceIndex, predictions: PredictionGrams) -> np.ndarray:
    """ROUGE-L of each image (Lin 2004), with the best precision and the best recall over its references.

    `(1 + b^2) P R / (R + b^2 P)` with b = 1.2; P and R may come from different references, as COCO has it.

    Returns:
        `np.ndarray` of shape `(images,)`.
    """
    common = common_subsequences(predictions.spaced_words, index.spaced_words, index.image_of)
    first = np.concatenate([[0], np.cumsum(index.n_references)[:-1]])
    precision = np.maximum.reduceat(common / predictions.spaced_words.lengths[index.image_of], first)
    recall = np.maximum.reduceat(common / index.spaced_words.lengths, first)
    both = (precision > 0) & (recall > 0)
    scores = np.zeros(index.n_images)
    p, r = precision[both], recall[both]
    scores[both] = (1 + BETA**2) * p * r / (r + BETA**2 * p)
    return scores


def common_subsequences(predictions: Words, references: Words, image_of: np.ndarray) -> np.ndarray:
    """Length of the longest common subsequence of each reference with the prediction of its image.

    Bit-parallel (Hyyro 2004), 64 words of a prediction in one machine word, all references at once; longer predictions
    go through Python's integers one by one.

    Args:
        predictions (`Words`): One caption an image.
        references (`Words`): All references.
        image_of (`np.ndarray` of shape `(references,)`): The image of each reference.
    """
    common: np.ndarray = np.zeros(len(image_of), dtype=np.int64)
    lengths = predictions.lengths
    keys, masks = _masks(predictions)
    reference = references.captions
    places, there = find(keys, (image_of[reference] << 32) | references.numbers)
    there &= (lengths <= _WIDTH)[image_of[reference]]
    # Words that the prediction does not hold change nothing: only the others are walked over.
    reference, steps = reference[there], masks[places[there]]
    counts = np.bincount(reference, minlength=len(image_of))
    step_of = np.arange(len(reference)) - np.repeat(np.cumsum(counts) - counts, counts)
    state = np.full(len(image_of), ~np.uint64(0))
    by_step = np.argsort(step_of, kind="stable")
    ends = np.cumsum(np.bincount(step_of)) if len(step_of) else np.zeros(0, dtype=np.int64)
    begin = 0
    for end in ends:
        chosen = by_step[begin:end]
        rows, mask = reference[chosen], steps[chosen]
        old = state[rows]
        update = old & mask
        state[rows] = (old + update) | (old - update)
        begin = end
    if len(image_of):
        common = np.unpackbits((~state).view(np.uint8)).reshape(len(image_of), _WIDTH).sum(axis=1, dtype=np.int64)
    for row in np.flatnonzero((lengths > _WIDTH)[image_of]):
        image = image_of[row]
        common[row] = _long_common_subsequence(
            predictions.numbers[predictions.starts[image] : predictions.starts[image + 1]].tolist(),
            references.numbers[references.starts[row] : references.starts[row + 1]].tolist(),
        )
    return common


def _masks(predictions: Words) -> tuple[np.ndarray, np.ndarray]:
    """For every (image, word) of the predictions, the positions of the word as bits."""
    captions = predictions.captions
    offsets = np.arange(len(predictions.numbers)) - np.repeat(predictions.starts[:-1], predictions.lengths)
    keys, inverse = np.unique((captions << 32) | predictions.numbers, return_inverse=True)
    masks: np.ndarray = np.zeros(len(keys), dtype=np.uint64)
    inside = offsets < _WIDTH
    bits = np.left_shift(np.uint64(1), offsets[inside].astype(np.uint64))
    np.bitwise_or.at(masks, inverse.reshape(-1)[inside], bits)
    return keys, masks


def _long_common_subsequence(prediction: list[int], reference: list[int]) -> int:
    masks: dict[int, int] = {}
    for place, word in enumerate(prediction):
        masks[word] = masks.get(word, 0) | 1 << place
    full = (1 << len(prediction)) - 1
    state = full
    for word in reference:
        update = state & masks.get(word, 0)
        state = ((state + update) | (state - update)) & full
    return len(prediction) - bin(state).count("1")
