"""How varied captions are, and whether they repeat themselves.

None of these is a score of quality: a captioner that says "a man" of every photo has a low diversity and may be right.
Distinct-n and the vocabulary get no bootstrap interval: a resample draws images twice and is less varied by
construction, so that its spread says nothing about that of the captions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import MetricError
from .bleu import aggregate_bleu, bleu_rows
from .ngrams import ORDERS, ReferenceIndex
from .statistics import MetricStatistics
from .tokenizer import tokenize, tokenize_captions

LONGEST_PHRASE = 4
"""Words in the longest phrase whose immediate repetition counts as a fault."""


@dataclass(frozen=True)
class Diversity:
    """How varied the captions of many images are.

    Args:
        captions (`int`): How many captions there are.
        distinct_1 (`float`): Different words per word (Li et al. 2016).
        distinct_2 (`float`): Different word pairs per word pair.
        vocabulary (`int`): Different words.
        unique_captions (`float`): Share of captions that are said of one image only.
        mean_length (`float`): Words per caption.
        repetition_rate (`float`): Share of captions that repeat themselves; see [`repeats_itself`].
        novel_captions (`float`, *optional*): Share of captions that are not among the training captions (Shetty et al.
            2017); `None` if these are not known.
    """

    captions: int
    distinct_1: float
    distinct_2: float
    vocabulary: int
    unique_captions: float
    mean_length: float
    repetition_rate: float
    novel_captions: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without what is not known."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def repeats_itself(words: Sequence[str]) -> bool:
    """Whether a caption says a phrase of one to four words twice in a row, or any three words in a row twice.

    "a dog a dog runs" and "a man in a hat and a man in a hat" do; "a man and a woman" does not. A single word said
    twice counts too ("very very"), which captioners say more often than people do.
    """
    for length in range(1, LONGEST_PHRASE + 1):
        for start in range(len(words) - 2 * length + 1):
            if words[start : start + length] == words[start + length : start + 2 * length]:
                return True
    triples = list(zip(words, words[1:], words[2:], strict=False))
    return len(set(triples)) < len(triples)


def caption_diversity(predictions: Mapping[str, str], *, training_captions: Iterable[str] | None = None) -> Diversity:
    """Diversity and repetition over the captions of a set of images.

    Args:
        predictions (`Mapping[str, str]`): Image id to caption.
        training_captions (`Iterable[str]`, *optional*): What the captioner was trained on, for `novel_captions`.

    Raises:
        MetricError: There are no captions.
    """
    if not predictions:
        raise MetricError("There are no captions to measure the diversity of.")
    tokenized = tokenize_captions(predictions.values())
    sentences = [text.split() for text in tokenized]
    words = [word for sentence in sentences for word in sentence]
    pairs = [pair for sentence in sentences for pair in zip(sentence, sentence[1:], strict=False)]
    times: dict[str, int] = {}
    for text in tokenized:
        times[text] = times.get(text, 0) + 1
    known = None if training_captions is None else set(tokenize_captions(training_captions))
    return Diversity(
        captions=len(sentences),
        distinct_1=len(set(words)) / max(len(words), 1),
        distinct_2=len(set(pairs)) / max(len(pairs), 1),
        vocabulary=len(set(words)),
        unique_captions=sum(count == 1 for count in times.values()) / len(sentences),
        mean_length=len(words) / len(sentences),
        repetition_rate=sum(map(repeats_itself, sentences)) / len(sentences),
        novel_captions=None if known is None else sum(text not in known for text in tokenized) / len(tokenized),
    )


def repetition_statistics(predictions: Mapping[str, str]) -> dict[str, MetricStatistics]:
    """`repetition_rate` and `mean_length` per image, for intervals and paired tests."""
    sentences = [tokenize(text).split() for text in predictions.values()]
    ids = tuple(predictions)
    repeated = np.array([repeats_itself(sentence) for sentence in sentences], dtype=np.float64)
    lengths = np.array([len(sentence) for sentence in sentences], dtype=np.float64)
    return {
        "repetition_rate": MetricStatistics.from_mean("repetition_rate", ids, repeated),
        "mean_length": MetricStatistics.from_mean("mean_length", ids, lengths),
    }


@dataclass(frozen=True)
class SetDiversity:
    """How much the several captions of one image differ from each other.

    Args:
        self_bleu (`float`): Mean over captions of their BLEU-4 against the other captions of their image (Zhu et al.
            2018). 1 where all are the same; lower is more varied.
        mbleu (`dict[str, float]`): mBLEU: the same as one corpus BLEU of 1 to 4 words (Shetty et al. 2017, "Speaking
            the same language"; Wang & Chan 2019, "Describing like humans").
        distinct_1 (`float`): Div-1 of the same papers: different words per word within the captions of an image,
            averaged over images.
        distinct_2 (`float`): Div-2: the same of word pairs.
        statistics (`dict[str, MetricStatistics]`): `self_bleu` per image, for resampling.
    """

    self_bleu: float
    mbleu: dict[str, float]
    distinct_1: float
    distinct_2: float
    statistics: dict[str, MetricStatistics]

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "self_bleu": self.self_bleu,
            **{f"mBLEU_{name}": value for name, value in self.mbleu.items()},
            "div_1": self.distinct_1,
            "div_2": self.distinct_2,
        }


def caption_set_diversity(candidates: Mapping[str, Sequence[str]]) -> SetDiversity:
    """Diversity within the several captions that a captioner gives each image.

    Args:
        candidates (`Mapping[str, Sequence[str]]`): Image id to its captions, at least two.

    Raises:
        MetricError: An image has fewer than two captions.
    """
    few = [image_id for image_id, group in candidates.items() if isinstance(group, str) or len(group) < 2]
    if few or not candidates:
        shown = f": {len(few)} have fewer ({', '.join(map(repr, few[:3]))})" if few else ""
        raise MetricError(f"Diversity within an image needs at least two captions of each{shown}.")
    groups = [tokenize_captions(group) for group in candidates.values()]
    texts = [text for group in groups for text in group]
    others = [group[:place] + group[place + 1 :] for group in groups for place in range(len(group))]
    index = ReferenceIndex(others)
    rows = bleu_rows(index, index.read(texts))
    sizes = np.array([len(group) for group in groups])
    image_of: np.ndarray = np.repeat(np.arange(len(groups)), sizes)
    single = aggregate_bleu(rows, ORDERS)
    per_image = np.bincount(image_of, weights=single) / sizes
    distinct: list[list[float]] = [[], []]
    for group in groups:
        sentences = [text.split() for text in group]
        for order in (0, 1):
            grams = [gram for s in sentences for gram in (zip(s, s[1:], strict=False) if order else s)]
            distinct[order].append(len(set(grams)) / max(len(grams), 1))
    return SetDiversity(
        self_bleu=float(single.mean()),
        mbleu={str(order): float(aggregate_bleu(rows.sum(axis=0), order)) for order in range(1, ORDERS + 1)},
        distinct_1=float(np.mean(distinct[0])),
        distinct_2=float(np.mean(distinct[1])),
        statistics={"self_bleu": MetricStatistics.from_mean("self_bleu", tuple(candidates), per_image)},
    )
