"""The HTTP client against real servers on loopback: where it connects to, how it encrypts, and proxies."""

from __future__ import annotations

import base64
import http.client
import http.server
import shutil
import socket
import ssl
import subprocess
import threading
import urllib.parse

import pytest

from blip_refine.data import http_network
from blip_refine.data.http import FetchError, UrlLimits, get
from blip_refine.data.sources.http_fetch import FetchLimits, fetch_image
from blip_refine.errors import ConfigurationError

from .image_server import PHOTO, ImageServer

LOOPBACK = UrlLimits(timeout=3.0, allow_private=True)


def resolving(monkeypatch, **names: str) -> list[str]:
    """Let names resolve to addresses, and all others fail. Gives the names that were asked for, in order."""
    real, asked = socket.getaddrinfo, []

    def getaddrinfo(host, *rest, **named):
        try:
            return real(host, *rest, **named, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:
            asked.append(host)
            if host not in names:
                raise
            return real(names[host], *rest, **named)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch):
    """A name that is public when it is checked, and private when it is resolved again (DNS rebinding)."""
    names = {"rebound.test": "93.184.216.34"}
    asked = resolving(monkeypatch, **names)
    connected = []

    def refuse(address, *rest, **named):
        connected.append(address)
        names["rebound.test"] = "127.0.0.1"
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(socket, "create_connection", refuse)
    with pytest.raises(FetchError, match="connection failed: .*Connection refused"):
        get("http://rebound.test/1.jpg", UrlLimits())
    assert connected == [("93.184.216.34", 80)] and asked == ["rebound.test"]


def test_a_redirect_into_a_private_network_is_refused(monkeypatch):
    with ImageServer() as server:
        port = server.url.rpartition(":")[2]
        resolving(monkeypatch, **{"public.test": "127.0.0.1", "inside.test": "127.0.0.2"})
        monkeypatch.setattr(http_network, "is_public", lambda address: address == "127.0.0.1")
        assert get(f"http://public.test:{port}/ok/1.jpg", UrlLimits())
        asked = len(server.requests)
        for inside in (f"http://127.0.0.2:{port}/ok/2.jpg", f"//inside.test:{port}/ok/2.jpg"):
            server.answer = lambda handler, target=inside: server.send(handler, b"", status=302, Location=target)
            with pytest.raises(FetchError, match="is 127.0.0.2, an address of a private network"):
                get(f"http://public.test:{port}/moved", UrlLimits())
        assert server.requests[asked:] == ["/moved", "/moved"]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate of `photos.test` that signs itself, and its key."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("tls")
    request = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=photos.test"]
    names = ["-addext", "subjectAltName=DNS:photos.test", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run([*map(str, [*request, *names])], check=True, capture_output=True)
    return folder


@pytest.fixture
def encrypted(certificate, monkeypatch):
    """A server that speaks TLS as `photos.test`, which resolves to loopback; the names that clients asked for."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))
    http_network._tls.cache_clear()
    with ImageServer() as server:
        server.names = []
        context.sni_callback = lambda _, name, __: server.names.append(name)
        server._server.socket = context.wrap_socket(server._server.socket, server_side=True)
        server.port = server.url.rpartition(":")[2]
        resolving(monkeypatch, **{"photos.test": "127.0.0.1", "other.test": "127.0.0.1"})
        yield server
    http_network._tls.cache_clear()


def test_the_certificate_must_be_that_of_the_name(encrypted):
    """The connection goes to an address, and the name is what is asked for and checked."""
    assert get(f"https://photos.test:{encrypted.port}/wrong-type/1.jpg", LOOPBACK) == PHOTO
    assert encrypted.names == ["photos.test"]
    for other in ("other.test", "127.0.0.1"):
        with pytest.raises(FetchError, match="connection failed: .*certificate"):
            get(f"https://{other}:{encrypted.port}/ok/1.jpg", LOOPBACK)
    assert len(encrypted.requests) == 1


class Proxy(http.server.BaseHTTPRequestHandler):
    """A proxy on loopback that knows where the photos are."""

    def do_GET(self):  # noqa: N802
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        parts = urllib.parse.urlsplit(self.path)
        connection = http.client.HTTPConnection("127.0.0.1", self.server.target)
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        body = answer.read()
        self.send_response(answer.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self):  # noqa: N802
        self.server.asked.append((self.path, self.headers["Proxy-Authorization"]))
        with socket.create_connection(("127.0.0.1", self.server.target)) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join(5)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


def _pump(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one side hung up


@pytest.fixture
def proxy(monkeypatch):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as running:
        running.daemon_threads, running.asked = True, []
        threading.Thread(target=running.serve_forever, daemon=True).start()
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://me:pass%40word@127.0.0.1:{running.server_port}")
        yield running
        running.shutdown()


def test_downloads_go_by_the_proxies_of_the_environment(proxy, monkeypatch):
    with ImageServer() as server:
        proxy.target = int(server.url.rpartition(":")[2])
        resolving(monkeypatch)  # behind a proxy, no name of the internet resolves
        assert fetch_image("http://photos.test/wrong-type/1.jpg", FetchLimits(timeout=3.0)) == PHOTO
        login = "Basic " + base64.b64encode(b"me:pass@word").decode()
        assert proxy.asked == [("http://photos.test/wrong-type/1.jpg", login)]
        for inside in ("http://127.0.0.1/x", "http://[::1]/x", "https://169.254.169.254/latest"):
            with pytest.raises(FetchError, match="private address"):
                fetch_image(inside, FetchLimits(timeout=3.0))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert fetch_image(f"{server.url}/ok/1.jpg", FetchLimits(timeout=3.0, allow_private=True))
        assert len(proxy.asked) == 1


def test_an_encrypted_download_goes_through_a_proxy_unread(proxy, encrypted):
    proxy.target = int(encrypted.port)
    limits = FetchLimits(timeout=3.0, allow_private=True)
    assert fetch_image("https://photos.test/wrong-type/1.jpg", limits) == PHOTO
    assert [path for path, _ in proxy.asked] == ["photos.test:443"] and encrypted.names == ["photos.test"]


def test_urls_of_strangers_go_by_no_proxy(proxy, monkeypatch):
    proxy.target = 9
    resolving(monkeypatch)
    with pytest.raises(FetchError, match="connection failed"):
        get("http://photos.test/1.jpg", UrlLimits(timeout=1.0))
    assert not proxy.asked


@pytest.mark.parametrize("kind", ["socks5", "ftp"])
def test_a_proxy_of_an_unknown_kind_is_named(proxy, monkeypatch, kind):
    monkeypatch.setenv("http_proxy", f"{kind}://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=f"names a {kind} proxy for http URLs.*HTTP_PROXY"):
        get("http://127.0.0.1:1/", UrlLimits(allow_private=True, use_proxies=True))


def test_no_password_is_in_a_message():
    for url in ("ftp://me:hidden@x.org/a.jpg", "http://me:hid/hidden@127.0.0.1:1/", "http://me:hidden@127.0.0.1:1/"):
        with pytest.raises(FetchError) as caught:
            get(url, LOOPBACK)
        assert "hid" not in str(caught.value)
