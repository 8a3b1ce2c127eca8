"""An HTTP endpoint for captions: `POST /caption` with a file or a URL, `GET /healthz`.

Concurrent requests are captioned together. Everything that a client can make large or slow has a limit: the body
(413), its upload (408), the queue (429), the whole request (504), the headers and the number of connections (closed).
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..errors import ConfigurationError, ImageDecodeError, MissingExtraError
from ..inputs import ImageSource, bytes_of_text
from ..pipeline import CaptionPipeline
from ..records import Caption
from ..refine.safety import require_working
from ..url_images import UrlImage, UrlLimits, without_password
from .batching import DynamicBatcher, QueueFull

try:
    from fastapi import FastAPI, HTTPException, Request
    from starlette.datastructures import UploadFile
    from starlette.requests import ClientDisconnect
except ImportError as error:
    raise MissingExtraError("fastapi", "apps", "serve captions over HTTP") from error


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """What one client, and all together, may ask for.

    Args:
        max_bytes (`int`, defaults to 20 MiB): The largest request body.
        max_pixels (`int`, defaults to `64_000_000`): Larger images are not decoded: a file of a few kilobytes can
            claim so many pixels that it takes seconds and a gigabyte.
        queue_size (`int`, defaults to 256): The most requests that are worked on or wait.
        timeout (`float`, defaults to 60): Seconds for a request once its body is there.
        upload_timeout (`float`, defaults to 20): Seconds for a request's body.
        header_timeout (`float`, defaults to 10): Seconds for a request's headers, and for a connection to say
            anything at all.
        max_connections (`int`, defaults to 1024): The most connections.
        urls (`bool`, defaults to `True`): Whether images are fetched by URL.
        allow_private (`bool`, defaults to `False`): Whether URLs may lead to private networks.
    """

    max_bytes: int = 20 * 2**20
    max_pixels: int = 64_000_000
    queue_size: int = 256
    timeout: float = 60.0
    upload_timeout: float = 20.0
    header_timeout: float = 10.0
    max_connections: int = 1024
    urls: bool = True
    allow_private: bool = False


def create_api(
    pipeline: CaptionPipeline,
    limits: ApiLimits | None = None,
    *,
    max_batch_size: int | None = None,
    check_refiner: bool = True,
) -> FastAPI:
    """The endpoint as an ASGI application.

    Args:
        pipeline ([`CaptionPipeline`]): What captions.
        limits ([`ApiLimits`], *optional*): What may be asked for.
        max_batch_size (`int`, *optional*): The most images captioned at once; the pipeline's `batch_size` by default.
        check_refiner (`bool`, defaults to `True`): Check now that the pipeline's refiner works ([`Refiner.check`]).

    Returns:
        `FastAPI`: To be served by [`make_server`], or by any ASGI server that bounds headers and connections itself.

    Raises:
        ConfigurationError: A limit that cannot be.
        RefinerError, ModelError: The refiner does not answer, or its model cannot be loaded.
    """
    limits = limits or ApiLimits()
    if limits.queue_size < 1 or limits.max_bytes < 1 or limits.max_pixels < 1:
        raise ConfigurationError("`queue_size`, `max_bytes` and `max_pixels` must be at least 1.")
    if check_refiner:
        require_working(pipeline.refiner)
    service = _Service(pipeline, limits, max_batch_size or pipeline.batch_size)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.batcher.start()
        yield
        await service.close()

    # The interactive pages would load scripts from elsewhere.
    app = FastAPI(title="blip_refine", docs_url=None, redoc_url=None, lifespan=lifespan)
    app.add_middleware(BodyLimits, max_bytes=limits.max_bytes, timeout=limits.upload_timeout)

    @app.post("/caption", summary="Caption one image: a file, or a JSON object with its `url` or base64 `image`.")
    async def caption(request: Request) -> dict[str, Any]:
        return await service.caption(request)

    @app.get("/healthz", summary="Whether captions can be asked for.")
    async def healthz() -> dict[str, Any]:
        return service.health()

    return app


class _Service:
    """What stands behind the two routes."""

    def __init__(self, pipeline: CaptionPipeline, limits: ApiLimits, batch_size: int):
        self.pipeline, self.limits = pipeline, limits
        self.batcher: DynamicBatcher = DynamicBatcher(
            pipeline.caption_prepared, batch_size=batch_size, queue_size=limits.queue_size
        )
        # Fetching waits for servers and decoding for the processor: neither may hold up the other.
        self.fetchers = ThreadPoolExecutor(32, thread_name_prefix="blip-refine-fetch")
        self.decoders = ThreadPoolExecutor(max(1, pipeline.num_workers), thread_name_prefix="blip-refine-decode")
        self.url_limits = UrlLimits(
            timeout=limits.timeout, max_bytes=limits.max_bytes, allow_private=limits.allow_private
        )
        self.in_flight = 0
        self.seconds_a_request = 0.0

    async def close(self) -> None:
        await self.batcher.close()
        self.fetchers.shutdown(wait=False, cancel_futures=True)
        self.decoders.shutdown(wait=False, cancel_futures=True)

    def health(self) -> dict[str, Any]:
        return {
            "status": "ok",
            "model": self.pipeline.name,
            "in_flight": self.in_flight,
            "waiting": self.batcher.waiting,
            "served": self.batcher.served,
            "batches": self.batcher.batches,
        }

    async def caption(self, request: Request) -> dict[str, Any]:
        # Counted from here, before the body is read: what is refused costs nothing.
        if self.in_flight >= self.limits.queue_size:
            wait = max(1, math.ceil(self.in_flight * self.seconds_a_request))
            raise HTTPException(429, "Too many requests are waiting.", headers={"Retry-After": str(wait)})
        self.in_flight += 1
        try:
            source = await _read_source(request, self.limits, self.url_limits)
            started = time.monotonic()
            caption = await asyncio.wait_for(self._work(source), self.limits.timeout)
        except asyncio.TimeoutError as error:
            raise HTTPException(504, f"No caption within {self.limits.timeout:g} s.") from error
        except ClientDisconnect as error:  # nobody hears this, and nobody needs a traceback of it
            raise HTTPException(400, "The client has gone.") from error
        except QueueFull as error:
            raise HTTPException(429, "Too many requests are waiting.", headers={"Retry-After": "1"}) from error
        finally:
            self.in_flight -= 1
        took = (time.monotonic() - started) / (self.in_flight + 1)
        self.seconds_a_request = took if not self.seconds_a_request else 0.9 * self.seconds_a_request + 0.1 * took
        if caption.error is not None:
            raise HTTPException(422, caption.error)
        return {name: value for name, value in caption.to_dict().items() if value is not None}

    async def _work(self, source: ImageSource) -> Caption:
        loop = asyncio.get_running_loop()
        if isinstance(source.image, UrlImage):
            try:
                data = await loop.run_in_executor(self.fetchers, source.image.read_bytes)
            except ImageDecodeError as error:
                raise HTTPException(422, str(error)) from error
            source = replace(source, image=data)
        prepare = partial(self.pipeline.prepare, source, max_pixels=self.limits.max_pixels)
        prepared = await loop.run_in_executor(self.decoders, prepare)
        if prepared.error is not None:
            raise HTTPException(422, str(prepared.error))
        return (await self.batcher.submit((source, prepared))).caption


async def _read_source(request: Request, limits: ApiLimits, url_limits: UrlLimits) -> ImageSource:
    """The image of a request: a multipart file, the body itself, or what a JSON object names."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=8) as form:
            for value in form.values():
                if isinstance(value, UploadFile):
                    return ImageSource(value.filename or "upload", await value.read())
            url = form.get("url")
            if not isinstance(url, str):
                raise HTTPException(422, "The form has neither a file nor a `url`.")
            return _url_source(url, limits, url_limits)
    body = await request.body()
    if kind == "application/json":
        try:
            value = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "The body is not JSON.") from error
        if isinstance(value, dict) and isinstance(value.get("url"), str):
            return _url_source(value["url"], limits, url_limits)
        if isinstance(value, dict) and isinstance(value.get("image"), str):
            try:
                return ImageSource("image", bytes_of_text(value["image"], "`image`"))
            except ImageDecodeError as error:
                raise HTTPException(422, str(error)) from error
        raise HTTPException(422, 'The JSON object must be {"url": "https://..."} or {"image": "<base64>"}.')
    if kind.startswith("image/") or kind == "application/octet-stream":
        return ImageSource("upload", body)
    raise HTTPException(415, "Send the image as multipart/form-data, as image/... or application/json with a `url`.")


