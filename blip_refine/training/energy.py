"""The energy of a training, measured with codecarbon. A meter that fails never ends a training."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from transformers import TrainerCallback

from ..errors import MissingExtraError

logger = logging.getLogger(__name__)


class EnergyMeter(TrainerCallback):
    """Measures the energy of a training with codecarbon, and with a country what CO2 its electricity stands for.

    The figures are a row of the Trainer's log, `energy_kwh` and `co2_kg`. If codecarbon fails, a warning is logged
    once, training goes on, and the row says `energy_unavailable` with the reason instead.

    Args:
        country (`str`, *optional*): ISO code of three letters. Without it energy alone is told: where the electricity
            comes from is not guessed.

    Raises:
        MissingExtraError: codecarbon is not installed.
    """

    def __init__(self, country: str | None = None):
        try:
            from codecarbon import OfflineEmissionsTracker
        except ImportError as error:
            raise MissingExtraError("codecarbon", "co2", "measure energy") from error
        self.country = country
        self._make = OfflineEmissionsTracker
        self._tracker: Any = None
        self._begun_at = 0

    def on_train_begin(self, args, state, control, **kwargs):
        if not state.is_local_process_zero:
            return
        self._begun_at = state.global_step
        try:
            # Offline: nothing is asked of the network. It wants a country in any case.
            self._tracker = self._make(
                country_iso_code=self.country or "USA", save_to_file=False, log_level="error", allow_multiple_runs=True
            )
            self._tracker.start()
        except Exception as error:
            self._give_up(state, "when training began", error)

    def on_log(self, args, state, control, **kwargs):
        if self._tracker is None:
            return
        try:
            # codecarbon catches most of its own errors, and then returns None.
            if self._tracker.flush() is None:
                raise RuntimeError("codecarbon returned no figure")
        except Exception as error:
            self._give_up(state, f"at step {state.global_step}", error)

    def on_train_end(self, args, state, control, **kwargs):
        if self._tracker is None:
            return
        try:
            carbon, data = self._tracker.stop(), self._tracker.final_emissions_data
            row = {"energy_kwh": float(data.energy_consumed), "step": state.global_step}
            if self.country is not None:
                row["co2_kg"] = float(carbon)
        except Exception as error:
            self._give_up(state, "when training ended", error)
            return
        if self._begun_at:
            # What an interrupted training took before its last checkpoint was not written down.
            row["energy_from_step"] = self._begun_at
        state.log_history.append(row)
        self._tracker = None

    def _give_up(self, state: Any, when: str, error: Exception) -> None:
        logger.warning("Energy is not measured: codecarbon failed %s (%s). Training goes on.", when, error)
        # The message of the error can hold paths of this machine, and the card is published.
        reason = f"codecarbon failed {when} ({type(error).__name__})"
        state.log_history.append({"energy_unavailable": reason, "step": state.global_step})
        tracker, self._tracker = self._tracker, None
        with suppress(Exception):
            # Ends its threads, if it has any yet.
            tracker.stop()
