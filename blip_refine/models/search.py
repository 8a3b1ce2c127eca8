"""Greedy search, sampling, beam search and diverse beam search over a `StepDecoder`.

Greedy and beam search choose the tokens that `transformers.GenerationMixin.generate` chooses, with the same meaning
of every option; `tests/models/test_decoding.py` compares them. An image leaves the batch when nothing can change its
captions any more.

Nothing in `BatchSearch.begin` and `BatchSearch.advance` waits for the device: no value is read from it and none is
sent to it (an assigned number would be), so that `graphs.py` can record them.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import LogitsProcessorList

from ..errors import ModelError
from .text_decoder import StepDecoder

if TYPE_CHECKING:
    from .decoding import DecodingOptions

IMPOSSIBLE = -1.0e9
"""The score of what must not be chosen: the one that `transformers` uses, so that comparisons fall the same way."""


class Found(NamedTuple):
    """One finished caption: its new tokens, and the sum of their log-probabilities under the model itself."""

    tokens: list[int]
    log_prob: float


@dataclass
class Vocabulary:
    """The special tokens of the decoder."""

    end: int
    pad: int


STEPS_BETWEEN_CHECKS = 4
"""Asking the GPU what is finished stops it; there, a few steps too many cost less than asking at each."""


class BatchSearch:
    """The search over one batch of images, a token at a time.

    Args:
        decoder ([`StepDecoder`]): Over the images, with as many rows an image as `options` need.
        prompt (`torch.Tensor` of shape `(length,)`): Start token and prompt.
        options ([`DecodingOptions`]): How.
        vocabulary ([`Vocabulary`]): The special tokens.
        processors (`LogitsProcessorList`): What changes the scores before a token is chosen. `min_new_tokens` is seen
            to here.
        generator (`torch.Generator`, *optional*): For sampling.
    """

    def __init__(
        self,
        decoder: StepDecoder,
        prompt: torch.Tensor,
        options: DecodingOptions,
        vocabulary: Vocabulary,
        processors: LogitsProcessorList,
        generator: torch.Generator | None = None,
    ):
        self.decoder, self.options = decoder, options
        self._prompt, self._vocabulary, self._processors, self._generator = prompt, vocabulary, processors, generator
        self._chosen: tuple[torch.Tensor, torch.Tensor | None]

    def begin(self) -> None:
        """Read the prompt. Then `finite` says for each image whether the scores of its first token are numbers."""
        logits = self.decoder.start(self._prompt)
        kind = _BeamSearch if self.options.num_beams > 1 else _RowSearch
        self.state: SearchState = kind(
            len(logits), self._prompt, self.options, self._vocabulary, self._processors, self._generator, logits.device
        )
        self.finite = logits.isfinite().all(1)
        self._logits = logits[:, None].expand(-1, self.state.rows, -1)

    def advance(self, step: int) -> None:
        """Choose the token at place `step` of every row; to be called for 0, 1, 2, ..., `max_new_tokens - 1`."""
        if step:
            self._logits = self.decoder.step(*self._chosen)
        self._chosen = self.state.choose(self._logits, step)

    def keep(self, survivors: Sequence[int]) -> list[int]:
        """Go on with the images at these places. Returns, for each new place, the place where its image was."""
        order = self.decoder.keep(survivors)
        tokens, parents = self._chosen
        index = torch.tensor(order, device=tokens.device)
        self.state.keep(index)
        self._chosen = tokens[index], None if parents is None else parents[index]
        return order


def search(running: BatchSearch) -> list[list[Found]]:
    """Decode a batch, and leave out of it what is done.

    Args:
        running ([`BatchSearch`]): Not begun yet.

    Returns:
        `list[list[Found]]`: For each image its captions, best first.

    Raises:
        ModelError: The model's scores are not numbers.
    """
    running.begin()
    check_finite(running.finite)
    images, steps = len(running.finite), running.options.max_new_tokens
    places = list(range(images))
    found: list[list[Found]] = [[] for _ in range(images)]
    checks = 1 if running.finite.device.type == "cpu" else STEPS_BETWEEN_CHECKS
    for step in range(steps):
        running.advance(step)
        last = step + 1 == steps
        if not last and (step + 1) % checks:
            continue
        done = [True] * len(places) if last else running.state.done().tolist()
        finished = [place for place, is_done in enumerate(done) if is_done]
        for place, captions in zip(finished, running.state.results(finished), strict=True):
            found[places[place]] = captions
        survivors = [place for place, is_done in enumerate(done) if not is_done]
        if not survivors:
            break
        if finished:
            places = [places[place] for place in running.keep(survivors)]
    return found


def check_finite(finite: torch.Tensor) -> None:
    """Refuse scores that are not numbers.

    Args:
        finite (`torch.Tensor` of shape `(images,)`): Boolean.

    Raises:
        ModelError: One of them is `False`.
    """
    if not bool(finite.all()):
        raise ModelError("The model's scores are not numbers: its weights are broken, or overflow in this precision.")


class _Search:
    """What both kinds of search share: the tokens so far, and the scores before and after the processors."""

    rows: int

    def __init__(self, images, prompt, options, vocabulary, processors, generator, device):
        self.images, self.options, self.vocabulary = images, options, vocabulary
        self.processors, self.generator, self.device = processors, generator, device
        self.prompt = prompt

    def _process(self, scores: torch.Tensor, new_tokens: torch.Tensor, step: int) -> torch.Tensor:
        """`scores` of shape `(images, rows, vocabulary)` after all processors; changed in place where that is safe."""
        if step < self.options.min_new_tokens:
            scores[..., self.vocabulary.end].fill_(-torch.inf)
        if not self.processors:
            return scores
        images, rows, size = scores.shape
        prompt = self.prompt.expand(images * rows, -1)
        tokens = torch.cat([prompt, new_tokens[:, :, :step].reshape(images * rows, step)], dim=1)
        return self.processors(tokens, scores.reshape(images * rows, size)).view(images, rows, size)


class _RowSearch(_Search):
    """Greedy search and sampling: every row goes its own way."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rows = self.options.num_return_sequences
        shape = (self.images, self.rows)
        self.tokens = torch.full(
            (*shape, self.options.max_new_tokens), self.vocabulary.pad, dtype=torch.long, device=self.device
        )
        self.log_probs = torch.zeros(shape, device=self.device)
        self.lengths = torch.zeros(shape, dtype=torch.long, device=self.device)
        self.ended = torch.zeros(shape, dtype=torch.bool, device=self.device)

    def choose(self, logits: torch.Tensor, step: int) -> tuple[torch.Tensor, None]:
        """The next token of each row."""
        logits = logits.float()
        normalizer = logits.logsumexp(-1)
        scores = self._process(logits.clone(), self.tokens, step)
        if self.options.do_sample:
            probabilities = scores.softmax(-1).flatten(0, 1)
            chosen = torch.multinomial(probabilities, 1, generator=self.generator).view(scores.shape[:2])
        else:
            chosen = scores.argmax(-1)
        log_probs = logits.gather(-1, chosen[..., None])[..., 0] - normalizer
        self.log_probs += log_probs.masked_fill(self.ended, 0.0)
        self.lengths += ~self.ended
        chosen = chosen.masked_fill(self.ended, self.vocabulary.pad)
        self.tokens[:, :, step] = chosen
        self.ended |= chosen == self.vocabulary.end
        return chosen, None

    def done(self) -> torch.Tensor:
        """For each image, whether all its rows have ended."""
        return self.ended.all(1)

    def results(self, places: Sequence[int]) -> list[list[Found]]:
        """The captions of the images at these places, the most probable (by the mean over its tokens) first."""
        found = []
        for rows in _on_the_host(places, self.tokens, self.lengths, self.log_probs):
            captions = [Found(tokens[:length], log_prob) for tokens, length, log_prob in rows]
            found.append(sorted(captions, key=lambda one: one.log_prob / len(one.tokens), reverse=True))
        return found

    def snapshot(self) -> _RowSearch:
        """The search as it stands now."""
        return copy.copy(self)

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for name in ("tokens", "log_probs", "lengths", "ended"):
            setattr(self, name, getattr(self, name)[index])


