"""A stream that breaks or stalls, for plugins that do not look: typed, and tried again in time."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.fault_server import FaultServer, Script, chunk, close, head, receive, reset, stall
from support.fault_server import send as say

from lmgateway import LM, hookimpl
from lmgateway._layers import retry
from lmgateway.errors import (
    ConnectionFailedError,
    LMGatewayError,
    RequestTimeoutError,
    ResponseFormatError,
    StreamInterruptedError,
    StreamStalledError,
)
from lmgateway.testing import lm_from
from lmgateway.types import Answer, Blocking, Emit, Flow, HTTPRequest, Request, kept, read, send

LONG = 30.0
STREAM = head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No attempt waits for its turn."""
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.0)


class Reader:
    """A plugin that reads a stream and thinks of nothing else."""

    def __init__(self, exchange: Any, *, keeps: bool = False, told: Any = None) -> None:
        self.exchange = exchange
        self.keeps = keeps
        self.told = told

    def flow(self, request: Request) -> Flow[str]:
        head = yield from send(self.exchange)
        text = ""
        try:
            while piece := (yield from read(head)):
                text += piece.decode()
                if request.stream:
                    yield Emit(piece.decode())
        except (ConnectionFailedError, RequestTimeoutError):
            if self.told is None:
                raise
            raise self.told from None
        return text

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        flow = self.flow(request)
        text = yield from kept({"q": request.prompt}, flow) if self.keeps else flow
        return {"prompt": "", "choices": [{"text": text}]}

    lmgateway_complete = lmgateway_stream


def over_http(server: FaultServer) -> HTTPRequest:
    return HTTPRequest("POST", server.url, "/v1", json={}, stream=True)


def outcome(lm: LM, way: str) -> LMGatewayError:
    async def astream() -> None:
        async for _ in lm.astream("q"):
            pass

    async def acomplete() -> None:
        await lm.acomplete("q")

    ways: dict[str, Callable[[], Any]] = {
        "stream": lambda: list(lm.stream("q")),
        "astream": lambda: asyncio.run(astream()),
        "complete": lambda: lm.complete("q"),
        "acomplete": lambda: asyncio.run(acomplete()),
    }
    with pytest.raises(LMGatewayError) as caught:
        ways[way]()
    return caught.value


WAYS = ["stream", "astream", "complete", "acomplete"]

FIRST: list[Any] = [receive(), say(STREAM)]


@pytest.mark.loopback
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("keeps", [False, True], ids=["plain", "kept"])
@pytest.mark.parametrize(
    "script, kind",
    [
        pytest.param([*FIRST, reset()], StreamInterruptedError, id="reset"),
        pytest.param([*FIRST, close()], StreamInterruptedError, id="closed"),
        pytest.param([*FIRST, stall()], StreamStalledError, id="stalled"),
    ],
)
def test_before_its_first_piece_it_is_tried_again(
    script: Script, kind: type[LMGatewayError], keeps: bool, way: str
) -> None:
    with FaultServer(script) as server:
        plugin = Reader(over_http(server), keeps=keeps)
        options = {"idle_timeout": 0.2} if kind is StreamStalledError else {}
        with lm_from(plugin, model="m", retries=1, timeout=LONG, **options) as lm:
            error = outcome(lm, way)
        assert len(server.requests) == 2
    assert type(error) is kind
    assert (error.retryable, error.partial, error.attempt) == (True, None, 2)
    assert isinstance(error.__cause__, ConnectionFailedError | RequestTimeoutError)


@pytest.mark.loopback
@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize(
    "end, kind",
    [(reset(), StreamInterruptedError), (stall(), StreamStalledError)],
    ids=["reset", "stalled"],
)
def test_after_its_first_piece_it_is_not_tried_again(
    end: Any, kind: type[LMGatewayError], way: str
) -> None:
    with FaultServer([*FIRST, say(chunk(b"Par")), end]) as server:
        plugin = Reader(over_http(server))
        options = {"idle_timeout": 0.2} if kind is StreamStalledError else {}
        with lm_from(plugin, model="m", retries=2, timeout=LONG, **options) as lm:
            error = outcome(lm, way)
        assert len(server.requests) == 1
    assert type(error) is kind
    assert (error.retryable, error.partial) == (False, "Par")


@pytest.mark.loopback
@pytest.mark.parametrize("way", WAYS)
def test_the_deadline_of_the_call_ends_all_attempts(way: str) -> None:
    with FaultServer([*FIRST, stall()]) as server:
        with lm_from(Reader(over_http(server)), model="m", retries=2, timeout=0.3) as lm:
            error = outcome(lm, way)
        assert len(server.requests) == 1
    assert type(error) is StreamStalledError
    assert not error.retryable


@pytest.mark.loopback
@pytest.mark.parametrize("way", WAYS)
def test_a_connection_that_is_never_made_is_no_stream(way: str) -> None:
    with FaultServer([receive(), reset()]) as server:
        with lm_from(Reader(over_http(server)), model="m", retries=1, timeout=LONG) as lm:
            error = outcome(lm, way)
        assert len(server.requests) >= 2
    assert type(error) is ConnectionFailedError


@pytest.mark.loopback
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "told, kind, requests",
    [
        pytest.param(StreamInterruptedError("mine"), StreamInterruptedError, 2, id="interrupted"),
        pytest.param(StreamStalledError("mine"), StreamStalledError, 2, id="stalled"),
        pytest.param(ConnectionFailedError("mine"), StreamInterruptedError, 2, id="connection"),
        pytest.param(ResponseFormatError("mine"), ResponseFormatError, 1, id="something else"),
    ],
)
def test_what_a_plugin_makes_of_it_is_heeded(
    told: LMGatewayError, kind: type[LMGatewayError], requests: int, way: str
) -> None:
    with FaultServer([*FIRST, reset()]) as server:
        plugin = Reader(over_http(server), told=told)
        with lm_from(plugin, model="m", retries=1, timeout=LONG) as lm:
            error = outcome(lm, way)
        assert len(server.requests) == requests
    assert type(error) is kind
    assert "mine" in error.message


# -- work in the process -----------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "raised, kind",
    [
        (ConnectionFailedError("gone"), StreamInterruptedError),
        (StreamInterruptedError("gone"), StreamInterruptedError),
        (RequestTimeoutError("idle"), StreamStalledError),
    ],
    ids=["connection", "interrupted", "stalled"],
)
def test_work_that_breaks_off_its_stream(
    raised: LMGatewayError, kind: type[LMGatewayError], way: str
) -> None:
    runs: list[int] = []

    def work(push: Any) -> None:
        runs.append(1)
        raise type(raised)(raised.message)

    with lm_from(Reader(Blocking(work, stream=True)), model="m", retries=1) as lm:
        error = outcome(lm, way)
    assert type(error) is kind
    assert error.retryable is (kind is StreamInterruptedError)
    assert len(runs) == (2 if error.retryable else 1)


@pytest.mark.parametrize("way", WAYS)
def test_work_that_stalls_until_the_deadline(way: str) -> None:
    over = threading.Event()

    def work(push: Any) -> None:
        over.wait(LONG)

    plugin = Reader(Blocking(work, stream=True))
    try:
        with lm_from(plugin, model="m", retries=2, timeout=0.2) as lm:
            error = outcome(lm, way)
    finally:
        over.set()
    assert type(error) is StreamStalledError
    assert not error.retryable
