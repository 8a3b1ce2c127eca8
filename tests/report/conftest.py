from __future__ import annotations

from pathlib import Path

import pytest

from ..apps.conftest import browser as browser  # a fixture: pytest looks for its name here
from ..apps.conftest import screenshots as screenshots
from .run_folder import make_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The results of a whole run over twelve drawn pictures."""
    return make_run(tmp_path / "a run")
