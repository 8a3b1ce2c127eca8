"""The endpoint over real sockets: right answers for many at once, and no client that can hurt the others."""

from __future__ import annotations

import base64
import io
import logging
import socket
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
httpx = pytest.importorskip("httpx")

from blip_refine.apps.api import ApiLimits, create_api  # noqa: E402
from blip_refine.apps.server import make_server  # noqa: E402
from blip_refine.data.sources.scenes import make_scene  # noqa: E402
from blip_refine.errors import ConfigurationError  # noqa: E402
from blip_refine.pipeline import CaptionPipeline  # noqa: E402

PATIENCE = 200
"""Seconds that a client waits, and a server for clients that are not meant to be slow: on a busy machine, the threads
of this process reach their turn late."""

LIMITS = ApiLimits(
    max_bytes=100_000, queue_size=80, timeout=PATIENCE, upload_timeout=PATIENCE, header_timeout=PATIENCE
)
STRICT = ApiLimits(max_bytes=100_000, queue_size=80, timeout=PATIENCE, upload_timeout=1, header_timeout=1)

# One TLS context for all: making one takes longer than a caption. No connection is kept, as before each request anew.
CLIENT = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0, max_connections=None), timeout=PATIENCE)


def jpeg(number: int) -> bytes:
    buffer = io.BytesIO()
    make_scene("everyday", "test", number).image.save(buffer, "JPEG")
    return buffer.getvalue()


class Running:
    def __init__(self, pipeline, limits=LIMITS):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        app = create_api(pipeline, limits)
        self.server = make_server(
            app, port=self.port, header_timeout=limits.header_timeout, max_connections=limits.max_connections
        )
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), self.error
            time.sleep(0.01)
        return self

    def __exit__(self, *exception):
        self.server.should_exit = True
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive() and self.error is None

    def _run(self):
        try:
            self.server.run()
        except BaseException as error:
            self.error = error


@pytest.fixture(scope="module")
def pipeline():
    return CaptionPipeline.from_pretrained("starter", decoding="fast", batch_size=16, num_workers=2)


@pytest.fixture(scope="module")
def photos():
    return [jpeg(number) for number in range(12)]


@pytest.fixture(scope="module")
def expected(pipeline, photos):
    return [caption.text for caption in pipeline(photos)]


@pytest.fixture(scope="module")
def endpoint(pipeline):
    with Running(pipeline) as running:
        yield running


@pytest.fixture(scope="module")
def strict(pipeline):
    """A server that lets slow clients go after a second."""
    with Running(pipeline, STRICT) as running:
        yield running


def send(endpoint, photo: bytes):
    return CLIENT.post(f"{endpoint.url}/caption", content=photo, headers={"content-type": "image/jpeg"})


def test_each_form_of_upload_gives_the_caption(endpoint, photos, expected):
    text = base64.b64encode(photos[0]).decode()
    answers = [
        send(endpoint, photos[0]),
        httpx.post(f"{endpoint.url}/caption", files={"file": ("a.jpg", photos[0], "image/jpeg")}),
        httpx.post(f"{endpoint.url}/caption", json={"image": text}),
        httpx.post(f"{endpoint.url}/caption", json={"image": f"DATA:image/jpeg;base64,{text}"}),
        httpx.post(f"{endpoint.url}/caption", json={"image": base64.encodebytes(photos[0]).decode()}),
    ]
    for answer in answers:
        assert answer.status_code == 200 and answer.json()["caption"] == expected[0]
        assert answer.json()["confidence"] < 0
    assert httpx.get(f"{endpoint.url}/healthz").json()["status"] == "ok"


