"""An HTTP server that a slow client cannot hold up: uvicorn, with limits on headers and connections.

uvicorn has no limit on the time that the headers of a request take: a client that sends a byte now and then would keep
its connection for ever. So the event loop that it runs on hands it guarded connections, by asyncio's public interface.
"""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
from typing import Any

from ..errors import ConfigurationError, MissingExtraError

try:
    import uvicorn
except ImportError as error:
    raise MissingExtraError("uvicorn", "apps", "serve captions over HTTP") from error

# The loop that asyncio takes on this system.
if sys.platform == "win32":
    _Loop = asyncio.ProactorEventLoop
else:
    _Loop = asyncio.SelectorEventLoop
_connection: contextvars.ContextVar[Any] = contextvars.ContextVar("connection")
"""The connection whose bytes are being read. asyncio hands it to the tasks that are started meanwhile."""


class _GuardedConnection(asyncio.Protocol):
    """Stands between a transport and the server's protocol, which sees all that happens, as without it.

    Args:
        inner (`asyncio.Protocol`): The server's protocol.
        gate (`_Gate`): What all connections have in common.
    """

    def __init__(self, inner: asyncio.Protocol, gate: _Gate):
        self.inner, self.gate = inner, gate
        self.requests = 0
        self.transport: asyncio.Transport | None = None
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        if len(self.gate.connections) >= self.gate.max_connections:
            transport.abort()
            return
        self.transport = transport
        self.gate.connections.add(self)
        self.inner.connection_made(transport)
        self.expect_headers()

    def data_received(self, data: bytes) -> None:
        if self.transport is not None:
            _connection.set(self)
            self.inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self.inner.eof_received() if self.transport is not None else None

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        if self.transport is not None:
            self.gate.connections.discard(self)
            self.expect_nothing()
            self.inner.connection_lost(error)

    def expect_headers(self) -> None:
        """Close the connection, unless a request begins in time."""
        assert self.transport is not None
        if not self.transport.is_closing():
            self.timer = asyncio.get_running_loop().call_later(self.gate.header_timeout, self.transport.close)

    def expect_nothing(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


class _Gate:
    """The application as the server sees it, and the limits of its connections."""

    def __init__(self, app: Any, header_timeout: float, max_connections: int):
        self.app, self.header_timeout, self.max_connections = app, header_timeout, max_connections
        self.connections: set[_GuardedConnection] = set()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        connection = _connection.get(None) if scope["type"] == "http" else None
        if connection is None:
            await self.app(scope, receive, send)
            return
        # The headers of a request are complete when the application is called.
        connection.requests += 1
        connection.expect_nothing()
        try:
            await self.app(scope, receive, send)
        finally:
            connection.requests -= 1
            if not connection.requests:
                connection.expect_headers()

    def loop(self) -> asyncio.AbstractEventLoop:
        """An event loop on which every connection of a server is guarded."""
        gate = self

        class GuardedLoop(_Loop):
            async def create_server(self, protocol_factory: Any, *addresses: Any, **options: Any) -> Any:
                def guarded() -> _GuardedConnection:
                    return _GuardedConnection(protocol_factory(), gate)

                return await super().create_server(guarded, *addresses, **options)

        return GuardedLoop()


class CaptionServer(uvicorn.Server):
    """uvicorn's server, run on a loop that guards its connections. See [`make_server`]."""

    def __init__(self, config: uvicorn.Config, gate: _Gate):
        super().__init__(config)
        self.gate = gate

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until SIGINT or SIGTERM, and then finish what it has."""
        loop = self.gate.loop()
        try:
            loop.run_until_complete(self.serve(sockets=sockets))
        finally:
            loop.run_until_complete(_wind_down())
            loop.close()


async def _wind_down() -> None:
    """What `asyncio.run` does at its end; it takes no loop on Python 3.10."""
    loop = asyncio.get_running_loop()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    await loop.shutdown_asyncgens()
    await loop.shutdown_default_executor()


def make_server(
    app: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    header_timeout: float = 10.0,
    max_connections: int = 1024,
    shutdown_timeout: int = 30,
) -> CaptionServer:
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
    gate = _Gate(app, header_timeout, max_connections)
    config = uvicorn.Config(
        gate,
        host=host,
        port=port,
        http="h11",
        ws="none",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=shutdown_timeout,
        h11_max_incomplete_event_size=32 * 1024,
    )
    return CaptionServer(config, gate)
