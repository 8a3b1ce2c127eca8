"""Data sets from the Hub, by their id. The one file of `data` that speaks to the Hub."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ...errors import ConfigurationError, HubError, SourceFormatError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from . import flickr8k, karpathy, memory
from .columns import FOUND_BY_NAME, ColumnOptions
from .download import LOG_FILE, download_images, read_log
from .grouping import split_name
from .http_fetch import FetchLimits

KNOWN_IDS = {"flickr8k": "ariG23498/flickr8k", "coco": "yerevann/coco-karpathy"}
"""What the names of `load_source` are on the Hub."""


def open_dataset(
    repo_id: str,
    *,
    config: str | None = None,
    split: str | None = None,
    streaming: bool = False,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
) -> Any:
    """`datasets.load_dataset`, with errors that say what to do.

    Args:
        repo_id (`str`): `owner/name`.
        config (`str`, *optional*): The configuration, where there are several.
        split (`str`, *optional*): One split, under the repository's own name; all by default.
        streaming (`bool`, defaults to `False`): Read over the network as rows are needed, and keep nothing.
        revision (`str`, *optional*): A commit, branch or tag.
        token (`str` or `bool`, *optional*): For private and gated repositories.
        cache_dir (`str`, *optional*): Where `datasets` keeps what it downloads.

    Raises:
        SourceNotFoundError: The Hub has no such data set, or not for this token.
        HubError: The Hub cannot be reached, or what it sent cannot be read.
    """
    import datasets
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.errors import HfHubHTTPError

    offline = _is_offline()
    try:
        return datasets.load_dataset(
            repo_id, config, split=split, streaming=streaming, revision=revision, token=token, cache_dir=cache_dir
        )
    except DatasetNotFoundError as error:
        raise SourceNotFoundError(
            f"The Hub has no data set {repo_id!r} that you may read ({_first_line(error)}). "
            "Check the name; for a private or gated one, log in with `hf auth login`."
        ) from error
    except (ConnectionError, TimeoutError, HfHubHTTPError, FileNotFoundError) as error:
        state = "HF_HUB_OFFLINE is set" if offline else "the Hub cannot be reached"
        raise HubError(
            f"The data set {repo_id!r} is not in the local cache and {state} ({_first_line(error)}). "
            "Connect and try again, or pass data_dir=... with the files as distributed.",
            arguments=("data_dir",),
        ) from error
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise HubError(f"The data set {repo_id!r} cannot be read: {_first_line(error)}") from error


def download_from_hub(repo_id: str, name: str, revision: str, folder: Path) -> str | None:
    """Download one file of a dataset's repository to `folder/name`; stopped, it goes on where it was.

    Args:
        repo_id (`str`): `owner/name`.
        name (`str`): The file's path in the repository.
        revision (`str`): A commit, branch or tag.
        folder (`Path`): Where to.

    Returns:
        `str`, *optional*: The SHA-256 that the Hub states; `None` for small files, of which it states none.

    Raises:
        SourceNotFoundError: The Hub has no such file, or not for this token.
        HubError: The Hub cannot be reached.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_download, hf_hub_url
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

    # What the HTTP library raises that the Hub's client has imported: httpx, and from its version 2 on httpx2.
    broken = tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)
    try:
        stated = get_hf_file_metadata(hf_hub_url(repo_id, name, repo_type="dataset", revision=revision)).etag
        hf_hub_download(repo_id, name, repo_type="dataset", revision=revision, local_dir=folder)
    except (OfflineModeIsEnabled, ConnectionError, TimeoutError, LocalEntryNotFoundError) as error:
        state = "HF_HUB_OFFLINE is set" if _is_offline() else "the Hub cannot be reached"
        raise HubError(f"{name} of {repo_id!r} cannot be downloaded: {state} ({_first_line(error)}).") from error
    except HfHubHTTPError as error:
        raise SourceNotFoundError(
            f"The Hub does not give {name} of {repo_id!r} ({_first_line(error)}). For a gated repository, agree to "
            "its terms on its page and log in with `hf auth login`."
        ) from error
    except broken as error:
        raise HubError(
            f"{name} of {repo_id!r} cannot be downloaded: {_first_line(error)}. What has arrived is kept: the same "
            "command goes on from there."
        ) from error
    return stated if stated and re.fullmatch(r"[0-9a-f]{64}", stated) else None


def load(
    repo_id: str,
    *,
    rejections: Rejections,
    name: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    split_lists: str | Path | None = None,
    columns: ColumnOptions = FOUND_BY_NAME,
) -> list[CaptionRecord]:
    """All records of a data set of the Hub, grouped by image.

    Args:
        repo_id, config, revision, token, cache_dir: See `open_dataset`.
        rejections, columns: See `memory.load`.
        name (`str`, *optional*): The name of the source; `repo_id` by default.
        split_lists (`str` or `Path`, *optional*): A folder with the official lists of Flickr8k, for a copy of it whose
            rows are all called "train" and carry file names.
    """
    dataset = open_dataset(repo_id, config=config, revision=revision, token=token, cache_dir=cache_dir)
    records = memory.load(dataset, rejections=rejections, name=name or repo_id, columns=columns)
    return records if split_lists is None else flickr8k.with_official_splits(records, Path(split_lists), repo_id)


