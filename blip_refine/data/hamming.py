"""Pairs of perceptual hashes that are close, without comparing every image with every other.

Two hashes of 256 bits that differ in at most `MAX_BIT_DISTANCE` places agree on at least one of `MAX_BIT_DISTANCE + 1`
bands of bits (the pigeonhole principle), so only images that share a band are compared. Nothing is missed by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

HASH_SIZE = 16
"""Rows and columns of frequencies in a hash."""

COLOR_GRID = 4
"""Rows and columns of the grid of mean colours."""

MAX_BIT_DISTANCE = 20
"""Of 256 bits. Copies of a photo that were re-encoded (quality 20 up), resized or brightened by a tenth differ in at
most 18; among 7,500 photos the closest two that are not copies differ in 68, among 4,400 drawn scenes in 24."""

MAX_COLOR_DISTANCE = 64
"""Largest difference (0 to 255) of a colour of the grid: a plain red picture is no copy of a plain blue one."""

_BITS = HASH_SIZE * HASH_SIZE
_HASH_BYTES = _BITS // 8
_BANDS = MAX_BIT_DISTANCE + 1
_BLOCK = 2_000_000  # pairs compared at a time: 64 MB


def near_pairs(first: Sequence[str | None], second: Sequence[str | None] | None = None) -> Iterator[tuple[int, int]]:
    """Pairs of close hashes.

    Args:
        first (`Sequence[str]`): Perceptual hashes in hex, as of `duplicates.perceptual_hash`; `None` is close to none.
        second (`Sequence[str]`, *optional*): Others; by default pairs within the first are looked for, the smaller
            place first. Of equal hashes only enough pairs are named to join them.

    Yields:
        `tuple[int, int]`: A place in `first` and one in `second`; a pair may come more than once.
    """
    within = second is None
    places, words, colors = _unpack(first)
    if within:
        # A thousand equal pictures are joined by a chain; one of them stands for all in the comparison.
        yield from _chains(first)
        unique = _first_of_equals(first, places)
        places, words, colors = places[unique], words[unique], colors[unique]
        other_places, other_words, other_colors = places, words, colors
    else:
        other_places, other_words, other_colors = _unpack(second or ())
    if not len(places) or not len(other_places):
        return
    keys, other_keys = _band_keys(words), _band_keys(other_words)
    for band in range(_BANDS):
        for rows, columns in _equal_blocks(keys[:, band], other_keys[:, band], within):
            for row, column in _close(words, colors, rows, other_words, other_colors, columns):
                if not within:
                    yield int(places[row]), int(other_places[column])
                elif row != column:
                    one, other = int(places[row]), int(places[column])
                    yield (one, other) if one < other else (other, one)


class NearIndex:
    """Perceptual hashes to look one up in, for pictures that come one at a time.

    Args:
        hashes (`Sequence[str]`): In hex; `None` is close to none.
    """

    def __init__(self, hashes: Sequence[str | None]):
        _, self._words, self._colors = _unpack(hashes)

    def has_near(self, text: str | None) -> bool:
        """Whether one of the hashes is close to this one."""
        if not text or not len(self._words):
            return False
        _, words, colors = _unpack([text])
        every, one = np.arange(len(self._words)), np.arange(1)
        return next(_close(words, colors, one, self._words, self._colors, every), None) is not None


def _unpack(hashes: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Places of the hashes that are there; their bits as four 64-bit words; their colours."""
    places = np.array([place for place, text in enumerate(hashes) if text], dtype=np.int64)
    raw = b"".join(bytes.fromhex(text) for text in hashes if text)
    table = np.frombuffer(raw, dtype=np.uint8).reshape(len(places), _HASH_BYTES + 3 * COLOR_GRID * COLOR_GRID)
    words = np.ascontiguousarray(table[:, :_HASH_BYTES]).view(np.uint64)
    return places, words, table[:, _HASH_BYTES:].astype(np.int16)


def _chains(hashes: Sequence[str | None]) -> Iterator[tuple[int, int]]:
    last: dict[str, int] = {}
    for place, text in enumerate(hashes):
        if text:
            if text in last:
                yield last[text], place
            last[text] = place


def _first_of_equals(hashes: Sequence[str | None], places: np.ndarray) -> np.ndarray:
    seen: set[str | None] = set()
    kept: list[int] = []
    for row, place in enumerate(places):
        if hashes[place] not in seen:
            seen.add(hashes[place])
            kept.append(row)
    return np.array(kept, dtype=np.int64)


def _band_keys(words: np.ndarray) -> np.ndarray:
    """One number for each band of bits, shape `(images, bands)`. The last band takes the bits that are left over."""
    bits = np.unpackbits(words.view(np.uint8), axis=1)
    edges = [band * _BITS // _BANDS for band in range(_BANDS + 1)]
    keys: np.ndarray = np.empty((len(words), _BANDS), dtype=np.int64)
    for band in range(_BANDS):
        part = bits[:, edges[band] : edges[band + 1]]
        keys[:, band] = part @ (1 << np.arange(part.shape[1], dtype=np.int64))
    return keys


def _equal_blocks(keys: np.ndarray, others: np.ndarray, within: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows of both sides with the same key, in blocks of bounded size."""
    order = np.argsort(keys, kind="stable")
    other_order = order if within else np.argsort(others, kind="stable")
    values, starts, counts = np.unique(keys[order], return_index=True, return_counts=True)
    lows = np.searchsorted(others[other_order], values, side="left")
    highs = np.searchsorted(others[other_order], values, side="right")
    for start, count, low, high in np.stack([starts, counts, lows, highs], axis=1).tolist():
        if high == low or (within and count < 2):
            continue
        columns = other_order[low:high]
        step = max(1, _BLOCK // len(columns))
        for place in range(start, start + count, step):
            yield order[place : min(place + step, start + count)], columns


def _close(
    words: np.ndarray,
    colors: np.ndarray,
    rows: np.ndarray,
    other_words: np.ndarray,
    other_colors: np.ndarray,
    columns: np.ndarray,
) -> Iterator[tuple[int, int]]:
    distance = _ones(words[rows][:, None, :] ^ other_words[columns][None, :, :])
    for row, column in zip(*np.nonzero(distance <= MAX_BIT_DISTANCE), strict=True):
        difference = np.abs(colors[rows[row]] - other_colors[columns[column]])
        if difference.max() <= MAX_COLOR_DISTANCE:
            yield int(rows[row]), int(columns[column])


def _ones(words: np.ndarray) -> np.ndarray:
    """How many bits are set, summed over the last axis."""
    if hasattr(np, "bitwise_count"):
        return np.bitwise_count(words).sum(axis=-1, dtype=np.int64)
    # NumPy 1 has no such function: add neighbouring bits, then pairs, then nibbles (Warren: Hacker's Delight, 5-1).
    words = words - ((words >> np.uint64(1)) & np.uint64(0x5555555555555555))
    words = (words & np.uint64(0x3333333333333333)) + ((words >> np.uint64(2)) & np.uint64(0x3333333333333333))
    words = (words + (words >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((words * np.uint64(0x0101010101010101)) >> np.uint64(56)).sum(axis=-1).astype(np.int64)
