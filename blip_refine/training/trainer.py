"""`CaptionTrainer`: the Hugging Face Trainer, made right for captioning with BLIP."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import EarlyStoppingCallback, Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from ..data.collator import CaptionCollator
from ..data.dataset import BlipCaptionDataset
from ..data.leakage import ensure_no_overlap
from ..errors import ConfigurationError, DataError
from ..evaluation.systems import CaptionedImage, Evaluation, evaluate_predictions
from ..metrics import corpus_sacrebleu, score_captions
from ..models.captioner import base_model, check_image_size, freeze_vision_encoder
from ..models.decoding import generate_captions
from .arguments import LOSS_METRICS, CaptionTrainingArguments

TRAINING_METRICS = ("CIDEr",)
"""Scored at every evaluation beside sacreBLEU: native and fast. The others wait for `evaluate_coco`."""


class CaptionTrainer(Seq2SeqTrainer):
    """Trains a captioner and measures it by the captions that it generates from pictures alone.

    What it does otherwise than `Seq2SeqTrainer`:

    - `generate` is given pixels and the fixed prompt, never the batch: BLIP takes `input_ids` for a prompt and would
      be handed its own reference captions.
    - The loss is the mean over all label tokens of the accumulated, world-wide batch.
    - Each image is encoded once for all its captions, and captioned once, with all its references.
    - Evaluation whose images are in the training set is refused.

    Args:
        model (`nn.Module`): A captioner of [`load_captioner`].
        args ([`CaptionTrainingArguments`], *optional*): The arguments.
        train_dataset ([`BlipCaptionDataset`], *optional*): What is trained on.
        eval_dataset ([`BlipCaptionDataset`], *optional*): What is evaluated during training. Without one, evaluation
            and the choice of the best checkpoint are switched off.
        processing_class ([`BlipProcessor`]): The captioner's processor; saved with every checkpoint.
        data_collator (`Callable`, *optional*): Defaults to a [`CaptionCollator`] made from the arguments.
        compute_metrics (`Callable`, *optional*): Called with an `EvalPrediction` of generated captions
            (`predictions`, `list[str]`) and all references (`label_ids`, `list[list[str]]`); its numbers join ours.
        callbacks, optimizers: As in `Trainer`.

    Raises:
        LeakageError: Evaluation images are in the training set, and `allow_overlap` is off.
        ConfigurationError: No processor was given.
        ModelError: The processor makes pictures of another size than the model takes.
    """

    def __init__(
        self,
        model: nn.Module,
        args: CaptionTrainingArguments | None = None,
        train_dataset: BlipCaptionDataset | None = None,
        eval_dataset: BlipCaptionDataset | None = None,
        processing_class: Any = None,
        data_collator: Any = None,
        compute_metrics: Any = None,
        callbacks: Sequence[Any] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
    ):
        args = args or CaptionTrainingArguments()
        if processing_class is None:
            raise ConfigurationError("CaptionTrainer needs the processor: processing_class=processor.")
        if eval_dataset is None:
            args.eval_strategy, args.load_best_model_at_end = "no", False
        check_image_size(base_model(model), processing_class)
        if args.freeze_vision:
            freeze_vision_encoder(model)
        self.overlap: list[Any] = []
        if train_dataset is not None and eval_dataset is not None:
            self.overlap = ensure_no_overlap(
                train_dataset.records, eval_dataset.records, allow_overlap=args.allow_overlap
            )
        # The Trainer would take the labels out of the batch and smooth over every position; the model does it right.
        self._label_smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
        collator = data_collator or CaptionCollator(
            processor=processing_class,
            start_token_id=base_model(model).config.text_config.bos_token_id,
            max_txt_len=args.max_txt_len,
            prompt=args.prompt,
            captions_per_image=args.captions_per_image,
            seed=args.seed,
        )
        callbacks = list(callbacks or [])
        if args.early_stopping_patience is not None and eval_dataset is not None:
            callbacks.append(EarlyStoppingCallback(args.early_stopping_patience))
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            data_collator=collator,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
            optimizers=optimizers,
        )
        self.unreadable: dict[str, str] = {}
        self.sacrebleu_signature: str | None = None

    # ---- training ----

    def compute_loss(self, model, inputs, return_outputs: bool = False, num_items_in_batch=None):
        """The summed loss over all label tokens, divided by their number in the accumulated, world-wide batch."""
        inputs = self._model_inputs(inputs)
        if "labels" not in inputs:
            raise DataError("A training batch has no captions: no image of it came with one.")
        smoothing = self._label_smoothing if model.training else 0.0
        outputs = model(**inputs, label_smoothing=smoothing, loss_only=True, num_items_in_batch=num_items_in_batch)
        loss = outputs.loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # DDP averages gradients over ranks; the sum over ranks is what belongs over the world-wide count.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss

    def _model_inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the model's `forward` takes of a batch; what could not be read is remembered and taken out."""
        for image_id, reason in batch.get("unreadable", ()):
            if image_id not in self.unreadable:
                self.unreadable[image_id] = reason
        return {name: value for name, value in batch.items() if name not in ("unreadable", "indices")}

    # ---- evaluation ----

    def get_eval_dataloader(self, eval_dataset=None):
        """As in `Trainer`, with every caption of an image instead of a draw of them."""
        collator = self.data_collator
        training = getattr(collator, "training", None)
        if training is None:
            return super().get_eval_dataloader(eval_dataset)
        self.data_collator = copy.copy(collator)
        self.data_collator.training = False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator = collator

    def get_test_dataloader(self, test_dataset):
        """The same batches as for evaluation."""
        return self.get_eval_dataloader(test_dataset)

    @torch.no_grad()
    def evaluation_loop(
        self,
        dataloader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Loss over all captions, and one generated caption an image, scored against all its references.

        Nothing but captions and two numbers an image is kept, whatever the size of the vocabulary. With several
        processes each image is scored once: results are keyed by the image's place in the dataset, and what a
        sampler repeated to even out the ranks falls together.
        """
        dataset = dataloader.dataset
        # Not `prediction_loss_only`: the Trainer asks for it wherever no `compute_metrics` was given.
        generate = self.args.predict_with_generate and not self.args.prediction_loss_only
        model = self._wrap_model(self.model, training=False)
        if len(self.accelerator._models) == 0 and model is self.model:
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        was_training = model.training
        model.eval()
        self.callback_handler.eval_dataloader = dataloader

        rows: dict[int, tuple[float, int, str, float | None]] = {}
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            indices = batch["indices"].tolist()
            losses, tokens = self._losses_of_images(model, batch)
            decoded = [None] * len(indices)
            if generate:
                decoded = generate_captions(model, self.processing_class, batch["pixel_values"], self.args.decoding)
            for index, loss, count, image in zip(indices, losses, tokens, decoded, strict=True):
                text, confidence = (image.texts[0], image.log_probs[0]) if image else ("", None)
                rows[index] = (loss, count, text, confidence)
            self.control = self.callback_handler.on_prediction_step(self.args, self.state, self.control)
        rows = self._gather(rows)
        model.train(was_training)

        order = sorted(rows)
        records = [dataset.records[index] for index in order]
        total = sum(rows[index][1] for index in order)
        metrics: dict[str, float] = {}
        if total:
            metrics["loss"] = sum(rows[index][0] for index in order) / total
        captions = [rows[index][2] for index in order]
        references = [list(record.captions) for record in records]
        if generate and total:
            metrics |= self._score(records, captions)
            if self.compute_metrics is not None:
                metrics |= self.compute_metrics(EvalPrediction(predictions=captions, label_ids=references))
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        self._last_evaluation = [
            CaptionedImage(record, *rows[index][2:]) for index, record in zip(order, records, strict=True)
        ]
        return EvalLoopOutput(
            predictions=captions if generate else None, label_ids=references, metrics=named, num_samples=len(order)
        )

    def _score(self, records, captions: list[str]) -> dict[str, float]:
        bleu, self.sacrebleu_signature = corpus_sacrebleu(
            captions, [record.captions for record in records], lowercase=self.args.sacrebleu_lowercase
        )
        scores = score_captions(
            {record.image_id: text for record, text in zip(records, captions, strict=True)},
            {record.image_id: list(record.captions) for record in records},
            metrics=TRAINING_METRICS,
            allow_empty=True,
        )
        return {"sacrebleu": bleu, **{name: scores.corpus[name] for name in TRAINING_METRICS}}

    def _losses_of_images(self, model, batch) -> tuple[list[float], list[int]]:
        """Summed loss and number of label tokens of each image: (images,) and (images,)."""
        inputs = self._model_inputs(batch)
        counts = inputs["caption_counts"].tolist()
        if "labels" not in inputs:
            return [0.0] * len(counts), [0] * len(counts)
        with self.compute_loss_context_manager():
            logits = model(**inputs).logits
        targets = inputs["labels"][:, 1:]
        per_token = nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), targets, reduction="none", ignore_index=-100
        )
        sums = per_token.sum(1).cpu().split(counts)
        tokens = (targets != -100).sum(1).cpu().split(counts)
        return [part.sum().item() for part in sums], [int(part.sum()) for part in tokens]

    def _gather(self, rows: dict[int, Any]) -> dict[int, Any]:
        """The rows of all processes, each image once."""
        if self.accelerator.num_processes == 1:
            return rows
        from accelerate.utils import gather_object

        return {index: row for part in gather_object([rows]) for index, row in part.items()}

    def evaluate_coco(
        self,
        dataset: BlipCaptionDataset | None = None,
        *,
        metrics: Sequence[str] | None = None,
        system: str = "after",
        write: bool = True,
    ) -> Evaluation:
        """Caption a dataset and score it with the COCO metrics.

        Args:
            dataset ([`BlipCaptionDataset`], *optional*): Defaults to the evaluation set; for numbers to be quoted,
                give a test set that no choice was made on.
            metrics (`Sequence[str]`, *optional*): Defaults to all of [`score_captions`].
            system (`str`, defaults to `"after"`): What the model is called in the result files.
            write (`bool`, defaults to `True`): Write `coco_metrics.json` and `predictions.jsonl` into `output_dir`.

        Returns:
            [`Evaluation`]: Scores and captions; `.scores.corpus["CIDEr"]`.

        Raises:
            LeakageError: Images of it are in the training set, and `allow_overlap` is off.
        """
        dataset = self.eval_dataset if dataset is None else dataset
        if dataset is None:
            raise ConfigurationError("There is nothing to evaluate: give evaluate_coco a dataset.")
        if self.train_dataset is not None:
            self.overlap = ensure_no_overlap(
                self.train_dataset.records, dataset.records, allow_overlap=self.args.allow_overlap
            )
        if not self.args.predict_with_generate:
            raise ConfigurationError("evaluate_coco generates captions, and loss_only is on.")
        self.predict(dataset, metric_key_prefix="test")
        evaluation = evaluate_predictions(self._last_evaluation, metrics=metrics, contaminated=bool(self.overlap))
        if write and self.is_world_process_zero():
            evaluation.write(self.args.output_dir, system=system)
        return evaluation

    # ---- saving ----

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        """As in `Trainer`; the whole processor goes with the weights, so that every checkpoint can be used."""
        super()._save(output_dir, state_dict)
        folder = output_dir or self.args.output_dir
        os.makedirs(folder, exist_ok=True)
        self.processing_class.save_pretrained(folder)
        # A pickle of the arguments, local paths included: nothing reads it, and nobody should have to load it.
        Path(folder, "training_args.bin").unlink(missing_ok=True)


def is_loss(metric: str | None) -> bool:
    """Whether lower is better."""
    return metric in LOSS_METRICS
