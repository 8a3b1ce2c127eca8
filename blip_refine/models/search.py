"""Greedy search, sampling, beam search and diverse beam search over a `StepDecoder`.

Greedy and beam search choose the tokens that `transformers.GenerationMixin.generate` chooses, with the same meaning
of every option; `tests/models/test_decoding.py` compares them. An image leaves the batch when nothing can change its
captions any more.

Nothing in `BatchSearch.begin` and `BatchSearch.advance` waits for the device: no value is read from it and none is
sent to it (an assigned number would be), so that `graphs.py` can record them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from transformers import LogitsProcessorList

from ..errors import ModelError
from .beam_search import BeamSearch
from .row_search import RowSearch
from .search_state import Found, SearchState, Vocabulary
from .text_decoder import StepDecoder

if TYPE_CHECKING:
    from .decoding import DecodingOptions

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
        kind = BeamSearch if self.options.num_beams > 1 else RowSearch
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
