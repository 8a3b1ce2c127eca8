"""Checkpoints that are there whole or not at all, whenever the process dies."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from ..errors import ConfigurationError, ModelError

INCOMPLETE = ".incomplete"
"""The folder, inside a run's, in which a checkpoint is written before it gets its name."""

_NAME = re.compile(r"checkpoint-(\d+)")


def find_fault(checkpoint: str | os.PathLike) -> str | None:
    """Why a checkpoint cannot be resumed from; `None` where it is whole.

    Checkpoints of this library appear under their name only when they are whole. Others, and copies that broke off,
    may not be: weights shorter than they say, or a missing or truncated optimizer.

    Args:
        checkpoint (`str` or `os.PathLike`): The folder.
    """
    folder = Path(checkpoint)
    if not folder.is_dir():
        return "there is no such folder"
    try:
        json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "trainer_state.json, which is written last, is missing"
    except ValueError:
        return "trainer_state.json breaks off"
    weights = list(folder.glob("*.safetensors"))
    if not weights and not list(folder.glob("pytorch_model_fsdp_*")):
        return "the weights are missing"
    for path in weights:
        try:
            with safe_open(path, framework="pt") as file:
                file.keys()
        except (SafetensorError, OSError) as error:
            return f"{path.name} breaks off ({error})"
    for name in ("optimizer.pt", "scheduler.pt"):
        path = folder / name
        if path.exists() and not zipfile.is_zipfile(path):
            return f"{name} breaks off"
    if not (folder / "scheduler.pt").exists():
        return "scheduler.pt is missing: it holds weights only"
    return None


def find_checkpoint(run: str | os.PathLike, asked: str | bool | None) -> tuple[str | None, list[str]]:
    """The checkpoint to resume from.

    Args:
        run (`str` or `os.PathLike`): The run folder.
        asked (`str` or `bool`, *optional*): A checkpoint, or `True` for the last one that is whole.

    Returns:
        `tuple`: Its folder, `None` where training is to start afresh; and a sentence for each one passed over.

    Raises:
        ConfigurationError: The last one was asked for, and there is none.
        ModelError: The one that was asked for is not whole.
    """
    if not asked:
        return None, []
    if asked is not True:
        fault = find_fault(asked)
        if fault is not None:
            raise ModelError(f"{asked} cannot be resumed from: {fault}.")
        return str(asked), []
    folders = [path for path in Path(run).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    passed_over: list[str] = []
    for path in sorted(folders, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True):
        fault = find_fault(path)
        if fault is None:
            return str(path), passed_over
        passed_over.append(f"{path} is passed over: {fault}.")
    detail = f" {' '.join(passed_over)}" if passed_over else ""
    raise ConfigurationError(
        f"There is no whole checkpoint in {str(run)!r} to resume from.{detail} "
        "Without resuming, training starts afresh."
    )


def find_earlier_run(run: str | os.PathLike) -> str | None:
    """What a run folder holds of an earlier training: its last checkpoint, or its weights; `None` where it has none.

    Args:
        run (`str` or `os.PathLike`): The run folder, which need not exist.
    """
    found = [path.name for path in Path(run).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    if found:
        return max(found, key=lambda name: int(name.rpartition("-")[2]))
    return next((path.name for path in sorted(Path(run).glob("*.safetensors"))), None)


def remove_earlier_run(run: str | os.PathLike) -> None:
    """Remove the weights and checkpoints of an earlier training: a resumed or a loaded run must not meet them.

    Results, pictures and people's ratings stay; the next run writes its own in their place.

    Args:
        run (`str` or `os.PathLike`): The run folder.
    """
    discard_incomplete(run)
    folders = [path for path in Path(run).glob("checkpoint-*") if _NAME.fullmatch(path.name)]
    for folder in [*folders, Path(run, "merged")]:
        if folder.exists():
            shutil.rmtree(folder)
    names = ("adapter_config.json", "config.json", "generation_config.json")
    for pattern in ("*.safetensors", "*.safetensors.index.json", *names):
        for path in Path(run).glob(pattern):
            path.unlink()


def publish(run: str | os.PathLike, name: str) -> None:
    """Give a checkpoint that was written under `INCOMPLETE` its name: in one step, after all of it is on the disk.

    Args:
        run (`str` or `os.PathLike`): The run folder.
        name (`str`): Such as "checkpoint-500".
    """
    staged, final = Path(run, INCOMPLETE, name), Path(run, name)
    for path in staged.rglob("*"):
        if path.is_file():
            _to_disk(path)
    _to_disk(staged)
    replaced = Path(run, INCOMPLETE, f"{name}-replaced")
    if final.exists():
        os.replace(final, replaced)
    os.replace(staged, final)
    _to_disk(Path(run))
    shutil.rmtree(replaced, ignore_errors=True)


def discard_incomplete(run: str | os.PathLike) -> None:
    """Remove what a process that died had begun to save."""
    shutil.rmtree(Path(run, INCOMPLETE), ignore_errors=True)


def _to_disk(path: Path) -> None:
    windows = os.name == "nt"
    if windows and path.is_dir():
        return  # Windows opens no folder.
    # Windows writes to the disk only what is open for writing.
    handle = os.open(path, os.O_RDWR if windows else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
