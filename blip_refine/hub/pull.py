"""From the Hub, and what it answers, in plain words."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import HubError

if TYPE_CHECKING:
    from huggingface_hub.errors import HfHubHTTPError

MODEL_FILES = ("*.json", "*.safetensors", "vocab.txt", "merges.txt", "*.jinja", "README.md")
"""What is needed of a model's repository. Never pickled weights."""


def download_captioner(
    repo_id: str,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    local_dir: str | os.PathLike | None = None,
    local_files_only: bool = False,
) -> Path:
    """Bring a captioner's repository here, whole model or adapter.

    What is in the cache is not fetched again; with `HF_HUB_OFFLINE=1` the cache alone is used.

    Args:
        repo_id (`str`): `owner/name`.
        revision (`str`, *optional*): Branch, tag or commit; "main" by default.
        token (`str` or `bool`, *optional*): For a private repository. By default the one saved by `hf auth login`.
        local_dir (`str` or `os.PathLike`, *optional*): Where the files go, instead of the cache.
        local_files_only (`bool`, defaults to `False`): Do not ask the Hub.

    Returns:
        `Path`: The folder.

    Raises:
        HubError: There is no such repository or revision, it may not be read, or the Hub cannot be reached.
    """
    from huggingface_hub import snapshot_download

    with explained(f"read {repo_id!r}", repo_id):
        return Path(
            snapshot_download(
                repo_id,
                revision=revision,
                token=token,
                allow_patterns=list(MODEL_FILES),
                local_dir=local_dir,
                local_files_only=local_files_only,
            )
        )


@contextmanager
def explained(action: str, repo_id: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one plain sentence.

    Args:
        action (`str`): What was being done, as the end of "could not ...".
        repo_id (`str`): The repository.

    Raises:
        HubError: Whatever the client raised, explained.
    """
    from huggingface_hub import errors

    broken: tuple[type[Exception], ...] = (*_connection_errors(), ConnectionError, TimeoutError)
    try:
        yield
    except errors.GatedRepoError as error:
        raise HubError(
            f"Could not {action}: it is gated. Accept its terms on its page, then log in with `hf auth login`."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"Could not {action}: it has no such revision. Its page lists branches and tags.") from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"Could not {action}: the Hub has no such repository, or it is private and you may not see it. Check the "
            "spelling, and log in with `hf auth login`."
        ) from error
    except errors.HFValidationError as error:
        raise HubError(f"{repo_id!r} is no name of a repository; write it as owner/name.") from error
    except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError) as error:
        raise HubError(
            f"Could not {action}: it is not in the local cache and the Hub cannot be reached. Check the network, and "
            "that HF_HUB_OFFLINE is not set."
        ) from error
    except errors.LocalTokenNotFoundError as error:
        raise HubError(f"Could not {action}: you are not logged in. Run `hf auth login`, or set HF_TOKEN.") from error
    except errors.HfHubHTTPError as error:
        raise HubError(_explain_status(action, error)) from error
    except broken as error:
        raise HubError(_broken(action, error)) from error
    except RuntimeError as error:
        # How the client wraps what happens to one file of an upload.
        if isinstance(error.__cause__, errors.HfHubHTTPError):
            raise HubError(_explain_status(action, error.__cause__)) from error
        if error.__cause__ is not None and isinstance(error.__cause__, broken):
            raise HubError(_broken(action, error.__cause__)) from error
        raise


def _connection_errors() -> tuple[type[Exception], ...]:
    """What the HTTP library raises that the Hub's client has imported: httpx, and from its version 2 on httpx2."""
    return tuple(sys.modules[name].HTTPError for name in ("httpx", "httpx2") if name in sys.modules)


def _broken(action: str, error: BaseException) -> str:
    return (
        f"Could not {action}: the connection broke ({type(error).__name__}). Run the same command again: what has "
        "arrived is kept, and only the rest is sent."
    )


def _explain_status(action: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    said = (error.server_message or "").strip().splitlines()
    reason = f" ({said[0]})" if said else ""
    if status == 401:
        return f"Could not {action}: you are not logged in, or with a bad token. Run `hf auth login`, or set HF_TOKEN."
    if status == 403:
        return f"Could not {action}: your token may not write there{reason}. Use one with write permission."
    if status == 409:
        return f"Could not {action}: somebody else changed it at the same time{reason}. Run the same command again."
    if status >= 500:
        return (
            f"Could not {action}: the Hub answered {status}{reason}. Run the same command again later: what has "
            "arrived is kept."
        )
    return f"Could not {action}: the Hub refused with {status}{reason}."
