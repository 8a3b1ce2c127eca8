"""A Hub on loopback that serves data sets to the real `datasets` library."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "a" * 40


class DatasetHub:
    """Serves repositories: `{"owner/name": {"data/train.parquet": bytes}}`. All others do not exist."""

    def __init__(self, repositories: dict[str, dict[str, bytes]]):
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                path = self.path.partition("?")[0]
                match = re.match(r"(?:/api)?/datasets/(?P<repo>[^/]+/[^/]+)(?P<rest>.*)", path)
                files = repositories.get(match["repo"]) if match else None
                if match is None or files is None:
                    self.send(404, headers={"X-Error-Code": "RepoNotFound"})
                elif match["rest"].startswith("/resolve/"):
                    self.file(files.get(match["rest"].split("/", 3)[3]))
                elif match["rest"].startswith("/tree/"):
                    folder = (match["rest"].split("/", 3) + [""])[3]
                    rows = [
                        {"type": "file", "path": name, "size": len(data), "oid": "1" * 40}
                        for name, data in files.items()
                        if name.startswith(folder)
                    ]
                    if not folder:
                        folders = {name.split("/")[0] for name in files if "/" in name}
                        rows += [{"type": "directory", "path": name, "oid": "2" * 40} for name in sorted(folders)]
                    self.send(200, json.dumps(rows).encode())
                else:
                    siblings = [{"rfilename": name} for name in files]
                    info = {"id": match["repo"], "sha": COMMIT, "private": False, "tags": [], "siblings": siblings}
                    self.send(200, json.dumps(info).encode())

            def file(self, data: bytes | None) -> None:
                if data is None:
                    self.send(404, headers={"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
                    return
                headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{len(data)}"', "Accept-Ranges": "bytes"}
                wanted = re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
                if wanted is None:
                    self.send(200, data, headers)
                    return
                first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
                headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
                self.send(206, data[first : last + 1], headers)

            def send(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_POST = answer

            def log_message(self, *arguments) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> DatasetHub:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self._server.shutdown()
        self._server.server_close()
