"""A Hub on loopback for the real client, and run folders to publish."""

from __future__ import annotations

import hashlib
import shutil
import time
from pathlib import Path

import pytest

from .hub_run import BASE_ID, make_adapter_run, make_base, make_full_run
from .hub_server import TOKEN, HubServer


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub that this process's client speaks to, logged in, with an empty cache."""
    from huggingface_hub import close_session, constants, hf_api

    with HubServer() as server:
        # What HF_ENDPOINT and its like do when they are set before the first import.
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        # The client behind `huggingface_hub.file_exists` and its like, which PEFT calls, was made at import.
        monkeypatch.setattr(hf_api.api, "endpoint", server.url)
        template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        # The client waits seconds between its tries of a broken upload.
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        close_session()
        yield server
        close_session()


@pytest.fixture(scope="session")
def templates(tmp_path_factory) -> Path:
    """A base, a fine-tuned whole model and an adapter, made once."""
    folder = tmp_path_factory.mktemp("runs")
    make_base(folder / "base")
    make_full_run(folder / "boats", folder / "base")
    make_adapter_run(folder / "boats-lora", folder / "base")
    return folder


@pytest.fixture
def base(templates, hub) -> str:
    """The id of the base model, which lies on the Hub."""
    repository = hub.create(f"models/{BASE_ID}")
    for path in sorted((templates / "base").iterdir()):
        key = hashlib.sha256(path.read_bytes()).hexdigest()
        hub.store[key] = path.read_bytes()
        repository.branches["main"][0].files[path.name] = key
    return BASE_ID


@pytest.fixture
def full_run(templates, tmp_path) -> Path:
    """A run folder with a whole model, to be changed at will."""
    return Path(shutil.copytree(templates / "boats", tmp_path / "boats"))


@pytest.fixture
def adapter_run(templates, tmp_path) -> Path:
    """A run folder with a trained LoRA adapter whose base is `BASE_ID` on the Hub."""
    return Path(shutil.copytree(templates / "boats-lora", tmp_path / "boats-lora"))
