"""What goes to the Hub, laid out in a folder of its own: safetensors, configuration, processor, results and card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import ConfigurationError, ModelError, SourceNotFoundError
from ..jsonlines import read_json_object, write_json
from .card import render_card
from .card_tables import choose_samples
from .facts import ADAPTER_CONFIG, ADAPTER_WEIGHTS, RunFolder, read_run_folder
from .provenance import STARTER, find_data, inherit_license, is_embedded_starter, is_local_path
from .secrets import refuse_secrets, scrub

PROCESSOR_FILES = (
    "processor_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
RESULT_FILES = ("coco_metrics.json", "run.json", "pretraining.json", "error_analysis.json", "human.json")
WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"

PATH_FIELDS = ("base_model", "base_model_name_or_path", "dataset", "data", "name_or_path", "_name_or_path")
"""Fields of configuration files that `transformers` and the trainer fill with a name or a path."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """A folder as it is to lie on the Hub.

    Args:
        folder (`Path`): Where it is laid out.
        kind (`str`): "full", "adapter", or "merged" (an adapter put into its base).
        files (`dict[str, int]`): Every file in it with its size in bytes, in the order of the names.
        warnings (`tuple[str, ...]`): What the one who publishes must know.
    """

    folder: Path
    kind: str
    files: dict[str, int]
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """All bytes together."""
        return sum(self.files.values())


def stage(
    run_folder: str | os.PathLike,
    target: str | os.PathLike,
    *,
    model_id: str | None = None,
    merge: bool = False,
    base_model: str | None = None,
    license: str | None = None,
    developed_by: str | None = None,
    pictures: bool | None = None,
    max_shard_size: str | int = "5GB",
    results: bool = True,
) -> Shipment:
    """Lay out what a run folder publishes, and refuse secrets and local paths in it.

    Only files that are known to belong to a model go: never pickled arguments, optimizer states, checkpoints, logs.

    Args:
        run_folder (`str` or `os.PathLike`): What `train` or `demo` left behind.
        target (`str` or `os.PathLike`): An empty folder.
        model_id (`str`, *optional*): The name on the Hub, for the card.
        merge (`bool`, defaults to `False`): Put an adapter into its base and publish a whole model.
        base_model (`str`, *optional*): The adapter's base on the Hub, where its configuration names a local folder.
        license (`str`, *optional*): The licence; by default what base and data leave.
        developed_by (`str`, *optional*): Who made the model; by default what the run says, then the owner.
        pictures (`bool`, *optional*): Whether the card shows pictures; by default where the data do not forbid it.
        max_shard_size (`str` or `int`, defaults to `"5GB"`): Weights above this are split.
        results (`bool`, defaults to `True`): Whether the card and the result files go along.

    Returns:
        [`Shipment`]

    Raises:
        SourceNotFoundError: There is no such folder, no model in it, or no processor.
        ModelError: Its weights are not in safetensors.
        ConfigurationError: `merge` without an adapter, an adapter whose base is a local folder, or secrets.
    """
    run, target = read_run_folder(run_folder), Path(target)
    target.mkdir(parents=True, exist_ok=True)
    if merge and not run.adapter:
        raise ConfigurationError(f"{str(run.path)!r} holds a whole model, not an adapter: there is nothing to merge.")
    if merge:
        write_merged(run.path, target, max_shard_size)
    else:
        if run.adapter:
            _copy_adapter(run.path, target, base_model)
            _copy_settings(run.path, target, ("generation_config.json",))
        else:
            _copy_weights(run.path, target, max_shard_size)
        _copy_settings(run.path, target, PROCESSOR_FILES)
    _require_processor(target, run)
    warnings: list[str] = []
    if results:
        _copy_settings(run.path, target, RESULT_FILES)
        published = _as_published(run, target, merge)
        if developed_by:
            published = replace(published, facts={**published.facts, "developed_by": developed_by})
        warnings = _add_card(published, target, model_id, license, pictures)
    files = {path.relative_to(target).as_posix(): path.stat().st_size for path in _files_in(target)}
    refuse_secrets(target, files)
    kind = "merged" if merge else "adapter" if run.adapter else "full"
    return Shipment(target, kind, files, tuple(warnings))


def _files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _as_published(run: RunFolder, target: Path, merge: bool) -> RunFolder:
    """The run as its card is to describe it: a merged adapter is a whole model, and paths have become names."""
    adapter = {} if merge else read_json_object(target / ADAPTER_CONFIG)
    facts = {**run.facts, **({"base_model": run.base_model} if run.base_model else {})}
    return replace(run, config=read_json_object(target / "config.json"), adapter=adapter, facts=facts)


def _add_card(
    run: RunFolder, target: Path, model_id: str | None, license: str | None, pictures: bool | None
) -> list[str]:
    """The card with its pictures. Returns what the one who publishes must know."""
    origin, warnings = find_data(run.dataset), []
    show = (origin is None or origin.redistributable) if pictures is None else pictures
    # Links of the card start from the run folder, and the pictures lie in the target as they do there.
    card = render_card(run, model_id=model_id, license=license, pictures=show, relative_to=run.path)
    (target / "README.md").write_text(card, encoding="utf-8", newline="\n")
    for sample in choose_samples(run) if show else ():
        place = target / sample.picture.relative_to(run.path.resolve())
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sample.picture, place)
    terms = inherit_license(run.base_model, run.dataset, license)
    if terms.warning:
        warnings.append(terms.warning)
    if show and origin and not origin.redistributable and run.predictions:
        warnings.append(f"The card shows pictures of {origin.name}, which may not be redistributed.")
    return warnings


def _copy_settings(source: Path, target: Path, names: Iterable[str]) -> None:
    """Copy configuration and result files; fields that hold a path by nature keep only its last part."""
    for name in names:
        path = source / name
        if not path.is_file():
            continue
        if path.suffix != ".json" or name in ("tokenizer.json", "vocab.json"):
            shutil.copyfile(path, target / name)
            continue
        content = read_json_object(path)
        cleaned = scrub(content, PATH_FIELDS)
        if cleaned == content:
            shutil.copyfile(path, target / name)
        else:
            write_json(target / name, cleaned)


def _copy_weights(source: Path, target: Path, max_shard_size: str | int) -> None:
    """The weights of a whole model, split if they are large, and its configuration."""
    from huggingface_hub import save_torch_state_dict

    _copy_settings(source, target, ("config.json", "generation_config.json"))
    shards = sorted(source.glob("model*.safetensors"))
    if not shards:
        found = ", ".join(path.name for path in sorted(source.glob("*.bin"))) or "no weights at all"
        raise ModelError(
            f"{str(source)!r} holds {found}, not {WEIGHTS}: only safetensors are published. "
            "Save the model once with `model.save_pretrained(folder)`."
        )
    limit = parse_size(max_shard_size)
    if all(path.stat().st_size <= limit for path in shards):
        index = [source / WEIGHTS_INDEX] if (source / WEIGHTS_INDEX).is_file() else []
        for path in [*shards, *index]:
            _link_or_copy(path, target / path.name)
        return
    from safetensors.torch import load_file

    state = {name: tensor for path in shards for name, tensor in load_file(path).items()}
    save_torch_state_dict(state, target, max_shard_size=limit, metadata={"format": "pt"})


def _copy_adapter(source: Path, target: Path, base_model: str | None) -> None:
    """An adapter, with the name of its base as others can load it."""
    weights = source / ADAPTER_WEIGHTS
    if not weights.is_file():
        raise ModelError(f"{str(source)!r} holds no {ADAPTER_WEIGHTS}: only safetensors are published.")
    _link_or_copy(weights, target / ADAPTER_WEIGHTS)
    config = read_json_object(source / ADAPTER_CONFIG)
    base = base_model or config.get("base_model_name_or_path")
    if not base:
        raise ConfigurationError(
            f"{source / ADAPTER_CONFIG} names no base model; name it with --base-model owner/name."
        )
    if is_embedded_starter(base):
        base = STARTER
    if is_local_path(base) or Path(base).is_dir():
        raise ConfigurationError(
            f"The adapter's base is the folder {Path(base).name!r} of this machine, which nobody else has. Publish "
            "the whole model with --merge, or name the same base on the Hub with --base-model owner/name."
        )
    write_json(target / ADAPTER_CONFIG, {**config, "base_model_name_or_path": base})


def write_merged(source: Path, target: Path, max_shard_size: str | int = "5GB") -> None:
    """Put an adapter into its base, and save a whole model with its processor.

    Args:
        source (`Path`): The folder of the adapter.
        target (`Path`): Where the whole model is written.
        max_shard_size (`str` or `int`, defaults to `"5GB"`): Weights above this are split.
    """
    from ..models.captioner import load_captioner

    model, processor = load_captioner(source)
    merged = model.merge_and_unload()
    merged.save_pretrained(target, max_shard_size=max_shard_size)
    processor.save_pretrained(target)
    _clean_in_place(target)


def _clean_in_place(folder: Path) -> None:
    for path in folder.glob("*.json"):
        if path.name not in ("tokenizer.json", "vocab.json"):
            write_json(path, scrub(read_json_object(path), PATH_FIELDS))


def _require_processor(target: Path, run: RunFolder) -> None:
    pictures = any((target / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))
    words = any((target / name).is_file() for name in ("tokenizer.json", "vocab.txt"))
    if not (pictures and words):
        missing = "picture preparation (processor_config.json)" if not pictures else "tokenizer (tokenizer.json)"
        raise SourceNotFoundError(
            f"{str(run.path)!r} lacks the {missing}: nobody could use the model. "
            "Save it there with `processor.save_pretrained(folder)`."
        )


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows it: weights can be gigabytes."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def parse_size(size: str | int) -> int:
    """Bytes from "5GB", "500MB" or a number.

    Raises:
        ConfigurationError: It is no such size.
    """
    units = {"KB": 10**3, "MB": 10**6, "GB": 10**9}
    text = str(size).strip().upper()
    factor = units.get(text[-2:], 1)
    digits = text[:-2] if text[-2:] in units else text
    if not digits.replace(".", "", 1).isdigit() or float(digits) <= 0:
        raise ConfigurationError(f"{size!r} is no size of a file; write it as '5GB' or '500MB'.")
    return int(float(digits) * factor)
