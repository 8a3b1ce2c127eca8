"""A server on loopback that speaks the OpenAI protocol and looks at pictures: it says which color they have."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from ..refine.server import Call, FakeModel, Handler, Server, completion

COLORS = {"red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "gray": (128, 128, 128)}


def picture_in(call: Call) -> Image.Image:
    """The picture that a request holds, decoded from its data URL; an error if it holds none."""
    text, picture = call.body["messages"][-1]["content"]
    assert text["type"] == "text" and picture["type"] == "image_url"
    header, _, data = picture["image_url"]["url"].partition(",")
    assert header == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data, validate=True))).convert("RGB")


def prompt_in(call: Call) -> str:
    return call.body["messages"][-1]["content"][0]["text"]


def color_of(picture: Image.Image) -> str:
    """The name of the color of a picture's middle."""
    middle = picture.getpixel((picture.width // 2, picture.height // 2))
    return min(COLORS, key=lambda name: sum(abs(a - b) for a, b in zip(COLORS[name], middle, strict=True)))


class VisionHandler(Handler):
    def do_answer(self, call: Call, text: str | None = None, **message) -> None:
        picture = picture_in(call)
        said = f'"A {color_of(picture)} picture of {picture.width} by {picture.height}."' if text is None else text
        self._json(200, completion(said, call.body, **message))

    def do_no_images(self, call: Call) -> None:
        self._json(400, {"error": {"message": "m is not a multimodal model"}})

    def do_unknown_model(self, call: Call) -> None:
        self._json(404, {"error": {"message": "The model `m` does not exist.", "code": "model_not_found"}})


@contextmanager
def seeing(model: FakeModel | None = None) -> Iterator[FakeModel]:
    """A server for as long as the block runs. `model.url` is its address, `model.calls` what it was asked."""
    model = model or FakeModel()
    server = Server(("127.0.0.1", 0), type("BoundHandler", (VisionHandler,), {"model": model}))
    model.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield model
    finally:
        server.shutdown()
        server.server_close()
        thread.join(30)
