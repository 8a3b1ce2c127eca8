"""`push_space`: a Space of the Hub where people try a captioner that was published, ready to run."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from .. import __version__
from ..errors import ConfigurationError, MissingExtraError
from .provenance import STARTER
from .pull import explained
from .push import PushResult, check_repo_id
from .secrets import refuse_secrets

PACKAGE = Path(__file__).resolve().parent.parent
LEFT_OUT = ("__pycache__", "*.pyc", "cli", "report/templates", STARTER)
APP = '''\
"""The page of this Space: captions by {model}."""

from blip_refine.apps.demo import build_app, launch_app

page = build_app(["{model}"], title="{title}")

if __name__ == "__main__":
    launch_app(page, host="0.0.0.0", port=7860)
'''
README = """\
---
title: {title}
emoji: 🖼️
colorFrom: blue
colorTo: green
sdk: gradio
sdk_version: {gradio}
app_file: app.py
pinned: false
models:
- {model}
---

# {title}

Upload, paste or take a picture: `{model}` captions it, and what refinement changed is marked.

`blip_refine` {version} lies in this Space as source, so that the page goes on running as it was tried.
"""


def write_space(folder: str | os.PathLike, model_id: str, *, title: str | None = None) -> list[str]:
    """Write a Space: the page, its requirements, its card, and this package.

    The package goes along as source, without commands and starter weights: the Space needs no release of it.

    Args:
        folder (`str` or `os.PathLike`): An empty folder.
        model_id (`str`): The captioner on the Hub, `owner/name`.
        title (`str`, *optional*): Above the page; by default the model's name.

    Returns:
        `list[str]`: The files, relative.

    Raises:
        ConfigurationError: `model_id` is no name of a repository, or the folder is not empty.
        MissingExtraError: Gradio is not installed, whose version the card names.
    """
    check_repo_id(model_id)
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise ConfigurationError(f"The folder {str(folder)!r} is not empty: a Space is written into a new one.")
    try:
        gradio = metadata.version("gradio")
    except metadata.PackageNotFoundError as error:
        raise MissingExtraError("gradio", "apps", "write a Space") from error
    title = (title or model_id.split("/")[-1]).replace('"', "'").replace("\n", " ").replace("\\", "/")
    shutil.copytree(PACKAGE, folder / "blip_refine", ignore=_left_out)
    values = {"model": model_id, "title": title, "gradio": gradio, "version": __version__}
    (folder / "app.py").write_text(APP.format(**values), encoding="utf-8")
    (folder / "README.md").write_text(README.format(**values | {"title": _yaml_text(title)}), encoding="utf-8")
    (folder / "requirements.txt").write_text("\n".join(requirements()) + "\n", encoding="utf-8")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def _left_out(folder: str, names: list[str]) -> set[str]:
    here = Path(folder).resolve().relative_to(PACKAGE)
    found = set(shutil.ignore_patterns("__pycache__", "*.pyc")(folder, names))
    return found | {name for name in names if (here / name).as_posix() in LEFT_OUT}


def _yaml_text(text: str) -> str:
    """A title as YAML text that cannot end before it should; quotation marks are gone already."""
    return text if text.replace("-", "").replace("_", "").replace(" ", "").isalnum() else f'"{text}"'


def requirements() -> list[str]:
    """What this package itself needs, as its own metadata say; Gradio comes with the Space."""
    declared = metadata.requires("blip_refine") or []
    return sorted(line for line in declared if "extra ==" not in line)


def push_space(
    space_id: str,
    model_id: str,
    *,
    title: str | None = None,
    private: bool | None = None,
    commit_message: str = "Publish the page of a captioner",
    token: str | bool | None = None,
    dry_run: bool = False,
) -> PushResult:
    """Publish a Space where people try a captioner.

    Args:
        space_id (`str`): The Space, `owner/name`. It is made if need be.
        model_id (`str`): The captioner on the Hub.
        title (`str`, *optional*): Above the page.
        private (`bool`, *optional*): Whether a new Space is private.
        commit_message (`str`, *optional*): The message of the commit.
        token (`str` or `bool`, *optional*): By default the one saved by `hf auth login`.
        dry_run (`bool`, defaults to `False`): List what would go, and upload nothing.

    Returns:
        [`PushResult`]

    Raises:
        HubError: The Hub cannot be reached, or refused.
    """
    check_repo_id(space_id)
    with tempfile.TemporaryDirectory(prefix="blip-refine-space-") as temporary:
        folder = Path(temporary) / "space"
        names = write_space(folder, model_id, title=title)
        # The package's own source speaks of paths and of what secrets look like; what was written here must not.
        refuse_secrets(folder, [name for name in names if not name.startswith("blip_refine/")])
        files = {name: (folder / name).stat().st_size for name in names}
        if dry_run:
            return PushResult(space_id, "space", files)
        from huggingface_hub import CommitOperationAdd, HfApi

        api = HfApi(token=token, library_name="blip_refine")
        with explained(f"publish the Space {space_id!r}", space_id):
            made = api.create_repo(space_id, repo_type="space", space_sdk="gradio", private=private, exist_ok=True)
            operations = [CommitOperationAdd(path_in_repo=name, path_or_fileobj=folder / name) for name in names]
            info = api.create_commit(made.repo_id, operations, commit_message=commit_message, repo_type="space")
    return PushResult(made.repo_id, "space", files, url=str(made), commit=info.oid)
