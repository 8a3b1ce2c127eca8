"""What a [`CaptionTrainer`] is fed with: images and their captions, or what a frozen encoder says of them."""

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
from transformers import Seq2SeqTrainer

from ..caption_prompts import PromptTemplate, check_template
from ..data.augment import Augmentation
from ..data.collator import CaptionCollator
from ..data.dataset import FeatureDataset
from ..data.preprocess import ImagePreprocessor
from ..errors import ConfigurationError, DataError
from ..models.captioner import check_image_size
from ..models.decoding import prompt_tokens
from ..models.families import base_model
from ..models.features import VisionFeatures
from ..models.freezing import freeze_first_layers, freeze_vision_encoder
from ..models.prompted import room_for_prompt
from ..models.saved_defaults import saved_defaults
from .arguments import CaptionTrainingArguments

logger = logging.getLogger(__name__)


class LoadingTrainer(Seq2SeqTrainer):
    """The part of [`CaptionTrainer`] that loads: evaluation sees every caption of an image, training what is drawn."""

    unreadable: dict[str, str]
    _preprocessor: ImagePreprocessor | None
    _features: dict[int, FeatureDataset]

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
                return super().get_test_dataloader(prompted(test_dataset, self.args.template))
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
                size = features.check_disk(len(missing))
                written = f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
                logger.warning(
                    "Encoding %d images once into %s: %s (%d more are there already).",
                    *(len(missing), features.folder, written, len(set(keys.values())) - len(missing)),
                )
                keys = features.build(dataset.records, batch_size=self.args.per_device_eval_batch_size)
            self._features[id(dataset)] = FeatureDataset(dataset, features, keys)
        return self._features[id(dataset)]

    def _model_inputs(self, batch: dict[str, Any]) -> dict[str, Any]:
        """What the model's `forward` takes of a batch; what could not be read is remembered and taken out."""
        for image_id, reason in batch.get("unreadable", ()):
            self.unreadable.setdefault(image_id, reason)
        # A stream that is read from its start does not say how much there is.
        records = getattr(self.train_dataset, "records", None)
        if isinstance(records, Sequence) and batch.get("unreadable") and len(self.unreadable) >= len(records) > 0:
            if self.unreadable.keys() >= {record.image_id for record in records}:
                first = records[0].image_id
                raise DataError(f"No training image can be decoded; {first!r}: {self.unreadable[first]}")
        inputs = {name: value for name, value in batch.items() if name not in ("unreadable", "indices", "prompts")}
        pixels = inputs.get("pixel_values")
        if self._preprocessor is not None and pixels is not None and pixels.dtype == torch.uint8:
            inputs["pixel_values"] = self._preprocessor.normalize_tensor(pixels)
        return inputs


def make_ready(model: nn.Module, processor: Any, args: CaptionTrainingArguments) -> None:
    """Check that a captioner and its processor fit each other, freeze what is not to be trained, and take over the
    prompt that is saved with the captioner unless another was asked for, in place.

    Raises:
        ModelError: The processor makes pictures of another size than the model takes.
        ConfigurationError: There are not so many layers as are to be frozen, or `output_dir` is a file.
    """
    if args.output_dir is not None and Path(args.output_dir).is_file():
        raise ConfigurationError(f"The run must be written into a folder, and {str(args.output_dir)!r} is a file.")
    check_image_size(base_model(model), processor)
    saved = saved_defaults(model)
    if args.prompt is None and saved is not None and saved.prompt:
        args.prompt = saved.prompt
        args.check_generation_length()
    if args.freeze_vision:
        freeze_vision_encoder(model)
    freeze_first_layers(model, vision=args.freeze_vision_layers, text=args.freeze_text_layers)


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

        text = LanguageModelText(captioner, processor, args.prompt or "", args.max_txt_len)
    return CaptionCollator(
        processor=processor,
        # T5 has none: its decoder starts from the padding token, and LanguageModelText knows it.
        start_token_id=getattr(captioner.config.text_config, "bos_token_id", None) or 0,
        max_txt_len=args.max_txt_len,
        prompt=args.prompt or "",
        captions_per_image=args.captions_per_image,
        seed=args.seed,
        language_model_text=text,
    )


def prompted(dataset: Any, template: PromptTemplate | None) -> Any:
    """A dataset or stream whose images have the prompts of a template.

    Raises:
        ConfigurationError: It cannot be given one, or an image lacks a column that the template names.
    """
    if template is None or dataset is None or isinstance(dataset, FeatureDataset):
        return dataset
    if not hasattr(dataset, "with_changes"):
        kind = type(dataset).__name__
        raise ConfigurationError(f"prompt_template needs a BlipCaptionDataset or a CaptionStream, not a {kind}.")
    if isinstance(getattr(dataset, "records", None), Sequence):
        check_template(template, dataset.records)
    return dataset.with_changes(prompt_template=template)


def check_prompts(model: nn.Module, collator: Any, args: CaptionTrainingArguments, *datasets: Any) -> None:
    """Refuse prompts of single images that do not fit, before training.

    Raises:
        ConfigurationError: One is too long to train on or to caption with, or the captioner has one for all images.
    """
    for dataset in datasets:
        records, reader = getattr(dataset, "records", None), getattr(dataset, "reader", None)
        if not isinstance(records, Sequence) or reader is None:
            continue  # a stream is checked as it comes
        prompts = dict.fromkeys(prompt for record in records if (prompt := reader.prompt_of(record)) is not None)
        if not prompts or not isinstance(collator, CaptionCollator):
            continue
        collator.check_prompts(prompts)
        room = room_for_prompt(model, args.decoding)
        for prompt in prompts:
            length = len(prompt_tokens(collator.processor, prompt))
            if room is not None and length > room:
                raise ConfigurationError(
                    f"The prompt {prompt!r} has {length} tokens, and beside max_new_tokens={args.max_new_tokens} the "
                    f"model has room for {room}: shorten it, or lower max_new_tokens."
                )


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
