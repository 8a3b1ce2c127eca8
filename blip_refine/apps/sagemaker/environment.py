"""What the SageMaker container tells a training job: folders, channels and hyperparameters."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, SourceFormatError

ROOT = Path("/opt/ml")


@dataclass(frozen=True, slots=True)
class JobEnvironment:
    """Where things are in the container, and what was asked for.

    Args:
        channels (`Mapping[str, Path]`): Channel name ("train", "validation", "test", "model") to its folder.
        hyperparameters (`Mapping[str, str]`): As the platform hands them over: all values are text.
        model_dir (`Path`): What is packed as `model.tar.gz` at the end.
        checkpoints (`Path`): What is kept in step with S3 while the job runs, and is there again after a spot stop.
        failure (`Path`): Whose first kilobyte the console shows when a job fails.
    """

    channels: Mapping[str, Path]
    hyperparameters: Mapping[str, str]
    model_dir: Path
    checkpoints: Path
    failure: Path


def read_environment(variables: Mapping[str, str] | None = None, root: Path = ROOT) -> JobEnvironment:
    """Read the container's variables and, where they are not set, its configuration files.

    Args:
        variables (`Mapping[str, str]`, *optional*): Defaults to the process's environment.
        root (`Path`, defaults to `/opt/ml`): The container's folder.

    Raises:
        SourceFormatError: Hyperparameters that are no JSON object.
    """
    variables = os.environ if variables is None else variables
    prefix = "SM_CHANNEL_"
    channels = {
        name.removeprefix(prefix).lower(): Path(value) for name, value in variables.items() if name.startswith(prefix)
    }
    data = root / "input" / "data"
    if not channels and data.is_dir():
        channels = {path.name: path for path in sorted(data.iterdir()) if path.is_dir()}
    if "training" in channels:
        channels.setdefault("train", channels["training"])
    config = root / "input" / "config" / "hyperparameters.json"
    text = variables.get("SM_HPS") or (config.read_text(encoding="utf-8") if config.is_file() else "{}")
    return JobEnvironment(
        channels=channels,
        hyperparameters=_parse_hyperparameters(text),
        model_dir=Path(variables.get("SM_MODEL_DIR", root / "model")),
        checkpoints=Path(variables.get("BLIP_REFINE_CHECKPOINT_DIR", root / "checkpoints")),
        failure=Path(variables.get("SM_OUTPUT_DIR", root / "output")) / "failure",
    )


def _parse_hyperparameters(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise SourceFormatError(f"The hyperparameters are not JSON ({error}).") from error
    if not isinstance(value, dict):
        raise SourceFormatError(f"The hyperparameters are a {type(value).__name__}; a JSON object was expected.")
    return {str(name): _plain(part) for name, part in value.items() if not str(name).startswith("sagemaker_")}


def _plain(value: Any) -> str:
    """The SDK writes every value as JSON text, so that a string comes with quotation marks around it."""
    if isinstance(value, str):
        try:
            decoded = json.loads(value)
        except json.JSONDecodeError:
            return value
        return decoded if isinstance(decoded, str) else value
    return json.dumps(value)


def parse_flag(name: str, text: str | None) -> bool:
    """A yes or no from text.

    Raises:
        ConfigurationError: It is neither.
    """
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False, "": False}
    value = known.get((text or "").strip().lower())
    if value is None:
        raise ConfigurationError(f"The hyperparameter {name} is 'true' or 'false', not {text!r}.")
    return value
