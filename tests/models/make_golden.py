"""Write `golden.json` and `golden.png`: what the starter says, scores and learns, according to stock `transformers`.

    python -m tests.models.make_golden

The pictures are drawn once and kept, since another version of Pillow may draw another pixel. Captions, scores, loss
and gradient come from the stock model class with eager attention; only the five diverse captions come from this
package, as `transformers` no longer ships diverse beam search. Make it anew only if the starter itself changes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from PIL import Image

from blip_refine.models.captioner import load_captioner
from blip_refine.models.decoding import DecodingOptions, generate_captions

from .stock import stock_captions

HERE = Path(__file__).resolve().parent
STARTER = HERE.parent.parent / "blip_refine" / "starter"
SIDE = 96
COUNT = 8
PROMPT = "a picture of"
SETTINGS: dict[str, dict[str, Any]] = {
    "accurate": {"num_beams": 5, "max_new_tokens": 30, "early_stopping": True},
    "fast": {"num_beams": 1, "max_new_tokens": 20},
    "prompt": {"num_beams": 3, "max_new_tokens": 30, "early_stopping": False, "length_penalty": 0.8},
}
LEARNING_RATE = 0.05


def golden_options(name: str) -> DecodingOptions:
    """One of `SETTINGS`, as the options of this package."""
    return DecodingOptions(**SETTINGS[name], prompt=PROMPT if name == "prompt" else "")


def draw_pictures() -> Image.Image:
    """Pictures of both demonstration worlds, side by side, at the size that the starter reads."""
    from blip_refine.data.images import load_image
    from blip_refine.data.sources.scenes import load_scenes

    records = [*load_scenes("everyday", "test", count=COUNT), *load_scenes("adventure", "test", count=COUNT)]
    sheet = Image.new("RGB", (SIDE * len(records), SIDE))
    for number, record in enumerate(records):
        sheet.paste(load_image(record.image).resize((SIDE, SIDE), Image.Resampling.BICUBIC), (SIDE * number, 0))
    return sheet


def golden_pixels() -> torch.Tensor:
    """The pictures as the starter takes them: `(16, 3, 96, 96)`, normalized with CLIP's mean and deviation."""
    sheet = torch.from_numpy(np.asarray(Image.open(HERE / "golden.png").convert("RGB")).copy())
    pictures = sheet.view(SIDE, -1, SIDE, 3).permute(1, 3, 0, 2).float() / 255
    settings = json.loads((STARTER / "processor_config.json").read_text(encoding="utf-8"))["image_processor"]
    mean, std = (torch.tensor(settings[name]).view(3, 1, 1) for name in ("image_mean", "image_std"))
    return (pictures - mean) / std


def golden_captions() -> list[str]:
    """One text for each picture: what the model says of it with beams, and of its neighbor for every second one."""
    accurate = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))["decoding"]["accurate"]
    texts = [image["text"] for image in accurate]
    return [texts[k] if k % 2 else texts[k - 1] for k in range(len(texts))]


def stock_model(dtype: torch.dtype = torch.float32) -> Any:
    """The starter in the stock class, with the attention that computes step by step."""
    model = transformers.BlipForConditionalGeneration.from_pretrained(STARTER, attn_implementation="eager")
    return model.to(dtype).eval()


def stock_decoding(model: Any, processor: Any, pixels: torch.Tensor, name: str) -> list[dict[str, Any]]:
    """Text, tokens and mean log-probability of each picture by stock `generate`."""
    decoded = stock_captions(model, processor, pixels, golden_options(name))
    return [{"text": one.texts[0], "tokens": list(one.tokens[0]), "log_prob": one.log_probs[0]} for one in decoded]


def text_batch(processor: Any, texts: list[str], start: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Tokens padded on the right, and labels: `(texts, length)` each."""
    tokens = processor.tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")["input_ids"]
    tokens[:, 0] = start
    labels = tokens.masked_fill(tokens == processor.tokenizer.pad_token_id, -100)
    labels[:, 0] = -100
    return tokens, labels


def stock_scores(model: Any, tokens: torch.Tensor, labels: torch.Tensor, pixels: torch.Tensor) -> list[float]:
    """Summed log-probability of each text for its picture."""
    with torch.no_grad():
        logits = model(pixel_values=pixels, input_ids=tokens).logits[:, :-1].float()
    losses = F.cross_entropy(logits.transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none")
    return [-float(value) for value in losses.sum(1)]


def stock_step(pixels: torch.Tensor, tokens: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    """Loss, norm of the gradient, and loss after one step of gradient descent, in float64."""
    model = stock_model(torch.float64)
    loss = model(pixel_values=pixels.double(), input_ids=tokens, labels=labels).loss
    loss.backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= LEARNING_RATE * parameter.grad
        after = model(pixel_values=pixels.double(), input_ids=tokens, labels=labels).loss
    return {"loss": float(loss.detach()), "gradient_norm": float(norm), "loss_after_a_step": float(after)}


def main() -> None:
    draw_pictures().save(HERE / "golden.png", optimize=True)
    processor = transformers.BlipProcessor.from_pretrained(STARTER)
    pixels, model = golden_pixels(), stock_model()
    golden: dict[str, Any] = {
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__.partition("+")[0]},
        "decoding": {name: stock_decoding(model, processor, pixels, name) for name in SETTINGS},
    }
    ours, _ = load_captioner("starter")
    golden["candidates"] = [
        {"tokens": [list(tokens) for tokens in image.tokens], "log_probs": list(image.log_probs)}
        for image in generate_captions(ours, processor, pixels, "candidates")
    ]
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1), encoding="utf-8")
    tokens, labels = text_batch(processor, golden_captions(), model.config.text_config.bos_token_id)
    golden["scores"] = stock_scores(model, tokens, labels, pixels)
    golden["training"] = stock_step(pixels, tokens, labels)
    (HERE / "golden.json").write_text(json.dumps(golden, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
