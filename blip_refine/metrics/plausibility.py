"""What a reader of scores must be told: too few images, and scores too good to be true."""

from __future__ import annotations

from collections.abc import Mapping

FEW_IMAGES = 100
"""Below so many images most phrases are as rare as any other, and CIDEr measures the set more than the captions."""

CEILINGS = {"Bleu_4": 0.6, "CIDEr": 3.0}
"""What no captioner reaches on natural photos. On COCO people among themselves reach a BLEU-4 of about 0.2 and a CIDEr
of about 0.9, and the best models 0.45 and 1.55."""

LEAKS = (
    "the usual reasons are references given to `generate` as input_ids (generate from pixel_values alone), evaluation "
    "images among the training images, or predictions that were copied from the references"
)


def score_warnings(
    corpus: Mapping[str, float], n_images: int, frozen_frequencies: bool, n_empty: int, photos: bool = True
) -> list[str]:
    """Sentences that belong beside these scores.

    Args:
        corpus (`Mapping[str, float]`): Metric to score.
        n_images (`int`): How many images were scored.
        frozen_frequencies (`bool`): Whether CIDEr's document frequencies came from elsewhere.
        n_empty (`int`): How many predictions were empty.
        photos (`bool`, defaults to `True`): Whether the images are natural photos; of drawings far more can be said
            exactly.
    """
    warnings = []
    if "CIDEr" in corpus and n_images < FEW_IMAGES and not frozen_frequencies:
        warnings.append(
            f"CIDEr over {n_images} images says little: it weighs phrases by how rare they are among these images. "
            f"Do not set it beside published numbers; score {FEW_IMAGES} images or more, or pass document_frequencies."
        )
    high = {name: corpus[name] for name, ceiling in CEILINGS.items() if corpus.get(name, 0.0) > ceiling}
    if high and photos:
        found = ", ".join(f"{name} {value:.3f} (over {CEILINGS[name]:g})" for name, value in high.items())
        warnings.append(
            f"Too good to be true on natural photos: {found}. If these are photos, {LEAKS}. "
            "`blip-refine doctor` looks for all of them."
        )
    if n_empty:
        warnings.append(f"{n_empty} of {n_images} predictions are empty, and were scored as they are.")
    return warnings
