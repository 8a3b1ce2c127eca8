"""A real HTTP server on loopback that speaks the OpenAI protocol, and misbehaves where a test asks it to.

Its "model" repeats the draft of the prompt as a sentence, or says what `script` makes of the draft. What it does with
one call is decided by `behave`, a function of the call that returns the name of a behaviour.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Call:
    """One request as the server saw it."""

    number: int
    path: str
    headers: dict[str, str]
    body: dict
    draft: str
    behaviour: str = "answer"

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")


@dataclass
class FakeModel:
    """The state of a server."""

    behave: Callable[[Call], str] = lambda call: "answer"
    script: Callable[[str], str] = lambda draft: sentence(draft)
    latency: float = 0.0
    echo_headers: bool = False
    thoughts: int = 600
    calls: list[Call] = field(default_factory=list)
    answered: Counter = field(default_factory=Counter)
    most_at_once: int = 0
    _at_once: int = 0
    files: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, dict] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def enter(self, call: Call) -> None:
        with self.lock:
            call.number = len(self.calls)
            self.calls.append(call)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)

    def leave(self) -> None:
        with self.lock:
            self._at_once -= 1


def draft_in(body: dict) -> str:
    """The draft that a prompt of one of the package's templates holds."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    found = re.search(r"^draft: (.*)$|<caption>(.*?)</caption>|^1\. (.*)$", text, re.MULTILINE)
    return next((group for group in found.groups() if group is not None), "") if found else text


def sentence(draft: str) -> str:
    return draft[:1].upper() + draft[1:] + ("" if draft.endswith(".") else ".")


