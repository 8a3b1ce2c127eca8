"""Downloads that are broken, killed, changed and wrong, against a real server on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import blip_refine
from blip_refine.data.fetch.resumable import FileLimits, download_file, part_of
from blip_refine.errors import DataError

from .file_server import FileServer

DATA = random.Random(1).randbytes(700_000)
OTHER = random.Random(2).randbytes(650_000)
LIMITS = FileLimits(timeout=5, allow_private=True, retries=1, max_wait=1)


@pytest.fixture
def server():
    with FileServer({"a.zip": DATA}) as running:
        yield running


def fetch(server, folder: Path, **options):
    return download_file(f"{server.url}/a.zip", folder / "a.zip", **{"limits": LIMITS, **options})


def md5_of(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_a_whole_file_with_its_checksums(server, tmp_path):
    steps: list[int] = []
    found = fetch(server, tmp_path, md5=md5_of(DATA), sha256=hashlib.sha256(DATA).hexdigest(), progress=steps.append)
    assert found.path.read_bytes() == DATA and found.bytes == sum(steps) == len(DATA) and not found.resumed
    assert (found.md5, found.sha256) == (md5_of(DATA), hashlib.sha256(DATA).hexdigest())
    assert [path.name for path in tmp_path.iterdir()] == ["a.zip"]
    again = fetch(server, tmp_path, md5=md5_of(DATA))
    assert again.sha256 == found.sha256 and len(server.requests) == 1


def test_a_connection_that_breaks_is_gone_on_with(server, tmp_path):
    server.break_after["a.zip"] = [200_000, 100_000]
    notes: list[str] = []
    steps: list[int] = []
    found = fetch(server, tmp_path, md5=md5_of(DATA), note=notes.append, progress=steps.append)
    assert found.resumed and found.path.read_bytes() == DATA and sum(steps) == len(DATA)
    assert server.asked("a.zip") == [None, "bytes=200000-", "bytes=300000-"]
    assert len(notes) == 2 and "cut short" in notes[0]


def test_what_arrived_is_kept_for_another_run(server, tmp_path):
    server.break_after["a.zip"] = [250_000, 0, 0, 0]
    with pytest.raises(DataError, match=r"cut short.*What has arrived is kept: the same command goes on"):
        fetch(server, tmp_path)
    assert part_of(tmp_path / "a.zip").stat().st_size == 250_000 and not (tmp_path / "a.zip").exists()
    server.break_after.clear()
    assert fetch(server, tmp_path, md5=md5_of(DATA)).resumed
    assert server.asked("a.zip")[-1] == "bytes=250000-"


@pytest.mark.parametrize("ignores_if_range", [False, True])
def test_a_file_that_changed_between_is_downloaded_whole(server, tmp_path, ignores_if_range):
    server.break_after["a.zip"] = [250_000, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(server, tmp_path)
    server.break_after.clear()
    server.files["a.zip"], server.ignores_if_range = OTHER, ignores_if_range
    steps: list[int] = []
    found = fetch(server, tmp_path, progress=steps.append)
    assert found.path.read_bytes() == OTHER and not found.resumed and sum(steps) == len(OTHER)


@pytest.mark.parametrize("lacks", ["without_ranges", "without_tags"])
def test_servers_that_cannot_resume_start_anew(server, tmp_path, lacks):
    setattr(server, lacks, True)
    server.break_after["a.zip"] = [250_000]
    found = fetch(server, tmp_path)
    assert found.path.read_bytes() == DATA and not found.resumed


def test_a_size_that_is_not_told(server, tmp_path):
    server.without_length = True
    assert fetch(server, tmp_path).path.read_bytes() == DATA


def test_a_wrong_checksum_is_refused_and_removed(server, tmp_path):
    with pytest.raises(DataError, match=f"wrong checksum: MD5 {md5_of(DATA)}, expected {md5_of(OTHER)}"):
        fetch(server, tmp_path, md5=md5_of(OTHER))
    assert not list(tmp_path.iterdir()) and len(server.requests) == 1


def test_halves_that_do_not_fit_are_put_right_by_one_whole_download(server, tmp_path):
    server.break_after["a.zip"] = [250_000, 0, 0, 0]
    with pytest.raises(DataError):
        fetch(server, tmp_path)
    server.break_after.clear()
    with part_of(tmp_path / "a.zip").open("r+b") as file:
        file.write(b"damaged on the disk")
    notes: list[str] = []
    assert fetch(server, tmp_path, md5=md5_of(DATA), note=notes.append).path.read_bytes() == DATA
    assert "put together from several downloads and is wrong" in notes[0]


def test_a_damaged_file_is_downloaded_again(server, tmp_path):
    (tmp_path / "a.zip").write_bytes(b"damaged")
    assert fetch(server, tmp_path, md5=md5_of(DATA)).path.read_bytes() == DATA


def test_a_missing_file_is_one_sentence_at_once(server, tmp_path):
    with pytest.raises(DataError, match=r"/nothing.zip cannot be downloaded: not found: HTTP 404"):
        download_file(f"{server.url}/nothing.zip", tmp_path / "a.zip", limits=LIMITS)
    assert len(server.requests) == 1 and not list(tmp_path.iterdir())


def test_a_server_that_is_busy_is_asked_again(server, tmp_path):
    server.statuses["a.zip"] = [503, 503]
    with pytest.raises(DataError, match="server error: HTTP 503"):
        fetch(server, tmp_path)
    server.statuses["a.zip"] = [503]
    assert fetch(server, tmp_path).bytes == len(DATA)


def test_a_file_that_is_too_large_is_refused(server, tmp_path):
    small = FileLimits(timeout=5, allow_private=True, max_bytes=1000)
    with pytest.raises(DataError, match="too large: it has 700000 bytes"):
        fetch(server, tmp_path, limits=small)
    server.without_length = True
    with pytest.raises(DataError, match="too large: more than 1000 bytes"):
        fetch(server, tmp_path, limits=small)


def test_private_addresses_are_refused_by_default(server, tmp_path):
    with pytest.raises(DataError, match="private address"):
        fetch(server, tmp_path, limits=FileLimits(timeout=5))
    assert not server.requests


def test_a_silent_server_is_given_up(server, tmp_path):
    server.pause = 3.0
    with pytest.raises(DataError, match="timeout: no answer within 0.5 s"):
        fetch(server, tmp_path, limits=FileLimits(timeout=0.5, allow_private=True, max_wait=0.1))


@pytest.mark.posix
def test_a_full_disk_is_said_and_the_part_kept(server, tmp_path):
    resource = pytest.importorskip("resource")

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        with pytest.raises(DataError, match=r"a.zip.part cannot be written: File too large"):
            fetch(server, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert fetch(server, tmp_path, md5=md5_of(DATA)).resumed


@pytest.mark.posix
def test_killed_in_the_middle_it_goes_on(server, tmp_path):
    server.pause = 0.15
    code = (
        "import sys; from pathlib import Path\n"
        "from blip_refine.data.fetch.resumable import FileLimits, download_file\n"
        "download_file(sys.argv[1], Path(sys.argv[2]), limits=FileLimits(allow_private=True))"
    )
    root = Path(blip_refine.__file__).parent.parent
    process = subprocess.Popen(
        [sys.executable, "-c", code, f"{server.url}/a.zip", str(tmp_path / "a.zip")],
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    part, deadline = part_of(tmp_path / "a.zip"), time.monotonic() + 60
    while not (part.is_file() and part.stat().st_size > 100_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = part.stat().st_size
    assert 100_000 < held < len(DATA) and json.loads((tmp_path / "a.zip.part.json").read_text())["size"] == len(DATA)
    server.pause = 0.0
    assert fetch(server, tmp_path, md5=md5_of(DATA)).resumed
    assert server.asked("a.zip")[-1] == f"bytes={held}-"


def test_a_part_that_is_whole_already_asks_nothing(server, tmp_path):
    part_of(tmp_path / "a.zip").write_bytes(DATA)
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": f"{server.url}/a.zip", "size": len(DATA)}))
    assert fetch(server, tmp_path, md5=md5_of(DATA)).bytes == len(DATA) and not server.requests


def test_a_part_of_another_address_is_not_used(server, tmp_path):
    part_of(tmp_path / "a.zip").write_bytes(OTHER[:1000])
    (tmp_path / "a.zip.part.json").write_text(json.dumps({"url": "http://elsewhere/a.zip", "size": 5}))
    assert fetch(server, tmp_path).path.read_bytes() == DATA and server.asked("a.zip") == [None]
