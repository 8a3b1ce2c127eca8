"""`blip-refine push` as people type it, in a process of its own, against the Hub on loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hub.hub_run import make_base, make_full_run  # noqa: E402
from hub.hub_server import OWNER, TOKEN, HubServer  # noqa: E402

REPO = f"{OWNER}/boats"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    return make_full_run(folder / "run", make_base(folder / "base"))


def blip_refine(*words: str, url: str = "http://127.0.0.1:9", **variables: str) -> subprocess.CompletedProcess:
    environment = {
        **os.environ, "HF_ENDPOINT": url, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN,
        **variables,
    }  # fmt: skip
    command = [sys.executable, "-c", "from blip_refine.cli.main import main; main()", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_dry_run_lists_every_file(run):
    ran = blip_refine("push", str(run), REPO, "--dry-run", "--no-verify")
    assert ran.returncode == 0, ran.stderr
    assert "Would be published (full" in ran.stdout
    assert "model.safetensors" in ran.stdout and "training_args.bin" not in ran.stdout


@pytest.mark.slow
def test_push_and_its_json(run, tmp_path):
    with HubServer() as hub:
        ran = blip_refine("push", str(run), REPO, "--private", "--json", url=hub.url, HF_HOME=str(tmp_path))
        assert ran.returncode == 0, ran.stderr
        pushed = json.loads(ran.stdout)
        assert pushed["url"] == f"{hub.url}/{REPO}" and pushed["verified"] == ["before", "after"]
        assert set(hub.files(REPO)) == set(pushed["files"]) and hub.repositories[f"models/{REPO}"].private
        assert TOKEN not in ran.stdout + ran.stderr


def test_bad_input_is_one_sentence(run, tmp_path):
    for words, said in (
        ((str(tmp_path / "nowhere"), REPO), "There is no run folder"),
        ((str(run), "a/b/c"), "no name of a repository"),
        ((str(run), REPO, "--merge"), "nothing to merge"),
    ):
        ran = blip_refine("push", *words)
        assert ran.returncode == 2 and said in ran.stderr and "Traceback" not in ran.stderr, ran.stderr
