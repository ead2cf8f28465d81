"""The network's rows, end to end."""

from __future__ import annotations

import asyncio
import gzip
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
from faults.play import (
    CHUNKED,
    DONE,
    JSON,
    KEY,
    MODES,
    PLAIN,
    PROMPT,
    SLACK,
    SSE,
    STREAMS,
    TEXT,
    Case,
    Mode,
    answer,
    check_words,
    event,
    events,
    fine,
    lm_at,
    params,
    play,
    row,
    streamed,
    whole,
)
from support.fault_server import (
    FaultServer,
    Peer,
    Script,
    Step,
    chunk,
    close,
    drip,
    head,
    receive,
    reset,
    send,
    stall,
)
from transports.checking import Authority

from lmgateway.errors import (
    ConnectionFailedError,
    ContextLengthError,
    InvalidRequestError,
    LMGatewayError,
    RateLimitError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
    StreamInterruptedError,
    StreamStalledError,
)

pytestmark = pytest.mark.loopback

START = receive()
OPEN = head(200, SSE | CHUNKED)
PIECE = chunk(event(TEXT[:2]))
SLOW_HEAD = b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000


def is_answer(completion: Any) -> bool:
    """Whether it is the right one."""
    return bool(completion["choices"][0]["text"] == TEXT)


def lost(row: str, what: str, *steps: Step, modes: Any = tuple(MODES)) -> Case:
    """Worth another try."""
    return Case(row, [START, *steps], ConnectionFailedError, what, 2, modes, within=SLACK)


def lost_stream(row: str, what: str, *steps: Step) -> Case:
    """The connection of a stream breaks before its first piece: nothing is lost yet."""
    return Case(row, [START, *steps], StreamInterruptedError, what, 2, STREAMS, within=SLACK)


BROKEN = [
    lost("reset before the head", "", reset()),
    lost("reset in the body", "length", send(head(200, JSON, length=99), b"{"), reset(),
         modes=PLAIN),
    lost("reset in the body", "chunk", send(head(200, JSON | CHUNKED), b"9\r\n{"), reset(),
         modes=PLAIN),
    lost_stream("reset in the body", "before a piece", send(OPEN), reset()),
    lost("closed in the body", "short Content-Length", send(head(200, JSON, length=99), b"{"),
         modes=PLAIN),
    lost("closed in the body", "cut chunk", send(head(200, JSON | CHUNKED), b"a\r\nfive!"),
         modes=PLAIN),
    lost("closed in the body", "no last chunk", send(streamed(b"{}", end=False)), modes=PLAIN),
    lost_stream("closed in the body", "before a piece", send(OPEN + b"ff\r\ndata: ")),
    lost("closed in the headers", "status line", send(b"HTTP/1.1 20")),
    lost("closed in the headers", "between two", send(b"HTTP/1.1 200 OK\r\nDate: x\r\n")),
    lost("closed in the headers", "in one", send(b"HTTP/1.1 200 OK\r\nContent-Le")),
    lost("closed after the POST arrived", "", close()),
]  # fmt: skip


def late(row: str, what: str, *steps: Step, modes: Any = tuple(PLAIN)) -> Case:
    """Ended by the deadline, and not tried again: there is no time left."""
    return Case(row, [START, *steps], RequestTimeoutError, what, 0, modes, ("0.3 s",),
                {"timeout": 0.3}, within=0.3 + SLACK)  # fmt: skip


def interrupted(partial: str) -> Callable[[Any], bool]:
    """A judge of what had come of a stream."""
    return lambda error: bool(error.partial == partial and not error.retryable)


def stalled(what: str, *steps: Step, **options: Any) -> Case:
    """A stream that stalls after its first piece."""
    script = [START, send(OPEN, PIECE), *steps]
    return Case("stream stalls", script, StreamStalledError, what, 0, STREAMS, ("0.3 s",),
                options, more=interrupted(TEXT[:2]), within=0.3 + SLACK)  # fmt: skip


