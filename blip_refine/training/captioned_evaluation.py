"""What a [`CaptionTrainer`] does to evaluate: caption each image once from its pixels alone, and score that."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import send_to_device
from torch import nn
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from ..data.collator import IGNORED
from ..data.dataset import BlipCaptionDataset
from ..data.fingerprint import Fingerprint
from ..data.leakage import ensure_no_overlap
from ..data.streaming import ShardedCaptionStream
from ..errors import ConfigurationError
from ..evaluation.systems import CaptionedImage, Evaluation, evaluate_predictions
from ..metrics import ALL_METRICS, corpus_sacrebleu, score_captions
from ..models.families import base_model
from ..models.prompted import generate_with_prompts
from ..models.vision_encoder import encode_images
from .dividing import is_divided, whole_weights
from .samples import write_samples

TRAINING_METRICS = ("CIDEr",)
"""Scored at every evaluation beside sacreBLEU: native and fast. The others wait for `evaluate_coco`."""


class EvaluatingTrainer(Seq2SeqTrainer):
    """The part of [`CaptionTrainer`] that evaluates.

    The stock evaluation hands `generate` the whole batch, references included, and keeps logits.
    """

    overlap: list[Any]
    _seen_before: Fingerprint | None
    sacrebleu_signature: str | None
    _last_evaluation: list[CaptionedImage]

    def evaluate(self, *args, **options):
        """As in `Trainer`; some of the captioned images are written beside the numbers."""
        with self._throughput.paused():
            given = bool(args) or options.get("eval_dataset") is not None
            if self.args.cache_vision_features and not given and isinstance(self.eval_dataset, BlipCaptionDataset):
                options["eval_dataset"] = self.cache_features(self.eval_dataset)
            metrics = super().evaluate(*args, **options)
            if self.is_world_process_zero() and self.args.samples_to_log and self.args.predict_with_generate:
                chosen = self._last_evaluation[: self.args.samples_to_log]
                folder = Path(self.args.output_dir, "samples")
                write_samples(chosen, folder, self.state.global_step, self.callback_handler.callbacks)
        return metrics

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
        model = self._evaluated_model()
        was_training = model.training
        model.eval()
        self.callback_handler.eval_dataloader = dataloader

        rows: dict[int, tuple[float, int, str, float | None]] = {}
        with whole_weights(model):
            for batch in dataloader:
                prompts = batch.get("prompts")
                batch = send_to_device(batch, self.args.device)
                indices = batch["indices"].tolist()
                inputs = self._model_inputs(batch)
                if not indices:
                    continue
                # Encoded once for the loss and for the captions.
                inputs["image_states"] = self._image_states(inputs)
                losses, tokens = self._losses_of_images(model, inputs)
                decoded: list[Any] = [None] * len(indices)
                if generate:
                    decoded = generate_with_prompts(
                        model,
                        self.processing_class,
                        None,
                        self.args.decoding,
                        prompts,
                        image_states=inputs["image_states"],
                    )
                for index, loss, count, image in zip(indices, losses, tokens, decoded, strict=True):
                    text, confidence = (self._new_text(image), image.log_probs[0]) if image else ("", None)
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

    def _evaluated_model(self) -> nn.Module:
        """The model as it is evaluated: whole, or as training has divided it."""
        if self.is_deepspeed_enabled:
            return self.model_wrapped
        # A model prepared for evaluation is not wrapped for data-parallel training any more: after `evaluate()`,
        # `train()` would leave each process with the gradient of its own images. So nothing is prepared here.
        if self.is_fsdp_enabled and not is_divided(self.model):
            self.model.to(self.args.device)  # where the Trainer leaves that to the wrapping
        return self.model

    @property
    def _training_metrics(self) -> tuple[str, ...]:
        """What is scored at an evaluation beside sacreBLEU: what is always, and what the best model is chosen by."""
        wanted = self.args.metric_for_best_model
        return (*TRAINING_METRICS, wanted) if wanted in set(ALL_METRICS) - set(TRAINING_METRICS) else TRAINING_METRICS

    def _check_metric(self) -> None:
        """Refuse, before training, a metric for the best model that no evaluation will give.

        Raises:
            ConfigurationError: It is unknown, or cannot be computed on this machine.
        """
        wanted = (self.args.metric_for_best_model or "loss").removeprefix("eval_")
        chooses = self.args.load_best_model_at_end or self.args.early_stopping_patience is not None
        if self.eval_dataset is None or not chooses or wanted in ("loss", "sacrebleu", *TRAINING_METRICS):
            return
        if wanted in ALL_METRICS:
            pair = {str(one): "a dog runs" for one in range(2)}
            scores = score_captions(pair, {name: [text] for name, text in pair.items()}, [wanted], photos=False)
            if wanted not in scores.corpus:
                raise ConfigurationError(
                    f"metric_for_best_model={wanted!r} cannot be computed in training: {scores.unavailable[wanted]}"
                )
        elif self.compute_metrics is None:
            known = {name.lower(): name for name in ("loss", "sacrebleu", *ALL_METRICS)}
            near = difflib.get_close_matches(wanted.lower(), known, n=1)
            hint = f"did you mean {known[near[0]]!r}?" if near else f"there are {', '.join(known.values())}."
            raise ConfigurationError(f"There is no metric_for_best_model {wanted!r}; {hint}")

    def _score(self, records, captions: list[str]) -> dict[str, float]:
        bleu, self.sacrebleu_signature = corpus_sacrebleu(
            captions, [record.captions for record in records], lowercase=self.args.sacrebleu_lowercase
        )
        scores = score_captions(
            {record.image_id: text for record, text in zip(records, captions, strict=True)},
            {record.image_id: list(record.captions) for record in records},
            metrics=self._training_metrics,
            allow_empty=True,
        )
        # CIDEr of a single image is 0 whatever it says, and not given.
        given = {name: scores.corpus[name] for name in self._training_metrics if name in scores.corpus}
        return {"sacrebleu": bleu, **given}

    def _image_states(self, inputs: dict[str, Any]) -> torch.Tensor:
        """What the vision encoder says of a batch, in its own precision: `(images, patches + 1, hidden)`."""
        captioner = base_model(self.model)
        weight = captioner.vision_model.embeddings.patch_embedding.weight
        states = inputs.pop("image_states", None)
        pixels = inputs.pop("pixel_values", None)
        if states is None:
            states = encode_images(captioner, pixels)
        return states.to(weight.device, weight.dtype)

    def _new_text(self, image) -> str:
        """A caption without the prompt, which no reference begins with."""
        return self.processing_class.tokenizer.decode(image.tokens[0], skip_special_tokens=True).strip()

    def _losses_of_images(self, model, inputs) -> tuple[list[float], list[int]]:
        """Summed loss and number of label tokens of each image: (images,) and (images,). No logits are kept."""
        counts = inputs["caption_counts"].tolist()
        if "labels" not in inputs:
            return [0.0] * len(counts), [0] * len(counts)
        with self.compute_loss_context_manager():
            sums = model(**inputs, loss_only=True, per_caption=True).loss
        labels = inputs["labels"] if self._labels_are_unshifted else inputs["labels"][:, 1:]
        tokens = (labels != IGNORED).sum(1).cpu().split(counts)
        return [part.sum().item() for part in sums.cpu().split(counts)], [int(part.sum()) for part in tokens]

    @property
    def _labels_are_unshifted(self) -> bool:
        """Whether the labels hold the caption alone, as an encoder-decoder language model takes them."""
        return not getattr(base_model(self.model).config, "use_decoder_only_language_model", True)

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
        data = self.train_dataset
        left_out = isinstance(data, ShardedCaptionStream) and data.leaves_out(dataset.records)
        seen = self._seen_before if left_out else self.images_seen()
        if seen is not None:
            self.overlap = ensure_no_overlap(seen, dataset.records, allow_overlap=self.args.allow_overlap)
        if not self.args.predict_with_generate:
            raise ConfigurationError("evaluate_coco generates captions, and loss_only is on.")
        self.predict(dataset, metric_key_prefix="test")
        evaluation = evaluate_predictions(self._last_evaluation, metrics=metrics, contaminated=bool(self.overlap))
        if write and self.is_world_process_zero():
            evaluation.write(self.args.output_dir, system=system)
        return evaluation
