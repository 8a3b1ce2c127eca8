"""The refiner that chooses: of several captions of one image, the one that agrees best with all the others.

Minimum-Bayes-risk decoding (Kumar & Byrne 2004): if the candidates are samples of what the captioner believes, the one
with the highest mean similarity to them has the highest expected score. The similarity is the metric itself, CIDEr-D
and ROUGE-L as this library computes them. No language model, and no word that the captioner did not write.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import ConfigurationError, RefinerError
from ..metrics.cider import CiderWeights
from ..metrics.ngrams import ReferenceIndex
from ..metrics.rouge import rouge_l
from ..metrics.tokenizer import tokenize_captions
from ..records import RefineRequest
from .base import Proposal, Refiner

UTILITIES = ("cider", "rouge", "both")

Likelihood = Callable[[RefineRequest, Sequence[str]], Sequence[float]]
"""Mean token log-probability of each caption, given the request's image: what a captioner's scorer computes."""


class ConsensusRefiner(Refiner):
    """Chooses the candidate with the highest mean similarity to all candidates; the draft wins ties.

    Args:
        utility (`str`, defaults to `"both"`): `"cider"`, `"rouge"`, or the mean of CIDEr-D / 10 and ROUGE-L.
        corpus (`Sequence[str]`, *optional*): Captions of other images (the training captions), one each, from which
            CIDEr learns which words are common. Without it, it learns that from the images of the batch alone, so
            that the choice depends a little on what else is in the batch. For a batch of one image without a corpus,
            CIDEr knows nothing, and ROUGE-L decides.
        likelihood (`Callable`, *optional*): From a request and captions to the captioner's mean token log-probability
            of each. Without it, those that the request itself holds (`confidence` and `candidate_confidences`) are
            used, where it holds all of them.
        likelihood_weight (`float`, defaults to 0.3): How much one nat of it counts against a similarity of 0 to 1.
        max_words (`int`, *optional*): Candidates that are longer are not chosen, unless all are.
    """

    name = "consensus"
    asks_again = False
    needs_candidates = 5

    def __init__(
        self,
        *,
        utility: str = "both",
        corpus: Sequence[str] | None = None,
        likelihood: Likelihood | None = None,
        likelihood_weight: float = 0.3,
        max_words: int | None = None,
    ):
        super().__init__()
        if utility not in UTILITIES:
            raise ConfigurationError(f"`utility` must be one of {', '.join(UTILITIES)}, not {utility!r}.")
        if isinstance(corpus, str):
            raise ConfigurationError("`corpus` is a list of captions, not one string.")
        self.utility, self.max_words = utility, max_words
        self.likelihood, self.likelihood_weight = likelihood, likelihood_weight
        self.corpus = [text for text in tokenize_captions(corpus or ()) if text]

    def settings(self) -> dict[str, Any]:
        return {
            "utility": self.utility,
            "max_words": self.max_words,
            "corpus": len(self.corpus),
            "likelihood_weight": self.likelihood_weight,
        }

    def propose(self, requests: Sequence[RefineRequest], feedback: Sequence[str | None]) -> list[Proposal]:
        started = time.perf_counter()
        pools = [candidates_of(request) for request in requests]
        similarities = self._similarities(pools)
        proposals = []
        for request, pool, similarity in zip(requests, pools, similarities, strict=True):
            if len(pool) == 1:
                proposals.append(Proposal(pool[0], raw=pool[0], reason="the only candidate"))
                continue
            score = similarity + self._prior(request, pool)
            if self.max_words is not None:
                fits = np.array([len(text.split()) <= self.max_words for text in pool])
                score = np.where(fits | ~fits.any(), score, -np.inf)
            # Sums in another order differ in the last bit: equal candidates must tie, and then the first one wins.
            best = int(np.flatnonzero(score >= score.max() - 1e-12)[0])
            reason = f"candidate {best + 1} of {len(pool)}: mean similarity {similarity[best]:.3f}"
            if best:
                reason += f", the draft's {similarity[0]:.3f}"
            proposals.append(Proposal(pool[best], raw=pool[best], reason=reason))
        latency = (time.perf_counter() - started) / max(1, len(requests))
        return [replace(proposal, latency=latency) for proposal in proposals]

    def _similarities(self, pools: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each pool, the mean similarity (0 to 1) of each candidate to the others."""
        # A candidate without a word agrees with nothing; the index wants at least one word in each.
        tokenized = [[text or "<empty>" for text in tokenize_captions(pool)] for pool in pools]
        parts = []
        if self.utility != "rouge" and len(tokenized) + len(self.corpus) > 1:
            parts.append(_cider(tokenized, self.corpus))
        if self.utility != "cider" or not parts:
            parts.append(_rouge(tokenized))
        return [np.mean(scores, axis=0) for scores in zip(*parts, strict=True)]

    def _prior(self, request: RefineRequest, pool: Sequence[str]) -> np.ndarray:
        if self.likelihood is None:
            known = _known_likelihoods(request)
            return np.zeros(len(pool)) if known is None else self.likelihood_weight * known
        values = np.asarray(self.likelihood(request, pool), dtype=np.float64)
        if values.shape != (len(pool),) or not np.isfinite(values).all():
            raise RefinerError(
                f"`likelihood` must give one finite number for each of the {len(pool)} candidates; got {values}."
            )
        return self.likelihood_weight * values


