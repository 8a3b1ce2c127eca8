"""Conceptual Captions and the downloader, against a server that is slow, fails, and lies about sizes and types."""

from __future__ import annotations

import json
import threading
import time

import pytest

from blip_refine.data.http import FetchError
from blip_refine.data.images import load_image
from blip_refine.data.rejections import Rejections
from blip_refine.data.sources import load_source
from blip_refine.data.sources.conceptual_captions import download, read_url_list
from blip_refine.data.sources.download import download_images, read_log
from blip_refine.data.sources.http_fetch import FetchLimits, fetch_image
from blip_refine.errors import ConfigurationError, SourceFormatError, SourceNotFoundError

from .image_server import PHOTO, ImageServer


@pytest.fixture
def server():
    with ImageServer() as running:
        yield running


QUICK = FetchLimits(timeout=1.0, max_bytes=200_000, allow_private=True)


@pytest.mark.parametrize(
    ("path", "reason", "transient"),
    [
        ("html/1.jpg", "not an image", False),
        ("broken/1.jpg", "not an image", False),
        ("claims-less/1.jpg", "not an image", False),
        ("claims-more/1.jpg", "cut short", True),
        ("claims-huge/1.jpg", "too large", False),
        ("endless/1.jpg", "too large", False),
        ("drip/1.jpg", "timeout", True),
        ("drip-headers/1.jpg", "timeout", True),
        ("slow-redirects/1", "timeout", True),
        ("silent/1.jpg", "timeout", True),
        ("status/404", "not found", False),
        ("status/410", "not found", False),
        ("status/403", "forbidden", False),
        ("status/418", "refused", False),
        ("status/500", "server error", True),
        ("status/429", "too many requests", True),
        ("loop/1.jpg", "refused", False),
        ("to-file/1.jpg", "refused", False),
        ("reset/1.jpg", "connection failed", True),
        ("empty/1.jpg", "empty answer", False),
    ],
)
def test_each_fault_has_its_reason(server, path, reason, transient):
    began = time.monotonic()
    with pytest.raises(FetchError) as caught:
        fetch_image(f"{server.url}/{path}", QUICK)
    assert (caught.value.reason, caught.value.transient) == (reason, transient), caught.value.detail
    assert time.monotonic() - began < 4


def test_the_content_counts_and_not_what_is_said_of_it(server):
    assert fetch_image(f"{server.url}/wrong-type/1.jpg", QUICK) == PHOTO
    assert load_image(fetch_image(f"{server.url}/moved/1.jpg", QUICK)).size == (64, 48)
    assert fetch_image(f"{server.url}/ok/a photo with späces.jpg?q=ü 1", QUICK)


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "ftp://x.org/a.jpg", "data:image/png;base64,AA", "http://", "nonsense", "http://[bad/"],
)
def test_nothing_but_http_is_opened(url):
    with pytest.raises(FetchError, match="bad URL"):
        fetch_image(url, QUICK)


def test_a_host_that_is_not_there(server):
    with pytest.raises(FetchError) as caught:
        fetch_image("http://127.0.0.1:1/a.jpg", QUICK)
    assert caught.value.reason == "connection failed" and caught.value.transient


