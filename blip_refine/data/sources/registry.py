"""`load_source`: whatever a user points at, as image-level records."""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from . import coco, flickr8k, folder, hub, karpathy, memory, table
from .grouping import split_name

logger = logging.getLogger(__name__)

NAMED_SOURCES: dict[str, Callable[..., list[CaptionRecord]]] = {
    "flickr8k": flickr8k.load,
    "flickr30k": flickr8k.load,
    "coco": coco.load,
}
"""Names that stand for a data set of the field; each reads the folder that `data_dir` names."""

SCENES = ("scenes:everyday", "scenes:adventure")
_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")


def load_source(
    source: Any,
    *,
    split: str | None = None,
    data_dir: str | os.PathLike | None = None,
    captions_per_image: int | None = None,
    ratios: Mapping[str, float] | None = None,
    split_seed: int = 0,
    rejections: Rejections | None = None,
    **options: Any,
) -> list[CaptionRecord]:
    """Records from any source: one for each image, with all its captions.

    Args:
        source (`str`, `os.PathLike` or a `datasets` object): One of
            - a name: `"flickr8k"`, `"flickr30k"`, `"coco"`, `"scenes:everyday"`, `"scenes:adventure"`;
            - a folder: one of those data sets as distributed, images with `metadata.csv`, a table, or `.txt` files;
            - a file: `.csv`, `.tsv`, `.jsonl`, `.json` (also COCO's and Karpathy's) or `.parquet`;
            - a Hub id, `"owner/name"`;
            - a `datasets.Dataset` or `DatasetDict`.
        split (`str`, *optional*): `"train"`, `"validation"` (or `"dev"`, `"val"`) or `"test"`; all images by default.
            Where the source has no split of its own, one is made by image, see `blip_refine.data.splits`.
        data_dir (`str` or `os.PathLike`, *optional*): Where the files of a named data set are.
        captions_per_image (`int`, *optional*): Keep only the first so many captions of each image.
        ratios (`Mapping[str, float]`, *optional*): Sizes of the splits to make, where the source has none of its own;
            90 / 5 / 5 by default.
        split_seed (`int`, defaults to 0): The seed of the splits to make.
        rejections (`Rejections`, *optional*): Filled with what was left out, and why; by default a summary goes to
            the log.
        **options: What the source itself takes (`caption_column=`, `restval=`, `image_dir=`, ...).

    Returns:
        `list[CaptionRecord]`: In the source's order.

    Raises:
        SourceNotFoundError: There is no such source; the message names what is known, and what is near.
        SourceFormatError: The source is there and is not what it should be.
        HubError: A Hub id, and the Hub cannot be reached.
        ConfigurationError: An option that the source does not take, or a split that it does not have.
    """
    found = Rejections() if rejections is None else rejections
    wanted = split_name(split)
    name = describe_source(source)
    if isinstance(source, str) and source.split(":")[0] == "scenes":
        records = _load_scenes(source, wanted, options)
    else:
        records = _read(source, Path(data_dir) if data_dir is not None else None, found, options)
        if wanted is not None:
            records = _take_split(records, wanted, name, ratios, split_seed)
    if captions_per_image is not None:
        if captions_per_image < 1:
            raise ConfigurationError(f"captions_per_image must be at least 1, not {captions_per_image}.")
        records = [replace(record, captions=record.captions[:captions_per_image]) for record in records]
    if rejections is None:
        found.log(logger, name)
    return records


def describe_source(source: Any) -> str:
    """What to call a source in a message."""
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else type(source).__name__


def _read(source: Any, data_dir: Path | None, rejections: Rejections, options: dict[str, Any]) -> list[CaptionRecord]:
    if memory.is_dataset(source) or (isinstance(source, Mapping) and all(map(memory.is_dataset, source.values()))):
        return _call(memory.load, source, "a data set in memory", rejections, options)
    if not isinstance(source, (str, os.PathLike)):
        raise SourceNotFoundError(
            f"A {type(source).__name__} is no source of captions. {_known()} For your own records, use them directly."
        )
    text = os.fspath(source)
    if text in NAMED_SOURCES:
        return _read_named(text, data_dir, rejections, options)
    path = data_dir / text if data_dir is not None else Path(text).expanduser()
    if path.is_dir():
        return _read_folder(path, rejections, options)
    if path.is_file():
        return _read_file(path, rejections, options)
    if _HUB_ID.match(text) and data_dir is None and not path.suffix:
        return _call(hub.load, text, text, rejections, options)
    raise SourceNotFoundError(_not_found(text))