LATE = [
    late("head or body stalls", "head", stall()),
    late("head or body stalls", "in the head", send(SLOW_HEAD), stall()),
    late("head or body stalls", "body", send(head(200, JSON, length=9), b"{"), stall()),
    late("a byte now and then for ever", "head", drip(SLOW_HEAD, 0.05)),
    late("a byte now and then for ever", "body", send(head(200, JSON, length=999)),
         drip(b" " * 999, 0.05)),
    stalled("idle_timeout", stall(), idle_timeout=0.3),
    stalled("timeout", stall(), timeout=0.3),
    stalled("a byte now and then", drip(chunk(b": ping\n\n") * 99, 0.02), timeout=0.3),
]  # fmt: skip


def cut(what: str, *steps: Step, partial: str = TEXT[:2]) -> Case:
    """A stream that ends without its end mark, after a piece."""
    return Case("stream ends without its end mark", [START, *steps], StreamInterruptedError, what,
                0, STREAMS, more=interrupted(partial), within=SLACK)  # fmt: skip


CUT = [
    cut("reset", send(OPEN, PIECE), reset()),
    cut("closed", send(OPEN, PIECE)),
    cut("closed in a chunk", send(OPEN, PIECE, b"ff\r\ndata: {")),
    cut("ended well, with nothing more", send(streamed(event(TEXT[:2])))),
    cut("until close", send(head(200, SSE), event(TEXT[:2]))),
    cut("usage missing", send(streamed(*events()[:3])), partial=TEXT),
]  # fmt: skip


def fault_in_stream(
    what: str, error: Any, right: type[LMGatewayError], retried: int, *before: bytes
) -> Case:
    """An error object inside a 200 stream."""
    data = b"data: " + (error if isinstance(error, bytes) else b'{"error": %s}' % error.encode())
    script = [START, send(streamed(*before, data + b"\n\n", DONE))]
    partial = TEXT[:2] if before else None
    return Case("an error object inside a 200 stream", script, right, what, retried, STREAMS,
                ("request id req-77",), more=lambda e: bool(e.partial == partial))  # fmt: skip


IN_STREAM = [
    fault_in_stream("429 before a piece", '{"message": "slow", "code": 429}', RateLimitError, 2),
    fault_in_stream("overloaded after a piece", '{"message": "x", "type": "overloaded_error"}',
                    ServerError, 0, event(TEXT[:2])),
    fault_in_stream("context length", '{"message": "long", "code": "context_length_exceeded"}',
                    ContextLengthError, 0),
    fault_in_stream("a bare text", '"out of memory"', ServerError, 2),
    fault_in_stream("of type error", b'{"object": "error", "message": "no", "code": 400}\n\n'
                    b"data: x", InvalidRequestError, 0),
]  # fmt: skip

CERTIFICATES = [
    Case("bad, expired or wrong-host certificate", [receive()], ConnectionFailedError, what,
         mentions=("certificate",), certificate=what, within=SLACK,
         more=lambda error: "verify=False" not in str(error) and "turn" not in str(error))
    for what in ("untrusted", "expired", "wrong host")
]  # fmt: skip
CERTIFICATES.append(
    Case("plain HTTP on a TLS port", [send(head(400, length=0)), close()], ConnectionFailedError,
         mentions=("TLS",), certificate="plain", within=SLACK)
)  # fmt: skip


def capped(row: str, what: str, data: bytes, right: Any = ResponseFormatError) -> Case:
    """Refused at the cap."""
    return Case(row, [START, send(data), stall()], right, what, 0, PLAIN, ("max_body",),
                {"max_body": 100_000})  # fmt: skip


LARGE = b" " * 100_001
BOMB = gzip.compress(b" " * 50_000_000)
CAPPED = [
    capped("body larger than the cap", "by its length", head(200, JSON, length=100_001)),
    capped("body larger than the cap", "in chunks", head(200, JSON | CHUNKED) + chunk(LARGE)),
    capped("body larger than the cap", "until close", head(200, JSON) + LARGE),
    capped("body larger than the cap", "of an error", head(500, JSON) + LARGE, ServerError),
    capped("a gzip bomb", "", whole(BOMB, headers={"Content-Encoding": "gzip"})),
]


