"""Greedy search, sampling, beam search and diverse beam search over a `StepDecoder`.

Greedy and beam search choose the tokens that `transformers.GenerationMixin.generate` chooses, with the same meaning
of every option; `tests/models/test_decoding.py` compares them. An image leaves the batch when nothing can change its
captions any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

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


def search(
    decoder: StepDecoder,
    prompt: Sequence[int],
    options: DecodingOptions,
    vocabulary: Vocabulary,
    processors: LogitsProcessorList,
    generator: torch.Generator | None = None,
) -> list[list[Found]]:
    """Decode a batch.

    Args:
        decoder ([`StepDecoder`]): Over the images, with as many rows an image as `options` need.
        prompt (`Sequence[int]`): Start token and prompt.
        options ([`DecodingOptions`]): How.
        vocabulary ([`Vocabulary`]): The special tokens.
        processors (`LogitsProcessorList`): What changes the scores before a token is chosen. `min_new_tokens` is seen
            to here.
        generator (`torch.Generator`, *optional*): For sampling.

    Returns:
        `list[list[Found]]`: For each image its captions, best first.
    """
    logits = decoder.start(prompt)
    images = len(logits)
    if not bool(logits.isfinite().all()):
        raise ModelError("The model's scores are not numbers: its weights are broken, or overflow in this precision.")
    kind = _BeamSearch if options.num_beams > 1 else _RowSearch
    state = kind(images, prompt, options, vocabulary, processors, generator, logits.device)
    logits = logits[:, None].expand(-1, state.rows, -1)
    places = list(range(images))
    found: list[list[Found]] = [[] for _ in range(images)]
    for step in range(options.max_new_tokens):
        tokens, parents = state.choose(logits, step)
        last = step + 1 == options.max_new_tokens
        # Asking the GPU what is finished stops it; there, a few steps too many cost less than asking at each.
        if last or logits.device.type == "cpu" or step % 4 == 3:
            done = [True] * len(places) if last else state.done().tolist()
            for place, is_done in enumerate(done):
                if is_done:
                    found[places[place]] = state.results(place)
            survivors = [place for place, is_done in enumerate(done) if not is_done]
            if not survivors:
                break
            if len(survivors) < len(places):
                order = decoder.keep(survivors)
                places = [places[place] for place in order]
                index = torch.tensor(order, device=logits.device)
                state.keep(index)
                tokens, parents = tokens[index], None if parents is None else parents[index]
        logits = decoder.step(tokens, parents)
    return found


class _Search:
    """What both kinds of search share: the tokens so far, and the scores before and after the processors."""

    rows: int

    def __init__(self, images, prompt, options, vocabulary, processors, generator, device):
        self.images, self.options, self.vocabulary = images, options, vocabulary
        self.processors, self.generator, self.device = processors, generator, device
        self.prompt = torch.tensor(prompt, device=device)

    def _process(self, scores: torch.Tensor, new_tokens: torch.Tensor, step: int) -> torch.Tensor:
        """`scores` of shape `(images, rows, vocabulary)` after all processors; changed in place where that is safe."""
        if step < self.options.min_new_tokens:
            scores[..., self.vocabulary.end] = -torch.inf
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

    def results(self, image: int) -> list[Found]:
        """The captions of one image, the most probable (by the mean over its tokens) first."""
        rows = zip(
            self.tokens[image].tolist(), self.lengths[image].tolist(), self.log_probs[image].tolist(), strict=True
        )
        found = [Found(tokens[:length], log_prob) for tokens, length, log_prob in rows]
        return sorted(found, key=lambda one: one.log_prob / len(one.tokens), reverse=True)

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

    def results(self, image: int) -> list[Found]:
        """The captions of one image, those of the highest score first, without repetitions."""
        found = sorted((one for group in self.groups for one in group.results(image)), key=lambda one: -one[0])
        distinct = {tuple(one.tokens): one for _, one in reversed(found)}
        ordered = [distinct.pop(tuple(one.tokens)) for _, one in found if tuple(one.tokens) in distinct]
        return ordered[: self.options.num_return_sequences]

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for group in self.groups:
            group.keep(index)


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
        self.scores[:, 0] = 0.0
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
        worst = self.best_scores.min(1, keepdim=True)[0].where(self.best_ended, IMPOSSIBLE)
        self.open = self.open & (attainable > worst).any(1)
        return tokens.gather(1, going_on), parents.gather(1, going_on)

    def _best(self, ranked: torch.Tensor, count: int) -> torch.Tensor:
        return ranked.flatten(1).topk(count)[1]

    def _collect(self, scores, log_probs, sequences, ended, length: int) -> None:
        """Put candidates that have ended, of those that rank among the first `beams`, among the best."""
        ended = ended.clone()
        ended[:, self.beams :] = False
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

    def results(self, image: int) -> list[tuple[float, Found]]:
        """The best of one image, with their scores."""
        return [
            (score, Found(tokens[:length], log_prob))
            for score, tokens, length, log_prob in zip(
                self.best_scores[image].tolist(),
                self.best_tokens[image].tolist(),
                self.best_lengths[image].tolist(),
                self.best_log_probs[image].tolist(),
                strict=True,
            )
            if score > IMPOSSIBLE / 2
        ]

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for name in self.STATE + self.FLAGS:
            setattr(self, name, getattr(self, name)[index])
