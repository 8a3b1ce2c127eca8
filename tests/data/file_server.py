"""A real HTTP server on loopback with ranges and entity tags, which can be told to misbehave."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer:
    """Serves `files` (path without the first slash to bytes), and remembers every request and its `Range`.

    `break_after` holds, for a path, after how many bytes of each answer the connection is cut (a list: one number for
    each answer, none for the rest); `without_ranges`, `without_tags` and `ignores_if_range` say what the server cannot
    do; `pause` is a sleep in seconds after each 64 KiB; `statuses` holds answers to give first.
    """

    def __init__(self, files: dict[str, bytes]):
        self.files = files
        self.requests: list[tuple[str, str | None]] = []
        self.break_after: dict[str, list[int]] = {}
        self.statuses: dict[str, list[int]] = {}
        self.without_ranges = self.without_tags = self.ignores_if_range = self.without_length = False
        self.pause = 0.0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    server.answer(self, self.path.lstrip("/").partition("?")[0])
                except (BrokenPipeError, ConnectionResetError):
                    pass  # the client has gone, which is what some of these tests are about

            def log_message(self, *arguments) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FileServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()

    def asked(self, path: str) -> list[str | None]:
        """The `Range` headers of the requests for a path, in order."""
        return [wanted for name, wanted in self.requests if name == path]

    def answer(self, handler: BaseHTTPRequestHandler, path: str) -> None:
        wanted = handler.headers["Range"]
        self.requests.append((path, wanted))
        status = self.statuses.get(path, []).pop(0) if self.statuses.get(path) else None
        if status is not None or path not in self.files:
            handler.send_response(status or 404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        data, tag = self.files[path], f'"{hashlib.sha1(self.files[path]).hexdigest()}"'
        start = 0
        match = re.match(r"bytes=(\d+)-$", wanted or "")
        fits = self.ignores_if_range or handler.headers["If-Range"] in (None, tag)
        if match and fits and not self.without_ranges:
            start = int(match[1])
        if start >= len(data) > 0:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if not self.without_tags:
            handler.send_header("ETag", tag)
        if not self.without_length:
            handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        end = len(data)
        if self.break_after.get(path):
            end = min(end, start + self.break_after[path].pop(0))
        for begin in range(start, end, 65536):
            handler.wfile.write(data[begin : min(begin + 65536, end)])
            handler.wfile.flush()
            time.sleep(self.pause)
