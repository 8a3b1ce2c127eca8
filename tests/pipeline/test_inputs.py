"""Every form in which people have images."""

from __future__ import annotations

import base64
import http.server
import io
import os
import socket
import threading
import time
import urllib.parse

import datasets
import numpy as np
import pytest
import torch
from PIL import Image

from blip_refine.data.sources.scenes import make_scene
from blip_refine.errors import ImageDecodeError, SourceNotFoundError
from blip_refine.inputs import expand_images, is_one_image, picture_of
from blip_refine.records import CaptionRecord
from blip_refine.url_images import UrlLimits, fetch, is_public

LOOPBACK = UrlLimits(timeout=1.0, max_bytes=50_000, allow_private=True)


@pytest.fixture(scope="module")
def picture():
    return make_scene("everyday", "test", 1).image


def encoded(picture) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def test_every_form_of_one_picture_gives_one_caption(make_pipeline, picture, tmp_path):
    pipeline = make_pipeline(url_limits=LOOPBACK)
    data = encoded(picture)
    path = tmp_path / "a picture.png"
    path.write_bytes(data)
    array = np.asarray(picture)
    text = base64.b64encode(data).decode()
    forms = [
        str(path),
        path,
        data,
        bytearray(data),
        picture,
        array,
        array.transpose(2, 0, 1),
        torch.from_numpy(array.copy()),
        torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255,
        text,
        "data:image/png;base64," + text,
        "data:image/png;base64," + urllib.parse.quote(text, safe=""),
        text.replace("+", "-").replace("/", "_").rstrip("="),
        CaptionRecord(picture, (), "x"),
        {"image": picture},
        {"bytes": data, "path": None},
    ]
    captions = [pipeline(form) for form in forms]
    assert {one.text for one in captions} == {captions[0].text} and captions[0].text
    assert [one.error for one in captions] == [None] * len(forms)
    assert captions[0].image_id == path.as_posix() and captions[13].image_id == "x"


def test_batches_of_arrays_and_rows_of_datasets(make_pipeline, picture):
    pipeline = make_pipeline()
    array = np.asarray(picture)
    expected = pipeline(picture).text
    assert [one.text for one in pipeline(np.stack([array, array]))] == [expected] * 2
    assert [one.text for one in pipeline(torch.from_numpy(np.stack([array] * 3)).permute(0, 3, 1, 2))] == [
        expected
    ] * 3
    table = datasets.Dataset.from_dict({"photo": [encoded(picture)] * 2, "city": ["Rome", "Oslo"]})
    table = table.cast_column("photo", datasets.Image())
    assert [one.text for one in pipeline(table)] == [expected] * 2
    assert [one.text for one in pipeline(table["photo"])] == [expected] * 2
    assert [one.text for one in pipeline(table.to_iterable_dataset(), image_column="photo")] == [expected] * 2
    with pytest.raises(SourceNotFoundError, match="no column of images"):
        pipeline(table.remove_columns("photo"))


def test_folders_and_patterns_are_sorted_and_empty_ones_named(photos, tmp_path):
    names = [source.image_id for source in expand_images(photos)]
    assert names == [*(f"{photos}/{number}.jpg" for number in range(9)), f"{photos}/more/9.jpg"]
    assert len(list(expand_images(f"{photos}/**/*.jpg"))) == 10
    with pytest.raises(SourceNotFoundError, match="no image in the folder"):
        list(expand_images(tmp_path))
    with pytest.raises(SourceNotFoundError, match="No file fits the pattern"):
        list(expand_images(f"{tmp_path}/*.jpg"))
    among = list(expand_images([tmp_path, photos / "0.jpg"]))
    assert among[0].error and not among[1].error, "one of several is no reason to stop"


def test_a_name_that_looks_like_a_pattern_is_a_file_if_there_is_one(tmp_path, picture):
    path = tmp_path / "photo [1].png"
    picture.save(path)
    assert is_one_image(path)
    assert [source.image_id for source in expand_images([path])] == [path.as_posix()]


def test_names_that_are_no_text_and_folders_that_are_closed(make_pipeline, tmp_path, picture, monkeypatch):
    name = os.fsdecode(b"bad\xff.png")
    picture.save(tmp_path / name)
    for form in (tmp_path, [tmp_path / name], [str(tmp_path / name)], f"{tmp_path}/*"):
        (caption,) = make_pipeline()(form)
        assert caption.text and caption.image_id == f"{tmp_path}/bad\\xff.png"
    assert list(expand_images(["\ud800"]))[0].image_id == "\\ud800"

    def refuse(folder):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    (source,) = expand_images(tmp_path)
    assert source.image_id == str(tmp_path) and "cannot be searched" in source.error


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4, 5, 6)), "no picture"),
        (np.zeros((0, 4, 3), np.uint8), "no picture"),
        (np.zeros((5, 6, 2), np.uint8), "no picture"),
        (np.full((4, 4, 3), 2.5), "before it was normalized"),
        (np.full((4, 4, 3), np.nan), "before it was normalized"),
        (np.full((4, 4, 3), 300), "from 0 to 255"),
        (torch.randn(3, 8, 8), "before it was normalized"),
    ],
)
def test_arrays_that_are_no_pictures_are_refused(array, message):
    with pytest.raises(ImageDecodeError, match=message):
        picture_of(array)


