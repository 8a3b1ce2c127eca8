"""How `http.get` reaches a server: a network backend of httpcore that checks addresses and keeps one deadline."""

from __future__ import annotations

import functools
import socket
import ssl
import time
import urllib.parse
from collections.abc import Iterable
from typing import Any

import httpcore2

from ..errors import ConfigurationError
from .http import FetchError, is_public


class GuardedNetwork(httpcore2.NetworkBackend):
    """Connects to checked addresses alone, and ends everything at one deadline.

    A server that drips a byte now and then, of its headers or of the image, never runs into the timeout of a single
    read: so each read and write gets what is left of the whole.

    Args:
        deadline (`float`): By the clock of `time.monotonic`, in seconds; see [`postpone`].
        allow_private (`bool`): Whether to connect to addresses that are not of the public internet.
    """

    def __init__(self, deadline: float, allow_private: bool):
        self.deadline, self.allow_private = deadline, allow_private
        self._to_proxies: list[GuardedNetwork] = []

    def postpone(self, seconds: float) -> None:
        """Move the deadline to so many seconds from now: what is too large for one deadline is bounded per read."""
        for network in (self, *self._to_proxies):
            network.deadline = time.monotonic() + seconds

    def pool(self, proxy: str | None, target: urllib.parse.SplitResult) -> httpcore2.ConnectionPool:
        """Connections to a URL's host, directly or by a proxy.

        Raises:
            FetchError: The host is of a private network.
            ConfigurationError: The proxy is of an unknown kind.
        """
        if proxy is None:
            return httpcore2.ConnectionPool(ssl_context=_tls(), network_backend=self)
        if not self.allow_private:
            check_name(str(target.hostname))
        parts = urllib.parse.urlsplit(proxy)
        if parts.scheme not in ("http", "https"):
            raise ConfigurationError(
                f"The environment names a {parts.scheme} proxy for {target.scheme} URLs; only http and https proxies "
                f"work. Set {target.scheme.upper()}_PROXY to one, or add the hosts to NO_PROXY."
            )
        login = None
        if parts.username is not None:
            login = (urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or ""))
        # The proxy itself is the user's own, and mostly in a private network.
        self._to_proxies.append(GuardedNetwork(self.deadline, allow_private=True))
        return httpcore2.HTTPProxy(
            urllib.parse.SplitResult(parts.scheme, parts.netloc.rpartition("@")[2], "/", "", "").geturl(),
            proxy_auth=login,
            ssl_context=_tls(),
            proxy_ssl_context=_tls() if parts.scheme == "https" else None,
            network_backend=self._to_proxies[-1],
        )

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.NetworkStream:
        addresses = _addresses(host, port)
        if not self.allow_private:
            _refuse_private(host, addresses)
        for address in addresses:
            try:
                stream = httpcore2.SyncBackend().connect_tcp(
                    address, port, remaining(self.deadline), local_address, socket_options
                )
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout):
                if address == addresses[-1]:
                    raise
            else:
                return _DeadlineStream(stream, self)
        raise AssertionError("getaddrinfo gives an address or raises")


class _DeadlineStream(httpcore2.NetworkStream):
    """A connection on which every operation has what is left until the deadline of its network."""

    def __init__(self, stream: httpcore2.NetworkStream, network: GuardedNetwork):
        self.stream, self.network = stream, network

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.stream.read(max_bytes, remaining(self.network.deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.stream.write(buffer, remaining(self.network.deadline))

    def close(self) -> None:
        self.stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore2.NetworkStream:
        # The name of the URL, not the checked address, is what the certificate must be for.
        encrypted = self.stream.start_tls(ssl_context, server_hostname, remaining(self.network.deadline))
        return _DeadlineStream(encrypted, self.network)

    def get_extra_info(self, info: str) -> Any:
        return self.stream.get_extra_info(info)


def check_name(host: str) -> None:
    """Refuse a host that a proxy would fetch from, if its name leads into a private network here.

    Raises:
        FetchError: It does.
    """
    try:
        addresses = _addresses(host, None)
    except socket.gaierror:
        return  # behind a proxy, the names of the internet often do not resolve
    _refuse_private(host, addresses)


def remaining(deadline: float) -> float:
    """Seconds until a deadline of `time.monotonic`.

    Raises:
        TimeoutError: It has passed.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("the deadline has passed")
    return left


def _addresses(host: str, port: int | None) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def _refuse_private(host: str, addresses: Iterable[str]) -> None:
    for address in addresses:
        if not is_public(address):
            raise FetchError(
                "private address",
                f"{host} is {address}, an address of a private network: nothing is fetched there",
                transient=False,
            )


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates of the system, and of `SSL_CERT_FILE`; reading them takes a while."""
    return ssl.create_default_context()