def as_the_standard_says(what: str, stream: bytes, *, split: bool = False) -> Case:
    """A stream in one of its forms."""
    pieces = [stream[n : n + 1] for n in range(len(stream))] if split else [stream]
    script: Script = [START, send(head(200, SSE | CHUNKED)), send(*map(chunk, [*pieces, b""]))]
    return Case("stream in any form that SSE allows", script, is_answer, what, 0, STREAMS)


EVENTS = b"".join(events())
SPREAD = EVENTS.replace(b"data: {", b"data: {\ndata: ")
FORMS = [
    as_the_standard_says("LF", EVENTS),
    as_the_standard_says("CRLF", EVENTS.replace(b"\n", b"\r\n")),
    as_the_standard_says("CR", EVENTS.replace(b"\n", b"\r")),
    as_the_standard_says("a byte order mark", b"\xef\xbb\xbf" + EVENTS),
    as_the_standard_says("comments", b": ping\n\n" + EVENTS.replace(b"\n\n", b"\n:\n\n: a\n")),
    as_the_standard_says("event and id", EVENTS.replace(b"data", b"event: message\nid: 1\ndata")),
    as_the_standard_says("data in several lines", SPREAD),
    as_the_standard_says("no space after the colon", EVENTS.replace(b"data: ", b"data:")),
    as_the_standard_says("split at every byte", EVENTS, split=True),
    as_the_standard_says("CRLF, split at every byte", SPREAD.replace(b"\n", b"\r\n"), split=True),
]

CASES = [*BROKEN, *LATE, *CUT, *IN_STREAM, *CERTIFICATES, *CAPPED, *FORMS]


@pytest.mark.parametrize("case, mode", params("Network", CASES))
def test_network(case: Case, mode: Mode, authority: Authority) -> None:
    play(case, mode, authority)


# -- what has no server of its own, or needs more than one call ----------------------------------


@row("Network", "refused")
def test_refused(mode: Mode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        host = f"127.0.0.1:{closed.getsockname()[1]}"
    with lm_at(f"http://{host}", mode) as lm, pytest.raises(ConnectionFailedError) as caught:
        mode.ask(lm, PROMPT)
    assert caught.value.attempt == 3
    check_words(caught.value, host)


@row("Network", "connect timeout", PLAIN)
def test_connect_timeout(mode: Mode) -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)  # takes one connection; the next are not even answered
        for taken in (first, second):
            taken.setblocking(False)
            taken.connect_ex(full.getsockname())
        host = f"127.0.0.1:{full.getsockname()[1]}"
        with (
            lm_at(f"http://{host}", mode, connect_timeout=0.1, retries=1) as lm,
            pytest.raises(ConnectionFailedError, match=r"0\.1 s") as caught,
        ):
            mode.ask(lm, PROMPT)
    assert caught.value.attempt == 2
    check_words(caught.value, host)


@row("Network", "DNS failure")
def test_dns_failure(mode: Mode) -> None:
    with (
        lm_at("http://no-such-host.invalid/v1", mode) as lm,
        pytest.raises(ConnectionFailedError, match=r"no-such-host\.invalid cannot be") as caught,
    ):
        mode.ask(lm, PROMPT)
    assert caught.value.attempt == 2
    check_words(caught.value)


def ending(step: Step, ended: threading.Event) -> Step:
    """End the connection, and say that it has ended."""

    def end(peer: Peer) -> None:
        try:
            step(peer)
        finally:
            ended.set()

    return end


