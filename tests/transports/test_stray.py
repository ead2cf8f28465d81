"""What a server says unasked is nobody's answer: it is dropped together with its connection.

A table over every transport, plain and with TLS: what was asked first, what came unasked, when.
"""

from __future__ import annotations

import select
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from time import monotonic

import pytest
from support.fault_server import (
    FaultServer,
    Script,
    Step,
    await_event,
    chunk,
    head,
    receive,
    reply,
    send,
    signal,
    stall,
    start_tls,
)
from support.relay import tls_proxy

from lmgateway._transports.protocols import TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway._transports.silence import acknowledge, is_readable, is_silent
from lmgateway.types import HTTPRequest
from transports.checking import Answer, Authority, Client
from transports.sending import final
from transports.test_async_contract import open_aiohttp, open_threads
from transports.test_requests_contract import open_client as open_requests

pytestmark = pytest.mark.loopback

Open = Callable[[TransportOptions], AbstractContextManager[Client]]

TRANSPORTS: dict[str, Open] = {
    "requests": open_requests,
    "threads": open_threads,
    "aiohttp": open_aiohttp,
}
CHUNKED = {"Transfer-Encoding": "chunked"}
SSE = {"Content-Type": "text/event-stream"}
TIMEOUT = 20.0
SECOND = Answer(200, b"[2]")


@dataclass(frozen=True)
class First:
    """An exchange that goes well.

    Attributes:
        sent: What the server answers, byte for byte.
        answer: What the client makes of it.
        method: Of the request.
        stream: Whether a stream is asked for.
    """

    sent: bytes
    answer: Answer
    method: str = "POST"
    stream: bool = False


_EVENTS = b"data: one\n\ndata: [DONE]\n\n"

FIRST = {
    "a length": First(head(length=3) + b"[1]", Answer(200, b"[1]")),
    "a large body": First(head(length=300_000) + b"x" * 300_000, Answer(200, b"x" * 300_000)),
    "chunks": First(head(200, CHUNKED) + chunk(b"[1]") + chunk(b""), Answer(200, b"[1]")),
    "no body": First(head(length=0), Answer(200, b"")),
    "an error": First(head(503, length=2) + b"no", Answer(503, b"no")),
    "an interim head": First(head(100) + head(length=3) + b"[1]", Answer(200, b"[1]")),
    "204": First(head(204), Answer(204, b"")),
    "HEAD": First(head(length=3), Answer(200, b""), method="HEAD"),
    "a stream": First(
        head(200, SSE | CHUNKED) + chunk(_EVENTS) + chunk(b""),
        Answer(200, _EVENTS, streamed=True),
        stream=True,
    ),
    "a stream with a length": First(
        head(200, SSE, length=len(_EVENTS)) + _EVENTS,
        Answer(200, _EVENTS, streamed=True),
        stream=True,
    ),
}

UNASKED = {
    "an answer": head(length=7) + b'"rogue"',
    "half an answer": head(length=7) + b'"ro',
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "a letter": b"H",
    "an interim head": head(100),
    "a proxy's 408": head(408, {"Connection": "close"}, length=3) + b"no!",
    "two answers": 2 * (head(length=7) + b'"rogue"'),
    "a line break": b"\r\n",
    "no HTTP": b"oops\r\n\r\n",
}

# Every first exchange with two kinds of words after it, and every kind after one exchange.
PAIRS = [
    (first, unasked)
    for first in FIRST
    for unasked in UNASKED
    if first == "a length" or unasked in ("an answer", "half a head")
]

