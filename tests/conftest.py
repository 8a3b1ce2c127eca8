"""What all tests share. Nothing here reaches the internet."""

from __future__ import annotations

import os
from pathlib import Path

# Before anything imports huggingface_hub: its settings are read once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest  # noqa: E402


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real photos and gold scores that `BLIP_REFINE_TEST_DATA` names."""
    folder = os.environ.get("BLIP_REFINE_TEST_DATA")
    if not folder:
        pytest.skip("BLIP_REFINE_TEST_DATA is not set: no real photos to test on")
    path = Path(folder)
    assert path.is_dir(), f"BLIP_REFINE_TEST_DATA names {folder!r}, which is not a folder"
    return path
