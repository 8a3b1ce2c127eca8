"""What a [`CaptionTrainer`] does to save: checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn
from transformers import Seq2SeqTrainer
from transformers.trainer_utils import rotate_checkpoints

from ..data.fingerprint import TRAINING_FINGERPRINT_FILE, Fingerprint, save_fingerprint
from ..data.leakage import images_seen
from ..models.saved_defaults import save_defaults, set_defaults
from .checkpoints import INCOMPLETE, publish
from .throughput import Throughput


class SavingTrainer(Seq2SeqTrainer):
    """The part of [`CaptionTrainer`] that saves."""

    _seen_before: Fingerprint | None
    _throughput: Throughput

    def _save_checkpoint(self, model, trial) -> None:
        """As in `Trainer`, beside its place; the checkpoint gets its name when all of it is on the disk.

        `TrainerCallback.on_save` comes too late for that: the files are written by then. This is the one private
        method of `Trainer` that is overridden; `tests/training/test_contract.py` holds what is relied on.
        """
        run, name = self.args.output_dir, f"checkpoint-{self.state.global_step}"
        best = self.state.best_model_checkpoint
        with self._throughput.paused():
            # Published by `on_save`, under its name.
            with changed(self.args, output_dir=os.path.join(run, INCOMPLETE), push_to_hub=False):
                super()._save_checkpoint(model, trial)
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

    def save_model(self, output_dir: str | None = None, *args: Any, **options: Any) -> None:
        """As in `Trainer`; the whole processor goes with the weights, so that every checkpoint can be used."""
        super().save_model(output_dir, *args, **options)
        if not self.args.should_save:
            return
        folder = output_dir or self.args.output_dir
        os.makedirs(folder, exist_ok=True)
        self.processing_class.save_pretrained(folder)
        set_defaults(self.model, self.args.saved_decoding, self.args.prompt_template)
        save_defaults(self.model, folder)
        # A pickle of the arguments, local paths included: nothing reads it, and nobody should have to load it.
        Path(folder, "training_args.bin").unlink(missing_ok=True)
        # Whoever evaluates or trains this checkpoint on is to know what it has seen.
        if not callable(getattr(self.train_dataset, "records", None)):
            seen = self.images_seen()
            if seen is not None:
                save_fingerprint(seen, Path(folder, TRAINING_FINGERPRINT_FILE))

    def images_seen(self) -> Fingerprint | None:
        """All the images that the model was trained on: those of the training set, and what its checkpoint names."""
        return images_seen(getattr(self.train_dataset, "records", None), self._seen_before)


@contextmanager
def changed(target: Any, **values: Any) -> Iterator[None]:
    """Attributes of an object with other values, for the time of a `with`."""
    before = {name: getattr(target, name) for name in values}
    for name, value in values.items():
        setattr(target, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(target, name, value)


@contextmanager
def tied_weights_are_not_missing(model: nn.Module) -> Iterator[None]:
    """For the time of a `with`, a checkpoint is not said to lack a weight that is tied to another and stored once.

    Args:
        model (`nn.Module`): What checkpoints are loaded into. Other missing weights are reported as ever.
    """
    tied = set(getattr(model, "all_tied_weights_keys", ()))

    def leave_out(_: nn.Module, found: Any) -> None:
        found.missing_keys[:] = [name for name in found.missing_keys if name not in tied]

    handle = model.register_load_state_dict_post_hook(leave_out)
    try:
        yield
    finally:
        handle.remove()