def test_sixty_four_clients_get_their_own_answers_in_few_batches(pipeline, photos, expected):
    held = Held(pipeline)
    with Running(held) as running, ThreadPoolExecutor(64) as pool:
        waiting = [pool.submit(send, running, photos[number % 12]) for number in range(64)]
        assert held.reached.wait(PATIENCE)
        while held.sizes[0] + health(running)["waiting"] < 64:
            time.sleep(0.01)
        held.released.set()
        answers = [one.result() for one in waiting]
        # While the model has the first of them, all others come to wait, and then go in full batches of 16.
        assert health(running)["batches"] == 1 + -(-(64 - held.sizes[0]) // 16), "requests must be captioned together"
        answers += pool.map(lambda number: send(running, photos[number % 12]), range(64, 128))
        assert [answer.status_code for answer in answers] == [200] * 128
        assert [answer.json()["caption"] for answer in answers] == [expected[number % 12] for number in range(128)]
        assert health(running)["served"] == 128


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"no image", "image/jpeg", 422, "not an image"),
        (b"", "image/jpeg", 422, "empty"),
        (b"{", "application/json", 400, "not JSON"),
        (b"[" * 50_000, "application/json", 400, "not JSON"),
        (b"[]", "application/json", 422, "JSON object must be"),
        (b'{"image": "@@"}', "application/json", 422, "not base64"),
        ('{"image": "é"}'.encode(), "application/json", 422, "not base64"),
        (b'{"url": "\\ud800"}', "application/json", 422, "only http and https"),
        (b'{"url": "http://\\ud800/"}', "application/json", 422, "cannot be fetched"),
        (b'{"url": "http://127.0.0.1/x"}', "application/json", 422, "private network"),
        (b'{"url": "http://[::ffff:169.254.169.254]/"}', "application/json", 422, "private network"),
        (b'{"url": "file:///etc/passwd"}', "application/json", 422, "only http and https"),
        (b"x", "text/plain", 415, "Send the image"),
        (b"--x--", "multipart/form-data; boundary=x", 422, "neither a file nor"),
        (b"junk", "multipart/form-data", 400, "boundary"),
        (bytes(200_000), "image/jpeg", 413, "100000 bytes"),
    ],
)
def test_requests_that_are_wrong_are_told_so(endpoint, body, kind, status, message):
    answer = httpx.post(f"{endpoint.url}/caption", content=body, headers={"content-type": kind})
    assert answer.status_code == status and message in answer.text


def test_a_small_file_that_claims_many_pixels_is_refused_before_it_is_decoded(endpoint):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 10_000, 10_000, 1, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    answer = send(endpoint, bomb)
    assert answer.status_code == 422 and "claims 10000x10000 pixels, more than the 64000000" in answer.text


def test_clients_that_go_in_the_middle_leave_no_trace(endpoint, photos, expected, caplog):
    logging.getLogger("uvicorn.error").addHandler(caplog.handler)
    request = HEAD + f"Content-Type: image/jpeg\r\nContent-Length: {len(photos[0])}\r\n\r\n".encode() + photos[0]
    for sent in [1, 30, 120, len(request) // 2, len(request) - 1, len(request)] * 4:
        with socket.create_connection(("127.0.0.1", endpoint.port)) as connection:
            connection.sendall(request[:sent])
    assert send(endpoint, photos[1]).json()["caption"] == expected[1]
    while in_flight(endpoint):
        time.sleep(0.01)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


def test_a_body_that_does_not_say_how_long_it_is_is_bounded_too(endpoint):
    chunks = (bytes(10_000) for _ in range(50))
    answer = httpx.post(f"{endpoint.url}/caption", content=chunks, headers={"content-type": "image/jpeg"})
    assert answer.status_code == 413


HEAD = b"POST /caption HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", b""),
        (HEAD + b"X-Slow: ", b""),
        (HEAD + b"Content-Type: image/jpeg\r\nContent-Length: 1000\r\n\r\nabc", b"HTTP/1.1 408"),
    ],
    ids=["silent", "slow headers", "slow body"],
)
def test_slow_clients_are_let_go_and_others_do_not_notice(strict, photos, expected, sent, answer):
    slow = [socket.create_connection(("127.0.0.1", strict.port), timeout=PATIENCE) for _ in range(50)]
    for connection in slow:
        connection.sendall(sent)
    assert send(strict, photos[1]).json()["caption"] == expected[1]
    for connection in slow:
        with connection:  # a server without these limits would never answer or hang up
            assert connection.recv(100).startswith(answer)


