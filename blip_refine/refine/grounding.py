"""What the guards that look at a picture are handed: a captioner's likelihood, and an image-text matching model.

Both are functions from a request and captions to a number for each caption, as `GroundingGuard`, `MatchingGuard` and
`ConsensusRefiner(likelihood=...)` take them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ..data.images import load_image
from ..errors import ConfigurationError, ModelError
from ..records import RefineRequest
from .guards import Scorer


def captioner_likelihood(model: str | os.PathLike | Any = "starter", processor: Any = None) -> Scorer:
    """Mean natural log-probability of a caption's tokens, its end included, given the picture.

    Casing and a final stop do not count: the captioner never writes them.

    Args:
        model (`str`, `os.PathLike` or `nn.Module`, defaults to `"starter"`): A captioner: loaded, or where to load it.
        processor ([`BlipProcessor`], *optional*): That of a model which is loaded already.

    Returns:
        `Callable[[RefineRequest, Sequence[str]], list[float]]`: At most 0 each, in nats a token.
    """
    from ..models.scoring import score_texts

    if isinstance(model, (str, os.PathLike)):
        from ..models.captioner import load_captioner

        model, processor = load_captioner(model)
    elif processor is None:
        raise ConfigurationError("A captioner that is loaded already needs its `processor`.")

    def score(request: RefineRequest, captions: Sequence[str]) -> list[float]:
        if request.image is None:
            raise ConfigurationError(f"The request {request.image_id!r} has no image to judge its captions by.")
        pixels = processor.image_processor(images=[load_image(request.image)], return_tensors="pt").pixel_values
        plain = [caption.strip().rstrip(".").lower() for caption in captions]
        device = next(model.parameters()).device
        return [one.mean for one in score_texts(model, processor, pixels.to(device), [plain])[0]]

    return score


def matching_probability(checkpoint: str | os.PathLike | Any, processor: Any = None) -> Scorer:
    """The probability that a caption is of the picture, by a BLIP image-text matching model.

    Args:
        checkpoint (`str`, `os.PathLike` or `nn.Module`): Such as "Salesforce/blip-itm-base-coco", or the loaded model.
        processor ([`BlipProcessor`], *optional*): That of a model which is loaded already.

    Returns:
        `Callable[[RefineRequest, Sequence[str]], list[float]]`: 0 to 1 each.

    Raises:
        ModelError: There is no such checkpoint, or it is no image-text matching model.
    """
    import torch

    if isinstance(checkpoint, (str, os.PathLike)):
        from transformers import BlipForImageTextRetrieval, BlipProcessor

        try:
            model, loading = BlipForImageTextRetrieval.from_pretrained(checkpoint, output_loading_info=True)
            processor = BlipProcessor.from_pretrained(checkpoint)
        except (OSError, ValueError) as error:
            raise ModelError(f"The image-text matching model {str(checkpoint)!r} cannot be loaded: {error}") from error
        unset = [name for name in loading["missing_keys"] if name.startswith("itm_head")]
        if unset:
            raise ModelError(
                f"{str(checkpoint)!r} has no weights for {unset[0]}: it was not trained to match images and texts. "
                "Take one that was, such as Salesforce/blip-itm-base-coco."
            )
    elif processor is None:
        raise ConfigurationError("A matching model that is loaded already needs its `processor`.")
    else:
        model = checkpoint
    model.eval()

    def score(request: RefineRequest, captions: Sequence[str]) -> list[float]:
        if request.image is None:
            raise ConfigurationError(f"The request {request.image_id!r} has no image to judge its captions by.")
        device = next(model.parameters()).device
        pixels = processor.image_processor(images=[load_image(request.image)], return_tensors="pt").pixel_values
        encoded = processor.tokenizer(list(captions), return_tensors="pt", padding=True).to(device)
        with torch.inference_mode():
            output = model(
                pixel_values=pixels.to(device).expand(len(captions), -1, -1, -1),
                input_ids=encoded["input_ids"],
                attention_mask=encoded["attention_mask"],
                use_itm_head=True,
            )
        return output.itm_score.softmax(dim=-1)[:, 1].tolist()

    return score
