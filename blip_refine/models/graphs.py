"""CUDA graphs of decoding: the work of many steps handed to the GPU at once.

A step of the text decoder is some hundred small kernels. Python needs longer to start them than the GPU to compute
them, so that a fast GPU waits most of the time. A CUDA graph records the kernels of some steps once and starts them
together from then on.

A recording fixes everything but the numbers in the tensors that it was made with: shapes, addresses, and every value
that Python knew. So one is made for each number of images and set of options, its images are copied to the place where
the first ones were, and it is thrown away when the weights have moved. `BatchSearch` never looks at the device in the
middle, which is what makes it recordable; between the parts of a recording the host asks whether all is done.

No recording is trusted before it has said the captions that the very same steps said without it.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

import torch
from torch import nn

from .search import STEPS_BETWEEN_CHECKS, BatchSearch, check_finite
from .search_state import Found, SearchState

if TYPE_CHECKING:
    from .decoding import DecodingOptions

logger = logging.getLogger(__name__)

Replay = Callable[[], object]

_ONE_RECORDING_AT_A_TIME = threading.Lock()
"""PyTorch allows no more in a process."""


class Recorder(Protocol):
    """Records work on a device, to repeat it."""

    def rehearse(self, work: Callable[[], object]) -> None:
        """Do the work once, where it will be recorded: kernels are loaded and workspaces made."""

    def record(self, work: Callable[[], object]) -> Replay:
        """Record the work. What comes back does it again, in the order in which the parts were recorded."""


class CudaRecorder:
    """[`Recorder`] by `torch.cuda.CUDAGraph`. All that one records shares a pool of memory.

    Args:
        device (`torch.device`): A CUDA device.
    """

    def __init__(self, device: torch.device):
        self._device = device
        self._stream = torch.cuda.Stream(device)
        self._pool: tuple[int, int] | None = None

    def rehearse(self, work: Callable[[], object]) -> None:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                work()
            torch.cuda.current_stream().wait_stream(self._stream)

    def record(self, work: Callable[[], object]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        # Threads that decode images ahead may pin memory meanwhile; only this one is recorded.
        own = torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local")
        with _ONE_RECORDING_AT_A_TIME, torch.cuda.device(self._device):
            before = torch.cuda.current_stream()
            try:
                with own:
                    work()
            finally:
                # A recording that fails does not put it back.
                torch.cuda.set_stream(before)
        self._pool = graph.pool()
        return graph.replay


class _Part(NamedTuple):
    """Some steps of a recording."""

    replay: Replay
    done: torch.Tensor
    """For each image, whether it was done after these steps."""
    state: SearchState
    """The search after these steps."""


class _Recording:
    """The whole search over a number of images."""

    def __init__(self, images: torch.Tensor, search_over: Callable[[torch.Tensor], BatchSearch], recorder: Recorder):
        self.images = images.clone()
        self.expected = _rehearse(search_over(self.images), recorder)
        running = search_over(self.images)
        self.parts: list[_Part] = []
        for steps in _parts(running):
            done: list[torch.Tensor] = []

            def work(steps: range = steps, done: list[torch.Tensor] = done) -> None:
                done.append(_advance(running, steps))

            replay = recorder.record(work)
            # The state of these steps has to outlive the next ones, which make new tensors.
            self.parts.append(_Part(replay, done[0], running.state.snapshot()))
        self.finite = running.finite

    def __call__(self, images: torch.Tensor) -> list[list[Found]]:
        """Search for captions of up to as many images as were recorded."""
        count = len(images)
        self.images[:count].copy_(images)
        for number, part in enumerate(self.parts):
            part.replay()
            if number == 0:
                check_finite(self.finite[:count])
            if number + 1 == len(self.parts) or bool(part.done[:count].all()):
                break
        return part.state.results(range(count))


def _parts(running: BatchSearch) -> Iterator[range]:
    steps = running.options.max_new_tokens
    for first in range(0, steps, STEPS_BETWEEN_CHECKS):
        yield range(first, min(first + STEPS_BETWEEN_CHECKS, steps))


def _rehearse(running: BatchSearch, recorder: Recorder) -> list[list[Found]]:
    """What the steps say that are to be recorded."""
    for steps in _parts(running):
        recorder.rehearse(functools.partial(_advance, running, steps))
    return running.state.results(range(len(running.finite)))


def _advance(running: BatchSearch, steps: range) -> torch.Tensor:
    """Go these steps. Returns for each image whether it is done."""
    for step in steps:
        if step == 0:
            running.begin()
        running.advance(step)
    return running.state.done()


class DecodingGraphs:
    """The recordings of one captioner, made when they are worth it.

    A batch is decoded by a recording if the same settings have been asked for before with as many images. A smaller
    batch takes the recording of a larger one of up to twice its size, the rest of which goes along for nothing.
    Sampling with a `seed` (what is drawn depends on the size of the batch), bans that look at the text (`bad_words`,
    `no_repeat_ngram_size`), autocast, adapters that are not merged, quantized weights and device maps are decoded step
    by step as ever.

    Args:
        make_recorder (`Callable[[torch.device], Recorder]`, *optional*): Makes what records. By default
            [`CudaRecorder`] on a CUDA device, and nothing elsewhere.
        most (`int`, defaults to 4): Recordings that are kept. Each holds the memory of one batch's decoding.
    """

    def __init__(self, make_recorder: Callable[[torch.device], Recorder] | None = None, most: int = 4):
        self._make_recorder, self._most = make_recorder, most
        self._recordings: OrderedDict[tuple[object, int], _Recording] = OrderedDict()
        self._seen: set[tuple[object, int]] = set()
        self._refused: set[object] = set()
        self._weights: object = None

    def __len__(self) -> int:
        return len(self._recordings)

    def clear(self) -> None:
        """Give the memory back."""
        self._recordings.clear()
        self._seen.clear()

    def search(
        self,
        text_decoder: nn.Module,
        images: torch.Tensor,
        options: DecodingOptions,
        search_over: Callable[[torch.Tensor], BatchSearch],
    ) -> list[list[Found]] | None:
        """Search by a recording.

        Args:
            text_decoder (`nn.Module`): What `search_over` decodes with.
            images (`torch.Tensor` of shape `(images, states, hidden)`): The vision encoder's output.
            options ([`DecodingOptions`]): How.
            search_over (`Callable[[torch.Tensor], BatchSearch]`): A new search over images like these.

        Returns:
            `list[list[Found]]`, *optional*: What [`search`] returns; `None` where there is no recording, and the
            batch has to be decoded step by step.

        Raises:
            ModelError: The model's scores are not numbers.
        """
        if not self._can_record(text_decoder, images, options):
            return None
        self._forget_other_weights(text_decoder)
        settings = (options, tuple(images.shape[1:]), images.dtype, images.device)
        recording = self._find(settings, len(images))
        if recording is None and settings not in self._refused:
            if (settings, len(images)) in self._seen:
                recording = self._make(settings, images, search_over)
            self._seen.add((settings, len(images)))
        return None if recording is None else recording(images)

    def _can_record(self, text_decoder: nn.Module, images: torch.Tensor, options: DecodingOptions) -> bool:
        if self._make_recorder is None and images.device.type != "cuda":
            return False
        if options.seed is not None or options.bad_words or options.no_repeat_ngram_size:
            return False
        return not torch.is_autocast_enabled(images.device.type) and is_plain(text_decoder)

    def _forget_other_weights(self, text_decoder: nn.Module) -> None:
        """A recording reads the weights from where they lay: values may change there, but not the place."""
        tensors = (*text_decoder.parameters(), *text_decoder.buffers())
        weights = tuple((tensor.data_ptr(), tensor.dtype, tensor.device) for tensor in tensors)
        if weights != self._weights:
            self.clear()
            self._refused.clear()
            self._weights = weights

    def _find(self, settings: object, count: int) -> _Recording | None:
        fitting = [size for known, size in self._recordings if known == settings and count <= size <= 2 * count]
        if not fitting:
            return None
        key = (settings, min(fitting))
        self._recordings.move_to_end(key)
        return self._recordings[key]

    def _make(
        self, settings: object, images: torch.Tensor, search_over: Callable[[torch.Tensor], BatchSearch]
    ) -> _Recording | None:
        count = len(images)
        # The new one does for the smaller ones, too; and the oldest has to make room.
        for known, size in list(self._recordings):
            if known == settings and size < count <= 2 * size:
                del self._recordings[known, size]
        while len(self._recordings) >= self._most:
            self._recordings.popitem(last=False)
        recorder = (self._make_recorder or CudaRecorder)(images.device)
        generator = default_generator(images.device)
        before = generator.get_state()
        try:
            recording = _Recording(images, search_over, recorder)
            # What is drawn in sampling must be the same, too.
            generator.set_state(before)
            problem = None if same_captions(recording(images), recording.expected) else "it said other captions"
        except RuntimeError as error:  # what CUDA refuses to record, and want of memory
            problem = str(error).partition("\n")[0]
        finally:
            generator.set_state(before)
        if problem is not None:
            logger.warning(
                "Decoding %d images at once could not be recorded as a CUDA graph (%s); it goes on step by step, "
                "with the same captions.",
                count,
                problem,
            )
            self._refused.add(settings)
            return None
        self._recordings[settings, count] = recording
        return recording


def same_captions(found: list[list[Found]], expected: list[list[Found]], tolerance: float = 1e-2) -> bool:
    """Whether all captions are the same, and their log-probabilities but for rounding."""
    return len(found) == len(expected) and all(
        [one.tokens for one in ours] == [one.tokens for one in theirs]
        and all(abs(one.log_prob - other.log_prob) <= tolerance for one, other in zip(ours, theirs, strict=True))
        for ours, theirs in zip(found, expected, strict=True)
    )


def default_generator(device: torch.device) -> torch.Generator:
    """PyTorch's own generator of random numbers for a device."""
    return torch.cuda.default_generators[device.index] if device.type == "cuda" else torch.default_generator


def is_plain(model: nn.Module) -> bool:
    """Whether the model does nothing but compute with tensors that lie on one device: no hooks, adapters or weights in
    another form, any of which may do something else next time."""
    return all(
        type(module).__module__.partition(".")[0] in ("torch", "transformers", "blip_refine")
        and not module._forward_hooks
        and not module._forward_pre_hooks
        and "forward" not in module.__dict__
        and all(type(one.data) is torch.Tensor for one in module._parameters.values() if one is not None)
        for module in model.modules()
    )