def test_a_connection_serves_many_requests_and_is_closed_when_no_more_come(strict, photos, expected):
    head = HEAD + f"Content-Type: image/jpeg\r\nContent-Length: {len(photos[0])}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", strict.port), timeout=PATIENCE) as connection:
        for turn in (1, 1, 2):  # the last time two requests at once, one behind the other
            connection.sendall(turn * (head + photos[0]))
            heard = b""
            while heard.count(b"HTTP/1.1 200") < turn or not heard.endswith(b"}"):
                part = connection.recv(65536)
                assert part, "the server hung up on a client that asks"
                heard += part
            assert heard.count(b'"caption":"' + expected[0].encode()) == turn
            time.sleep(0.7)  # all requests together take longer than the headers of one may
        connection.sendall(HEAD + b"X-Slow: ")
        assert connection.recv(100) == b""


def test_connections_beyond_the_most_are_closed_and_the_others_served(pipeline, photos, expected):
    limits = ApiLimits(max_connections=3, header_timeout=PATIENCE)
    with Running(pipeline, limits) as running:
        address = ("127.0.0.1", running.port)
        kept = [socket.create_connection(address, timeout=PATIENCE) for _ in range(2)]
        assert send(running, photos[0]).json()["caption"] == expected[0]
        kept.append(socket.create_connection(address, timeout=PATIENCE))
        for _ in range(5):
            with socket.create_connection(address, timeout=PATIENCE) as refused, pytest.raises(ConnectionError):
                refused.sendall(HEAD)
                refused.recv(1) or _hung_up()
        kept.pop().close()
        deadline = time.monotonic() + 60
        while True:
            try:
                assert send(running, photos[1]).json()["caption"] == expected[1]
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "a connection that was closed is still counted"
        for connection in kept:
            connection.close()


def _hung_up():
    raise ConnectionResetError


class Held:
    """A pipeline that captions when it is let, with all else of the real one."""

    def __init__(self, pipeline):
        self.pipeline, self.released, self.reached = pipeline, threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def caption_prepared(self, batch):
        self.sizes.append(len(batch))
        self.reached.set()
        assert self.released.wait(PATIENCE)
        return self.pipeline.caption_prepared(batch)

    def __getattr__(self, name):
        return getattr(self.pipeline, name)


def health(endpoint) -> dict:
    return CLIENT.get(f"{endpoint.url}/healthz").json()


def in_flight(endpoint) -> int:
    return health(endpoint)["in_flight"]


def test_a_full_queue_is_said_at_once_and_what_waits_is_answered(pipeline, photos, expected):
    held = Held(pipeline)
    with Running(held, ApiLimits(queue_size=4)) as running, ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(send, running, photo) for photo in photos[:4]]
        while in_flight(running) < 4:
            time.sleep(0.01)
        refused = [send(running, photo) for photo in photos[4:8]]
        assert [answer.status_code for answer in refused] == [429] * 4
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        held.released.set()
        assert [answer.result().json()["caption"] for answer in waiting] == expected[:4]


def test_a_caption_that_comes_too_late_is_given_up_on(pipeline, photos, expected):
    held = Held(pipeline)
    with Running(held, ApiLimits(timeout=0.5)) as running:
        assert send(running, photos[2]).status_code == 504
        held.released.set()
        assert in_flight(running) == 0
    with Running(held) as running:
        assert send(running, photos[2]).json()["caption"] == expected[2]


def test_a_server_that_is_told_to_stop_answers_what_it_has(pipeline, photos, expected):
    held = Held(pipeline)
    with ThreadPoolExecutor(1) as pool, Running(held) as running:
        answer = pool.submit(send, running, photos[3])
        assert held.reached.wait(PATIENCE)
        running.server.should_exit = True
        time.sleep(0.3)
        held.released.set()
        assert answer.result().json()["caption"] == expected[3]


def test_a_port_that_is_taken_is_named(endpoint, pipeline):
    with pytest.raises(ConfigurationError, match="Give another --port"):
        make_server(create_api(pipeline), port=endpoint.port)