def _read_named(
    name: str, data_dir: Path | None, rejections: Rejections, options: dict[str, Any]
) -> list[CaptionRecord]:
    if data_dir is None:
        repo_id = hub.KNOWN_IDS.get(name)
        if repo_id is None:
            raise SourceNotFoundError(f"Where are the files of {name}? Pass data_dir= with the folder as distributed.")
        return _call(hub.load, repo_id, name, rejections, {"name": name, **options})
    if not data_dir.is_dir():
        raise SourceNotFoundError(f"There is no folder {str(data_dir)!r} to read {name} from.")
    return _call(NAMED_SOURCES[name], data_dir, name, rejections, {"name": name, **options})


def _read_folder(path: Path, rejections: Rejections, options: dict[str, Any]) -> list[CaptionRecord]:
    if coco.is_coco(path):
        return _call(coco.load, path, str(path), rejections, {"name": path.name, **options})
    if flickr8k.is_flickr(path):
        return _call(flickr8k.load, path, str(path), rejections, {"name": path.name, **options})
    return _call(folder.load, path, str(path), rejections, options)


def _read_file(path: Path, rejections: Rejections, options: dict[str, Any]) -> list[CaptionRecord]:
    if path.suffix.lower() == ".json":
        content = _parse_json(path)
        if isinstance(content, dict) and "annotations" in content:
            image_dir = options.pop("image_dir", None)
            options = {"image_dir": Path(image_dir) if image_dir else None, **options}
            return _call(coco.load_annotations, [path], str(path), rejections, {"name": path.name, **options})
        if isinstance(content, dict) and "images" in content:
            return _call(karpathy.load, path, str(path), rejections, {"name": path.name, **options})
    if path.suffix.lower() in table.TABLE_SUFFIXES:
        return _call(table.load, path, str(path), rejections, options)
    if path.suffix.lower() in (".txt", ".token"):
        return _call(
            flickr8k.load, path.parent, str(path), rejections,
            {"name": path.parent.name, "captions_file": path.name, **options},
        )  # fmt: skip
    raise SourceFormatError(
        f"{path} is of no known form. Known are {', '.join(table.TABLE_SUFFIXES)}, "
        "Flickr's .txt and .token files, and folders."
    )


def _parse_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error


def _call(
    loader: Callable[..., list[CaptionRecord]],
    place: Any,
    name: str,
    rejections: Rejections,
    options: dict[str, Any],
) -> list[CaptionRecord]:
    """Call a loader, after a look whether it takes all options: a misspelt one must not end in a `TypeError`."""
    taken = [parameter for parameter in inspect.signature(loader).parameters if parameter != "rejections"][1:]
    unknown = [option for option in options if option not in taken]
    if unknown:
        near = difflib.get_close_matches(unknown[0], taken, 1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        raise ConfigurationError(f"{name} takes no option {unknown[0]!r}; it takes {', '.join(taken)}.{meant}")
    return loader(place, rejections=rejections, **options)


def _load_scenes(source: str, split: str | None, options: dict[str, Any]) -> list[CaptionRecord]:
    from .scenes import load_scenes

    if source not in SCENES:
        raise SourceNotFoundError(_not_found(source))
    return load_scenes(source.split(":", 1)[1], split, **options)


def _take_split(
    records: list[CaptionRecord], wanted: str, name: str, ratios: Mapping[str, float] | None, seed: int
) -> list[CaptionRecord]:
    own = sorted({record.split for record in records if record.split is not None})
    # A data set that knows one split only has not been split: everything on the Hub is at least "train".
    if ratios is None and (wanted in own and own != ["train"]):
        return [record for record in records if record.split == wanted]
    if ratios is None and len(own) > 1:
        raise ConfigurationError(f"{name} has no split {wanted!r}; it has {', '.join(map(repr, own))}.")
    from ..splits import DEFAULT_RATIOS, split_by_image

    ratios = dict(ratios or DEFAULT_RATIOS)
    if wanted not in ratios:
        raise ConfigurationError(f"{name} has no splits of its own, and {wanted!r} is not one of {', '.join(ratios)}.")
    return split_by_image(records, ratios, seed)[wanted]


def _known() -> str:
    return (
        f"Known are the names {', '.join([*NAMED_SOURCES, *SCENES])}, a folder, a .csv, .jsonl, .json or .parquet "
        "file, a Hub id such as 'owner/name', or a datasets.Dataset."
    )


def _not_found(text: str) -> str:
    path = Path(text)
    nearby = [str(path.parent / name) for name in _names_in(path.parent)]
    near = difflib.get_close_matches(text, [*NAMED_SOURCES, *SCENES, *nearby], 1, cutoff=0.6)
    meant = f" Did you mean {near[0]!r}?" if near else ""
    return f"There is no source {text!r}: it is no known name, and there is no such file or folder.{meant} {_known()}"


def _names_in(parent: Path) -> list[str]:
    try:
        return os.listdir(parent)
    except OSError:
        return []  # no such folder, or not ours to read: then nothing in it is near
