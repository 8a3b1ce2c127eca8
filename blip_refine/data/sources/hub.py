"""Data sets from the Hub, by their id. The one file of `data` that speaks to the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...errors import HubError, SourceNotFoundError
from ...records import CaptionRecord
from ..rejections import Rejections
from . import memory

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
            "Connect and try again, or pass data_dir= with the files as distributed."
        ) from error
    except (ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise HubError(f"The data set {repo_id!r} cannot be read: {_first_line(error)}") from error


def load(
    repo_id: str,
    *,
    rejections: Rejections,
    name: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | None = None,
    image_column: str | None = None,
    caption_column: str | Sequence[str] | None = None,
    id_column: str | None = None,
    split_column: str | None = None,
    require_captions: bool = True,
) -> list[CaptionRecord]:
    """All records of a data set of the Hub, grouped by image. See `open_dataset` and `memory.load`."""
    dataset = open_dataset(repo_id, config=config, revision=revision, token=token, cache_dir=cache_dir)
    return memory.load(
        dataset,
        rejections=rejections,
        name=name or repo_id,
        image_column=image_column,
        caption_column=caption_column,
        id_column=id_column,
        split_column=split_column,
        require_captions=require_captions,
    )


def stream(
    repo_id: str,
    *,
    split: str = "train",
    rejections: Rejections,
    config: str | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    **columns: Any,
) -> Iterator[CaptionRecord]:
    """The records of one split, read over the network as they are needed. See `open_dataset` and `memory.stream`."""
    dataset = open_dataset(repo_id, config=config, split=split, streaming=True, revision=revision, token=token)
    yield from memory.stream(dataset, rejections=rejections, name=repo_id, split=split, **columns)


def _is_offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
