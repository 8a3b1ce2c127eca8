"""A Space: written, published, and its page started from its own files alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import yaml

from blip_refine.errors import ConfigurationError
from blip_refine.hub.push import push_captioner
from blip_refine.hub.space import push_space, write_space

from .hub_server import OWNER, card_errors

pytest.importorskip("gradio", reason="gradio is not installed")
REPO, SPACE = f"{OWNER}/boats", f"{OWNER}/boats-page"


def test_publish(hub):
    would = push_space(SPACE, REPO, dry_run=True)
    assert hub.requests == [] and would.url is None
    pushed = push_space(SPACE, REPO, private=True)
    assert pushed.url == f"{hub.url}/spaces/{SPACE}" and pushed.files == would.files
    repository = hub.repositories[f"spaces/{SPACE}"]
    assert repository.private and repository.sdk == "gradio"
    there = hub.files(SPACE, kind="spaces")
    assert {"app.py", "README.md", "requirements.txt", "blip_refine/__init__.py", "blip_refine/apps/demo.css"} <= set(
        there
    )
    assert not [name for name in there if name.endswith((".pyc", ".safetensors")) or "/starter/" in name]
    assert card_errors(there["README.md"].decode(), "space") == []
    needed = there["requirements.txt"].decode().splitlines()
    assert any(line.startswith("torch") for line in needed) and not any("extra" in line for line in needed)


def test_a_title_cannot_break_the_card(tmp_path):
    write_space(tmp_path / "s", REPO, title='a: "b"\n---\nsdk: docker\\')
    text = (tmp_path / "s" / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n", 2)[1])
    assert metadata["sdk"] == "gradio" and metadata["title"] == "a: 'b' --- sdk: docker/"
    compile((tmp_path / "s" / "app.py").read_text(), "app.py", "exec")


def test_what_cannot_be(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="not empty"):
        write_space(tmp_path, REPO)
    with pytest.raises(ConfigurationError, match="no name of a repository"):
        write_space(tmp_path / "s", "a/b/c")


@pytest.mark.slow
def test_the_page_captions_from_the_spaces_own_files(hub, full_run, tmp_path):
    """In a process of its own that imports the Space's copy of the package and loads the model from the Hub."""
    push_captioner(full_run, REPO, verify=False)
    write_space(tmp_path / "space", REPO)
    check = (
        "import blip_refine, pathlib, app\n"
        "assert pathlib.Path(blip_refine.__file__).is_relative_to(pathlib.Path.cwd()), blip_refine.__file__\n"
        "from blip_refine.apps.demo import launch_app\n"
        "from gradio_client import Client, handle_file\n"
        "url = launch_app(app.page, block=False)\n"
        f"picture = handle_file({str(full_run / 'images' / '0000.png')!r})\n"
        "client = Client(url, verbose=False)\n"
        "answer = client.predict(picture, 'fast', 5, 10, '', 'none', 'neutral', 'normal', 'general', 'en', 0, "
        "api_name='/caption')\n"
        "assert isinstance(answer[0], str) and len(answer) == 5, answer\n"
        "print('captioned')\n"
    )
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1",
        "HF_HOME": str(tmp_path / "home"), "PYTHONPATH": str(tmp_path / "space"),
    }  # fmt: skip
    ran = subprocess.run(
        [sys.executable, "-c", check], cwd=tmp_path / "space", env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0 and "captioned" in ran.stdout, ran.stderr