class _BeamSearch(_Search):
    """Beam search, by groups if need be: each group is a beam search of its own that avoids what earlier ones took."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.rows, groups = self.options.num_beams, self.options.num_beam_groups
        self.groups = [_BeamGroup(self, self.rows // groups) for _ in range(groups)]

    def choose(self, logits: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The next token of each beam, and the beam that it goes on from."""
        logits = logits.float()
        normalizer = logits.logsumexp(-1, keepdim=True)
        chosen: list[torch.Tensor] = []
        parents: list[torch.Tensor] = []
        for number, group in enumerate(self.groups):
            rows = slice(number * group.beams, (number + 1) * group.beams)
            raw = logits[:, rows] - normalizer[:, rows]
            scores = self._process(raw.clone() if self.processors else raw, group.tokens, step)
            penalty = None
            if number:
                taken = torch.cat(chosen, dim=1)
                penalty = torch.zeros_like(scores[:, 0]).scatter_add_(
                    1, taken, torch.ones_like(taken, dtype=scores.dtype)
                )
                penalty = self.options.diversity_penalty * penalty
            tokens, origin = group.advance(scores, raw, penalty, step)
            chosen.append(tokens)
            parents.append(origin + rows.start)
        return torch.cat(chosen, dim=1), torch.cat(parents, dim=1)

    def done(self) -> torch.Tensor:
        """For each image, whether nothing can change its captions any more."""
        return torch.stack([group.done() for group in self.groups]).all(0)

    def results(self, places: Sequence[int]) -> list[list[Found]]:
        """The captions of the images at these places, those of the highest score first, without repetitions."""
        of_images = zip(*(group.results(places) for group in self.groups), strict=True)
        return [self._ordered(itertools.chain(*of_groups)) for of_groups in of_images]

    def _ordered(self, scored: Iterable[tuple[float, Found]]) -> list[Found]:
        found = sorted(scored, key=lambda one: -one[0])
        distinct = {tuple(one.tokens): one for _, one in reversed(found)}
        ordered = [distinct.pop(tuple(one.tokens)) for _, one in found if tuple(one.tokens) in distinct]
        return ordered[: self.options.num_return_sequences]

    def snapshot(self) -> _BeamSearch:
        """The search as it stands now."""
        taken = copy.copy(self)
        taken.groups = [copy.copy(group) for group in self.groups]
        return taken

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for group in self.groups:
            group.keep(index)


