"""The facts of a run, as `run.json` holds them: each measured, and left out where it was not."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..jsonlines import write_json

PACKAGES = ("blip_refine", "torch", "transformers", "datasets", "peft", "accelerate", "sacrebleu")


@dataclass
class RunFacts:
    """The facts of a run.

    Args:
        base_model (`str`, *optional*): What was started from.
        dataset (`str`, *optional*): What it was trained on.
        splits (`dict`, *optional*): Split name to `{"images", "captions"}`.
        fingerprint (`str`, *optional*): Of the data and its splits.
        evaluation_split (`str`, *optional*): What the evaluated images' split is called.
        evaluation_note (`str`, *optional*): What a reader must know about that split, in a sentence.
        overlap (`str`, *optional*): The outcome of the check for training images in the evaluation.
        decoding (`dict`, *optional*): How captions were generated.
        hyperparameters (`dict`, *optional*): All that training used (`used_hyperparameters`).
        parameters, trainable_parameters (`int`, *optional*): Of the model.
        seconds (`float`, *optional*): Wall time of training.
        hardware (`str`, *optional*): What it ran on; this machine by default.
        versions (`dict`, *optional*): Package to version; those installed by default.
        refiner (`str`, *optional*): Which refiner made "refined".
        refinement (`dict`, *optional*): What became of the captions that it was asked about ([`RefineCounts`]).
        developed_by (`str`, *optional*): Who made the model.
        region (`str`, *optional*): Where it was computed: a region of the provider, or a country.
        cloud_provider (`str`, *optional*): Whose computers they are.
        extra (`dict`): Further facts, written as they are.
    """

    base_model: str | None = None
    dataset: str | None = None
    splits: dict[str, Any] | None = None
    fingerprint: str | None = None
    evaluation_split: str | None = None
    evaluation_note: str | None = None
    overlap: str | None = None
    decoding: dict[str, Any] | None = None
    hyperparameters: dict[str, Any] | None = None
    parameters: int | None = None
    trainable_parameters: int | None = None
    seconds: float | None = None
    hardware: str | None = field(default_factory=lambda: describe_hardware())
    versions: dict[str, str] | None = field(default_factory=lambda: installed_versions())
    refiner: str | None = None
    refinement: dict[str, Any] | None = None
    developed_by: str | None = None
    region: str | None = None
    cloud_provider: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: str | os.PathLike) -> None:
        """Write `run.json` into the run folder."""
        row = {name: value for name, value in asdict(self).items() if name != "extra" and value is not None}
        write_json(Path(folder) / "run.json", {**row, **self.extra})


def describe_hardware(*, cpu: bool = False) -> str:
    """The processors that a run used: GPUs where torch is loaded and sees some, else the CPU.

    Args:
        cpu (`bool`, defaults to `False`): It ran on the CPU, whatever else there is.
    """
    import sys

    torch = sys.modules.get("torch")
    if not cpu and torch is not None and torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        kinds = dict.fromkeys(names)
        return ", ".join(f"{names.count(name)} x {name}" for name in kinds)
    described = ", ".join(part for part in (_cpu_name(), platform.machine()) if part)
    return f"{os.cpu_count()} CPU cores ({described}), {platform.system()}"


def _cpu_name() -> str:
    """The processor's model, where the system tells it."""
    if platform.system() != "Linux":
        # What `platform` says elsewhere is a family and not a name, and often empty.
        return ""
    try:
        lines = Path(os.sep, "proc", "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    found = next((line.partition(":")[2] for line in lines if line.startswith("model name")), "")
    return " ".join(found.replace("(R)", "").replace("(TM)", "").split())


def installed_versions() -> dict[str, str]:
    """The versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            # Left out: running from a source tree that was never installed is no reason to fail.
            continue
    return found
