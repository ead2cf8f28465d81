"""How the blocking transport finds its way: names, addresses, proxies, authorities."""

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from support.fault_server import (
    FaultServer,
    drip,
    head,
    receive,
    reply,
    reset,
    send,
    stall,
    start_tls,
)

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.aiohttp import AiohttpTransport
from lmgateway._transports.protocols import TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway.errors import ConfigError, ConnectionFailedError, RequestTimeoutError
from lmgateway.types import HTTPRequest
from transports.contract import Authority
from transports.sending import final

pytestmark = pytest.mark.loopback

VARIABLES = ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"]
BUNDLES = ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"]


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*VARIABLES, *BUNDLES]:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def transport() -> Iterator[RequestsTransport]:
    transport = RequestsTransport(TransportOptions(connect_timeout=0.5))
    yield transport
    transport.close()


def post(url: str) -> HTTPRequest:
    headers = {"Authorization": "Bearer sk-5ecret"}
    return final("POST", url, "/v1/x", json={"a": 1}, headers=headers)


def failure(transport: RequestsTransport, url: str, timeout: float = 10) -> ConnectionFailedError:
    with pytest.raises(ConnectionFailedError) as caught:
        transport.send(post(url), Deadline(timeout))
    assert "sk-5ecret" not in str(caught.value)
    return caught.value


# -- names and addresses ---------------------------------------------------------------------------


