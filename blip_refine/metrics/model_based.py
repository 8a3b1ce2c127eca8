"""Metrics that ask a neural network: BERTScore, CLIPScore and RefCLIPScore.

They are computed where the user has the model at hand; nothing is downloaded unless the user names a model on the Hub
and is online. torch and transformers are imported when one of them is asked for, and not before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ConfigurationError, MissingExtraError
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
    """BERTScore F1 (Zhang et al. 2020) by `torchmetrics`: for each image the best over its references, last layer.

    Captions are compared as they were written, not as Penn Treebank tokens. No baseline is subtracted.

    Raises:
        ConfigurationError: No model was named, it cannot be loaded, or `torchmetrics` is not installed.
    """
    model = _model_of(job, "BERTScore", "microsoft/deberta-xlarge-mnli")
    try:
        from torchmetrics.functional.text.bert import bert_score
    except ImportError as error:
        raise MissingExtraError("torchmetrics", "neural", "compute BERTScore") from error
    ids = job.references.ids
    texts = [job.predictions[image_id] for image_id in ids for _ in job.references[image_id]]
    references = [caption for image_id in ids for caption in job.references[image_id]]
    found = _loaded(
        lambda: bert_score(
            texts, references, model_name_or_path=model, batch_size=_BATCH, num_threads=0, verbose=False
        ),
        "BERTScore",
        model,
    )
    f1 = np.atleast_1d(np.asarray(found["f1"], dtype=np.float64))
    sizes = np.array([len(job.references[image_id]) for image_id in ids])
    best = np.maximum.reduceat(f1, np.concatenate([[0], np.cumsum(sizes)[:-1]]))
    return job.mean_of("BERTScore", best), f"bertscore:{_tag(model)}.f1.best-reference"


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