def ask_twice(lm: Any, mode: Mode, ended: threading.Event) -> tuple[Any, Any]:
    """Two calls in one event loop, where there is one: a connection belongs to its loop."""
    if mode.transport is None:
        one = mode.ask(lm, "one")
        assert ended.wait(SLACK)
        return one, mode.ask(lm, "two")

    async def ask(prompt: str) -> Any:
        if mode.shape == "plain":
            return await lm.acomplete(prompt)
        async with lm.astream(prompt) as stream:
            async for _ in stream:
                pass
        return stream.completion

    async def main() -> tuple[Any, Any]:
        one = await ask("one")
        assert ended.wait(SLACK)  # the loop stands still, and hears of nothing
        return one, await ask("two")

    return asyncio.run(main())


@row("Network", "an idle kept-alive connection was closed by the server")
@pytest.mark.parametrize("how", [close, reset])
def test_idle_connection(mode: Mode, how: Callable[[], Step]) -> None:
    ended = threading.Event()
    script = [fine(), ending(how(), ended)]
    with FaultServer(script, [fine()]) as server, lm_at(server.url, mode, retries=0) as lm:
        one, two = ask_twice(lm, mode, ended)
        assert len(server.requests) == 2
        assert len(server.peers) == 2
    assert is_answer(one)
    assert is_answer(two)


@row("Network", "an idle kept-alive connection was closed by the server", PLAIN)
@pytest.mark.parametrize("how", [close, reset])
def test_idle_connection_that_ends_when_it_is_used(mode: Mode, how: Callable[[], Step]) -> None:
    asked = threading.Event()
    asked.set()
    with (
        FaultServer([fine(), START, how()], [fine()]) as server,
        lm_at(server.url, mode, retries=0) as lm,
    ):
        one, two = ask_twice(lm, mode, asked)
        assert [each.connection for each in server.requests] == [0, 0, 1]
    assert is_answer(one)
    assert is_answer(two)


@row("Network", "stream of 100,000 chunks", STREAMS[:1])
def test_many_chunks(mode: Mode) -> None:
    pieces = [event(f"{n} ") for n in range(100_000)]
    with (
        FaultServer([START, send(OPEN, *map(chunk, [*pieces, *events(), b""]))]) as server,
        lm_at(server.url, mode) as lm,
    ):
        text = mode.ask(lm, PROMPT)["choices"][0]["text"]
    assert text == "".join(f"{n} " for n in range(100_000)) + TEXT


@row("Network", "stream ends without its end mark", STREAMS)
def test_a_cut_stream_is_not_cached(mode: Mode) -> None:
    with (
        FaultServer([START, send(OPEN, PIECE)], [fine()]) as server,
        lm_at(server.url, mode, cache=True) as lm,
    ):
        with pytest.raises(StreamInterruptedError):
            mode.ask(lm, PROMPT)
        first, second = mode.ask(lm, PROMPT), mode.ask(lm, PROMPT)
        assert len(server.requests) == 2
    assert (first["cached"], second["cached"]) == (False, True)
    assert is_answer(first)
    assert is_answer(second)


@row("Network", "proxy refuses with 407", PLAIN)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy(mode: Mode, scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = send(head(407, {"Proxy-Authenticate": "Basic"}, length=0))
    with FaultServer([START, refusal]) as proxy:
        for name in ("no_proxy", "NO_PROXY", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        for name in (f"{scheme}_proxy", f"{scheme.upper()}_PROXY"):
            monkeypatch.setenv(name, f"http://me:{KEY}@{proxy.host}")
        with (
            lm_at(f"{scheme}://{mode.name}.example/v1", mode) as lm,
            pytest.raises(ConnectionFailedError, match="407") as caught,
        ):
            mode.ask(lm, PROMPT)
        assert len(proxy.requests) == 1
    assert caught.value.attempt == 1
    check_words(caught.value)


def test_a_right_answer_is_right(authority: Authority) -> None:
    """What the cases above are measured against, TLS included."""
    for mode in MODES:
        script = [START, send(whole(answer()) if mode.shape == "plain" else streamed(*events()))]
        play(Case("", script, is_answer), mode, authority)
