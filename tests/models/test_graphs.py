"""Recorded decoding says what decoding step by step says, and nothing is recorded that may go another way next time.

A CUDA graph needs a GPU. What it does to a program does not: `Tape` keeps every operation with the very tensors and
numbers that it was called with, and does them again, whatever Python would have done by then.
"""

from __future__ import annotations

import logging
import random

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from blip_refine.errors import ModelError
from blip_refine.models import graphs as graphs_module
from blip_refine.models.captioner import add_lora
from blip_refine.models.decoding import DecodingOptions, _processors, generate_captions
from blip_refine.models.graphs import CudaRecorder, DecodingGraphs, is_plain
from blip_refine.models.search import BatchSearch
from blip_refine.models.search_state import Vocabulary
from blip_refine.models.text_decoder import StepDecoder

from .test_decoding import draw_options, outspoken, pixels

WAITING = ("_local_scalar_dense", "nonzero", "lift_fresh", "scalar_tensor", "where.Scalar", "masked_select")
"""Operations that read from a GPU or send to it; a recording would fail there or keep the value of the first time."""


class Tape:
    """A `Recorder` for the CPU."""

    waiting = WAITING

    def __init__(self, device: torch.device):
        self.replays = 0

    def rehearse(self, work):
        work()

    def record(self, work):
        with _Listening(self.waiting) as heard:
            work()

        def replay():
            self.replays += 1
            for function, arguments, named, results in heard.operations:
                again = function(*arguments, **named)
                for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)

        return replay


class _Listening(TorchDispatchMode):
    def __init__(self, waiting=WAITING):
        super().__init__()
        self.waiting = waiting
        self.operations = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if any(name in str(function) for name in self.waiting):
            raise RuntimeError(f"{function} waits for the device")
        result = function(*args, **(kwargs or {}))
        self.operations.append((function, args, kwargs or {}, result))
        return result


class Tapes(DecodingGraphs):
    """Recordings on tape, and how often parts of them were replayed."""

    def __init__(self, recorder=Tape, **options):
        self.tapes: list[Tape] = []

        def make(device):
            self.tapes.append(recorder(device))
            return self.tapes[-1]

        super().__init__(make, **options)

    def replays(self) -> int:
        return sum(tape.replays for tape in self.tapes)


def of_groups(rng: random.Random) -> DecodingOptions:
    return DecodingOptions(
        num_beams=6,
        num_beam_groups=rng.choice([2, 3]),
        diversity_penalty=0.7,
        num_return_sequences=rng.choice([1, 4]),
        max_new_tokens=rng.randint(2, 10),
    )


@pytest.mark.parametrize("seed", range(3))
def test_a_recording_says_what_the_steps_say(tiny_captioner, seed):
    model, processor = tiny_captioner(seed)
    outspoken(model, seed)
    rng = random.Random(seed)
    for draw in range(8):
        options = (of_groups(rng) if draw % 4 == 3 else draw_options(rng)).with_changes(
            bad_words=(), no_repeat_ngram_size=0
        )
        graphs = Tapes()
        said = set()
        for number, count in enumerate([5, 5, 5, 3, 5, 4]):
            images = pixels(count, 100 * draw + number)
            before = graphs.replays()
            found = generate_captions(model, processor, images, options, graphs=graphs)
            assert found == approximately(generate_captions(model, processor, images, options)), options
            assert (graphs.replays() > before) == (number > 0), "the first batch goes step by step"
            said |= {one.tokens for one in found}
        assert len(graphs) == 1, "smaller batches took the recording of the larger"
        assert len(said) > 6 or options.max_new_tokens < 3, "other images must have been given other captions"


def approximately(decoded):
    """A batch of another shape adds up in another order."""
    return [
        type(one)(one.texts, tuple(pytest.approx(value, abs=1e-4) for value in one.log_probs), one.tokens)
        for one in decoded
    ]


class _Assigning(Tape):
    """`TopPLogitsWarper` assigns a number to a slice. A GPU fills it in by itself; the CPU makes a tensor of it."""

    waiting = tuple(name for name in WAITING if name != "lift_fresh")


@pytest.mark.parametrize("beams", [1, 3])
def test_a_recording_draws_what_the_steps_draw(tiny_captioner, beams):
    model, processor = tiny_captioner()
    outspoken(model)
    # All captions have the same length: what is drawn depends on how many images are left.
    options = DecodingOptions(
        num_beams=beams,
        do_sample=True,
        temperature=0.8,
        top_k=50,
        top_p=0.95,
        max_new_tokens=6,
        min_new_tokens=6,
        num_return_sequences=3,
    )
    graphs = Tapes(_Assigning)
    said = set()
    for number in range(4):
        images = pixels(4, number)
        torch.manual_seed(number)
        plain = generate_captions(model, processor, images, options)
        after = torch.get_rng_state()
        torch.manual_seed(number)
        assert generate_captions(model, processor, images, options, graphs=graphs) == approximately(plain)
        assert torch.equal(torch.get_rng_state(), after), "making a recording must not use up random numbers"
    assert len(graphs) == 1
    for _ in range(3):
        said.add(tuple(one.tokens for one in generate_captions(model, processor, images, options, graphs=graphs)))
    assert len(said) == 3, "each time is another draw"


