"""`push_captioner`: from a finished run to a page on the Hub whose weights are those that were measured."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, HubError
from .pull import download_captioner, explained
from .staging import Shipment, stage
from .verify import folder_logits, require_same_logits

OURS = ("config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json", "adapter_*")
"""Files of a model that an earlier push may have left in the repository, and that must not lie beside another kind."""


@dataclass(frozen=True, slots=True)
class PushResult:
    """What was published, or would be.

    Args:
        repo_id (`str`): The repository.
        kind (`str`): "full", "adapter" or "merged".
        files (`dict[str, int]`): Every file with its size in bytes.
        warnings (`tuple[str, ...]`): What the one who publishes must know.
        url (`str`, *optional*): The page; `None` for a dry run.
        commit (`str`, *optional*): The commit; `None` for a dry run.
        pull_request (`str`, *optional*): The page of the pull request, where one was opened.
        verified (`tuple[str, ...]`): Which copies were loaded back and answered as the run folder does: "before" and
            "after" the upload.
    """

    repo_id: str
    kind: str
    files: dict[str, int]
    warnings: tuple[str, ...] = ()
    url: str | None = None
    commit: str | None = None
    pull_request: str | None = None
    verified: tuple[str, ...] = ()


def push_captioner(
    run_folder: str | os.PathLike,
    repo_id: str,
    *,
    merge: bool = False,
    base_model: str | None = None,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    token: str | bool | None = None,
    license: str | None = None,
    developed_by: str | None = None,
    pictures: bool | None = None,
    max_shard_size: str | int = "5GB",
    verify: bool = True,
    dry_run: bool = False,
) -> PushResult:
    """Publish a captioner: weights, processor, results and model card, in one commit.

    A connection that breaks costs nothing: run the same call again, and only what has not arrived is sent.

    Args:
        run_folder (`str` or `os.PathLike`): What `train` or `demo` left behind: a whole model or an adapter.
        repo_id (`str`): `owner/name`. It is made if need be.
        merge (`bool`, defaults to `False`): Put an adapter into its base and publish a whole model.
        base_model (`str`, *optional*): The adapter's base on the Hub, where its configuration names a local folder.
        private (`bool`, *optional*): Whether a new repository is private; by default as your account has it.
        revision (`str`, *optional*): The branch; made if need be. "main" by default.
        create_pr (`bool`, defaults to `False`): Open a pull request instead of changing the branch.
        commit_message (`str`, *optional*): The message of the commit.
        token (`str` or `bool`, *optional*): By default the one saved by `hf auth login`.
        license (`str`, *optional*): As the Hub spells it; by default what base and data leave.
        developed_by (`str`, *optional*): Who made the model, for the card; by default what the run says, then the
            owner of the repository.
        pictures (`bool`, *optional*): Whether the card shows pictures; by default where the data do not forbid it.
        max_shard_size (`str` or `int`, defaults to `"5GB"`): Weights above this are split.
        verify (`bool`, defaults to `True`): Load what is published back, before and after the upload, and compare its
            logits with the run folder's.
        dry_run (`bool`, defaults to `False`): Do everything up to the upload, and list what would go.

    Returns:
        [`PushResult`]

    Raises:
        SourceNotFoundError: There is no such folder, or it lacks a part of a captioner.
        ModelError: The weights are not in safetensors, or what would be published does not answer as the run does.
        ConfigurationError: A secret or a local path is in the files, or options that cannot be.
        HubError: The Hub cannot be reached, or refused.
    """
    check_repo_id(repo_id)
    if create_pr and revision not in (None, "main"):
        raise ConfigurationError("A pull request is opened against main; leave revision away, or create_pr.")
    with tempfile.TemporaryDirectory(prefix="blip-refine-push-") as folder:
        shipment = stage(
            run_folder,
            Path(folder) / "staged",
            model_id=repo_id,
            merge=merge,
            base_model=base_model,
            license=license,
            developed_by=developed_by,
            pictures=pictures,
            max_shard_size=max_shard_size,
        )
        expected, verified = None, []
        if verify:
            expected = folder_logits(run_folder)
            require_same_logits(expected, folder_logits(shipment.folder), "What would be published", merged=merge)
            verified.append("before")
        if dry_run:
            return PushResult(repo_id, shipment.kind, shipment.files, shipment.warnings, verified=tuple(verified))
        info, repo_id = upload(
            shipment,
            repo_id,
            private=private,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or f"Publish a captioner ({shipment.kind})",
            token=token,
        )
        if verify:
            arrived = download_captioner(repo_id, revision=info.oid, token=token, local_dir=Path(folder) / "arrived")
            require_same_logits(expected, folder_logits(arrived), f"What lies in {repo_id}", merged=merge)
            verified.append("after")
    return PushResult(
        repo_id=repo_id,
        kind=shipment.kind,
        files=shipment.files,
        warnings=shipment.warnings,
        url=str(info.repo_url) if info.repo_url else None,
        commit=info.oid,
        pull_request=info.pr_url,
        verified=tuple(verified),
    )


def push_model(model: Any, processor: Any, repo_id: str, **options: Any) -> PushResult:
    """Publish a captioner that is in memory. See [`push_captioner`] for the options.

    Args:
        model (`nn.Module`): A captioner of [`load_captioner`], with or without an adapter.
        processor ([`BlipProcessor`]): Its processor.
        repo_id (`str`): `owner/name`.
    """
    from ..models.saved_defaults import save_defaults

    with tempfile.TemporaryDirectory(prefix="blip-refine-model-") as folder:
        model.save_pretrained(folder)
        save_defaults(model, folder)
        processor.save_pretrained(folder)
        return push_captioner(folder, repo_id, **options)


def check_repo_id(repo_id: str) -> None:
    """Refuse what cannot be the name of a repository.

    Raises:
        ConfigurationError: It cannot.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise ConfigurationError(
            f"{repo_id!r} is no name of a repository on the Hub; write it as owner/name."
        ) from error


def upload(
    shipment: Shipment,
    repo_id: str,
    *,
    commit_message: str,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | bool | None = None,
) -> tuple[Any, str]:
    """Send a folder in one commit. What an earlier push of another kind left there goes in the same commit.

    Returns:
        `tuple`: The [`huggingface_hub.CommitInfo`], and the repository's full name.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = HfApi(token=token, library_name="blip_refine")
    with explained(f"publish in {repo_id!r}", repo_id):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision not in (None, "main"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        there = api.list_repo_files(repo_id, revision=revision)
        stale = [name for name in there if name not in shipment.files and any(fnmatch(name, form) for form in OURS)]
        operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
        operations += [
            CommitOperationAdd(path_in_repo=name, path_or_fileobj=shipment.folder / name) for name in shipment.files
        ]
        try:
            info = api.create_commit(
                repo_id, operations, commit_message=commit_message, revision=revision, create_pr=create_pr
            )
        except ValueError as error:
            # How the client says that the card's metadata were refused.
            raise HubError(f"The Hub refused the model card of {repo_id!r}: {error}") from error
    return info, repo_id
