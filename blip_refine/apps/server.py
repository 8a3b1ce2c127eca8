"""An HTTP server that a slow client cannot hold up: uvicorn, with limits on headers and connections."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from ..errors import ConfigurationError, MissingExtraError

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError as error:
    raise MissingExtraError("uvicorn", "apps", "serve captions over HTTP") from error


def _bounded_protocol(header_timeout: float, max_connections: int) -> type[asyncio.Protocol]:
    """uvicorn's protocol, with a time for each request's headers and a number of connections that it does not have:
    a client that sends a byte now and then would keep its connection for ever."""

    class BoundedProtocol(H11Protocol):
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > max_connections:
                transport.abort()
                return
            self._expect_headers()

        def _expect_headers(self) -> None:
            self._timer = self.loop.call_later(header_timeout, self._close_if_idle)

        def _close_if_idle(self) -> None:
            # A cycle that is not complete is a request whose headers have come.
            if self.cycle is None or self.cycle.response_complete:
                self.transport.close()

        def on_response_complete(self) -> None:
            super().on_response_complete()
            if self._timer is not None:
                self._timer.cancel()
            if not self.transport.is_closing():
                self._expect_headers()

        def connection_lost(self, exc: Exception | None) -> None:
            if self._timer is not None:
                self._timer.cancel()
            super().connection_lost(exc)

    return BoundedProtocol


def make_server(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    header_timeout: float = 10.0,
    max_connections: int = 1024,
    shutdown_timeout: int = 30,
) -> uvicorn.Server:
    """A server for an ASGI application. `server.run()` serves until SIGINT or SIGTERM, and then finishes what it has.

    Args:
        app: The application.
        host (`str`, defaults to `"127.0.0.1"`): `"0.0.0.0"` for everyone who reaches this machine.
        port (`int`, defaults to 8000): 0 takes a free one.
        header_timeout (`float`, defaults to 10): Seconds for the headers of a request, from the opening of the
            connection or the end of the answer before.
        max_connections (`int`, defaults to 1024): Further ones are closed.
        shutdown_timeout (`int`, defaults to 30): Seconds that running requests have when the server is told to stop.

    Raises:
        ConfigurationError: The port is taken.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(
                f"Cannot listen on {host}:{port}: {error.strerror}. Give another --port."
            ) from error
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=_bounded_protocol(header_timeout, max_connections),
        ws="none",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=shutdown_timeout,
        h11_max_incomplete_event_size=32 * 1024,
    )
    return uvicorn.Server(config)
