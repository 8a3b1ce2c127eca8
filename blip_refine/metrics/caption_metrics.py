"""The metrics where other libraries want them: `compute_metrics` of a `Seq2SeqTrainer`, and an `evaluate.Metric`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import ConfigurationError, MetricError, MissingExtraError
from .families import metric_names
from .references import PreparedReferences
from .score import CaptionScores, score_captions

IGNORED = -100
"""The label that a loss passes over; no tokenizer can decode it."""

DEFAULT_METRICS = ("Bleu", "ROUGE_L", "CIDEr")
"""What needs no Java and is fast enough for an evaluation during training."""


class CaptionMetrics:
    """COCO scores with the interface of `evaluate.Metric`, and as a `compute_metrics` callable.

    ```python
    metric = CaptionMetrics()
    metric.add_batch(predictions=["a dog"], references=[["a dog runs", "a brown dog"]])
    metric.compute()                                  # {"Bleu_1": ..., "CIDEr": ...}; needs no network

    trainer = Seq2SeqTrainer(..., compute_metrics=CaptionMetrics(tokenizer=processor.tokenizer),
                             args=Seq2SeqTrainingArguments(..., predict_with_generate=True))
    ```

    Where the evaluation set has one row an image, pass the references of each row, in the order of the set; the
    labels, of which there is one a row, are used otherwise.

    Args:
        metrics (`Sequence[str]`, defaults to `("Bleu", "ROUGE_L", "CIDEr")`): Which to compute.
        tokenizer (`PreTrainedTokenizerBase`, *optional*): Turns token ids into text; for `compute_metrics`.
        references (`Sequence[Sequence[str]]`, *optional*): All references of each row of the evaluation set.
    """

    name = "caption_metrics"

    def __init__(
        self,
        metrics: Sequence[str] = DEFAULT_METRICS,
        tokenizer: Any = None,
        references: Sequence[Sequence[str]] | None = None,
    ):
        self.metrics = metric_names(metrics)
        self.tokenizer = tokenizer
        self.references = None if references is None else PreparedReferences(_named(references, "references"))
        self.last: CaptionScores | None = None
        self._predictions: list[str] = []
        self._references: list[Sequence[str]] = []

    def add(self, *, prediction: str, references: Sequence[str] | str) -> None:
        """Add one caption with its references."""
        self.add_batch(predictions=[prediction], references=[references])

    def add_batch(self, *, predictions: Sequence[str], references: Sequence[Sequence[str] | str]) -> None:
        """Add captions with the references of each."""
        if isinstance(predictions, str) or len(predictions) != len(references):
            raise MetricError(
                f"{len(predictions)} predictions and the references of {len(references)}: one list of references a "
                "prediction is needed."
            )
        self._predictions.extend(predictions)
        self._references.extend([group] if isinstance(group, str) else list(group) for group in references)

    def compute(
        self,
        *,
        predictions: Sequence[str] | None = None,
        references: Sequence[Sequence[str] | str] | None = None,
        **options: Any,
    ) -> dict[str, float]:
        """Score what was added, and what is given here; then forget it.

        Args:
            predictions (`Sequence[str]`, *optional*): Further captions.
            references (`Sequence[Sequence[str]]`, *optional*): Their references.
            options: Options of [`score_captions`].

        Returns:
            `dict[str, float]`: Metric to score. All else that is known of the scores is in `last`.
        """
        if predictions is not None and references is not None:
            self.add_batch(predictions=predictions, references=references)
        elif predictions is not None or references is not None:
            raise MetricError("compute needs predictions and references, or neither.")
        texts, groups = self._predictions, self._references
        self._predictions, self._references = [], []
        if not texts:
            raise MetricError("There is nothing to score: add captions first.")
        return self._score(texts, PreparedReferences(_named(groups, "references")), **options)

    def _score(self, texts: Sequence[str], references: PreparedReferences, **options: Any) -> dict[str, float]:
        if len(texts) != len(references):
            raise MetricError(f"{len(texts)} predictions for the references of {len(references)} rows.")
        predictions = dict(zip(references.ids, texts, strict=True))
        options.setdefault("allow_empty", True)
        self.last = score_captions(predictions, references, self.metrics, **options)
        return dict(self.last.corpus)

    def __call__(self, evaluation: Any) -> dict[str, float]:
        """As `compute_metrics`: decode an `EvalPrediction` of generated token ids, and score it.

        Raises:
            ConfigurationError: There is no tokenizer.
            MetricError: The predictions are logits: the Trainer was not told to generate.
        """
        if self.tokenizer is None:
            raise ConfigurationError("CaptionMetrics needs the tokenizer to decode token ids: tokenizer=...")
        predictions, labels = evaluation.predictions, evaluation.label_ids
        texts = self._decode(predictions[0] if isinstance(predictions, tuple) else predictions)
        if self.references is not None:
            return self._score(texts, self.references)
        captions = self._decode(labels[0] if isinstance(labels, tuple) else labels)
        return self._score(texts, PreparedReferences(_named([[caption] for caption in captions], "labels")))

    def _decode(self, ids: Any) -> list[str]:
        ids = np.asarray(ids)
        if ids.ndim != 2 or not np.issubdtype(ids.dtype, np.integer):
            raise MetricError(
                f"Expected token ids of shape (rows, length), got {ids.dtype} of shape {ids.shape}: set "
                "predict_with_generate=True."
            )
        padding = self.tokenizer.pad_token_id
        ids = np.where(ids == IGNORED, 0 if padding is None else padding, ids)
        return [text.strip() for text in self.tokenizer.batch_decode(ids, skip_special_tokens=True)]

    def to_evaluate(self) -> Any:
        """The same as a real `evaluate.Metric`, for `evaluate.combine` and `evaluate.evaluator`. Needs no network.

        Raises:
            MissingExtraError: `evaluate` is not installed.
        """
        try:
            import datasets
            import evaluate
        except ImportError as error:
            raise MissingExtraError("evaluate", "evaluate", "make an `evaluate.Metric`") from error
        outer = self

        class EvaluateCaptionMetrics(evaluate.Metric):
            def _info(self):
                text = datasets.Value("string")
                several = {"predictions": text, "references": datasets.Sequence(text)}
                return evaluate.MetricInfo(
                    description="COCO caption scores without Java",
                    citation="",
                    features=[
                        datasets.Features(several),
                        datasets.Features({"predictions": text, "references": text}),
                    ],
                )

            def _compute(self, predictions, references, **options):
                return outer.compute(predictions=predictions, references=references, **options)

        return EvaluateCaptionMetrics()


def _named(groups: Sequence[Sequence[str]], what: str) -> Mapping[str, Sequence[str]]:
    """Rows by their number, counted from 0."""
    if isinstance(groups, (str, Mapping)):
        raise MetricError(f"{what} must be a list with the references of each row.")
    return {str(number): group for number, group in enumerate(groups)}
