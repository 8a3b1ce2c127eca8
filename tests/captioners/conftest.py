from __future__ import annotations

import pytest
from PIL import Image

from .other_models import make_other
from .vision_server import COLORS


@pytest.fixture(scope="session")
def other(tmp_path_factory):
    """Returns a function from a kind of captioner to the folder of a tiny random one, made once."""
    made = {}

    def folder(kind: str):
        if kind not in made:
            made[kind] = make_other(kind, tmp_path_factory.mktemp("other") / kind)
        return made[kind]

    return folder


@pytest.fixture
def photos(tmp_path):
    """A folder of three JPEGs, red, green and blue."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, name in enumerate(("red", "green", "blue")):
        Image.new("RGB", (80 + 10 * number, 60), COLORS[name]).save(folder / f"{name}.jpg")
    return folder


@pytest.fixture(autouse=True)
def no_servers_of_the_environment(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
