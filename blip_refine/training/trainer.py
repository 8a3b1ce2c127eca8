"""`CaptionTrainer`: the Hugging Face Trainer, made right for captioning with BLIP."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import EarlyStoppingCallback, Seq2SeqTrainer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction, rotate_checkpoints

from ..data.augment import Augmentation
from ..data.collator import IGNORED, CaptionCollator
from ..data.dataset import BlipCaptionDataset, FeatureDataset
from ..data.leakage import ensure_no_overlap
from ..data.preprocess import ImagePreprocessor
from ..errors import BlipRefineError, ConfigurationError, DataError
from ..evaluation.systems import CaptionedImage, Evaluation, evaluate_predictions
from ..hub.trainer import HubPushMixin
from ..metrics import corpus_sacrebleu, score_captions
from ..models.captioner import base_model, check_image_size, freeze_vision_encoder
from ..models.decoding import generate_captions
from ..models.features import VisionFeatures
from ..models.freezing import freeze_first_layers
from .arguments import CaptionTrainingArguments
from .callbacks import EnergyMeter, KeepStartToken, WriteCurves
from .checkpoints import INCOMPLETE, discard_incomplete, find_checkpoint, publish
from .memory import advise_on_memory, is_out_of_memory
from .optimization import set_learning_rates
from .samples import write_samples
from .throughput import Throughput

logger = logging.getLogger(__name__)

TRAINING_METRICS = ("CIDEr",)
"""Scored at every evaluation beside sacreBLEU: native and fast. The others wait for `evaluate_coco`."""


class CaptionTrainer(HubPushMixin, Seq2SeqTrainer):
    """Trains a captioner and measures it by the captions that it generates from pictures alone.

    What it does otherwise than `Seq2SeqTrainer`:

    - `generate` is given pixels and the fixed prompt, never the batch: BLIP takes `input_ids` for a prompt and would
      be handed its own reference captions.
    - The loss is the mean over all label tokens of the accumulated, world-wide batch.
    - Each image is encoded once for all its captions, and captioned once, with all its references.
    - Evaluation whose images are in the training set is refused.
    - A checkpoint is there whole or not at all; where memory runs out, the error says what to change.

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
        freeze_first_layers(model, vision=args.freeze_vision_layers, text=args.freeze_text_layers)
        self.overlap: list[Any] = []
        if train_dataset is not None and eval_dataset is not None:
            self.overlap = ensure_no_overlap(
                train_dataset.records, eval_dataset.records, allow_overlap=args.allow_overlap
            )
        if args.augmentation is not None and train_dataset is not None:
            train_dataset = augmented(train_dataset, args.augmentation)
        # The Trainer would take the labels out of the batch and smooth over every position; the model does it right.
        self._label_smoothing, args.label_smoothing_factor = args.label_smoothing_factor, 0.0
        collator = data_collator or make_collator(model, processing_class, args)
        callbacks = [KeepStartToken(base_model(model)), WriteCurves(), *(callbacks or [])]
        if args.track_energy:
            callbacks.append(EnergyMeter(args.energy_country))
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
        self._preprocessor = ImagePreprocessor.find(processing_class)
        self.unreadable: dict[str, str] = {}
        self.sacrebleu_signature: str | None = None
        self._throughput = Throughput()
        self._saving = False
        self._features: dict[int, FeatureDataset] = {}

    # ---- training ----

    def train(self, resume_from_checkpoint: str | bool | None = None, **options):
        """As in `Trainer`.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*): A checkpoint, or `True` for the last whole one.

        Raises:
            ConfigurationError: Memory ran out; the message says what to change, in the order of what it costs. Or
                there is no whole checkpoint to resume from.
            ModelError: The checkpoint that was asked for is not whole.
        """
        checkpoint, passed_over = find_checkpoint(self.args.output_dir, resume_from_checkpoint)
        for sentence in passed_over:
            logger.warning(sentence)
        if self.args.should_save:
            discard_incomplete(self.args.output_dir)
        if self.args.cache_vision_features:
            self.train_dataset = self.cache_features(self.train_dataset)
        self._throughput = Throughput()
        try:
            return super().train(resume_from_checkpoint=checkpoint, **options)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, BlipRefineError) or not is_out_of_memory(error):
                raise
            raise ConfigurationError(advise_on_memory(self.args, self.model)) from error

    def cache_features(self, dataset: Any) -> Any:
        """A dataset with what the frozen encoder says of its images in the place of the images.

        Raises:
            ConfigurationError: Pictures are augmented, the encoder is trained, or the disk is too small.
        """
        if isinstance(dataset, FeatureDataset):
            return dataset
        if dataset.reader.changes_pictures:
            raise ConfigurationError(
                "cache_vision_features and augmentation exclude each other: an augmented picture is another at every "
                "visit. Leave one of them out."
            )
        if id(dataset) not in self._features:
            folder = self.args.feature_cache_dir or os.path.join(self.args.output_dir, "features")
            with self.args.main_process_first(desc="encoding images"):
                features = VisionFeatures(self.model, self.processing_class, folder, self.args.feature_dtype)
                missing, keys = features.missing(dataset.records)
                size = features.check_disk(len(missing)) / 2**30
                logger.warning(
                    "Encoding %d images once into %s: %.2f GiB (%d more are there already).",
                    *(len(missing), features.folder, size, len(set(keys.values())) - len(missing)),
                )
                keys = features.build(dataset.records, batch_size=self.args.per_device_eval_batch_size)
            self._features[id(dataset)] = FeatureDataset(dataset, features, keys)
        return self._features[id(dataset)]

    def training_step(self, model, inputs, num_items_in_batch=None):
        """As in `Trainer`; images and captions are counted."""
        self._throughput.count(inputs)
        return super().training_step(model, inputs, num_items_in_batch)

    def create_optimizer(self, model=None):
        """As in `Trainer`, with the learning rates of `vision_learning_rate` and `layer_lr_decay`."""
        given = self.optimizer is not None
        optimizer = super().create_optimizer(model) if model is not None else super().create_optimizer()
        args = self.args
        if not given and (args.vision_learning_rate is not None or args.layer_lr_decay != 1.0):
            set_learning_rates(
                optimizer, model or self.model, args.learning_rate, args.vision_learning_rate, args.layer_lr_decay
            )
        return optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """As in `Trainer`, with speed, peak memory and the time that is left beside each training loss."""
        if "loss" in logs:
            logs |= self._throughput.report(self.state, self.args.world_size)
        super().log(logs, start_time)

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
            self.unreadable.setdefault(image_id, reason)
        if len(self.unreadable) > 16 and self.train_dataset is not None:
            if len(self.unreadable) >= len(self.train_dataset):
                image_id, reason = next(iter(self.unreadable.items()))
                raise DataError(f"No image can be decoded; the first is {image_id!r}: {reason}")
        inputs = {name: value for name, value in batch.items() if name not in ("unreadable", "indices")}
        pixels = inputs.get("pixel_values")
        if self._preprocessor is not None and pixels is not None and pixels.dtype == torch.uint8:
            inputs["pixel_values"] = self._preprocessor.normalize_tensor(pixels)
        return inputs

    # ---- evaluation ----

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

    def get_train_dataloader(self):
        """As in `Trainer`; large JPEGs are decoded no larger than the model needs them."""
        dataset = self.train_dataset
        if self._preprocessor is not None and not self.args.exact_decoding and hasattr(dataset, "with_changes"):
            self.train_dataset = dataset.with_changes(image_size=self._preprocessor.size)
        try:
            with self._loading():
                return super().get_train_dataloader()
        finally:
            self.train_dataset = dataset

    def get_eval_dataloader(self, eval_dataset=None):
        """As in `Trainer`, with every caption of an image instead of a draw of them."""
        if eval_dataset is not None and eval_dataset is not self.eval_dataset:
            # With persistent workers the Trainer gives the loader of the first dataset that it was asked for,
            # whichever it is asked for now: a test would be scored on the validation images.
            return self.get_test_dataloader(eval_dataset)
        with self._loading(training=False):
            return super().get_eval_dataloader()

    def get_test_dataloader(self, test_dataset):
        """As in `Trainer`, with every caption of an image instead of a draw of them."""
        # It is used once: workers that outlived it would pile up with every evaluation.
        persistent, self.args.dataloader_persistent_workers = self.args.dataloader_persistent_workers, False
        try:
            with self._loading(training=False):
                return super().get_test_dataloader(test_dataset)
        finally:
            self.args.dataloader_persistent_workers = persistent

    @contextmanager
    def _loading(self, **changes: Any) -> Iterator[None]:
        """The collator for a data loader: workers hand over 8-bit levels, and what sends them to the model finishes
        them, on a GPU if there is one."""
        collator = self.data_collator
        if isinstance(collator, CaptionCollator):
            self.data_collator = copy.copy(collator)
            for name, value in {"normalize": self._preprocessor is None, **changes}.items():
                setattr(self.data_collator, name, value)
        try:
            yield
        finally:
            self.data_collator = collator

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
        sharded = self.is_fsdp_enabled or self.is_deepspeed_enabled
        if sharded and len(self.accelerator._models) == 0 and model is self.model:
            # Only where weights are divided. A model prepared for evaluation is not wrapped for data-parallel training
            # any more: after `evaluate()`, `train()` would leave each process with the gradient of its own images.
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        was_training = model.training
        model.eval()
        self.callback_handler.eval_dataloader = dataloader

        rows: dict[int, tuple[float, int, str, float | None]] = {}
        for batch in dataloader:
            batch = self._prepare_inputs(batch)
            indices = batch["indices"].tolist()
            inputs = self._model_inputs(batch)
            if not indices:
                continue
            # Encoded once for the loss and for the captions.
            inputs["image_states"] = self._image_states(inputs)
            losses, tokens = self._losses_of_images(model, inputs)
            decoded: list[Any] = [None] * len(indices)
            if generate:
                decoded = generate_captions(
                    model, self.processing_class, None, self.args.decoding, image_states=inputs["image_states"]
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

    def _image_states(self, inputs: dict[str, Any]) -> torch.Tensor:
        """What the vision encoder says of a batch, in its own precision: `(images, patches + 1, hidden)`."""
        captioner = base_model(self.model)
        weight = captioner.vision_model.embeddings.patch_embedding.weight
        states = inputs.pop("image_states", None)
        pixels = inputs.pop("pixel_values", None)
        if states is None:
            states = captioner.vision_model(pixel_values=pixels.to(weight.dtype)).last_hidden_state
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

    def _get_output_dir(self, trial=None) -> str:
        folder = super()._get_output_dir(trial=trial)
        return os.path.join(folder, INCOMPLETE) if self._saving else folder

    def _save_checkpoint(self, model, trial) -> None:
        """As in `Trainer`, beside its place; the checkpoint gets its name when all of it is on the disk."""
        run, name = self._get_output_dir(trial), f"checkpoint-{self.state.global_step}"
        best = self.state.best_model_checkpoint
        with self._throughput.paused():
            self._saving = True
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._saving = False
            self.accelerator.wait_for_everyone()
            if self.state.best_global_step == self.state.global_step:
                best = os.path.join(run, name)
            self.state.best_model_checkpoint = best
            if self.args.should_save:
                self.state.save_to_json(os.path.join(run, INCOMPLETE, name, "trainer_state.json"))
                publish(run, name)
                rotate_checkpoints(
                    output_dir=run,
                    save_total_limit=self.args.save_total_limit,
                    best_model_checkpoint=best,
                    use_mtime=True,
                )
            self.accelerator.wait_for_everyone()

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        """As in `Trainer`; the whole processor goes with the weights, so that every checkpoint can be used."""
        super()._save(output_dir, state_dict)
        folder = output_dir or self.args.output_dir
        os.makedirs(folder, exist_ok=True)
        self.processing_class.save_pretrained(folder)
        # A pickle of the arguments, local paths included: nothing reads it, and nobody should have to load it.
        Path(folder, "training_args.bin").unlink(missing_ok=True)


def augmented(dataset: Any, augmentation: Augmentation) -> Any:
    """A dataset or stream with an augmentation, for training.

    Raises:
        ConfigurationError: It has one already, or cannot be given one.
    """
    if not hasattr(dataset, "with_changes"):
        kind = type(dataset).__name__
        raise ConfigurationError(f"augment needs a BlipCaptionDataset or a CaptionStream, not a {kind}.")
    if dataset.reader.augment is not None:
        raise ConfigurationError("The training set is augmented already: leave out augment in the dataset or here.")
    return dataset.with_changes(augment=augmentation)


def make_collator(model: nn.Module, processor: Any, args: CaptionTrainingArguments) -> CaptionCollator:
    """The collator that suits a captioner's family.

    Args:
        model (`nn.Module`): The captioner.
        processor (`ProcessorMixin`): The one that belongs to it.
        args ([`CaptionTrainingArguments`]): Prompt, lengths, captions an image, seed.
    """
    captioner = base_model(model)
    text = None
    if captioner.config.model_type != "blip":
        from ..models.blip2_text import LanguageModelText

        text = LanguageModelText(captioner, processor, args.prompt, args.max_txt_len)
    return CaptionCollator(
        processor=processor,
        # T5 has none: its decoder starts from the padding token, and LanguageModelText knows it.
        start_token_id=getattr(captioner.config.text_config, "bos_token_id", None) or 0,
        max_txt_len=args.max_txt_len,
        prompt=args.prompt,
        captions_per_image=args.captions_per_image,
        seed=args.seed,
        language_model_text=text,
    )