# In one packet with an answer, aiohttp's parser takes what is no HTTP for damage to the answer,
# and passes over an empty line, as servers must.
NOT_IN_ONE_PACKET = {"no HTTP", "a line break"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@contextmanager
def served(
    authority: Authority | None, open_client: Open, *scripts: Script
) -> Iterator[tuple[FaultServer, Client, str]]:
    """A server that plays these scripts, a client of it, and the base URL."""
    options = TransportOptions()
    if authority is not None:
        options = replace(options, verify=authority.bundle)
        scripts = tuple([start_tls(authority.context("good")), *script] for script in scripts)
    with ExitStack() as stack:
        server = stack.enter_context(FaultServer(*scripts))
        client = stack.enter_context(open_client(options))
        yield server, client, server.url if authority is None else server.tls_url


def request(url: str, first: First | None = None) -> HTTPRequest:
    method, stream = (first.method, first.stream) if first else ("POST", False)
    body = None if method == "HEAD" else {"prompt": "Hi"}
    return final(method, url, "/v1", json=body, stream=stream)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("in_one_packet", [True, False], ids=["with the end", "later"])
@pytest.mark.parametrize("first, unasked", PAIRS)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_what_comes_unasked_answers_no_request(
    transport: str, first: str, unasked: str, in_one_packet: bool, tls: bool, authority: Authority
) -> None:
    split = first != "HEAD" and unasked not in NOT_IN_ONE_PACKET
    if in_one_packet and transport == "aiohttp" and not split:
        pytest.skip("one packet of which the parser refuses the half")
    asked, answered, said = FIRST[first], threading.Event(), threading.Event()
    script: list[Step] = [receive(), send(asked.sent + UNASKED[unasked]), signal(said), stall()]
    if not in_one_packet:
        later = [await_event(answered), send(UNASKED[unasked]), signal(said)]
        script = [receive(), send(asked.sent), *later, stall()]
    with served(
        authority if tls else None, TRANSPORTS[transport], script, [reply(b"[2]"), stall()]
    ) as (server, client, url):
        assert client.exchange(request(url, asked), TIMEOUT) == asked.answer
        answered.set()
        assert said.wait(TIMEOUT)
        # An async client's loop stands still meanwhile, and has read nothing.
        assert client.exchange(request(url), TIMEOUT) == SECOND
        assert len(server.requests) == 2
        server.await_hang_up(0)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_connection_that_says_nothing_unasked_is_used_again(
    transport: str, first: str, tls: bool, authority: Authority
) -> None:
    asked = FIRST[first]
    script = [receive(), send(asked.sent)] * 2 + [reply(b"[2]")] * 3 + [stall()]
    with served(authority if tls else None, TRANSPORTS[transport], script) as served_by:
        server, client, url = served_by
        for _ in range(2):
            assert client.exchange(request(url, asked), TIMEOUT) == asked.answer
        for _ in range(3):
            assert client.exchange(request(url), TIMEOUT) == SECOND
        assert len(server.peers) == 1


# -- through a proxy, TLS within TLS -------------------------------------------------------------


@pytest.mark.parametrize("unasked", [b"", *UNASKED.values()], ids=["nothing", *UNASKED])
@pytest.mark.parametrize("transport", ["requests", "threads"])
def test_what_comes_unasked_within_two_layers_of_tls(
    transport: str, unasked: bytes, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, said = threading.Event(), threading.Event()
    later = [await_event(answered), send(unasked), signal(said)]
    script = [reply(b"[1]"), *later, reply(b"[2]"), stall()]
    with tls_proxy(authority.context("good")) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy)
        monkeypatch.setenv("NO_PROXY", "")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.bundle)
        scripts = [script, [reply(b"[2]"), stall()]]
        with served(authority, TRANSPORTS[transport], *scripts) as (server, client, url):
            assert client.exchange(request(url), TIMEOUT).body == b"[1]"
            answered.set()
            assert said.wait(TIMEOUT)
            if unasked:  # the proxy takes its time
                awaited = client.transport  # type: ignore[attr-defined]
                await_bytes(getattr(awaited, "transport", awaited))
            assert client.exchange(request(url), TIMEOUT) == SECOND
            assert len(server.peers) == (2 if unasked else 1)


def await_bytes(transport: RequestsTransport) -> None:
    """Wait until something has come on the one idle connection."""
    [target] = transport._targets.values()
    [connection] = target.pool.pool._items
    poll = select.poll()
    poll.register(connection.sock.socket, select.POLLIN)
    assert poll.poll(TIMEOUT * 1000)


# -- the look itself -----------------------------------------------------------------------------


@pytest.fixture
def shaken(authority: Authority) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Both ends of a TLS connection whose session tickets nobody has read yet."""
    ours, theirs = socket.socketpair()
    trusting = ssl.create_default_context(cafile=authority.bundle)
    context = authority.context("good")
    server = context.wrap_socket(theirs, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.do_handshake)
    thread.start()
    with trusting.wrap_socket(ours, server_hostname="localhost") as client, server:
        thread.join(TIMEOUT)
        yield client, server


def test_session_tickets_are_no_words(shaken: tuple[ssl.SSLSocket, ssl.SSLSocket]) -> None:
    client, _ = shaken
    assert client.version() == "TLSv1.3"
    assert is_readable(client)
    assert is_silent(client)
    assert not is_readable(client)


@pytest.mark.parametrize("words", [b"x", b"x" * 10_000])
def test_words_behind_session_tickets_are_heard(
    words: bytes, shaken: tuple[ssl.SSLSocket, ssl.SSLSocket]
) -> None:
    client, server = shaken
    server.sendall(words)
    assert not is_silent(client)


def test_what_tls_has_unpacked_already_is_heard(
    shaken: tuple[ssl.SSLSocket, ssl.SSLSocket],
) -> None:
    client, server = shaken
    server.sendall(b"two")
    assert client.recv(1) == b"t"
    assert not is_readable(client)
    assert not is_silent(client)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_an_end_is_heard_and_the_socket_still_blocks(
    tls: bool, shaken: tuple[ssl.SSLSocket, ssl.SSLSocket]
) -> None:
    client: socket.socket
    server: socket.socket
    client, server = shaken if tls else socket.socketpair()
    with client, server:
        assert is_silent(client)
        server.shutdown(socket.SHUT_RDWR)
        assert not is_silent(client)
        assert client.gettimeout() is None
        client.close()
        assert is_readable(client)
        assert not is_silent(client)


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="Linux has it")
def test_an_acknowledgement_waits_for_no_request() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            for _ in range(5):
                ours.sendall(b"?")
                theirs.recv(1)
                theirs.sendall(b"!")
                ours.recv(1)
            assert not ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            acknowledge(ours, monotonic())
            assert not ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
            acknowledge(ours, monotonic() - 1)
            assert ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK)
    acknowledge(ours, 0.0)  # closed by now