def _url_source(url: str, limits: ApiLimits, url_limits: UrlLimits) -> ImageSource:
    if not limits.urls:
        raise HTTPException(422, "Images are not fetched by URL here: send the file.")
    return ImageSource(without_password(url)[:500], UrlImage(url, url_limits))


class BodyLimits:
    """ASGI middleware that bounds the size of a request's body (413) and the time it may take to arrive (408)."""

    def __init__(self, app: Any, *, max_bytes: int, timeout: float):
        self.app, self.max_bytes, self.timeout = app, max_bytes, timeout

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        stated = dict(scope["headers"]).get(b"content-length", b"")
        too_large = stated.isdigit() and int(stated) > self.max_bytes
        deadline = time.monotonic() + self.timeout
        received, complete = 0, False

        async def bounded_receive() -> Any:
            nonlocal received, complete
            if complete:  # what is left to hear is that the client has gone, which may take its time
                return await receive()
            if too_large:
                raise self._too_large()
            try:
                message = await asyncio.wait_for(receive(), max(0.0, deadline - time.monotonic()))
            except asyncio.TimeoutError as error:
                raise HTTPException(
                    408, "The body did not arrive in time.", headers={"Connection": "close"}
                ) from error
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise self._too_large()
            complete = not message.get("more_body", False)
            return message

        await self.app(scope, bounded_receive, send)

    def _too_large(self) -> HTTPException:
        return HTTPException(
            413,
            f"The body is larger than the {self.max_bytes} bytes that are allowed.",
            headers={"Connection": "close"},
        )