def test_refused(transport: RequestsTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error = failure(transport, f"http://127.0.0.1:{port}")
    assert error.retryable
    assert error.host == f"127.0.0.1:{port}"
    assert "refused" in str(error)


def test_unknown_host(transport: RequestsTransport) -> None:
    error = failure(transport, "http://no-such-host.invalid/v1")
    assert error.retryable
    assert "no-such-host.invalid" in error.message
    assert error.host == "no-such-host.invalid:80"


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port whose backlog is full: it answers no SYN any more."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        port = listener.getsockname()[1]
        callers = [socket.socket() for _ in range(4)]
        for caller in callers:
            caller.setblocking(False)
            caller.connect_ex(("127.0.0.1", port))
        yield port
        for caller in callers:
            caller.close()


def test_connect_timeout(transport: RequestsTransport, silent_port: int) -> None:
    began = monotonic()
    error = failure(transport, f"http://127.0.0.1:{silent_port}")
    assert error.retryable
    assert "0.5 s" in str(error)
    assert monotonic() - began < 3


def test_deadline_that_ends_before_the_connect_timeout(
    transport: RequestsTransport, silent_port: int
) -> None:
    with pytest.raises(RequestTimeoutError, match=r"0\.2 s"):
        transport.send(post(f"http://127.0.0.1:{silent_port}"), Deadline(0.2))


def test_resolver_that_hangs(transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    real, release = socket.getaddrinfo, threading.Event()

    def hang(host: Any, port: Any, *args: Any) -> Any:
        if args[-1:] == (socket.AI_NUMERICHOST,):
            return real(host, port, *args)
        release.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    began = monotonic()
    with pytest.raises(RequestTimeoutError, match=r"0\.2 s"):
        transport.send(post("http://slow.invalid"), Deadline(0.2))
    assert monotonic() - began < 3
    release.set()


def test_next_address_is_tried(
    transport: RequestsTransport, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = socket.getaddrinfo
    with FaultServer([reply()]) as server:

        def two(host: Any, port: Any, *args: Any) -> Any:
            if host != "both.invalid":
                return real(host, port, *args)
            if args[-1:] == (socket.AI_NUMERICHOST,):
                raise socket.gaierror(socket.EAI_NONAME, "not a number")
            return [x for p in (silent_port, server.port) for x in real("127.0.0.1", p, *args)]

        monkeypatch.setattr(socket, "getaddrinfo", two)
        assert transport.send(post("http://both.invalid"), Deadline(10)).status == 200


# -- proxies -------------------------------------------------------------------------------------


def test_plain_http_goes_through_the_proxy_in_full(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer([reply(), reply()]) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://me:pass@{proxy.host}")
        for _ in range(2):
            transport.send(post("http://api.invalid:81"), Deadline(10))
        assert len(proxy.peers) == 1
        assert proxy.requests[1].path == "http://api.invalid:81/v1/x"
        assert proxy.requests[1].headers["proxy-authorization"] == "Basic bWU6cGFzcw=="


def test_tls_goes_through_a_tunnel(
    transport: RequestsTransport, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    shake = start_tls(authority.context("good"))
    script = [receive(), send(head(200)), shake, reply(), reply()]
    with FaultServer(script) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:pass@{proxy.host}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.bundle)
        for _ in range(2):
            assert transport.send(post("https://localhost:81"), Deadline(10)).status == 200
        connect, *calls = proxy.requests
        assert connect.line.startswith("CONNECT localhost:81 ")
        assert connect.headers["proxy-authorization"] == "Basic bWU6cGFzcw=="
        assert "authorization" not in connect.headers
        assert [call.path for call in calls] == ["/v1/x"] * 2
        assert "proxy-authorization" not in calls[0].headers


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_wants_a_password(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with FaultServer([reply(b"", 407)]) as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", f"http://me:pass@{proxy.host}")
        error = failure(transport, f"{scheme}://api.invalid")
    assert not error.retryable
    assert "407" in str(error)
    assert proxy.host in str(error)
    assert "pass@" not in str(error)
    assert error.host is not None
    assert error.host.startswith("api.invalid:")


@pytest.mark.parametrize("status, retryable", [(503, True), (403, False)])
def test_proxy_that_refuses_the_tunnel(
    transport: RequestsTransport,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
    retryable: bool,
) -> None:
    with FaultServer([reply(b"", status)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        error = failure(transport, "https://api.invalid")
    assert error.retryable is retryable
    assert str(status) in str(error)


def test_proxy_that_resets(transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([receive(), reset()]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        assert failure(transport, "https://api.invalid").retryable


def test_proxy_that_drips_is_cut(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer([receive(), drip(b"HTTP/1.1 200 OK" + b"k" * 999, 0.1)]) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        began = monotonic()
        assert "0.5 s" in str(failure(transport, "https://api.invalid"))
        assert monotonic() - began < 3


def test_unknown_proxy_is_named(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://no-such-proxy.invalid:3128")
    assert "no-such-proxy.invalid" in failure(transport, "http://api.invalid").message


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize(
    "proxy",
    [
        "socks5://127.0.0.1:1", "http://[::1", "http://a:b:c", "a:b:c", "http://a:99999",
        "/dev/null", "http://a%b:1", "http://a\N{DEGREE SIGN}:1",
        "http://", "http://me:pw@/", "http:///x", "://", "http://a..b", f"http://{'a' * 70}",
        "http://a b:1", "http://a\tb:1", "http://a\x7f:1", "http://a|b:1", "http://\udcff:1",
        "http://\N{SNOWMAN}:pw@127.0.0.1:9",
    ],
)  # fmt: skip
def test_proxy_that_cannot_be_used(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch, proxy: str, scheme: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", proxy)
    request = post(f"{scheme}://api.invalid")
    with pytest.raises(ConfigError, match="ALL_PROXY") as blocking:
        transport.send(request, Deadline(10))
    with pytest.raises(ConfigError) as awaited:
        asyncio.run(AiohttpTransport(TransportOptions()).send(request, Deadline(10)))
    assert awaited.value.message == blocking.value.message


def test_no_proxy_is_honoured(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://no-such-proxy.invalid")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with FaultServer([reply()]) as server:
        assert transport.send(post(server.url), Deadline(10)).status == 200


def test_environment_is_read_once(
    transport: RequestsTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer([reply(), reply()]) as server:
        transport.send(post(server.url), Deadline(10))
        monkeypatch.setenv("HTTP_PROXY", "http://no-such-proxy.invalid")
        assert transport.send(post(server.url), Deadline(10)).status == 200


# -- authorities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_bundle_of_the_environment(
    transport: RequestsTransport,
    authority: Authority,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
) -> None:
    monkeypatch.setenv(variable, authority.bundle)
    with FaultServer([start_tls(authority.context("good")), reply()]) as server:
        assert transport.send(post(server.tls_url), Deadline(10)).status == 200


def test_usual_authorities_do_not_trust_ours(
    transport: RequestsTransport, authority: Authority
) -> None:
    with FaultServer([start_tls(authority.context("good")), stall()]) as server:
        error = failure(transport, server.tls_url)
    assert not error.retryable
    assert "verify=" in str(error)
    assert "False" not in str(error)


@pytest.mark.parametrize("content", [None, "no certificate"], ids=["missing", "not a bundle"])
def test_bundle_that_cannot_be_read(tmp_path: Path, content: str | None) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    transport = RequestsTransport(TransportOptions(verify=os.fspath(bundle)))
    with pytest.raises(ConfigError, match=r"bundle\.pem \(verify=\) cannot be read"):
        transport.send(post("https://localhost:1"), Deadline(10))


def test_verification_cannot_be_turned_off() -> None:
    transport = RequestsTransport(TransportOptions(verify=False))
    with pytest.raises(ConfigError, match="always verified"):
        transport.send(post("https://localhost:1"), Deadline(10))


def test_one_tls_context_serves_many_connections(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, make = [], ssl.create_default_context

    def count(**options: Any) -> Any:
        made.append(1)
        return make(**options)

    monkeypatch.setattr(ssl, "create_default_context", count)
    transport = RequestsTransport(TransportOptions(verify=authority.bundle))
    with FaultServer([start_tls(authority.context("good")), reply()]) as server:
        for _ in range(3):
            transport.send(post(server.tls_url), Deadline(10))
        assert len(server.peers) == 3
    assert len(made) == 1
