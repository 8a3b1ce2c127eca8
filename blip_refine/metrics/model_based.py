"""Metrics that ask a neural network: BERTScore, CLIPScore and RefCLIPScore.

They are computed where the user has the model at hand; nothing is downloaded unless the user names a model on the Hub
and is online. torch and transformers are imported when one of them is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigurationError
from .statistics import MetricStatistics

if TYPE_CHECKING:
    from .families import Job

CLIP_WEIGHT = 2.5
CLIP_PREFIX = "A photo depicts "
"""Weight and prompt of Hessel et al. 2021."""
_BATCH = 32


def _model_of(job: Job, name: str, example: str) -> str:
    model = (job.models or {}).get(name)
    if not model:
        raise ConfigurationError(f"{name} needs a model: pass models={{{name!r}: {example!r}}}, or a local folder.")
    return model


def _loaded(load: Callable[[], Any], name: str, model: str) -> Any:
    try:
        return load()
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()
        raise ConfigurationError(
            f"{name}: the model {model!r} cannot be loaded ({reason[0] if reason else type(error).__name__}). "
            "Name a folder that holds it, or go online once."
        ) from error


def _tag(model: str) -> str:
    return model.rstrip("/\\").replace("\\", "/").split("/")[-1].replace("|", "-")


def bertscore(job: Job) -> tuple[dict[str, MetricStatistics], str]:
    """BERTScore F1 (Zhang et al. 2020, section 3): for each image the best over its references.

    Greedy matching of the last hidden states, special tokens left out of both sums, no idf weights and no baseline
    subtracted. Captions are compared as they were written, not as Penn Treebank tokens.

    Raises:
        ConfigurationError: No model was named, or it cannot be loaded.
    """
    name = _model_of(job, "BERTScore", "FacebookAI/roberta-large")
    from transformers import AutoModel, AutoTokenizer

    model = _loaded(lambda: AutoModel.from_pretrained(name).eval(), "BERTScore", name)
    tokenizer = _loaded(lambda: AutoTokenizer.from_pretrained(name), "BERTScore", name)
    ids = job.references.ids
    groups = [[job.predictions[image_id], *job.references[image_id]] for image_id in ids]
    vectors = iter(_embed_words(model, tokenizer, [text for group in groups for text in group]))
    scores = np.zeros(len(ids))
    for place, group in enumerate(groups):
        own, *others = [next(vectors) for _ in group]
        scores[place] = max(_greedy_f1(own, other) for other in others)
    return job.mean_of("BERTScore", scores), f"bertscore:{_tag(name)}.f1.last-layer.best-reference"


def _greedy_f1(own: np.ndarray, other: np.ndarray) -> float:
    """F1 of two captions from the unit vectors of their tokens, each matched with the most similar of the other."""
    if not len(own) or not len(other):
        return 0.0
    likeness = own @ other.T
    precision, recall = float(likeness.max(axis=1).mean()), float(likeness.max(axis=0).mean())
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _embed_words(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[np.ndarray]:
    """Unit vectors of the tokens of each text, special tokens left out."""
    import torch

    found = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            inputs = tokenizer(
                list(texts[start : start + _BATCH]),
                padding=True,
                truncation=True,
                return_tensors="pt",
                return_special_tokens_mask=True,
            )
            special = inputs.pop("special_tokens_mask").numpy().astype(bool)
            states = model(**inputs).last_hidden_state.float().numpy().astype(np.float64)
            for vectors, left_out in zip(states, special, strict=True):
                kept = vectors[~left_out]
                found.append(kept / np.linalg.norm(kept, axis=1, keepdims=True))
    return found


def clipscore(job: Job) -> tuple[dict[str, MetricStatistics], str]:
    """CLIPScore and RefCLIPScore (Hessel et al. 2021, "CLIPScore", equations 1 and 2) by a CLIP of `transformers`.

    CLIPScore is `2.5 max(cos(image, caption), 0)`; RefCLIPScore the harmonic mean of that and of
    `max(0, max over references of cos(reference, caption))`. Both are means over images.

    Raises:
        ConfigurationError: No pictures or no model, or the model cannot be loaded.
    """
    ids = job.references.ids
    if not job.images:
        raise ConfigurationError("CLIPScore looks at the pictures: pass images={image_id: path}.")
    missing = [image_id for image_id in ids if image_id not in job.images]
    if missing:
        raise ConfigurationError(f"CLIPScore: {len(missing)} images have no picture ({missing[0]!r}, ...).")
    model_name = _model_of(job, "CLIPScore", "openai/clip-vit-base-patch32")
    from transformers import CLIPModel, CLIPProcessor

    model = _loaded(lambda: CLIPModel.from_pretrained(model_name).eval(), "CLIPScore", model_name)
    processor = _loaded(lambda: CLIPProcessor.from_pretrained(model_name), "CLIPScore", model_name)
    captions = _embed_texts(model, processor, [CLIP_PREFIX + job.predictions[image_id] for image_id in ids])
    pictures = _embed_images(model, processor, [job.images[image_id] for image_id in ids])
    clip = CLIP_WEIGHT * np.maximum((captions * pictures).sum(axis=1), 0.0)
    found: dict[str, MetricStatistics] = {}
    if "CLIPScore" in job.wanted:
        found.update(job.mean_of("CLIPScore", clip))
    if "RefCLIPScore" in job.wanted:
        flat = [CLIP_PREFIX + caption for image_id in ids for caption in job.references[image_id]]
        sizes = np.array([len(job.references[image_id]) for image_id in ids])
        likeness = (_embed_texts(model, processor, flat) * np.repeat(captions, sizes, axis=0)).sum(axis=1)
        best = np.maximum(np.maximum.reduceat(likeness, np.concatenate([[0], np.cumsum(sizes)[:-1]])), 0.0)
        both = clip + best
        harmonic = np.divide(2 * clip * best, both, out=np.zeros_like(both), where=both > 0)
        found.update(job.mean_of("RefCLIPScore", harmonic))
    return found, f"clipscore:{_tag(model_name)}"


def _normalized(batches: list[Any]) -> np.ndarray:
    vectors = np.concatenate([batch.detach().float().cpu().numpy() for batch in batches]).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _projected(output: Any) -> Any:
    """transformers 5 returns an output object where earlier releases returned the projected vectors."""
    return output.pooler_output if hasattr(output, "pooler_output") else output


def _embed_texts(model: Any, processor: Any, texts: Sequence[str]) -> np.ndarray:
    import torch

    batches = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            inputs = processor.tokenizer(
                list(texts[start : start + _BATCH]), padding=True, truncation=True, return_tensors="pt"
            )
            batches.append(_projected(model.get_text_features(**inputs)))
    return _normalized(batches)


def _embed_images(model: Any, processor: Any, paths: Sequence[Any]) -> np.ndarray:
    import torch
    from PIL import Image

    batches = []
    with torch.inference_mode():
        for start in range(0, len(paths), _BATCH):
            pictures = []
            for path in paths[start : start + _BATCH]:
                with Image.open(path) as picture:
                    pictures.append(picture.convert("RGB"))
            inputs = processor.image_processor(pictures, return_tensors="pt")
            batches.append(_projected(model.get_image_features(**inputs)))
    return _normalized(batches)
