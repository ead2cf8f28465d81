"""Connections, proxies and refusals of the native async transport."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
import threading
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from support.fault_server import (
    FaultServer,
    await_event,
    chunk,
    close,
    head,
    receive,
    reply,
    send,
    signal,
    stall,
)

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.aiohttp import AiohttpTransport
from lmgateway._transports.protocols import TransportOptions
from lmgateway.errors import ConfigError, ConnectionFailedError, InputError, RequestTimeoutError
from lmgateway.types import HTTPResponse
from transports.awaiting import SSE, body_of, call, in_thread, post
from transports.sending import final

pytestmark = [pytest.mark.loopback, pytest.mark.filterwarnings("error")]


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture
def transport() -> AiohttpTransport:
    return AiohttpTransport(TransportOptions())


# -- connections ---------------------------------------------------------------------------------


def test_connections_that_died_while_the_loop_stood_still_are_replaced_unseen(
    transport: AiohttpTransport,
) -> None:
    go_on, die = threading.Event(), threading.Event()

    async def use(server: FaultServer) -> None:
        calls = [asyncio.create_task(call(transport, server.url)) for _ in range(4)]
        await in_thread(server.await_requests, 4)
        go_on.set()
        await asyncio.gather(*calls)
        die.set()
        # Not by awaiting: the loop must not hear of the ends before the next call.
        overdue = time.monotonic() + 10
        while any(peer.sock.fileno() >= 0 for peer in server.peers):
            assert time.monotonic() < overdue
            time.sleep(0.01)
        again = await asyncio.gather(*(call(transport, server.url) for _ in range(4)))
        assert [response.status for response in again] == [200] * 4

    dies = [receive(), await_event(go_on), send(head(length=0)), await_event(die), close()]
    with FaultServer(*([dies] * 4), [reply()]) as server:
        asyncio.run(use(server))
        assert len(server.requests) == 8


NOT_ASKED_FOR = head(408, {"Connection": "close"}, length=3) + b"no!"


@pytest.mark.parametrize("unasked", [NOT_ASKED_FOR, b"oops\r\n"], ids=["HTTP", "no HTTP"])
@pytest.mark.parametrize("with_the_end", [True, False], ids=["with the end", "while idle"])
def test_what_comes_after_an_answer_answers_no_other_request(
    with_the_end: bool, unasked: bytes, transport: AiohttpTransport
) -> None:
    begun, idle, said = threading.Event(), threading.Event(), threading.Event()
    end = [send(b"}" + unasked)] if with_the_end else [send(b"}"), await_event(idle)]
    later = [] if with_the_end else [send(unasked)]
    start = head(200, {"Content-Type": "text/event-stream"}, length=2) + b"{"
    script = [receive(), send(start), await_event(begun), *end, *later, signal(said), stall()]

    async def use(server: FaultServer) -> None:
        body = body_of(await transport.send(post(server.url, stream=True), Deadline(20)))
        assert await body.read(Deadline(20)) == b"{"
        begun.set()
        assert await body.read(Deadline(20)) == b"}"
        assert await body.read(Deadline(20)) == b""
        idle.set()
        await in_thread(said.wait, 10)
        second = await call(transport, server.url)
        assert (second.status, second.body) == (200, b"[]")

    with FaultServer(script, [reply(b"[]")]) as server:
        asyncio.run(use(server))


def test_a_hundred_calls_at_once_wait_for_no_connection(transport: AiohttpTransport) -> None:
    everybody = threading.Event()

    async def crowd(server: FaultServer) -> None:
        calls = [asyncio.create_task(call(transport, server.url)) for _ in range(100)]
        await in_thread(server.await_requests, 100)
        everybody.set()
        assert {response.status for response in await asyncio.gather(*calls)} == {200}

    script = [receive(), await_event(everybody), send(head(length=2), b"{}"), stall()]
    with FaultServer(script) as server:
        asyncio.run(crowd(server))


def test_no_cookie_is_kept(transport: AiohttpTransport) -> None:
    async def twice(server: FaultServer) -> None:
        await call(transport, server.url)
        await call(transport, server.url)

    with FaultServer([reply(headers={"Set-Cookie": "a=b"}), reply()]) as server:
        asyncio.run(twice(server))
        assert "cookie" not in server.requests[1].headers


def test_netrc_is_not_read(
    transport: AiohttpTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with FaultServer([reply()]) as server:
        asyncio.run(transport.send(post(server.url, Authorization="Bearer k"), Deadline(20)))
        assert server.requests[0].headers["authorization"] == "Bearer k"


def test_a_ten_megabyte_prompt_is_sent_whole(transport: AiohttpTransport) -> None:
    request_body = "é" * 5_000_000
    with FaultServer([reply()]) as server:
        request = final("POST", server.url, "/", json=request_body)
        assert asyncio.run(transport.send(request, Deadline(30))).status == 200
        assert server.requests[0].body == f'"{request_body}"'.encode()
        assert server.requests[0].headers["content-type"] == "application/json"


def test_a_connection_that_has_not_taken_the_whole_request_carries_no_other(
    transport: AiohttpTransport,
) -> None:
    over = threading.Event()

    async def twice(server: FaultServer) -> None:
        request = final("POST", server.url, "/", json="x" * 30_000_000)
        assert (await transport.send(request, Deadline(30))).status == 413
        assert (await call(transport, server.url)).status == 200
        over.set()

    early = [send(head(413, length=2), b"{}"), await_event(over)]
    with FaultServer(early, [reply()]) as server:
        asyncio.run(twice(server))
        assert len(server.peers) == 2


def test_a_changed_header_is_sent_and_the_length_is_the_bodys_own(
    transport: AiohttpTransport,
) -> None:
    async def thrice(server: FaultServer) -> None:
        for key in ("a", "a", "b"):
            wrong = {"Content-Length": "3", "transfer-encoding": "chunked", "content-type": "x/y"}
            request = final("POST", server.url, "/", json=[key], headers={"K": key, **wrong})
            await transport.send(request, Deadline(20))

    with FaultServer([reply(), reply(), reply()]) as server:
        asyncio.run(thrice(server))
        assert [each.headers["k"] for each in server.requests] == ["a", "a", "b"]
        assert [each.body for each in server.requests] == [b'["a"]', b'["a"]', b'["b"]']
        for each in server.requests:
            assert each.headers["content-type"] == "x/y"
            assert each.headers["content-length"] == "5"
            assert "transfer-encoding" not in each.headers


@pytest.mark.parametrize("method, length", [("GET", None), ("POST", "0")])
def test_a_request_without_a_body_says_so_where_one_is_expected(
    transport: AiohttpTransport, method: str, length: str | None
) -> None:
    with FaultServer([reply()]) as server:
        asyncio.run(transport.send(final(method, server.url, "/"), Deadline(20)))
        assert server.requests[0].headers.get("content-length") == length


def test_what_is_no_method_is_refused() -> None:
    with pytest.raises(InputError, match="HTTP method"):
        final("GET / HTTP/1.1\r\nX:", "http://127.0.0.1:1", "/")


def test_an_answer_that_changes_the_protocol_is_refused(transport: AiohttpTransport) -> None:
    switch = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"
    with FaultServer([receive(), send(switch), stall()]) as server:
        with pytest.raises(ConnectionFailedError, match="101") as caught:
            asyncio.run(call(transport, server.url))
        assert not caught.value.retryable
        server.await_hang_up()


def test_a_stream_of_many_chunks_arrives_whole_in_flat_memory(
    transport: AiohttpTransport,
) -> None:
    event = chunk(b'data: {"choices":[{"text":"x"}]}\n\n') * 1000

    async def consume(server: FaultServer) -> int:
        body = body_of(await transport.send(post(server.url, stream=True), Deadline(60)))
        size = 0
        while piece := await body.read(Deadline(60)):
            size += len(piece)
        return size

    with FaultServer([receive(), send(head(200, SSE), *[event] * 50, chunk(b""))]) as server:
        tracemalloc.start()
        try:
            assert asyncio.run(consume(server)) == 34 * 50_000
            assert tracemalloc.get_traced_memory()[1] < 8_000_000
        finally:
            tracemalloc.stop()


def test_a_bomb_in_a_stream_is_unpacked_a_piece_at_a_time(transport: AiohttpTransport) -> None:
    headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}

    async def first_pieces(server: FaultServer) -> int:
        body = body_of(await transport.send(post(server.url, stream=True), Deadline(60)))
        tracemalloc.start()
        try:
            for _ in range(100):
                assert len(await body.read(Deadline(60))) <= 65536
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
            body.close()

    with FaultServer([reply(gzip.compress(b"\0" * 100_000_000), headers=headers)]) as server:
        assert asyncio.run(first_pieces(server)) < 4_000_000


# -- what never reaches the service --------------------------------------------------------------


def test_a_refused_connection_is_retryable(transport: AiohttpTransport) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailedError, match="cannot connect") as caught:
        asyncio.run(call(transport, f"http://127.0.0.1:{port}"))
    assert caught.value.retryable
    assert caught.value.host == f"127.0.0.1:{port}"


def test_an_unknown_host_is_named(transport: AiohttpTransport) -> None:
    with pytest.raises(ConnectionFailedError, match=r"no-such-host\.invalid") as caught:
        asyncio.run(call(transport, "http://no-such-host.invalid"))
    assert caught.value.retryable
    assert caught.value.max_retries == 1  # type: ignore[attr-defined]


def test_a_resolver_that_hangs_holds_up_neither_the_call_nor_the_end_of_the_loop(
    transport: AiohttpTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: free.wait(30))
    began = time.monotonic()
    try:
        with pytest.raises(RequestTimeoutError):
            asyncio.run(call(transport, "http://slow.invalid", timeout=0.2))
        assert time.monotonic() - began < 5
    finally:
        free.set()


def test_without_time_left_no_socket_is_opened(transport: AiohttpTransport) -> None:
    with FaultServer([reply()]) as server:
        with pytest.raises(RequestTimeoutError):
            asyncio.run(call(transport, server.url, timeout=0))
        assert not server.peers


@pytest.mark.parametrize(
    "url",
    [
        "127.0.0.1:1/v1",
        "file:///etc/passwd",
        "http://",
        "http://me:pw@127.0.0.1:1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:1/?key=pw",
        "http://[bad",
    ],
)
def test_a_base_url_that_cannot_be_used_is_refused(transport: AiohttpTransport, url: str) -> None:
    with pytest.raises(InputError) as caught:
        asyncio.run(call(transport, url))
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["a\r\nX: y", "sk-\x00", "ключ"], ids=["line break", "NUL", "beyond ASCII"]
)
def test_a_header_that_cannot_be_sent_is_refused(value: str) -> None:
    with pytest.raises(InputError, match="Authorization") as caught:
        post("http://127.0.0.1:1", Authorization=value)
    assert value not in str(caught.value)


def test_a_body_that_is_not_json_is_refused_without_a_quote() -> None:
    with pytest.raises(InputError, match="lone surrogate") as caught:
        final("POST", "http://127.0.0.1:1", "/", json={"prompt": "secret \ud800"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "verify, message",
    [(False, "always verified"), ("/no/such/bundle.pem", "/no/such/bundle.pem")],
    ids=["off", "missing"],
)
def test_a_bundle_that_cannot_be_trusted_is_refused(verify: bool | str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AiohttpTransport(TransportOptions(verify=verify))


# -- proxies -------------------------------------------------------------------------------------


def through(
    monkeypatch: pytest.MonkeyPatch, scheme: str, proxy: str
) -> Callable[[str], Awaitable[HTTPResponse]]:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    transport = AiohttpTransport(TransportOptions())
    return lambda url: call(transport, url)


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([reply()]) as proxy:
        ask = through(monkeypatch, "http", proxy.url.replace("//", "//me:pw@"))
        assert asyncio.run(ask("http://service.invalid")).status == 200  # type: ignore[arg-type]
        request = proxy.requests[0]
        assert request.path == "http://service.invalid/v1"
        assert request.headers["proxy-authorization"] == "Basic bWU6cHc="
        assert "authorization" not in request.headers


@pytest.mark.parametrize("entry", ["127.0.0.1", "127.0.0.0/8", "*"])
def test_no_proxy_is_obeyed(monkeypatch: pytest.MonkeyPatch, entry: str) -> None:
    monkeypatch.setenv("no_proxy", entry)
    with FaultServer([reply()]) as proxy, FaultServer([reply()]) as server:
        ask = through(monkeypatch, "http", proxy.url)
        assert asyncio.run(ask(server.url)).status == 200  # type: ignore[arg-type]
        assert not proxy.peers


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_that_wants_a_password_is_final(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    with FaultServer([reply(b"", 407)]) as proxy:
        ask = through(monkeypatch, scheme, proxy.url)
        with pytest.raises(ConnectionFailedError, match="407") as caught:
            asyncio.run(ask(f"{scheme}://service.invalid"))  # type: ignore[arg-type]
    assert not caught.value.retryable


def test_a_proxy_that_we_do_not_speak_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    ask = through(monkeypatch, "http", "socks5://127.0.0.1:1")
    with pytest.raises(ConfigError, match="socks5"):
        asyncio.run(ask("http://service.invalid"))  # type: ignore[arg-type]