SearchState = _RowSearch | _BeamSearch


class _BeamGroup:
    """The beams of one group for all images: those that run, and the best that have ended."""

    STATE = ("tokens", "scores", "log_probs", "best_tokens", "best_scores", "best_log_probs", "best_lengths")
    FLAGS = ("best_ended", "open")

    def __init__(self, search: _Search, beams: int):
        self.search, self.options, self.beams = search, search.options, beams
        shape, device = (search.images, beams), search.device
        self.tokens = torch.full(
            (*shape, self.options.max_new_tokens), search.vocabulary.pad, dtype=torch.long, device=device
        )
        # All beams of an image begin alike: only the first may branch, or they would all stay alike.
        self.scores = torch.full(shape, IMPOSSIBLE, device=device)
        self.scores[:, 0].fill_(0.0)
        self.log_probs = torch.zeros(shape, device=device)
        self.best_tokens = self.tokens.clone()
        self.best_scores = torch.full(shape, IMPOSSIBLE, device=device)
        self.best_log_probs = torch.zeros(shape, device=device)
        self.best_lengths = torch.zeros(shape, dtype=torch.long, device=device)
        self.best_ended = torch.zeros(shape, dtype=torch.bool, device=device)
        self.open = torch.ones(search.images, dtype=torch.bool, device=device)

    def advance(
        self, scores: torch.Tensor, raw: torch.Tensor, penalty: torch.Tensor | None, step: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Go one token further.

        Args:
            scores (`torch.Tensor` of shape `(images, beams, vocabulary)`): Log-probabilities after the processors.
            raw (`torch.Tensor` of the same shape): Before them.
            penalty (`torch.Tensor` of shape `(images, vocabulary)`, *optional*): Lowers the rank of tokens that other
                groups took; the scores themselves stay the model's.
            step (`int`): How many new tokens there are already.
        """
        size, length = scores.shape[-1], step + 1
        total = scores + self.scores[:, :, None]
        ranked = total if penalty is None else total - penalty[:, None]
        # Twice as many candidates as beams: were they all to end, there would still be enough to go on with.
        count = 2 * self.beams
        if self.options.do_sample:
            index = torch.multinomial(ranked.flatten(1).softmax(-1), count, generator=self.search.generator)
        else:
            index = self._best(ranked, count)
        parents, tokens = index // size, index % size
        candidate_scores = total.flatten(1).gather(1, index)
        candidate_ranks = candidate_scores if penalty is None else ranked.flatten(1).gather(1, index)
        candidate_log_probs = self.log_probs.gather(1, parents) + raw.flatten(1).gather(1, index)
        sequences = self.tokens.gather(1, parents[:, :, None].expand(-1, -1, self.tokens.shape[2]))
        sequences[:, :, step] = tokens
        ended = tokens == self.search.vocabulary.end
        if length == self.options.max_new_tokens:
            ended = torch.ones_like(ended)

        self._collect(candidate_scores, candidate_log_probs, sequences, ended, length)
        going_on = (candidate_ranks + ended * IMPOSSIBLE).topk(self.beams)[1]
        self.tokens = sequences.gather(1, going_on[:, :, None].expand(-1, -1, sequences.shape[2]))
        self.scores = (candidate_scores + ended * IMPOSSIBLE).gather(1, going_on)
        self.log_probs = candidate_log_probs.gather(1, going_on)

        # Could the best running beam, ended now, still replace one that has ended?
        attainable = self.scores[:, :1] / length**self.options.length_penalty
        worst = self.best_scores.min(1, keepdim=True)[0].masked_fill(~self.best_ended, IMPOSSIBLE)
        self.open = self.open & (attainable > worst).any(1)
        return tokens.gather(1, going_on), parents.gather(1, going_on)

    def _best(self, ranked: torch.Tensor, count: int) -> torch.Tensor:
        return ranked.flatten(1).topk(count)[1]

    def _collect(self, scores, log_probs, sequences, ended, length: int) -> None:
        """Put candidates that have ended, of those that rank among the first `beams`, among the best."""
        ended = ended.clone()
        ended[:, self.beams :].fill_(False)
        final = scores / length**self.options.length_penalty
        final = final + (self.done()[:, None] | ~ended) * IMPOSSIBLE
        best = torch.cat([self.best_scores, final], dim=1).topk(self.beams)[1]
        self.best_scores = torch.cat([self.best_scores, final], dim=1).gather(1, best)
        self.best_log_probs = torch.cat([self.best_log_probs, log_probs], dim=1).gather(1, best)
        self.best_ended = torch.cat([self.best_ended, ended], dim=1).gather(1, best)
        lengths = torch.full_like(ended, length, dtype=torch.long)
        self.best_lengths = torch.cat([self.best_lengths, lengths], dim=1).gather(1, best)
        everything = torch.cat([self.best_tokens, sequences], dim=1)
        self.best_tokens = everything.gather(1, best[:, :, None].expand(-1, -1, everything.shape[2]))

    def done(self) -> torch.Tensor:
        """For each image, whether nothing more will be put among the best."""
        full = self.best_ended.all(1) if self.options.early_stopping else torch.zeros_like(self.open)
        return full | ~self.open

    def results(self, places: Sequence[int]) -> list[list[tuple[float, Found]]]:
        """The best of the images at these places, with their scores."""
        best = (self.best_scores, self.best_tokens, self.best_lengths, self.best_log_probs)
        return [
            [
                (score, Found(tokens[:length], log_prob))
                for score, tokens, length, log_prob in rows
                if score > IMPOSSIBLE / 2
            ]
            for rows in _on_the_host(places, *best)
        ]

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for name in self.STATE + self.FLAGS:
            setattr(self, name, getattr(self, name)[index])


def _on_the_host(places: Sequence[int], *tensors: torch.Tensor) -> Iterator[Iterator[tuple[Any, ...]]]:
    """For each of these images its rows, with the values of all tensors, `(images, rows, ...)`, side by side.

    A tensor is moved as one: on a GPU every move waits.
    """
    moved = [tensor.cpu() for tensor in tensors] if places else []
    for place in places:
        yield zip(*(tensor[place].tolist() for tensor in moved), strict=True)
