"""What is known of a whole set of captions beside its scores: how varied it is, and how probable the references are.

These are properties of the set. A caption has no vocabulary of its own, so that none of them is tested image by image.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import ConfigurationError, MetricError
from ..metrics.diversity import caption_diversity, caption_set_diversity
from ..records import Caption, CaptionRecord

if TYPE_CHECKING:
    from ..pipeline import CaptionPipeline

WITHIN_IMAGE = ("self_bleu", "mBLEU_1", "mBLEU_2", "mBLEU_3", "mBLEU_4", "div_1", "div_2")
"""Measures that need several captions of each image."""

ONE_CAPTION = "there is one caption per image; decode several (--decoding candidates, or --num-return-sequences 5)"
OF_TRAINING = (
    "training scores one caption per image; evaluate and compare decode several (--decoding candidates, or "
    "--num-return-sequences 5)"
)
OF_A_REFINER = "a refiner gives one caption per image"
NO_TRAINING_CAPTIONS = "the captions of the training set are not at hand"


def diversity_row(
    captions: Mapping[str, str],
    candidates: Mapping[str, Sequence[str]] | None = None,
    *,
    why_one: str = ONE_CAPTION,
    training_captions: Iterable[str] | None = None,
) -> dict[str, Any]:
    """How varied captions are, as `diversity` of a system in `coco_metrics.json`.

    Args:
        captions (`Mapping[str, str]`): Image id to caption.
        candidates (`Mapping[str, Sequence[str]]`, *optional*): Image id to all captions of that image, its caption
            among them.
        why_one (`str`, *optional*): Why there are no candidates, where there are none.
        training_captions (`Iterable[str]`, *optional*): What the captioner was trained on, for `novel_captions`.

    Returns:
        `dict`: The fields of [`Diversity`]; with several captions per image `captions_per_image`, `self_bleu` (Zhu et
        al. 2018), `mBLEU_1` to `mBLEU_4`, `div_1` and `div_2` (Shetty et al. 2017; Wang & Chan 2019); and under
        `unavailable` each measure that could not be computed, with the reason.
    """
    row: dict[str, Any] = caption_diversity(captions, training_captions=training_captions).to_dict()
    unavailable: dict[str, str] = {}
    if training_captions is None:
        unavailable["novel_captions"] = NO_TRAINING_CAPTIONS
    groups = {image_id: list((candidates or {}).get(image_id, ())) for image_id in captions}
    if all(len(group) < 2 for group in groups.values()):
        unavailable |= dict.fromkeys(WITHIN_IMAGE, why_one)
    else:
        try:
            within = caption_set_diversity(groups)
        except MetricError as error:
            unavailable |= dict.fromkeys(WITHIN_IMAGE, str(error))
        else:
            row["captions_per_image"] = sum(map(len, groups.values())) / len(groups)
            row |= within.to_dict()
    return {**row, "unavailable": unavailable} if unavailable else row


def diversity_of(captions: Mapping[str, Caption], **options: Any) -> dict[str, Any]:
    """[`diversity_row`] of captions with their candidates.

    Args:
        captions (`Mapping[str, Caption]`): Image id to caption, without prompts.
        **options: Those of [`diversity_row`].
    """
    texts = {image_id: caption.text for image_id, caption in captions.items()}
    if any(caption.outcome is not None for caption in captions.values()):
        return diversity_row(texts, why_one=OF_A_REFINER, **options)
    return diversity_row(texts, {key: caption.candidates for key, caption in captions.items()}, **options)


def reference_loss(
    pipeline: CaptionPipeline, records: Sequence[CaptionRecord], *, batch_size: int | None = None
) -> dict[str, Any]:
    """The test loss: mean negative log-likelihood of the references' tokens under a captioner, by teacher forcing.

    `-sum log p(caption | image, prompt) / sum tokens`, over all references of all images, end tokens included and
    without label smoothing. It does not depend on how captions are decoded. Lower is better; it can only be compared
    between captioners with the same tokenizer.

    Args:
        pipeline ([`CaptionPipeline`]): The captioner, with its prompts.
        records (`Sequence[CaptionRecord]`): Images with their references. Images that cannot be read are left out.
        batch_size (`int`, *optional*): Images at once; that of the pipeline by default.

    Returns:
        `dict`: `nats_per_token`, `tokens`, `captions` and `images`, as `test_loss` of a system in
        `coco_metrics.json`; or `unavailable` with the reason.
    """
    if pipeline.refiner is not None:
        return {"unavailable": "a refiner changes captions and gives no likelihood"}
    size = batch_size or pipeline.batch_size
    total, tokens, captions, images = 0.0, 0, 0, 0
    try:
        for start in range(0, len(records), size):
            batch = records[start : start + size]
            for scores in pipeline.score_references(batch):
                total -= math.fsum(score.log_prob for score in scores)
                tokens += sum(score.tokens for score in scores)
                captions, images = captions + len(scores), images + bool(scores)
    except ConfigurationError as error:
        return {"unavailable": str(error)}
    if not tokens:
        return {"unavailable": "no image could be read"}
    return {"nats_per_token": total / tokens, "tokens": tokens, "captions": captions, "images": images}


def loss_of(system: Any, records: Sequence[CaptionRecord] | None) -> dict[str, Any]:
    """[`reference_loss`] of a system, or why it has none.

    Args:
        system (`System`): What captioned the images.
        records (`Sequence[CaptionRecord]`, *optional*): The images with their references.
    """
    from ..pipeline import CaptionPipeline

    pipeline = getattr(system, "pipeline", None)
    if not records or not isinstance(pipeline, CaptionPipeline):
        return {"unavailable": "only a captioner of this package says how probable a text is"}
    return reference_loss(pipeline, records)
