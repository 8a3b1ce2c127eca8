"""What greedy search, sampling and beam search have in common: a state that is asked for tokens, step by step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from transformers import LogitsProcessorList

if TYPE_CHECKING:
    from .decoding import DecodingOptions


class Found(NamedTuple):
    """One finished caption: its new tokens, and the sum of their log-probabilities under the model itself."""

    tokens: list[int]
    log_prob: float


@dataclass
class Vocabulary:
    """The special tokens of the decoder."""

    end: int
    pad: int


class SearchState(ABC):
    """The rows of text of a batch of images, and which tokens they go on with.

    Args:
        images (`int`): Images in the batch.
        prompt (`torch.Tensor` of shape `(length,)`): Start token and prompt.
        options ([`DecodingOptions`]): How to search.
        vocabulary ([`Vocabulary`]): The special tokens.
        processors (`LogitsProcessorList`): What changes the scores before a token is chosen.
        generator (`torch.Generator`, *optional*): For sampling.
        device (`torch.device`): Where the scores are.
    """

    rows: int
    """Rows of text an image."""

    def __init__(
        self,
        images: int,
        prompt: torch.Tensor,
        options: DecodingOptions,
        vocabulary: Vocabulary,
        processors: LogitsProcessorList,
        generator: torch.Generator | None,
        device: torch.device,
    ):
        self.images, self.prompt, self.options, self.vocabulary = images, prompt, options, vocabulary
        self.processors, self.generator, self.device = processors, generator, device

    @abstractmethod
    def choose(self, logits: torch.Tensor, step: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The next token of each row, `(images, rows)`, and the row that it goes on from; `None`: from itself.

        Args:
            logits (`torch.Tensor` of shape `(images, rows, vocabulary)`): Of the next token.
            step (`int`): How many new tokens there are already.
        """

    @abstractmethod
    def done(self) -> torch.Tensor:
        """For each image, whether nothing can change its captions any more: boolean, `(images,)`."""

    @abstractmethod
    def results(self, places: Sequence[int]) -> list[list[Found]]:
        """The captions of the images at these places, the best first."""

    @abstractmethod
    def keep(self, index: torch.Tensor) -> None:
        """Go on with the images at `index`."""

    @abstractmethod
    def snapshot(self) -> SearchState:
        """The search as it stands now."""

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


def draw(probabilities: torch.Tensor, count: int, generator: torch.Generator | None) -> torch.Tensor:
    """Draw without replacement, as `torch.multinomial` does, which stops a GPU to look at its input first.

    Each outcome runs a race of exponential time with its probability as the rate; those that come in first are drawn
    in that order (Efraimidis and Spirakis, 2006).

    Args:
        probabilities (`torch.Tensor` of shape `(rows, outcomes)`): They need not add up to 1.
        count (`int`): How many of them to draw in each row.
        generator (`torch.Generator`, *optional*): PyTorch's own by default.

    Returns:
        `torch.Tensor` of shape `(rows, count)`: Their places.
    """
    speeds = probabilities / torch.empty_like(probabilities).exponential_(generator=generator)
    return speeds.topk(count)[1] if count > 1 else speeds.argmax(-1, keepdim=True)


def on_the_host(places: Sequence[int], *tensors: torch.Tensor) -> Iterator[Iterator[tuple[Any, ...]]]:
    """For each of these images its rows, with the values of all tensors, `(images, rows, ...)`, side by side.

    A tensor is moved as one: on a GPU every move waits.
    """
    moved = [tensor.cpu() for tensor in tensors] if places else []
    for place in places:
        yield zip(*(tensor[place].tolist() for tensor in moved), strict=True)
