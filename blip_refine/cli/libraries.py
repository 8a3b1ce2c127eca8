"""What the libraries underneath print: kept out of what a command prints, where it tells the user nothing."""

from __future__ import annotations

import logging
import warnings


def quieten_libraries() -> None:
    """Silence bars over files that take no time, and warnings about what this library does on purpose.

    Downloads keep their bars: there people do wait. `--debug` leaves everything as it is.
    """
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    enable_progress_bars()
    transformers_logging.set_verbosity_error()
    logging.getLogger("accelerate").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", message=".*is deprecated and will be removed in v6.*", category=FutureWarning)