def _known_likelihoods(request: RefineRequest) -> np.ndarray | None:
    """The log-probabilities of `candidates_of(request)`, where the request holds them all."""
    if request.confidence is None or len(request.candidate_confidences) != len(request.candidates):
        return None
    pairs = zip(
        (request.draft, *request.candidates), (request.confidence, *request.candidate_confidences), strict=True
    )
    values = np.array([value for text, value in pairs if text.strip()], dtype=np.float64)
    return values if np.isfinite(values).all() else None


def candidates_of(request: RefineRequest) -> list[str]:
    """All captions of a request that say something, the draft first; each as often as it was drawn."""
    return [text for text in (request.draft, *request.candidates) if text.strip()]


def _by_rank(pools: Sequence[Sequence[str]]) -> Iterator[tuple[int, list[str]]]:
    """The k-th candidate of every pool together, as if they were one system's predictions."""
    for rank in range(max(map(len, pools), default=0)):
        yield rank, [pool[min(rank, len(pool) - 1)] for pool in pools]


def _cider(pools: Sequence[Sequence[str]], corpus: Sequence[str]) -> list[np.ndarray]:
    """CIDEr-D / 10 of each candidate, its pool being the references. That it is among them itself adds the same to
    all; its likes among them are votes."""
    index = ReferenceIndex([*pools, *([text] for text in corpus)])
    weights = CiderWeights(index)
    scores = [np.zeros(len(pool)) for pool in pools]
    for rank, predictions in _by_rank(pools):
        cider = weights.score(index.read([*predictions, *corpus])) / 10.0
        for place, pool in enumerate(pools):
            if rank < len(pool):
                scores[place][rank] = cider[place]
    return scores


def _rouge(pools: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """Mean ROUGE-L of each candidate to each of its pool. COCO's takes the best over the references, which would be
    the candidate itself: here each is an image with one reference."""
    sizes = [len(pool) for pool in pools]
    index = ReferenceIndex([[text] for pool in pools for text in pool])
    ends = np.cumsum(sizes)
    scores = [np.zeros(size) for size in sizes]
    for rank, predictions in _by_rank(pools):
        each = [text for text, size in zip(predictions, sizes, strict=True) for _ in range(size)]
        rouge = rouge_l(index, index.read(each))
        for place, size in enumerate(sizes):
            if rank < size:
                scores[place][rank] = rouge[ends[place] - size : ends[place]].mean()
    return scores
