"""Several captions per image for a refiner, without changing the one that the captioner itself would say."""

from __future__ import annotations

from .decoding import DecodedImage, DecodingOptions


def with_candidates(decoding: DecodingOptions, needed: int) -> tuple[DecodingOptions, DecodingOptions | None]:
    """How to decode `needed` captions per image.

    Args:
        decoding ([`DecodingOptions`]): How drafts are decoded.
        needed (`int`): Captions per image, the draft included.

    Returns:
        `tuple`: The options for the draft, which return more of their beams if they have enough of them; and the
        options of a second, wider search where they have not, else `None`.
    """
    if decoding.num_return_sequences >= needed:
        return decoding, None
    if not decoding.do_sample and decoding.num_beams >= needed:
        # The first of several returned beams is what the search returns alone.
        return decoding.with_changes(num_return_sequences=needed), None
    beams = decoding.num_beams
    if not (decoding.do_sample and beams == 1) and beams < needed:
        groups = decoding.num_beam_groups
        beams = -(-needed // groups) * groups
    return decoding, decoding.with_changes(num_beams=beams, num_return_sequences=needed)


def add_candidates(drafted: DecodedImage, wide: DecodedImage) -> DecodedImage:
    """The draft of one search, and behind it the other captions of a wider one."""
    first = drafted.texts[0]
    others = [place for place, text in enumerate(wide.texts) if text != first]
    return DecodedImage(
        texts=(first, *(wide.texts[place] for place in others)),
        log_probs=(drafted.log_probs[0], *(wide.log_probs[place] for place in others)),
        tokens=(drafted.tokens[0], *(wide.tokens[place] for place in others)),
    )