def load_coco(
    repo_id: str,
    *,
    rejections: Rejections,
    name: str = "coco",
    image_dir: str | Path | None = None,
    download_dir: str | Path | None = None,
    allow_private: bool = False,
    restval: Literal["train", "drop", "keep"] = "train",
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
) -> list[CaptionRecord]:
    """Karpathy's split of COCO from the Hub, whose rows hold all five sentences and a URL, but no picture.

    Args:
        repo_id (`str`): `"yerevann/coco-karpathy"`, or another with its columns.
        rejections (`Rejections`): Images that are not there are noted here.
        name (`str`, defaults to `"coco"`): The name of the source.
        image_dir (`str` or `Path`, *optional*): The folder that holds `train2014` and `val2014`.
        download_dir (`str` or `Path`, *optional*): Where to download the photos to, where there is no `image_dir`.
        allow_private (`bool`, defaults to `False`): Whether photos may be downloaded from private addresses.
        restval (`"train"`, `"drop"` or `"keep"`, defaults to `"train"`): See `karpathy.load`.
        revision, token, cache_dir: See `open_dataset`.

    Raises:
        ConfigurationError: Neither folder is given.
    """
    karpathy.check_restval(restval)
    if (image_dir is None) == (download_dir is None):
        raise ConfigurationError(
            f"{repo_id} holds captions and URLs, not photos. Pass image_dir=... with the folder that holds train2014 "
            "and val2014, download_dir=... to download the photos to, or data_dir=... with COCO as distributed.",
            arguments=("image_dir", "download_dir", "data_dir"),
        )
    dataset = open_dataset(repo_id, revision=revision, token=token, cache_dir=cache_dir)
    images = coco_rows(dataset, repo_id)
    if download_dir is not None:
        return _download_coco(images, Path(download_dir), name, restval, rejections, allow_private)
    return karpathy.records_of_images(
        images, where=repo_id, folder=Path(str(image_dir)), name=name, restval=restval, rejections=rejections
    )


def coco_rows(dataset: Any, repo_id: str) -> list[dict[str, Any]]:
    """The rows of all splits of a data set with the columns of `yerevann/coco-karpathy`, as Karpathy's file has them.

    Raises:
        SourceFormatError: A column is missing.
    """
    parts = dataset.items() if isinstance(dataset, Mapping) else [(None, dataset)]
    rows: list[dict[str, Any]] = []
    for split, part in parts:
        missing = {"filename", "sentences", "cocoid"} - set(part.column_names)
        if missing:
            raise SourceFormatError(
                f"{repo_id} has no column {sorted(missing)[0]!r}; it has {', '.join(map(repr, part.column_names))}."
            )
        rows += [{**row, "split": row.get("split") or split} for row in part]
    return rows


def _download_coco(
    images: Sequence[Mapping[str, Any]],
    folder: Path,
    name: str,
    restval: Any,
    rejections: Rejections,
    allow_private: bool,
) -> list[CaptionRecord]:
    wanted = [image for image in images if not (image.get("split") == "restval" and restval == "drop")]
    # The row's number in COCO stands for its captions in the log: a URL has five of them.
    rows = ((image["url"], str(image["cocoid"])) for image in wanted)
    download_images(rows, folder, limits=FetchLimits(allow_private=allow_private))
    outcomes = {row["caption"]: row for row in read_log(folder)}
    records: list[CaptionRecord] = []
    for image in wanted:
        image_id = karpathy.image_id(image)
        outcome = outcomes[str(image["cocoid"])]
        if "failed" in outcome:
            rejections.add(f"download failed: {outcome['failed']}", image["url"], LOG_FILE, outcome.get("detail"))
            continue
        split = "train" if image["split"] == "restval" and restval == "train" else image["split"]
        captions = tuple(image["sentences"])
        records.append(CaptionRecord(str(folder / outcome["file"]), captions, image_id, split_name(split), name))
    return records


def stream(
    repo_id: str,
    *,
    split: str = "train",
    rejections: Rejections,
    config: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    columns: ColumnOptions = FOUND_BY_NAME,
) -> Iterator[CaptionRecord]:
    """The records of one split, read over the network as they are needed. See `open_dataset` and `memory.stream`."""
    dataset = open_dataset(repo_id, config=config, split=split, streaming=True, revision=revision, token=token)
    yield from memory.stream(dataset, rejections=rejections, name=repo_id, split=split, columns=columns)


class HubShard:
    """One shard of a streamed data set; gives its records anew when it is called.

    Args:
        dataset (`datasets.IterableDataset`): The whole data set.
        number (`int`): Which shard.
        count (`int`): How many there are.
        name (`str`): The name of the source.
        split (`str`): The split that its records get.
        columns (`ColumnOptions`): What was said of its columns.
    """

    def __init__(self, dataset: Any, number: int, count: int, name: str, split: str, columns: ColumnOptions):
        self.dataset, self.number, self.count = dataset, number, count
        self.name, self.split, self.columns = name, split, columns

    def __call__(self) -> Iterator[CaptionRecord]:
        part = self.dataset.shard(num_shards=self.count, index=self.number) if self.count > 1 else self.dataset
        return memory.stream(part, rejections=Rejections(), name=self.name, split=self.split, columns=self.columns)


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
