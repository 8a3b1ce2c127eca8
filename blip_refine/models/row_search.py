"""Greedy search and sampling."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from .search_state import Found, SearchState, draw, on_the_host


class RowSearch(SearchState):
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
            chosen = draw(probabilities, 1, self.generator).view(scores.shape[:2])
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
        for rows in on_the_host(places, self.tokens, self.lengths, self.log_probs):
            captions = [Found(tokens[:length], log_prob) for tokens, length, log_prob in rows]
            found.append(sorted(captions, key=lambda one: one.log_prob / len(one.tokens), reverse=True))
        return found

    def snapshot(self) -> RowSearch:
        """The search as it stands now."""
        return copy.copy(self)

    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""
        for name in ("tokens", "log_probs", "lengths", "ended"):
            setattr(self, name, getattr(self, name)[index])