def completion(text: str, body: dict, **message) -> dict:
    wants_json = "response_format" in body
    content = json.dumps({"caption": text}) if wants_json else text
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body.get("model", ""),
        "choices": [
            {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110},
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: FakeModel

    def log_message(self, *arguments) -> None:
        pass

    def handle(self) -> None:
        # A client that was killed or gave up is part of the tests, and no fault of the server.
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path == "/v1/batches":
            return self._json(200, {"object": "list", "data": list(self.model.jobs.values()), "has_more": False})
        if path.startswith("/v1/batches/"):
            return self._json(200, self._job(path.rpartition("/")[2]))
        if path.startswith("/v1/files/") and path.endswith("/content"):
            return self._text(200, self.model.files[path.split("/")[3]], "application/octet-stream")
        return self._json(404, {"error": {"message": "no such thing"}})

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/v1/files":
            return self._upload(data)
        if self.path == "/v1/batches":
            return self._create_job(json.loads(data))
        body = json.loads(data)
        headers = {name.lower(): value for name, value in self.headers.items()}
        call = Call(0, self.path, headers, body, draft_in(body))
        self.model.enter(call)
        try:
            if self.model.latency:
                time.sleep(self.model.latency)
            call.behaviour = self.model.behave(call)
            getattr(self, "do_" + call.behaviour)(call)
        finally:
            self.model.leave()

    # What a call can meet with.

    def do_answer(self, call: Call, text: str | None = None, **message) -> None:
        with self.model.lock:
            self.model.answered[call.key] += 1
        text = self.model.script(call.draft) if text is None else text
        value = completion(text, call.body, **message)
        if call.body.get("stream"):
            return self._stream(value["choices"][0]["message"]["content"], call.body)
        return self._json(200, value)

    def do_rate_limit(self, call: Call) -> None:
        self._json(429, {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, {"Retry-After": "0.2"})

    def do_long_rate_limit(self, call: Call) -> None:
        self._json(429, {"error": {"message": "slow down"}}, {"Retry-After": "3600"})

    def do_no_quota(self, call: Call) -> None:
        self._json(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}})

    def do_error(self, call: Call) -> None:
        self._json(500, {"error": {"message": "an error on our side"}})

    def do_unauthorized(self, call: Call) -> None:
        key = call.headers.get("authorization", "")
        self._json(401, {"error": {"message": f"Incorrect API key provided: {key}", "code": "invalid_api_key"}})

    def do_slow(self, call: Call) -> None:
        time.sleep(3)
        self.do_answer(call)

    def do_truncated(self, call: Call) -> None:
        text = json.dumps(completion(self.model.script(call.draft), call.body))
        self._text(200, text[: len(text) // 2], "application/json")

    def do_cut_off(self, call: Call) -> None:
        value = completion(self.model.script(call.draft)[:8], call.body)
        value["choices"][0]["finish_reason"] = "length"
        self._json(200, value)

    def do_think(self, call: Call) -> None:
        """A model that thinks before it answers, whatever room it has."""
        room = call.body.get("max_completion_tokens") or call.body.get("max_tokens")
        value = completion(sentence(call.draft), call.body)
        thoughts = min(self.model.thoughts, room)
        written = min(thoughts + 10, room)
        value["usage"] = {
            "prompt_tokens": 100,
            "completion_tokens": written,
            "completion_tokens_details": {"reasoning_tokens": thoughts},
        }
        if written < self.model.thoughts + 10:
            value["choices"][0]["message"]["content"] = ""
            value["choices"][0]["finish_reason"] = "length"
        self._json(200, value)

    def do_think_strictly(self, call: Call) -> None:
        """The same at OpenAI: what such models do not know is refused."""
        for field_name in ("max_tokens", "temperature"):
            if field_name in call.body:
                return self._json(400, {"error": {"message": f"Unsupported parameter: '{field_name}'."}})
        return self.do_think(call)

    def do_think_aloud(self, call: Call) -> None:
        """A server that says "stop" after a thought that never ended, and counts no thoughts."""
        value = completion("", call.body)
        value["choices"][0]["message"]["content"] = "<think>The user wants a caption. Let me"
        self._json(200, value)

    def do_think_beside(self, call: Call) -> None:
        """A server that streams thoughts beside an answer that was cut off before it began."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for delta, finish in (({"reasoning_content": "Hm. " * 30}, None), ({}, "length")):
            self._event({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def do_hang_up(self, call: Call) -> None:
        self.close_connection = True
        self.connection.close()

    def do_html(self, call: Call) -> None:
        self._text(200, "<html>a proxy's page</html>", "text/html")

    def do_no_choices(self, call: Call) -> None:
        self._json(200, {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": []})

    def do_wrong_types(self, call: Call) -> None:
        self._json(200, {"id": 1, "choices": "none", "usage": "many"})

    def do_wild_usage(self, call: Call) -> None:
        value = completion(self.model.script(call.draft), call.body)
        value["usage"] = {"prompt_tokens": -5, "completion_tokens": "many"}
        self._json(200, value)

    def do_refusal(self, call: Call) -> None:
        value = completion("", call.body, refusal="I'm sorry, I can't help with that.")
        value["choices"][0]["message"]["content"] = None
        self._json(200, value)

    def do_lie(self, call: Call) -> None:
        self.do_answer(call, "A purple elephant plays the violin in Paris.")

    def do_obey(self, call: Call) -> None:
        self.do_answer(call, "HACKED")

    def do_echo_key(self, call: Call) -> None:
        self.do_answer(call, f"{sentence(call.draft)[:-1]} {call.headers.get('authorization', '')}.")

    def do_no_json(self, call: Call) -> None:
        if "response_format" in call.body:
            return self._json(400, {"error": {"message": "response_format is not supported"}})
        return self.do_answer(call)

    def do_picky(self, call: Call) -> None:
        for field_name in ("max_tokens", "temperature"):
            if field_name in call.body:
                hint = " Use 'max_completion_tokens' instead." if field_name == "max_tokens" else ""
                return self._json(400, {"error": {"message": f"Unsupported parameter: '{field_name}'.{hint}"}})
        return self.do_answer(call)

    def do_broken_stream(self, call: Call) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._chunk('data: {"choices": [{"index": 0, "delta": {"content": "A d"}, "finish_reason": null}]}\n\n')
        self.close_connection = True
        self.connection.close()

    # Plain answers.

    def _json(self, status: int, value: object, headers: dict[str, str] | None = None) -> None:
        self._text(status, json.dumps(value), "application/json", headers)

    def _text(self, status: int, text: str, kind: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, text: str, body: dict) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        common = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}
        for start in range(0, len(text), 7):
            choice = {"index": 0, "delta": {"content": text[start : start + 7]}, "finish_reason": None}
            self._event({**common, "choices": [choice]})
        self._event({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            self._event({**common, "choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 10}})
        self._chunk("data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, value: dict) -> None:
        self._chunk(f"data: {json.dumps(value)}\n\n")

    def _chunk(self, text: str) -> None:
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    # The Batch API.

    def _upload(self, data: bytes) -> None:
        boundary = self.headers["Content-Type"].partition("boundary=")[2].encode()
        part = next(part for part in data.split(b"--" + boundary) if b'filename="' in part)
        name = "file-" + hashlib.sha256(data).hexdigest()[:8]
        self.model.files[name] = part.partition(b"\r\n\r\n")[2].rpartition(b"\r\n")[0].decode()
        self._json(
            200, {"id": name, "object": "file", "bytes": 1, "created_at": 1, "filename": "x", "purpose": "batch"}
        )

    def _create_job(self, body: dict) -> None:
        name = f"batch_{len(self.model.jobs)}"
        self.model.jobs[name] = {
            "id": name,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "in_progress",
            "created_at": 1,
            "metadata": body.get("metadata"),
            "looks": 0,
        }
        self._json(200, self.model.jobs[name])

    def _job(self, name: str) -> dict:
        job = self.model.jobs[name]
        job["looks"] += 1
        if job["looks"] > 1 and job["status"] == "in_progress":
            job["status"] = "completed"
            rows = [json.loads(line) for line in self.model.files[job["input_file_id"]].splitlines()]
            lines = []
            # Answers come in another order than the questions, and one of them failed.
            for number, row in enumerate(reversed(rows)):
                value = completion(sentence(draft_in(row["body"])), row["body"])
                response = {"status_code": 500, "body": {}} if number == 1 else {"status_code": 200, "body": value}
                lines.append(json.dumps({"custom_id": row["custom_id"], "response": response, "error": None}))
            self.model.files["file-out"] = "\n".join(lines) + "\n"
            job["output_file_id"] = "file-out"
        return job


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256


@contextmanager
def serving(model: FakeModel | None = None) -> Iterator[FakeModel]:
    """A server on a free port of loopback, for as long as the block runs. `model.url` is its `base_url`."""
    model = model or FakeModel()
    handler = type("BoundHandler", (Handler,), {"model": model})
    server = Server(("127.0.0.1", 0), handler)
    model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)


def main() -> None:
    """Serve from a process of its own: `python server.py PORT LATENCY ERROR_RATE`."""
    port, latency, error_rate = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    generator = random.Random(0)
    model = FakeModel(lambda call: "error" if generator.random() < error_rate else "answer", latency)
    Server(("127.0.0.1", port), type("BoundHandler", (Handler,), {"model": model})).serve_forever()


if __name__ == "__main__":
    main()
