"""What happens beside training: telling how it goes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

from transformers import PrinterCallback, ProgressCallback, TrainerCallback

from ..narrator import Narrator
from .curves import write_curves

SECONDS_BETWEEN_CURVES = 60.0

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
        self._last: dict[str, float] = {}

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
            self._last = dict(logs)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        if not state.is_world_process_zero or not metrics:
            return
        chosen = (args.metric_for_best_model or "loss").removeprefix("eval_")
        names = {**EVALUATED, f"eval_{chosen}": EVALUATED.get(f"eval_{chosen}", chosen)}
        parts = [f"{name} {metrics[key]:.3g}" for key, name in names.items() if key in metrics]
        if "loss" in self._last:
            parts.insert(0, f"training loss {float(self._last['loss']):.3g}")
        if "captions_per_second" in self._last:
            parts.append(f"{self._last['captions_per_second']:.3g} captions/s")
        if self._last.get("eta_seconds"):
            parts.append(f"about {_duration(self._last['eta_seconds'])} left")
        self.narrator.note(f"  epoch {state.epoch or 0:.3g}: " + ", ".join(parts))

    def on_train_end(self, args, state, control, **kwargs):
        self._advance = None
        self._stack.close()


def _duration(seconds: float) -> str:
    """Such as "40 s", "12 min" or "3 h 05 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


class LogEachEpoch(TrainerCallback):
    """Logs at the end of an epoch in which nothing was logged: a short run has a training loss and a speed, too."""

    def __init__(self) -> None:
        self._begun = 0

    def on_epoch_begin(self, args, state, control, **kwargs):
        self._begun = state.global_step

    def on_epoch_end(self, args, state, control, **kwargs):
        logged = any("loss" in row and row["step"] > self._begun for row in state.log_history)
        if args.logging_strategy != "no" and not logged:
            control.should_log = True


class KeepStartToken(TrainerCallback):
    """Keeps the captioner's start token what it is.

    The Trainer gives the model's configuration the tokenizer's idea of a start token, where it has one. A captioner
    would then be trained from one token and decode from another.

    Args:
        captioner (`nn.Module`): The captioner, unwrapped.
    """

    def __init__(self, captioner: Any):
        self.captioner = captioner
        self.start = getattr(captioner.config.text_config, "bos_token_id", None)

    def on_train_begin(self, args, state, control, **kwargs):
        if self.start is not None:
            self.captioner.config.text_config.bos_token_id = self.start


class WriteCurves(TrainerCallback):
    """Draws loss and metrics over the steps into `curves.png`, at evaluations (once a minute) and at the end."""

    def __init__(self):
        self._drawn = time.monotonic()

    def on_evaluate(self, args, state, control, **kwargs):
        if state.is_world_process_zero and time.monotonic() - self._drawn > SECONDS_BETWEEN_CURVES:
            write_curves(state.log_history, args.output_dir)
            self._drawn = time.monotonic()

    def on_train_end(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            write_curves(state.log_history, args.output_dir)