def test_replaying_ends_when_all_is_said(starter_captioner, scene_pixels):
    model, processor = starter_captioner
    graphs, options = Tapes(), DecodingOptions(num_beams=3, max_new_tokens=30)
    plain = generate_captions(model, processor, scene_pixels, options)
    for _ in range(3):
        before = graphs.replays()
        found = generate_captions(model, processor, scene_pixels, options, graphs=graphs)
        assert found == approximately(plain)
    longest = max(len(tokens) for one in plain for tokens in one.tokens)
    assert (longest + 3) // 4 <= graphs.replays() - before < 8, "eight parts of four steps were recorded"


def test_a_larger_batch_is_recorded_itself_and_replaces_the_smaller(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    graphs = Tapes()
    for count in (2, 2, 3, 3, 8, 8, 3, 2):
        images = pixels(count, count)
        found = generate_captions(model, processor, images, "fast", graphs=graphs)
        assert found == approximately(generate_captions(model, processor, images, "fast"))
    # 2, then 3 (which serves 2, too), then 8 (which is too large for 3), and no more for the last two.
    assert len(graphs.tapes) == 3 and len(graphs) == 2


def test_only_so_many_are_kept(tiny_captioner):
    model, processor = tiny_captioner()
    graphs = Tapes(most=2)
    for longest in (2, 3, 4, 2):
        for _ in range(2):
            generate_captions(model, processor, pixels(1), DecodingOptions(max_new_tokens=longest), graphs=graphs)
        assert len(graphs) <= 2
    assert len(graphs.tapes) == 4, "the oldest had gone and was made again"
    graphs.clear()
    assert len(graphs) == 0


def test_what_cannot_be_recorded_is_decoded_step_by_step(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    images = pixels(2)
    graphs = Tapes()
    for options in (
        DecodingOptions.preset("creative", seed=1),
        DecodingOptions(bad_words=("red",)),
        DecodingOptions(no_repeat_ngram_size=2),
    ):
        plain = generate_captions(model, processor, images, options)
        for _ in range(3):
            assert generate_captions(model, processor, images, options, graphs=graphs) == plain
    for _ in range(3):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            generate_captions(model, processor, images, "fast", graphs=graphs)
    adapted = add_lora(model)
    for _ in range(3):
        generate_captions(adapted, processor, images, "fast", graphs=graphs)
    assert graphs.tapes == []


def test_hooks_and_other_forwards_are_not_plain(tiny_captioner):
    model, _ = tiny_captioner()
    assert is_plain(model.text_decoder)
    layer = model.text_decoder.bert.encoder.layer[0]
    handle = layer.register_forward_hook(lambda *_: None)
    assert not is_plain(model.text_decoder)
    handle.remove()
    layer.forward = layer.forward
    assert not is_plain(model.text_decoder)
    del layer.forward
    layer.output.dense = _Other(8, 8)
    assert not is_plain(model.text_decoder)


class _Other(torch.nn.Linear):
    """As of a library of quantized layers."""

    __module__ = "other.library"


def test_weights_may_change_where_they_lie_and_nowhere_else(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    images = pixels(3)
    graphs = Tapes()
    for _ in range(2):
        first = generate_captions(model, processor, images, "fast", graphs=graphs)
    with torch.no_grad():
        for parameter in model.text_decoder.parameters():
            parameter.mul_(1.7)
    before = graphs.replays()
    trained = generate_captions(model, processor, images, "fast", graphs=graphs)
    assert graphs.replays() > before
    assert trained == approximately(generate_captions(model, processor, images, "fast"))
    assert [one.tokens for one in trained] != [one.tokens for one in first]

    other, _ = tiny_captioner(5)
    outspoken(other, 5)
    for parameter, another in zip(model.parameters(), other.parameters(), strict=True):
        parameter.data = another.data
    before = graphs.replays()
    moved = generate_captions(model, processor, images, "fast", graphs=graphs)
    assert graphs.replays() == before and len(graphs) == 0, "the recording read weights that are no longer the model's"
    assert moved == generate_captions(other, processor, images, "fast")


class _Deaf(Tape):
    """Replays nothing."""

    def record(self, work):
        super().record(work)
        return lambda: None


class _Refusing(Tape):
    def record(self, work):
        raise RuntimeError("operation not permitted when stream is capturing\nand a trace")


@pytest.mark.parametrize(
    ("recorder", "why"), [(_Refusing, "operation not permitted when stream is capturing"), (_Deaf, "other captions")]
)
def test_a_recording_that_fails_or_errs_is_not_used(tiny_captioner, caplog, monkeypatch, recorder, why):
    model, processor = tiny_captioner()
    outspoken(model)
    graphs = Tapes(recorder)
    if recorder is _Deaf:
        # On the CPU the work is done while it is recorded; on a GPU it is not, and the results are still empty.
        real = graphs_module._Recording.__init__

        def without_results(self, *arguments):
            real(self, *arguments)
            for part in self.parts:
                for name in ("tokens", "log_probs"):
                    getattr(part.state, name).zero_()

        monkeypatch.setattr(graphs_module._Recording, "__init__", without_results)
    plain = generate_captions(model, processor, pixels(2), "fast")
    with caplog.at_level(logging.WARNING, logger="blip_refine"):
        for _ in range(4):
            assert generate_captions(model, processor, pixels(2), "fast", graphs=graphs) == approximately(plain)
    assert len(caplog.records) == 1 and why in caplog.text and "and a trace" not in caplog.text
    assert len(graphs) == 0 and len(graphs.tapes) == 1


def test_a_recording_refuses_scores_that_are_not_numbers(tiny_captioner):
    model, processor = tiny_captioner()
    outspoken(model)
    graphs = Tapes()
    for _ in range(2):
        generate_captions(model, processor, pixels(3), "fast", graphs=graphs)
    with pytest.raises(ModelError, match="not numbers"):
        generate_captions(model, processor, torch.full((3, 3, 32, 32), torch.nan), "fast", graphs=graphs)
    # Images of before that only fill up the batch do no harm.
    alone = generate_captions(model, processor, pixels(2, 9), "fast", graphs=graphs)
    assert alone == approximately(generate_captions(model, processor, pixels(2, 9), "fast"))
    assert len(graphs.tapes) == 1


def test_the_tape_refuses_to_wait():
    with pytest.raises(RuntimeError, match="waits"):
        Tape(torch.device("cpu")).record(lambda: torch.ones(1).item())
    with pytest.raises(RuntimeError, match="waits"):
        Tape(torch.device("cpu")).record(lambda: torch.tensor([1, 2]))


def _fake_gpu_works() -> bool:
    """Whether operations on tensors without data need no driver (torch 2.6 asks for one to index them)."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    try:
        with FakeTensorMode():
            torch.empty(5, device="cuda")[torch.empty(3, dtype=torch.long, device="cuda")]
    except (RuntimeError, AssertionError):
        return False
    return True


@pytest.mark.skipif(not _fake_gpu_works(), reason="needs a build of torch for CUDA that fakes it, but no GPU")
@pytest.mark.parametrize("name", ["fast", "accurate", "candidates", "creative"])
def test_nothing_leaves_the_gpu_between_the_first_token_and_the_last(tiny_captioner, name):
    from torch._subclasses.fake_tensor import FakeTensorMode

    model, _ = tiny_captioner()
    drawn = {"top_p": 1.0, "top_k": 20, "temperature": 0.9} if name == "creative" else {}
    options = DecodingOptions.preset(name, repetition_penalty=1.2, min_new_tokens=2, **drawn)
    rows = max(options.num_beams, options.num_return_sequences)
    with FakeTensorMode(), torch.inference_mode():
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    there = torch.empty(parameter.shape, dtype=parameter.dtype, device="cuda")
                    module._parameters[name] = torch.nn.Parameter(there, requires_grad=False)
        images = torch.empty(4, 5, 32, device="cuda")
        running = BatchSearch(
            StepDecoder(model, images, rows, options.max_new_tokens),
            torch.empty(3, dtype=torch.long, device="cuda"),
            options,
            Vocabulary(end=1, pad=0),
            _processors(None, options, 1, images.device),
        )
        with _Listening() as heard:
            running.begin()
            for step in range(options.max_new_tokens):
                running.advance(step)
            running.state.done()
    tensors = [one for one in tree_leaves(heard.operations) if isinstance(one, torch.Tensor)]
    assert len(tensors) > 1000 and {one.device.type for one in tensors} == {"cuda"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_graphs_say_what_the_steps_say(tiny_captioner, dtype):
    model, processor = tiny_captioner()
    outspoken(model).to("cuda", dtype)
    made = []

    def make(device):
        made.append(CudaRecorder(device))
        return made[-1]

    rng = random.Random(0)
    for draw in range(7):
        options = (of_groups(rng) if draw % 3 == 2 else draw_options(rng)).with_changes(
            bad_words=(), no_repeat_ngram_size=0
        )
        if draw == 6:
            options = DecodingOptions.preset("creative", num_return_sequences=3)
        graphs = DecodingGraphs(make)
        for number, count in enumerate([5, 5, 5, 3]):
            images = pixels(count, 100 * draw + number).to("cuda", dtype)
            found = generate_captions(model, processor, images, options, graphs=graphs)
            plain = generate_captions(model, processor, images, options)
            if dtype == torch.float32 and not options.do_sample:
                assert [one.tokens for one in found] == [one.tokens for one in plain], options
        assert len(graphs) == 1, "it must have been recorded"
