"""How captioners of other families decode: by stock `generate`, with our options where it has them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from ..errors import BlipRefineError, ConfigurationError, ModelError
from .decoding import DecodedImage, DecodingOptions
from .other_captioners import OtherCaptioner
from .saved_defaults import OURS, effective_decoding, stock_arguments

LONGEST = {True: 60, False: 30}
"""The most new tokens unless told otherwise: of a chat model, which may write a sentence more, and of any other."""


@dataclass(frozen=True, slots=True)
class OtherCaption:
    """What was decoded for one image, and how many tokens of text the model read for it."""

    decoded: DecodedImage
    read: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read, and written in the first caption."""
        return self.read + len(self.decoded.tokens[0])


def stock_decoding(
    captioner: OtherCaptioner, decoding: DecodingOptions | str | None, changes: Mapping[str, Any] | None = None
) -> DecodingOptions | None:
    """The options of an other captioner.

    Args:
        captioner ([`OtherCaptioner`]): The model.
        decoding ([`DecodingOptions`] or `str`, *optional*): Options, or the name of a preset.
        changes (`Mapping[str, Any]`, *optional*): Single fields that are to differ; `None` stands for one that is not.

    Returns:
        `DecodingOptions`, *optional*: `None` if nothing was asked for: then the model decodes as its own
        `generation_config.json` says, without sampling.

    Raises:
        ConfigurationError: Options that stock `generate` does not have, or that contradict each other.
    """
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    if decoding is None and not given:
        return None
    if decoding is None:
        beams = getattr(captioner.model.generation_config, "num_beams", None) or 1
        decoding = DecodingOptions(num_beams=beams, max_new_tokens=LONGEST[captioner.chats])
    options = effective_decoding(None, decoding, **given)
    for name in sorted(set(OURS) - {"seed"}):
        if name in options.to_dict():
            raise ConfigurationError(
                f"`{name}` is an option of BLIP captioners here; the stock `generate` of an 'hf:' captioner does not "
                "have it. Choose another decoding, such as accurate, fast or creative."
            )
    return options


def caption_pictures(
    captioner: OtherCaptioner, pictures: Sequence[Image.Image], prompt: str, decoding: DecodingOptions | None
) -> list[OtherCaption]:
    """Caption pictures, all at once; in halves if they are too many for the memory of the GPU.

    Args:
        captioner ([`OtherCaptioner`]): The model.
        pictures (`Sequence[Image.Image]`): n pictures in RGB.
        prompt (`str`): What the model is asked; `""` for models that need none.
        decoding ([`DecodingOptions`], *optional*): By default the model's own, without sampling.

    Returns:
        `list[OtherCaption]`: n results, in the same order. Captions are without the prompt.
    """
    try:
        return _generate(captioner, pictures, prompt, decoding)
    except torch.cuda.OutOfMemoryError:
        if len(pictures) == 1:
            raise
    half = len(pictures) // 2
    first = caption_pictures(captioner, pictures[:half], prompt, decoding)
    return first + caption_pictures(captioner, pictures[half:], prompt, decoding)


def check_captioner(captioner: OtherCaptioner, name: str, prompt: str) -> None:
    """Caption a gray picture with one token, to find out now what would fail with every image.

    Raises:
        ModelError: Model, processor and prompt do not go together.
    """
    gray = Image.new("RGB", (96, 96), (128, 128, 128))
    try:
        _generate(captioner, [gray], prompt, DecodingOptions(num_beams=1, max_new_tokens=1))
    except BlipRefineError:
        raise
    except Exception as error:  # a stranger's processor may raise anything
        reason = " ".join(str(error).split()).rstrip(".")[:300] or type(error).__name__
        hint = "" if prompt else " It may need a prompt."
        raise ModelError(f"{name} cannot caption an image as it is: {reason}.{hint}") from error


