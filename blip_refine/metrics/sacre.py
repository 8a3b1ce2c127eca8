"""sacreBLEU over captions, with references that may vary in number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..errors import MetricError


@dataclass(frozen=True)
class SacreBleu:
    """A sacreBLEU score with what it was computed of.

    Args:
        score (`float`): Corpus BLEU on sacreBLEU's scale of 0 to 100.
        signature (`str`): sacreBLEU's own signature; `case:lc` where case was ignored.
        references (`str`): "all" or "first".
    """

    score: float
    signature: str
    references: str


def corpus_sacrebleu(
    predictions: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = True
) -> tuple[float, str]:
    """Corpus BLEU by sacreBLEU (Post 2018), on its scale of 0 to 100.

    sacreBLEU wants one *stream* a reference number, not one list an image, and answers a list an image with a wrong
    number and no error. The transposition is done here, and images with fewer references are padded with `None`,
    which sacreBLEU passes over.

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
    report = _score(predictions, references, lowercase, "all")
    return report.score, report.signature


def bleu_reports(
    predictions: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool = True
) -> dict[str, SacreBleu]:
    """sacreBLEU against all references and against the first one alone.

    BLEU grows with the number of references; a score against one caption an image cannot be set beside one against
    five. Both are reported where both can be.

    Args:
        predictions (`Sequence[str]`): One caption an image.
        references (`Sequence[Sequence[str]]`): The references of each image.
        lowercase (`bool`, defaults to `True`): Compare without case.

    Returns:
        `dict[str, SacreBleu]`: `"all"`, and `"first"` where an image has more than one reference.
    """
    reports = {"all": _score(predictions, references, lowercase, "all")}
    if any(len(group) > 1 for group in references):
        reports["first"] = _score(predictions, [list(group)[:1] for group in references], lowercase, "first")
    return reports


def _score(predictions: Sequence[str], references: Sequence[Sequence[str]], lowercase: bool, which: str) -> SacreBleu:
    _check(predictions, references)
    from sacrebleu.metrics import BLEU

    streams = [
        [group[number] if number < len(group) else None for group in references]
        for number in range(max(len(group) for group in references))
    ]
    metric = BLEU(lowercase=lowercase)
    score = metric.corpus_score(list(predictions), streams).score
    return SacreBleu(float(score), str(metric.get_signature()), which)


def _check(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if isinstance(predictions, str) or any(not isinstance(text, str) for text in predictions):
        raise MetricError("sacreBLEU: predictions must be a list of strings, one an image.")
    if any(isinstance(group, str) or any(not isinstance(text, str) for text in group) for group in references):
        raise MetricError("sacreBLEU: references must be a list of lists of strings, one list an image.")
    if len(predictions) != len(references):
        raise MetricError(
            f"sacreBLEU: {len(predictions)} predictions for the references of {len(references)} images. References "
            "are one list an image, not one list a reference number."
        )
    if not predictions:
        raise MetricError("sacreBLEU: there are no predictions to score.")
    without = [place for place, group in enumerate(references) if not len(group)]
    if without:
        raise MetricError(f"sacreBLEU: {len(without)} images have no reference (the first is number {without[0]}).")
