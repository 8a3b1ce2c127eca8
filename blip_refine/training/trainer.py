"""`CaptionTrainer`: the Hugging Face Trainer, made right for captioning with BLIP."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from torch import nn
from transformers import EarlyStoppingCallback

from ..data.dataset import BlipCaptionDataset, FeatureDataset
from ..data.fingerprint import training_fingerprint
from ..data.leakage import ensure_no_overlap, images_seen
from ..data.preprocess import ImagePreprocessor
from ..data.streaming import ShardedCaptionStream
from ..errors import BlipRefineError, ConfigurationError, DataError
from ..hub.trainer import HubPushMixin, PublishSaves
from ..models.captioner import base_model
from ..models.saved_defaults import set_defaults
from .arguments import CaptionTrainingArguments
from .base_comparison import ComparingTrainer
from .callbacks import KeepStartToken, LogEachEpoch, WriteCurves
from .captioned_evaluation import EvaluatingTrainer
from .checkpoints import discard_incomplete, find_checkpoint
from .dividing import divide
from .energy import EnergyMeter
from .hyperparameters import training_facts
from .loading import LoadingTrainer, augmented, check_prompts, make_collator, make_ready, prompted
from .memory import advise_on_memory, is_out_of_memory
from .optimization import set_learning_rates
from .saving import SavingTrainer, tied_weights_are_not_missing
from .throughput import Throughput

logger = logging.getLogger(__name__)


class CaptionTrainer(HubPushMixin, ComparingTrainer, EvaluatingTrainer, LoadingTrainer, SavingTrainer):
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
        test_dataset ([`BlipCaptionDataset`], *optional*): What `compare_with_base` scores on; by default the
            evaluation set, on which the best checkpoint is chosen, too.

    Raises:
        LeakageError: Evaluation images are in the training set, and `allow_overlap` is off.
        ConfigurationError: No processor was given, or `metric_for_best_model` is unknown or cannot be computed here.
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
        test_dataset: BlipCaptionDataset | None = None,
    ):
        args = args or CaptionTrainingArguments()
        if processing_class is None:
            raise ConfigurationError("CaptionTrainer needs the processor: processing_class=processor.")
        if eval_dataset is None:
            args.eval_strategy, args.load_best_model_at_end = "no", False
        make_ready(model, processing_class, args)
        train_dataset, eval_dataset, test_dataset = (
            prompted(dataset, args.template) for dataset in (train_dataset, eval_dataset, test_dataset)
        )
        # What a checkpoint was trained on before it came here, it has seen too.
        self._seen_before = training_fingerprint(
            getattr(base_model(model).config, "name_or_path", None), getattr(model, "adapter_folder", None)
        )
        self.overlap: list[Any] = []
        if eval_dataset is not None:
            if isinstance(train_dataset, ShardedCaptionStream):
                # Nobody has seen its images yet: copies of evaluated ones are left out as they come.
                train_dataset = train_dataset.without(eval_dataset.records)
                seen = self._seen_before
            else:
                seen = images_seen(getattr(train_dataset, "records", None), self._seen_before)
            if seen is not None:
                self.overlap = ensure_no_overlap(seen, eval_dataset.records, allow_overlap=args.allow_overlap)
        if args.augmentation is not None and train_dataset is not None:
            train_dataset = augmented(train_dataset, args.augmentation)
        collator = data_collator or make_collator(model, processing_class, args)
        check_prompts(model, collator, args, train_dataset, eval_dataset, test_dataset)
        callbacks = [KeepStartToken(base_model(model)), LogEachEpoch(), WriteCurves(), *(callbacks or [])]
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
        self.own_optimizers = tuple(one is not None for one in optimizers)
        if args.push_to_hub:
            self.add_callback(PublishSaves(self))
        # It would take the labels out of the batch and smooth over every position; the model does it right.
        self.label_smoother = None
        self._check_metric()
        self._preprocessor = ImagePreprocessor.find(processing_class)
        self.test_dataset = test_dataset
        self.unreadable: dict[str, str] = {}
        self.sacrebleu_signature: str | None = None
        self._throughput = Throughput()
        self._features: dict[int, FeatureDataset] = {}

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
        # Saved with every checkpoint, and used by whoever captions with this model from now on.
        set_defaults(self.model, self.args.saved_decoding, self.args.prompt_template)
        self._throughput = Throughput()
        try:
            with tied_weights_are_not_missing(self.model):
                outcome = super().train(resume_from_checkpoint=checkpoint, **options)
        except (RuntimeError, MemoryError) as error:
            if isinstance(error, BlipRefineError) or not is_out_of_memory(error):
                raise
            raise ConfigurationError(advise_on_memory(self.args, self.model)) from error
        if self.is_world_process_zero():
            # What went before an interruption was not measured here.
            seconds = outcome.metrics["train_runtime"] if checkpoint is None else None
            training_facts(self, seconds).write(self.args.output_dir)
        return outcome

    def training_step(self, model, inputs, num_items_in_batch=None):
        """As in `Trainer`; images and captions are counted."""
        self._throughput.count(inputs)
        return super().training_step(model, inputs, num_items_in_batch)

    def create_optimizer(self, model=None):
        """As in `Trainer`, with the learning rates of `vision_learning_rate` and `layer_lr_decay`."""
        # The optimizer is to hold the parts of this process.
        divide(model or self.model, getattr(self.accelerator.state, "fsdp_plugin", None))
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
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        outputs = model(**inputs, label_smoothing=smoothing, loss_only=True, num_items_in_batch=num_items_in_batch)
        loss = outputs.loss
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            # DDP averages gradients over ranks; the sum over ranks is what belongs over the world-wide count.
            loss = loss * self.accelerator.num_processes
        return (loss, outputs) if return_outputs else loss
