"""Weights in PyTorch's older format (`pytorch_model.bin`), read without running code and kept as safetensors.

`Salesforce/blip-image-captioning-base`, the model of most examples, has no safetensors on its main branch. Its `.bin`
is a pickle, which can run code when it is loaded; `torch.load(weights_only=True)` builds tensors and containers alone
and refuses everything else. The tensors are converted once, into a folder of the Hugging Face cache.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ..errors import ModelError
from .hub_files import hub_has

logger = logging.getLogger(__name__)

SAFETENSORS = ("model.safetensors", "model.safetensors.index.json")
PICKLED, PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
OLDEST_SAFE_TORCH = (2, 6)
"""Before, `weights_only=True` could be made to run code (CVE-2025-32434)."""


def with_safetensors(name_or_path: str, hub: Mapping[str, Any]) -> str:
    """Where to load a model from, so that its weights are safetensors.

    Args:
        name_or_path (`str`): A folder, or a model id of the Hub.
        hub (`Mapping[str, Any]`): `revision` and `token` for the Hub.

    Returns:
        `str`: `name_or_path` itself if it has safetensors, or neither format; else a folder of the cache that holds
        its files with the weights converted.

    Raises:
        ModelError: The weights cannot be read safely: they hold more than tensors, are damaged or incomplete, or this
            release of torch is too old.
    """
    folder = Path(name_or_path) if Path(name_or_path).is_dir() else _from_hub(name_or_path, hub)
    if folder is None or any((folder / name).is_file() for name in SAFETENSORS):
        return name_or_path
    files = _pickled_files(folder)
    return str(_converted(name_or_path, folder, files)) if files else name_or_path


def _from_hub(repo_id: str, hub: Mapping[str, Any]) -> Path | None:
    """The local copy of a repository that has pickled weights and no others; `None` for anything else."""
    from huggingface_hub import snapshot_download

    try:
        if any(hub_has(repo_id, name, hub) for name in SAFETENSORS):
            return None
        if not any(hub_has(repo_id, name, hub) for name in (PICKLED, PICKLED_INDEX)):
            return None
        return Path(snapshot_download(repo_id, allow_patterns=["*.json", "*.txt", "pytorch_model*.bin"], **hub))
    except (OSError, ValueError):
        return None  # no such repository: loading the model says so plainly


def _pickled_files(folder: Path) -> list[Path]:
    """The files of the pickled weights, each of which must be there."""
    index = folder / PICKLED_INDEX
    if not index.is_file():
        return [folder / PICKLED] if (folder / PICKLED).is_file() else []
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ModelError(f"Cannot read {index} as an index of weights: copy or download it again.") from error
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise ModelError(f"{index} names {name!r}, which is not in that folder: copy or download it again.")
    return [folder / name for name in names]


def _converted(name: str, folder: Path, files: list[Path]) -> Path:
    from huggingface_hub import constants

    # Of all files: a configuration that was changed must not be found in its old form.
    seen = [(path.name, path.stat()) for path in sorted(folder.iterdir()) if path.is_file()]
    facts = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in seen]
    key = hashlib.sha256(json.dumps([str(folder.resolve()), facts]).encode()).hexdigest()[:24]
    target = Path(constants.HF_HOME) / "blip_refine" / "converted" / key
    if target.is_dir():
        return target
    tensors: dict[str, torch.Tensor] = {}
    for path in files:
        tensors |= _read(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    making = Path(tempfile.mkdtemp(dir=target.parent, prefix=".making-"))
    try:
        save_file(tensors, making / SAFETENSORS[0], metadata={"format": "pt"})
        for path in folder.iterdir():
            if path.is_file() and path.suffix in (".json", ".txt") and path.name != PICKLED_INDEX:
                shutil.copy(path, making / path.name)
        try:
            os.replace(making, target)
        except OSError:
            if not target.is_dir():  # else another process was faster
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    logger.warning("%s has no safetensors: its %s was converted once, into %s.", name, files[0].name, target)
    return target


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a pickled file, each with memory of its own."""
    found = read_pickle(path)
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise ModelError(f"{path} does not hold a model's weights (tensors by name).")
    # safetensors keeps no two names for one memory.
    return {name: value.detach().contiguous().clone() for name, value in found.items()}


def read_pickle(path: Path) -> Any:
    """What a file of `torch.save` holds, if that is tensors, containers and plain values.

    Args:
        path (`Path`): The file.

    Raises:
        ModelError: It holds something else, is damaged, or this release of torch cannot read it safely.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_SAFE_TORCH:
        raise ModelError(
            f"{path} is a pickle. Reading it safely needs torch 2.6 or newer; this is torch {torch.__version__}. "
            "Upgrade: pip install -U torch"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{path} holds more than tensors, or is damaged, and is not loaded: such a file can run code. Download it "
            "again, or convert it where you trust it with `model.save_pretrained(folder)`."
        ) from error
    except (RuntimeError, EOFError, ValueError, OSError) as error:
        raise ModelError(f"{path} is damaged or cut short: copy or download it again.") from error