def test_arrays_of_every_type_are_the_same_picture():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    expected = np.asarray(Image.fromarray(grey))
    for array in (grey, grey[..., None], grey[None], grey.astype(np.int64), grey / 255, torch.from_numpy(grey / 255)):
        assert np.array_equal(np.asarray(picture_of(array)), expected)
    assert np.asarray(picture_of(np.eye(4, dtype=bool))).max() == 255


def test_texts_that_are_no_images_say_why():
    sources = list(
        expand_images(["ftp://x/y.jpg", "file:///etc/passwd", "data:image/png,abc", "data:image/png;base64,@@@@"])
    )
    assert "only http and https" in sources[0].error and "only http and https" in sources[1].error
    assert "without base64" in sources[2].error and "not base64" in sources[3].error
    (odd,) = expand_images(["data:image/png;base64,é"])
    assert "not base64" in odd.error, "letters of another alphabet are no reason to stop"


class Server(http.server.BaseHTTPRequestHandler):
    """A server with every habit that a fetcher has to survive."""

    data = b""

    def do_GET(self):  # noqa: N802
        kind = self.path.strip("/")
        if kind.startswith("hop"):
            self.send_response(302)
            self.send_header("Location", f"/hop{int(kind[3:] or 0) + 1}" if kind != "hop3" else "/photo")
            self.end_headers()
        elif kind == "file":
            self.send_response(302)
            self.send_header("Location", "file:///etc/passwd")
            self.end_headers()
        elif kind == "loop":
            self.send_response(301)
            self.send_header("Location", "/loop")
            self.end_headers()
        elif kind == "huge":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(bytes(10_000))
        elif kind == "drip":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                time.sleep(0.1)
        elif kind == "drip-headers":
            for _ in range(100):
                self.wfile.write(b"H")
                time.sleep(0.1)
        elif kind == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "5000")
            self.end_headers()
            self.wfile.write(b"short")
        elif kind == "secret":
            # What a server has been told; it sends the asker to itself under another name.
            self.send_response(302 if self.headers["Authorization"] == "Basic bWU6cGFzc0B3b3Jk" else 401)
            self.send_header("Location", f"http://localhost:{self.server.server_port}/told")
            self.end_headers()
        elif kind == "told":
            self.send_response(200 if self.headers["Authorization"] is None else 500)
            self.end_headers()
            self.wfile.write(self.data)
        elif kind == "photo":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.data)
        else:
            self.send_error(404)

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except ConnectionError:
            pass  # the client hung up, as it should


@pytest.fixture(scope="module")
def server(picture):
    Server.data = encoded(picture)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_urls_are_fetched_and_redirects_followed(make_pipeline, server, picture):
    pipeline = make_pipeline(url_limits=LOOPBACK)
    assert pipeline(f"{server}/photo").text == pipeline(picture).text
    assert pipeline(f"{server}/hop").text == pipeline(picture).text
    assert pipeline(f"{server}/photo").image_id == f"{server}/photo"


def test_a_password_is_told_to_its_host_alone_and_never_shown(make_pipeline, server, picture):
    pipeline = make_pipeline(url_limits=LOOPBACK)
    port = server.rpartition(":")[2]
    known = pipeline(f"http://me:pass%40word@127.0.0.1:{port}/secret")
    assert known.text == pipeline(picture).text and known.image_id == f"{server}/secret"
    wrong = [f"http://me:hidden@127.0.0.1:{port}/{path}" for path in ("secret", "nothing", "loop", "cut")]
    wrong += ["http://me:hid/hidden@127.0.0.1/x", "https://me:hidden@nowhere.invalid/x?a#b", "http://me:hidden@[::1/"]
    captions = pipeline(wrong)
    assert "HTTP 401" in captions[0].error
    for caption in [*captions, *make_pipeline()(wrong)]:
        assert caption.error and "hid" not in f"{caption.error} {caption.image_id}"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nothing", "HTTP 404"),
        ("loop", "more than 5 redirects"),
        ("file", "only http and https"),
        ("huge", "more than the 50000 bytes"),
        ("drip", "no answer within 1 s"),
        ("drip-headers", "no answer within 1 s"),
        ("cut", "ended after 5 of 5000 bytes|IncompleteRead"),
    ],
)
def test_servers_that_misbehave_are_given_up_on_in_time(server, path, message):
    started = time.monotonic()
    with pytest.raises(ImageDecodeError, match=message):
        fetch(f"{server}/{path}", LOOPBACK)
    assert time.monotonic() - started < 3


def test_private_addresses_are_refused_whatever_name_they_have(server, make_pipeline, monkeypatch):
    assert "private network" in make_pipeline()(f"{server}/photo").error
    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **named: real("127.0.0.1", *rest, **named))
    with pytest.raises(ImageDecodeError, match="example.org is 127.0.0.1"):
        fetch(server.replace("127.0.0.1", "example.org"), UrlLimits())


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
    ],
)
def test_public_addresses(address, public):
    assert is_public(address) is public
