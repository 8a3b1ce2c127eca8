"""Beam search, and diverse beam search by groups of beams."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Sequence

import torch

from .search_state import Found, SearchState, draw, on_the_host

IMPOSSIBLE = -1.0e9
"""The score of what must not be chosen: the one that `transformers` uses, so that comparisons fall the same way."""


class BeamSearch(SearchState):
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

    def snapshot(self) -> BeamSearch:
        """The search as it stands now."""
        taken = copy.copy(self)
        taken.groups = [copy.copy(group) for group in self.groups]
        return taken

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for group in self.groups:
            group.keep(index)


class _BeamGroup:
    """The beams of one group for all images: those that run, and the best that have ended."""

    STATE = ("tokens", "scores", "log_probs", "best_tokens", "best_scores", "best_log_probs", "best_lengths")
    FLAGS = ("best_ended", "open")

    def __init__(self, search: SearchState, beams: int):
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
            index = draw(ranked.flatten(1).softmax(-1), count, self.search.generator)
        else:
            index = ranked.flatten(1).topk(count)[1]
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
            for rows in on_the_host(places, *best)
        ]

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for name in self.STATE + self.FLAGS:
            setattr(self, name, getattr(self, name)[index])