def model_inputs(captioner: OtherCaptioner, pictures: Sequence[Image.Image], prompt: str) -> Any:
    """What the processor makes of pictures and prompt, as tensors on the CPU."""
    processor = captioner.processor
    if captioner.chats:
        chats = [
            [{"role": "user", "content": [{"type": "image", "image": one}, {"type": "text", "text": prompt}]}]
            for one in pictures
        ]
        return processor.apply_chat_template(
            chats,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            add_generation_prompt=True,
            processor_kwargs={"padding": True},
        )
    images = list(pictures)
    if not prompt:
        return processor(images=images, return_tensors="pt")
    if captioner.family == "git":
        # The end token would end the caption: https://huggingface.co/docs/transformers/model_doc/git
        inputs = processor(images=images, return_tensors="pt")
        tokens = captioner.tokenizer(prompt, add_special_tokens=False).input_ids
        inputs["input_ids"] = torch.tensor([[captioner.tokenizer.cls_token_id, *tokens]] * len(images))
        return inputs
    return processor(images=images, text=[prompt] * len(images), padding=True, return_tensors="pt")


@torch.inference_mode()
def _generate(
    captioner: OtherCaptioner, pictures: Sequence[Image.Image], prompt: str, decoding: DecodingOptions | None
) -> list[OtherCaption]:
    model = captioner.model
    parameter = next(model.parameters())
    inputs = model_inputs(captioner, pictures, prompt)
    if "token_type_ids" in inputs and "token_type_ids" not in inspect.signature(model.forward).parameters:
        del inputs["token_type_ids"]  # of the tokenizer; `generate` refuses what the model does not take
    mask, text = inputs.get("attention_mask"), inputs.get("input_ids")
    read = [0] * len(pictures)
    if text is not None:
        read = (torch.ones_like(text) if mask is None else mask).sum(-1).tolist()
    dtype = parameter.dtype if parameter.is_floating_point() else getattr(model, "dtype", torch.float32)
    inputs = inputs.to(parameter.device, dtype)
    arguments: dict[str, Any] = {"do_sample": False, "max_new_tokens": LONGEST[captioner.chats]}
    if decoding is not None:
        arguments = stock_arguments(decoding)
    if not arguments["do_sample"]:
        # Of a generation_config.json that samples; without sampling they only make a warning.
        arguments |= {"temperature": None, "top_p": None, "top_k": None}
    seed = None if decoding is None else decoding.seed
    with nullcontext() if seed is None else torch.random.fork_rng():
        if seed is not None:
            torch.manual_seed(seed)
        made = model.generate(**inputs, **arguments, return_dict_in_generate=True, output_logits=True)
    return _decoded(captioner, made, read)


def _decoded(captioner: OtherCaptioner, made: Any, read: Sequence[int]) -> list[OtherCaption]:
    """Texts and confidences of what stock `generate` returned."""
    steps = len(made.logits)
    beams = getattr(made, "beam_indices", None)
    written = made.sequences[:, made.sequences.shape[-1] - _length(beams, steps) :]
    ends = _end_tokens(captioner)
    rows = len(written)
    sums = torch.zeros(rows)
    lengths = [0] * rows
    running = [True] * rows
    for step in range(written.shape[1]):
        source = torch.arange(rows) if beams is None else beams[:, step].cpu()
        logits = made.logits[step].float()
        chosen = logits[source.clamp(min=0).to(logits.device)].log_softmax(-1)
        values = chosen.gather(1, written[:, step : step + 1]).squeeze(1).cpu()
        for row in range(rows):
            if running[row] and source[row] >= 0:
                sums[row] += values[row]
                lengths[row] += 1
                running[row] = int(written[row, step]) not in ends
    several = rows // len(read)
    tokens = [tuple(row[:length]) for row, length in zip(written.tolist(), lengths, strict=True)]
    texts = [" ".join(text.split()) for text in captioner.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
    means = [float(total) / length if length else 0.0 for total, length in zip(sums, lengths, strict=True)]
    captions = []
    for image, count in enumerate(read):
        own = slice(image * several, (image + 1) * several)
        decoded = DecodedImage(tuple(texts[own]), tuple(means[own]), tuple(tokens[own]))
        captions.append(OtherCaption(decoded, int(count)))
    return captions


def _length(beams: torch.Tensor | None, steps: int) -> int:
    """New tokens of the longest caption: a search may run on after the best one has ended."""
    return steps if beams is None else int((beams >= 0).sum(-1).max())


def _end_tokens(captioner: OtherCaptioner) -> set[int]:
    """The tokens that end a caption."""
    configured = getattr(captioner.model.generation_config, "eos_token_id", None)
    ends = list(configured) if isinstance(configured, (list, tuple)) else [configured]
    ends += [getattr(captioner.tokenizer, name, None) for name in ("eos_token_id", "sep_token_id")]
    return {int(end) for end in ends if end is not None}
