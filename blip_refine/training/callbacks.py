"""What happens beside training: telling how it goes."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ..narrator import Narrator

EVALUATED = {"eval_loss": "validation loss", "eval_sacrebleu": "sacreBLEU", "eval_CIDEr": "CIDEr"}


class NarratedProgress(TrainerCallback):
    """A progress bar over the optimizer steps and a line an evaluation, told to a [`Narrator`].

    Args:
        narrator ([`Narrator`]): Who is told.
    """

    def __init__(self, narrator: Narrator):
        self.narrator = narrator
        self._stack = ExitStack()
        self._advance: Any = None
        self._loss: float | None = None

    @classmethod
    def replace_default(cls, trainer: Any, narrator: Narrator) -> NarratedProgress:
        """Put it in the place of the Trainer's own bar and printer."""
        for default in (ProgressCallback, PrinterCallback):
            trainer.remove_callback(default)
        callback = cls(narrator)
        trainer.add_callback(callback)
        return callback

    def on_train_begin(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            self._advance = self._stack.enter_context(self.narrator.progress("Training", total=state.max_steps))

    def on_step_end(self, args, state, control, **kwargs):
        if self._advance is not None:
            self._advance()

    def on_log(self, args, state, control, logs=None, **kwargs):
        if logs and "loss" in logs:
            self._loss = float(logs["loss"])

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if not state.is_world_process_zero or not metrics:
            return
        parts = [f"{name} {metrics[key]:.3g}" for key, name in EVALUATED.items() if key in metrics]
        if self._loss is not None:
            parts.insert(0, f"training loss {self._loss:.3g}")
        self.narrator.note(f"  epoch {state.epoch or 0:.3g}: " + ", ".join(parts))

    def on_train_end(self, args, state, control, **kwargs):
        self._advance = None
        self._stack.close()
