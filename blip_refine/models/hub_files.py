"""Which files a repository of the Hub has, online or in the cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def hub_has(repo_id: str, name: str, hub: Mapping[str, Any]) -> bool:
    """Whether a repository holds a file, which is then in the cache.

    Args:
        repo_id (`str`): The repository.
        name (`str`): The file's path in it.
        hub (`Mapping[str, Any]`): `revision` and `token`.

    Raises:
        OSError: There is no such repository, or it cannot be reached.
        ValueError: `repo_id` is not the name of a repository.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    try:
        hf_hub_download(repo_id, name, **hub)
    except EntryNotFoundError:  # also: offline, and not in the cache
        return False
    return True
