"""sacreBLEU over captions, with references that may vary in number."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import MetricError


def corpus_sacrebleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = True
) -> tuple[float, str]:
    """Corpus BLEU by sacreBLEU, on its scale of 0 to 100.

    sacreBLEU wants one *stream* a reference number, not one list an image; the transposition is done here, and images
    with fewer references are padded with `None`, which sacreBLEU passes over.

    Args:
        predictions (`Sequence[str]`): One caption an image.
        references (`Sequence[Sequence[str]]`): The references of each image, in the order of the predictions.
        lowercase (`bool`, defaults to `True`): Compare without case. BLIP's own vocabulary has no capitals, so that
            cased references would count every capital as an error. The signature says `case:lc`.

    Returns:
        `tuple[float, str]`: The score, and sacreBLEU's signature.

    Raises:
        MetricError: Lists of different lengths, wrong nesting, or an image without references.
    """
    if isinstance(predictions, str) or any(not isinstance(text, str) for text in predictions):
        raise MetricError("sacreBLEU: predictions must be a list of strings, one an image.")
    if any(isinstance(group, str) for group in references):
        raise MetricError("sacreBLEU: references must be a list of lists of strings, one list an image.")
    if len(predictions) != len(references):
        raise MetricError(f"sacreBLEU: {len(predictions)} predictions for the references of {len(references)} images.")
    if not predictions:
        raise MetricError("sacreBLEU: there are no predictions to score.")
    without = [place for place, group in enumerate(references) if not any(text is not None for text in group)]
    if without:
        raise MetricError(f"sacreBLEU: {len(without)} images have no reference (the first is number {without[0]}).")

    from sacrebleu.metrics import BLEU

    streams = [
        [group[number] if number < len(group) else None for group in references]
        for number in range(max(len(group) for group in references))
    ]
    metric = BLEU(lowercase=lowercase)
    score = metric.corpus_score(list(predictions), streams).score
    return float(score), str(metric.get_signature())
