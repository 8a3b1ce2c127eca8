"""What a [`CaptionTrainer`] does to save: checkpoints that are there whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from transformers import Seq2SeqTrainer
from transformers.trainer_utils import rotate_checkpoints

from ..data.fingerprint import TRAINING_FINGERPRINT_FILE, Fingerprint, save_fingerprint
from ..data.leakage import images_seen
from ..models.saved_defaults import save_defaults, set_defaults
from .checkpoints import INCOMPLETE, publish
from .throughput import Throughput


class SavingTrainer(Seq2SeqTrainer):
    """The part of [`CaptionTrainer`] that saves."""

    _saving: bool
    _seen_before: Fingerprint | None
    _throughput: Throughput

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
        set_defaults(self.model, self.args.decoding, self.args.prompt_template)
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

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """As in `Trainer`, for what is really missing: a weight that is tied to another is stored once."""
        tied = set(getattr(self.model, "all_tied_weights_keys", ()))
        load_result.missing_keys[:] = [name for name in load_result.missing_keys if name not in tied]
        super()._issue_warnings_after_load(load_result)