def write_list(path, rows, order="caption first"):
    lines = [f"{caption}\t{url}" if order == "caption first" else f"{url}\t{caption}" for caption, url in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_conceptual_captions_from_the_list_to_records(server, tmp_path):
    rows = [
        ("a dog runs", f"{server.url}/ok/1.jpg"),
        ("a cat sits", f"{server.url}/ok/2.jpg"),
        ("the same dog again", f"{server.url}/ok/mirror-1.jpg"),
        ("lost", f"{server.url}/status/404"),
        ("a page", f"{server.url}/html/1.jpg"),
    ]
    path = write_list(tmp_path / "Train_GCC-training.tsv", rows)
    folder = tmp_path / "images"
    report = download(path, folder, limits=QUICK, retries=0)
    assert (report.downloaded, report.failed) == (3, 2)
    assert report.failures == {"not found": 1, "not an image": 1}
    found = Rejections()
    records = load_source("conceptual_captions", data_dir=folder, rejections=found)
    assert {tuple(sorted(record.captions)) for record in records} == {
        ("a dog runs", "the same dog again"), ("a cat sits",),
    }  # fmt: skip
    assert found.counts == {"download failed: not found": 1, "download failed: not an image": 1}
    assert len(load_source(folder)) == 2  # the folder is told by its log
    assert all("blip_refine/" in agent for agent in server.agents)


def test_both_orders_of_the_published_lists(tmp_path):
    rows = [("a dog", "https://x.org/1.jpg"), ("ein Bär", "http://x.org/2.jpg")]
    expected = [(url, caption) for caption, url in rows]
    assert list(read_url_list(write_list(tmp_path / "cc3m.tsv", rows))) == expected
    assert list(read_url_list(write_list(tmp_path / "cc12m.tsv", rows, "url first"))) == expected
    labelled = tmp_path / "labels.tsv"
    labelled.write_text("a dog\thttps://x.org/1.jpg\tdog,animal\t/m/1,/m/2\t0.9,0.8\nno url here\tnor here\n")
    found = Rejections()
    assert list(read_url_list(labelled, found)) == [("https://x.org/1.jpg", "a dog")] and found.counts == {"no URL": 1}
    with pytest.raises(SourceFormatError, match="lists URLs, not images.*prepare .*cc3m.tsv --download"):
        load_source(tmp_path / "cc3m.tsv")
    with pytest.raises(SourceNotFoundError):
        list(read_url_list(tmp_path / "none.tsv"))
    with pytest.raises(SourceNotFoundError, match="holds no download"):
        load_source("conceptual_captions", data_dir=tmp_path)


def test_what_was_settled_is_not_asked_for_again(server, tmp_path):
    rows = [(f"{server.url}/ok/{n}.jpg", f"caption {n}") for n in range(8)]
    rows += [(f"{server.url}/status/404", "gone"), (f"{server.url}/status/503", "later")]
    first = download_images(rows[:6] + rows[8:], tmp_path, limits=QUICK, retries=0)
    assert (first.downloaded, first.failed) == (6, 2)
    asked = len(server.requests)
    second = download_images(rows, tmp_path, limits=QUICK, retries=0)
    # Two are new, one failed for a reason that may pass, seven are settled.
    assert (second.downloaded, second.resumed, second.failed) == (2, 7, 1)
    assert len(server.requests) - asked == 3
    third = download_images(rows, tmp_path, limits=QUICK, retries=0, retry_failed=False)
    assert (third.downloaded, third.resumed, third.failed) == (0, 10, 0)
    assert len(read_log(tmp_path)) == 10


def test_a_run_that_dies_goes_on_where_it_was(server, tmp_path):
    rows = [(f"{server.url}/ok/{n}.jpg", f"caption {n}") for n in range(12)]

    class Killed(BaseException):
        pass

    def dies_after_five(_):
        dies_after_five.count += 1
        if dies_after_five.count == 5:
            raise Killed

    dies_after_five.count = 0
    with pytest.raises(Killed):
        download_images(rows, tmp_path, limits=QUICK, concurrency=2, progress=dies_after_five)
    log = tmp_path / "downloads.jsonl"
    log.write_bytes(log.read_bytes() + b'{"url": "http://x", "capt')  # the last line was cut off
    report = download_images(rows, tmp_path, limits=QUICK)
    assert report.resumed == 5 and report.downloaded == 7
    assert len(load_source(tmp_path)) == 12
    assert not list(tmp_path.rglob("*.part"))


def test_a_broken_log_is_named(tmp_path):
    (tmp_path / "downloads.jsonl").write_text('{"url": "u", "caption": "c", "file": "f"}\nnonsense\n{}\n')
    with pytest.raises(SourceFormatError, match="line 2: not a row of a download log"):
        read_log(tmp_path)


def test_what_may_pass_is_tried_again_and_what_is_asked_for_is_waited(server, tmp_path):
    began = time.monotonic()
    rows = [(f"{server.url}/recovers/1.jpg", "a"), (f"{server.url}/busy/1.jpg", "b")]
    report = download_images(rows, tmp_path, limits=QUICK, retries=2)
    assert (report.downloaded, report.failed) == (2, 0)
    assert server.count("/recovers/1.jpg") == 2 and server.count("/busy/1.jpg") == 2
    assert time.monotonic() - began >= 1


def test_a_server_that_asks_for_an_hour_is_left_alone(server, tmp_path):
    rows = [(f"{server.url}/banned/1.jpg", "a")]
    report = download_images(rows, tmp_path, limits=QUICK, retries=3, max_wait=0.2)
    assert report.failures == {"too many requests": 1} and server.count("/banned/1.jpg") == 1


def test_few_at_a_time_from_one_host_and_many_in_all(tmp_path):
    with ImageServer() as one, ImageServer() as other:
        rows = [(f"{host.url}/ok/{n}.jpg", "a") for n in range(12) for host in (one, other)]
        report = download_images(rows, tmp_path, limits=QUICK, concurrency=8, per_host=2)
        assert report.downloaded == 24
        assert one.most_at_once <= 2 and other.most_at_once <= 2
    with ImageServer() as one:
        rows = [(f"{one.url}/ok/{n}.jpg", "b") for n in range(16)]
        download_images(rows, tmp_path / "b", limits=QUICK, concurrency=8, per_host=8)
        assert 2 < one.most_at_once <= 8


def test_a_slow_host_does_not_hold_up_another(tmp_path):
    with ImageServer() as slow, ImageServer() as quick:
        rows = [(f"{slow.url}/silent/{n}.jpg", "a") for n in range(3)] + [
            (f"{quick.url}/ok/{n}.jpg", "b") for n in range(6)
        ]
        done: list[float] = []
        began = time.monotonic()
        download_images(
            rows, tmp_path, limits=QUICK, concurrency=4, per_host=1, retries=0,
            progress=lambda _: done.append(time.monotonic() - began),
        )  # fmt: skip
        assert sum(moment < 1 for moment in done) >= 6


def test_images_are_kept_by_their_content(server, tmp_path):
    rows = [(f"{server.url}/ok/1.jpg", "a"), (f"{server.url}/ok/copy-of-1.jpg", "b"), (f"{server.url}/ok/1.jpg", "a")]
    report = download_images(rows, tmp_path, limits=QUICK)
    assert (report.downloaded, report.resumed) == (2, 1)
    files = list((tmp_path / "images").rglob("*.jpg"))
    assert len(files) == 1 and files[0].parent.name == files[0].name[:2]
    assert {json.loads(line)["caption"] for line in (tmp_path / "downloads.jsonl").read_text().splitlines()} == {
        "a",
        "b",
    }


def test_private_addresses_are_refused_until_they_are_allowed(server, tmp_path):
    rows = [(f"{server.url}/ok/1.jpg", "a")]
    refused = download_images(rows, tmp_path, limits=FetchLimits(timeout=1.0), retries=3)
    assert refused.failures == {"private address": 1} and not server.requests
    again = download_images(rows, tmp_path, limits=FetchLimits(timeout=1.0))
    assert (again.resumed, again.failed) == (1, 0), "it will not change by itself"
    assert download_images(rows, tmp_path, limits=QUICK).downloaded == 1


def test_numbers_that_cannot_be_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="at least 1"):
        download_images([], tmp_path, concurrency=0)
    assert download_images([], tmp_path).downloaded == 0


def test_no_thread_is_left_behind(server, tmp_path):
    before = threading.active_count()
    download_images([(f"{server.url}/ok/{n}.jpg", "a") for n in range(4)], tmp_path, limits=QUICK)
    deadline = time.monotonic() + 5
    while any(thread.name.startswith("download") for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(thread.name.startswith("download") for thread in threading.enumerate())
    assert threading.active_count() <= before + 4  # the server's own
