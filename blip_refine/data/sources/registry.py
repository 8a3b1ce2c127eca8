"""`load_source`: whatever a user points at, as image-level records."""

from __future__ import annotations

import difflib
import inspect
import json
import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ...errors import ConfigurationError, SourceFormatError, SourceNotFoundError, SplitNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from ..undecoded import is_dataset
from . import (
    coco,
    conceptual_captions,
    flickr8k,
    folder,
    hub,
    karpathy,
    memory,
    nocaps,
    table,
    visual_genome,
    webdataset,
)
from .columns import ColumnOptions
from .grouping import split_name
from .made_splits import all_splits, check_made, of_split, take_split
from .mixed import mix_records, split_together

logger = logging.getLogger(__name__)

Loader = Callable[..., list[CaptionRecord]]

NAMED_SOURCES: dict[str, Loader] = {
    "flickr8k": flickr8k.load,
    "flickr30k": flickr8k.load,
    "coco": coco.load,
    "conceptual_captions": conceptual_captions.load,
    "nocaps": nocaps.load,
    "visual_genome": visual_genome.load,
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
        source (`str`, `os.PathLike`, `Mapping` or a `datasets` object): One of
            - a name: `"flickr8k"`, `"flickr30k"`, `"coco"`, `"conceptual_captions"`, `"nocaps"`,
              `"visual_genome"`, `"scenes:everyday"`, `"scenes:adventure"`;
            - a folder: one of those data sets as distributed, images with `metadata.csv`, a table, `.txt` files, tars;
            - a file: `.csv`, `.tsv`, `.jsonl`, `.json` (also COCO's and Karpathy's), `.parquet`, `.tar`;
            - a Hub id, `"owner/name"`;
            - a `datasets.Dataset` or `DatasetDict`;
            - several of these with weights, `{"coco": {"weight": 3, "data_dir": "coco"}, "photos/": 1}`: the share of
              each among the images, see `mix_records`.
        split (`str`, *optional*): `"train"`, `"validation"` (or `"dev"`, `"val"`) or `"test"`; all images by default.
            Where the source has no split of its own, or none but "train", splits are made by image, see
            `blip_refine.data.splits`.
        data_dir (`str` or `os.PathLike`, *optional*): Where the files of a named data set are.
        captions_per_image (`int`, *optional*): Keep only the first so many captions of each image.
        ratios (`Mapping[str, float]`, *optional*): Sizes of the splits to make; 90 / 5 / 5 by default. Where they are
            given, splits are made even if the source has its own.
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
    if captions_per_image is not None and captions_per_image < 1:
        raise ConfigurationError(f"captions_per_image must be at least 1, not {captions_per_image}.")
    if is_mixture(source):
        if data_dir is not None:
            raise ConfigurationError(
                "Several sources have several folders: give each its own data_dir=.", arguments=("data_dir",)
            )
        records = _mix(source, found, wanted, ratios, split_seed, options)
    elif isinstance(source, str) and source.split(":")[0] == "scenes":
        if data_dir is not None:
            raise ConfigurationError(
                f"{source} is drawn and has no files: leave out data_dir=.", arguments=("data_dir",)
            )
        records = _load_scenes(source, None if ratios else wanted, found, options)
        if ratios is not None:
            records = take_split(records, wanted, name, ratios, split_seed)
    else:
        records = _read(source, Path(data_dir) if data_dir is not None else None, found, options)
        called_train = is_dataset(source) or isinstance(source, Mapping) or _comes_from_hub(source, data_dir)
        if called_train and {record.split for record in records} == {"train"}:
            # On the Hub everything is at least called "train": what knows no other split has not been split yet.
            records = [replace(record, split=None) for record in records]
        if wanted is not None or ratios is not None:
            records = take_split(records, wanted, name, ratios, split_seed)
    if captions_per_image is not None:
        records = [replace(record, captions=record.captions[:captions_per_image]) for record in records]
    if rejections is None:
        found.log(logger, name)
    return records


def load_splits(source: Any, **options: Any) -> dict[str, list[CaptionRecord]]:
    """The records of every split of a source, which is read once; splits are made where it has none.

    Args:
        source, options: See `load_source`, without `split`.

    Returns:
        `dict[str, list[CaptionRecord]]`: Split to its records, as `load_source(split=...)` returns them.

    Raises:
        SourceNotFoundError, SourceFormatError, HubError, ConfigurationError, DataError: See `load_source`.
    """
    if is_mixture(source):
        from ..splits import DEFAULT_RATIOS

        found = {}
        for name in DEFAULT_RATIOS:
            with suppress(SplitNotFoundError):
                found[name] = load_source(source, split=name, **options)
        return found
    records = load_source(source, **options)
    if options.get("ratios") is not None:
        return {name: [record for record in records if record.split == name] for name in options["ratios"]}
    return all_splits(records, describe_source(source), None, options.get("split_seed", 0))


def iterate_source(
    source: Any, *, split: str = "train", streaming: bool = True, **options: Any
) -> Iterator[CaptionRecord]:
    """Records one after the other; those of a Hub id are read over the network as they are needed.

    Args:
        source (`str`, `os.PathLike` or a `datasets` object): See `load_source`. A `datasets.IterableDataset` is read
            row by row.
        split (`str`, defaults to `"train"`): A Hub id is streamed from this split of the repository, under the
            repository's own name.
        streaming (`bool`, defaults to `True`): Whether a Hub id is streamed instead of downloaded.
        **options: See `load_source`; for what is streamed, column names, `config`, `revision` and `token`.

    Raises:
        SourceNotFoundError, SourceFormatError, HubError, ConfigurationError: See `load_source`.
    """
    rejections = options.pop("rejections", None)
    found = Rejections() if rejections is None else rejections
    if is_dataset(source) and memory.is_iterable(source):
        yield from _call(memory.stream, source, "a data set in memory", found, options)
    elif streaming and is_hub_id(source, options.get("data_dir")):
        yield from _call(hub.stream, source, source, found, {"split": split, **options})
    else:
        yield from load_source(source, split=split, rejections=found, **options)
    if rejections is None:
        found.log(logger, describe_source(source))


def describe_source(source: Any) -> str:
    """What to call a source in a message."""
    if isinstance(source, (str, os.PathLike)):
        return os.fspath(source)
    return " + ".join(map(str, source)) if isinstance(source, Mapping) else type(source).__name__


def is_mixture(source: Any) -> bool:
    """Whether a source is several with weights, and not a `DatasetDict`."""
    return isinstance(source, Mapping) and not all(map(is_dataset, source.values()))


def is_hub_id(source: Any, data_dir: Any = None) -> bool:
    """Whether a source can only be the id of a repository: `owner/name`, and no such file or folder."""
    if not isinstance(source, str) or data_dir is not None or not _HUB_ID.match(source):
        return False
    return not Path(source).exists() and Path(source).suffix.lower() not in (*table.TABLE_SUFFIXES, ".tar", ".txt")


def _comes_from_hub(source: Any, data_dir: Any) -> bool:
    return is_hub_id(source, data_dir) or (source in hub.KNOWN_IDS and data_dir is None)


def _mix(
    parts: Mapping[str, Any],
    rejections: Rejections,
    wanted: str | None,
    ratios: Mapping[str, float] | None,
    seed: int,
    common: dict[str, Any],
) -> list[CaptionRecord]:
    weights: dict[str, float] = {}
    records: dict[str, list[CaptionRecord]] = {}
    to_split: dict[str, list[CaptionRecord]] = {}
    for name, given in parts.items():
        own = dict(given) if isinstance(given, Mapping) else {"weight": given}
        weight = own.pop("weight", 1)
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            raise ConfigurationError(
                f'The weight of {name!r} is a number, or options with one: {{"weight": 2, "data_dir": ...}}; '
                f"not a {type(weight).__name__}."
            )
        weights[name] = weight
        alone = own.keys() & {"split", "ratios", "split_seed"} or name in SCENES
        if alone or (wanted is None and ratios is None):
            options = {"split": wanted, "ratios": ratios, "split_seed": seed, **common, **own}
            records[name] = load_source(name, rejections=rejections, **options)
            continue
        whole = load_source(name, rejections=rejections, **{**common, **own})
        to_split[name] = whole if ratios is None else [replace(record, split=None) for record in whole]
        records[name] = []  # keeps the order
    made = {name for name, whole in to_split.items() if all(record.split is None for record in whole)}
    if made:
        check_made(wanted, ratios, min(made))
        to_split = split_together(to_split, ratios, seed, rejections)
    for name, whole in to_split.items():
        if wanted is not None and name not in made:
            whole = of_split(whole, wanted, name)
        records[name] = [record for record in whole if wanted is None or record.split == wanted]
    return mix_records(records, weights, seed=seed)


def _read(source: Any, data_dir: Path | None, rejections: Rejections, options: dict[str, Any]) -> list[CaptionRecord]:
    if is_dataset(source) or isinstance(source, Mapping):
        return _call(memory.load, source, "a data set in memory", rejections, options)
    if not isinstance(source, (str, os.PathLike)):
        raise SourceNotFoundError(
            f"A {type(source).__name__} is no source of captions. {_known()} For your own records, use them directly."
        )
    text = os.fspath(source)
    if text in NAMED_SOURCES:
        return _read_named(text, data_dir, rejections, options)
    path = (data_dir or Path()) / Path(text).expanduser()
    if path.is_dir():
        return _read_folder(path, rejections, options)
    if path.is_file():
        return _read_file(path, rejections, options)
    if ".tar" in text:
        return _call(webdataset.load, str(path), text, rejections, options)
    if is_hub_id(text, data_dir):
        return _call(hub.load, text, text, rejections, options)
    raise SourceNotFoundError(_not_found(text))


def _read_named(
    name: str, data_dir: Path | None, rejections: Rejections, options: dict[str, Any]
) -> list[CaptionRecord]:
    if data_dir is None:
        repo_id = hub.KNOWN_IDS.get(name)
        if repo_id is None:
            raise SourceNotFoundError(
                f"Where are the files of {name}? Pass data_dir=... with the folder as distributed.",
                arguments=("data_dir",),
            )
        loader = hub.load_coco if name == "coco" else hub.load
        return _call(loader, repo_id, name, rejections, {"name": name, **options})
    if not data_dir.is_dir():
        raise SourceNotFoundError(f"There is no folder {str(data_dir)!r} to read {name} from.")
    return _call(NAMED_SOURCES[name], data_dir, name, rejections, {"name": name, **options})


def _read_folder(path: Path, rejections: Rejections, options: dict[str, Any]) -> list[CaptionRecord]:
    """Folders of known data sets are told by their files; all others are a user's own."""
    loader: Loader = folder.load
    if coco.is_coco(path):
        loader = coco.load
    elif flickr8k.is_flickr(path):
        loader = flickr8k.load
    elif nocaps.is_nocaps(path):
        loader = nocaps.load
    elif visual_genome.is_visual_genome(path):
        loader = visual_genome.load
    elif conceptual_captions.is_download(path):
        loader = conceptual_captions.load
    elif any(path.glob("*.tar")):
        loader = webdataset.load
    return _call(loader, path, str(path), rejections, {"name": path.resolve().name, **options})


def _read_file(path: Path, rejections: Rejections, options: dict[str, Any]) -> list[CaptionRecord]:
    suffix = path.suffix.lower()
    if suffix == ".json":
        content = _parse_json(path)
        if isinstance(content, dict) and "annotations" in content:
            image_dir = options.pop("image_dir", None)
            options = {"image_dir": Path(image_dir) if image_dir else None, **options}
            return _call(coco.load_annotations, [path], str(path), rejections, {"name": path.name, **options})
        if isinstance(content, dict) and "images" in content:
            return _call(karpathy.load, path, str(path), rejections, {"name": path.name, **options})
    if conceptual_captions.is_url_list(path):
        raise SourceFormatError(
            f"{path} lists URLs, not images. Download them first: "
            f"blip-refine prepare {path} --download --output FOLDER"
        )
    if suffix in table.TABLE_SUFFIXES:
        return _call(table.load, path, str(path), rejections, options)
    if suffix == ".tar":
        return _call(webdataset.load, path, str(path), rejections, options)
    if suffix in (".txt", ".token"):
        known = {"name": path.resolve().parent.name, "captions_file": path.name}
        return _call(flickr8k.load, path.parent, str(path), rejections, {**known, **options})
    raise SourceFormatError(
        f"{path} is of no known form. Known are {', '.join(table.TABLE_SUFFIXES)}, .tar, "
        "Flickr's .txt and .token files, and folders."
    )


def _parse_json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SourceFormatError(f"{path} is not JSON ({error}).") from error


def _call(loader: Callable[..., Any], place: Any, name: str, rejections: Rejections, options: dict[str, Any]) -> Any:
    """Call a loader, after a look whether it takes all options: a misspelt one must not end in a `TypeError`."""
    parameters = list(inspect.signature(loader).parameters)[1:]
    of_columns = [option.name for option in fields(ColumnOptions)] if "columns" in parameters else []
    taken = [parameter for parameter in parameters if parameter not in ("rejections", "columns")] + of_columns
    unknown = [option for option in options if option not in taken]
    if unknown:
        near = difflib.get_close_matches(unknown[0], taken, 1)
        meant = f" Did you mean {near[0]}=?" if near else ""
        listed = ", ".join(f"{option}=" for option in taken if option != "name") or "none"
        raise ConfigurationError(
            f"{name} takes no option {unknown[0]}=; it takes {listed}.{meant}", arguments=(*taken, *unknown)
        )
    said = {option: options[option] for option in of_columns if option in options}
    others = {option: value for option, value in options.items() if option not in said}
    if said:
        others["columns"] = ColumnOptions(**said)
    return loader(place, rejections=rejections, **others)


def _load_scenes(
    source: str, split: str | None, rejections: Rejections, options: dict[str, Any]
) -> list[CaptionRecord]:
    if source not in SCENES:
        raise SourceNotFoundError(_not_found(source))

    def load(
        domain: str, *, rejections: Rejections, count: int | None = None, seed: int = 0, size: int = 96
    ) -> list[CaptionRecord]:
        from .scenes import load_scenes

        return load_scenes(domain, split, count=count, seed=seed, size=size)

    return _call(load, source.split(":", 1)[1], source, rejections, options)


def _known() -> str:
    return (
        f"Known are the names {', '.join([*NAMED_SOURCES, *SCENES])}, a folder, a .csv, .tsv, .jsonl, .json, .parquet "
        "or .tar file, a Hub id such as 'owner/name', or a datasets.Dataset."
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
