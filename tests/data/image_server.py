"""A real HTTP server on loopback that behaves as badly as the web does."""

from __future__ import annotations

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from .photos import encode, make_photo

PHOTO = encode(make_photo(1, (64, 48)))


class ImageServer:
    """Serves `/ok/<n>.jpg` and many faults, and remembers who asked for what.

    `requests` holds the paths in order, `most_at_once` how many were answered at the same time.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.agents: set[str] = set()
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with server._lock:
                    server.requests.append(self.path)
                    server.agents.add(self.headers["User-Agent"])
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                    self.is_counted = True
                try:
                    server.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has had enough, which is what some of these tests are about
                finally:
                    server._answered(self)

            def log_message(self, *arguments) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> ImageServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return self.requests.count(path)

    def send(self, handler, body: bytes, status: int = 200, length: int | None = None, **headers: str) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in {"Content_Type": "image/jpeg", **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        # Before the body goes: the client may have it, and ask for the next, before this thread goes on.
        self._answered(handler)
        handler.wfile.write(body)

    def _answered(self, handler) -> None:
        with self._lock:
            self._at_once -= handler.is_counted
            handler.is_counted = False

    def answer(self, handler) -> None:
        path = handler.path
        kind = path.split("/")[1]
        again = self.count(path) > 1
        if kind == "ok":
            number = int("".join(filter(str.isdigit, path)) or 0)
            time.sleep(0.02)
            self.send(handler, encode(make_photo(number, (64, 48))))
        elif kind == "wrong-type":
            self.send(handler, PHOTO, Content_Type="text/html")
        elif kind == "html":
            self.send(handler, b"<!doctype html><p>This photo is no longer available</p>")
        elif kind == "broken":
            self.send(handler, PHOTO[:-400])
        elif kind == "claims-more":
            self.send(handler, PHOTO, length=len(PHOTO) + 1000)
        elif kind == "claims-less":
            self.send(handler, PHOTO, length=len(PHOTO) - 500)
        elif kind == "claims-huge":
            self.send(handler, PHOTO, length=10**9)
        elif kind == "endless":
            handler.send_response(200)
            handler.end_headers()
            while True:
                handler.wfile.write(b"\xff" * 65536)
        elif kind == "drip":
            handler.send_response(200)
            handler.end_headers()
            for byte in PHOTO:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(0.05)
        elif kind == "drip-headers":
            for byte in b"HTTP/1.0 200 OK\r\nX-Padding: " + b"x" * 500:
                handler.wfile.write(bytes([byte]))
                handler.wfile.flush()
                time.sleep(0.05)
        elif kind == "slow-redirects":
            time.sleep(0.4)
            self.send(handler, b"", status=302, Location=f"/slow-redirects/{int(path.split('/')[2]) + 1}")
        elif kind == "silent":
            time.sleep(5)
        elif kind == "status":
            self.send(handler, b"", status=int(path.split("/")[2]))
        elif kind == "recovers":
            self.send(handler, PHOTO if again else b"", status=200 if again else 503)
        elif kind == "busy":
            self.send(handler, PHOTO if again else b"", status=200 if again else 429, Retry_After="1")
        elif kind == "banned":
            self.send(handler, b"", status=429, Retry_After="3600")
        elif kind == "loop":
            self.send(handler, b"", status=302, Location=path)
        elif kind == "moved":
            self.send(handler, b"", status=301, Location="/ok/7.jpg")
        elif kind == "to-file":
            self.send(handler, b"", status=302, Location="file:///etc/hostname")
        elif kind == "reset":
            handler.connection.close()
        elif kind == "empty":
            self.send(handler, b"")
        else:
            self.send(handler, b"", status=404)
