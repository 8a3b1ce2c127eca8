"""The container's HTTP contract, `GET /ping` and `POST /invocations`, over the handlers of `inference.py`.

`python -m blip_refine.apps.sagemaker.serve` is what a container runs as `serve`, and what a folder laid out as the
container's is tried with at home.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from ...errors import BlipRefineError
from .inference import JSON, input_fn, model_fn, output_fn, predict_fn

logger = logging.getLogger("blip_refine.sagemaker")

MAX_BODY = 25 * 2**20
"""Bytes of one request; SageMaker's own limit for real-time endpoints."""
SOCKET_TIMEOUT = 30.0
"""Seconds of silence after which a connection is given up on."""


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Any
    protocol_version = "HTTP/1.1"
    timeout = SOCKET_TIMEOUT

    def log_message(self, format: str, *args: Any) -> None:
        logger.info("%s %s", self.address_string(), format % args)

    def do_GET(self) -> None:
        if self.path == "/ping":
            self._answer(200 if self.server.captioner is not None else 503, b"", JSON)
        else:
            self._refuse(404, "There is /ping and /invocations.")

    def do_POST(self) -> None:
        if self.path != "/invocations":
            return self._refuse(404, "There is /ping and /invocations.")
        try:
            length = int(self.headers.get("Content-Length", ""))
        except ValueError:
            return self._refuse(411, "The request says no Content-Length.")
        if not 0 <= length <= MAX_BODY:
            return self._refuse(413, f"A request has at most {MAX_BODY // 2**20} MiB.")
        try:
            request = input_fn(self.rfile.read(length), self.headers.get("Content-Type", JSON))
            prediction = predict_fn(request, self.server.captioner)
            self._answer(200, *output_fn(prediction, self.headers.get("Accept", JSON)))
        except BlipRefineError as error:
            self._refuse(400, str(error))
        except Exception:
            logger.exception("A request failed")
            self._refuse(500, "The request failed; the endpoint's log says why.")

    def _answer(self, status: int, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: int, reason: str) -> None:
        # What is left of the request is not read, so nothing can follow it on this connection.
        self.close_connection = True
        self._answer(status, json.dumps({"error": reason}).encode(), JSON)


class Endpoint(ThreadingHTTPServer):
    """A server that answers `/ping` from the start, with 503 until the model is loaded.

    Args:
        model_dir (`str`): The folder of the model.
        host (`str`, defaults to `"0.0.0.0"`): As the platform wants it.
        port (`int`, defaults to 8080): As the platform wants it.
    """

    daemon_threads = True

    def __init__(self, model_dir: str, host: str = "0.0.0.0", port: int = 8080):
        super().__init__((host, port), Handler)
        self.captioner: Any = None
        self.failure: Exception | None = None
        self.loader = threading.Thread(target=self._load, args=(model_dir,), daemon=True)
        self.loader.start()

    def _load(self, model_dir: str) -> None:
        try:
            self.captioner = model_fn(model_dir)
        except Exception as error:
            # Kept for whoever serves. Until the server ends, /ping goes on saying 503.
            plain = isinstance(error, BlipRefineError)
            logger.error("The endpoint cannot start: %s", error, exc_info=not plain)
            self.failure = error


def main() -> None:
    """Serve `SM_MODEL_DIR` on the port that `SAGEMAKER_BIND_TO_PORT` names.

    If the model or the refiner cannot be used, the process says why and exits with 2; with 1 for an unexpected error.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    model_dir = os.environ.get("SM_MODEL_DIR", "/opt/ml/model")
    with Endpoint(model_dir, port=int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))) as endpoint:

        def end_if_failed() -> None:
            endpoint.loader.join()
            if endpoint.failure is not None:
                endpoint.shutdown()

        threading.Thread(target=end_if_failed, daemon=True).start()
        endpoint.serve_forever()
    if endpoint.failure is not None:
        sys.exit(2 if isinstance(endpoint.failure, BlipRefineError) else 1)


if __name__ == "__main__":
    main()
