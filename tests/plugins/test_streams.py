"""A stream that breaks before its first piece is asked for once more, whoever tells of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.fault_server import FaultServer, Step, receive, reset, send, stall

from lmgateway import LM, errors, get_lm, hookimpl
from lmgateway._layers import retry
from lmgateway.testing import lm_from
from lmgateway.types import Emit, HTTPRequest, Info, read
from lmgateway.types import send as exchange

pytestmark = pytest.mark.loopback

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
BREAKS: dict[str, list[Step]] = {
    "closed": [send(HEAD)],
    "reset": [send(HEAD), reset()],
    "ended": [send(HEAD + b"0\r\n\r\n")],
    "stalled": [send(HEAD), stall()],
}


class Acme:
    """Reads bytes until there are no more, and says nothing of errors."""

    def __init__(self, base: str) -> None:
        self.base = base

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        raise NotImplementedError

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Iterator[Any]:
        asked = HTTPRequest("POST", self.base, "/say", json={}, stream=True)
        response = yield from exchange(asked)
        text = ""
        while piece := (yield from read(response)):
            text += piece.decode()
            yield Emit(piece.decode())
        if not text.endswith("."):
            raise errors.StreamInterruptedError("the stream has no end")
        return {"prompt": request.input, "choices": [{"text": text}]}


def lm_at(name: str, url: str, **keywords: Any) -> LM:
    keywords = {"retries": 1, "cache": False, "timeout": 20, **keywords}
    if name == "acme":
        return lm_from(Acme(url), **keywords)
    return get_lm(name, model="m", api_base=url, api_key="k-00000000", **keywords)


def read_all(lm: LM, how: str) -> str:
    if how == "stream":
        with lm.stream("hi") as stream:
            return "".join(map(str, stream))

    async def awaited() -> str:
        async with lm.astream("hi") as stream:
            return "".join([str(piece) async for piece in stream])

    return asyncio.run(awaited())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(retry, "uniform", lambda low, high: 0.0)


NAMES = ["openai", "anyscale", "anthropic", "acme"]
HOW = pytest.mark.parametrize("how", ["stream", "astream"])


@HOW
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("how_it_breaks", BREAKS)
def test_it_is_asked_for_as_often_as_retries_allow(name: str, how: str, how_it_breaks: str) -> None:
    quick = {"idle_timeout": 0.1} if how_it_breaks == "stalled" else {}
    kind = errors.StreamStalledError if quick else errors.TransportError
    with FaultServer([receive(), *BREAKS[how_it_breaks]]) as server:
        with lm_at(name, server.url, **quick) as lm, pytest.raises(kind) as caught:
            read_all(lm, how)
        assert len(server.requests) == 2
    assert caught.value.retryable
    assert caught.value.partial is None


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _events(name: str) -> tuple[bytes, bytes]:
    """A first piece, and the rest of a stream."""
    if name == "acme":
        return b"Par", b"is."
    if name == "anthropic":
        begun = {"id": "1", "role": "assistant", "model": "m", "content": [], "usage": {}}
        block = {"type": "text", "text": ""}
        first: list[Any] = [
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": block},
        ]
        more: list[Any] = [{"type": "content_block_stop", "index": 0}]
        end = {"stop_reason": "end_turn"}
        more += [{"type": "message_delta", "delta": end, "usage": {}}, {"type": "message_stop"}]

        def piece(text: str) -> Any:
            delta = {"type": "text_delta", "text": text}
            return {"type": "content_block_delta", "index": 0, "delta": delta}

        first, more = [*first, piece("Par")], [piece("is."), *more]
        lines = [
            "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)
            for events in (first, more)
        ]
        return lines[0].encode(), lines[1].encode()
    chunks = [
        {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in (({"content": "Par"}, None), ({"content": "is."}, "stop"))
    ]
    first_line, last = (f"data: {json.dumps(each)}\n\n" for each in chunks)
    return first_line.encode(), f"{last}data: [DONE]\n\n".encode()


@HOW
@pytest.mark.parametrize("name", NAMES)
def test_the_second_attempt_may_be_whole(name: str, how: str) -> None:
    body = b"".join(map(_chunk, _events(name))) + b"0\r\n\r\n"
    scripts = [[receive(), send(HEAD)], [receive(), send(HEAD + body)]]
    with FaultServer(*scripts) as server, lm_at(name, server.url) as lm:
        assert read_all(lm, how) == "Paris."
        assert len(server.requests) == 2


@HOW
@pytest.mark.parametrize("name", NAMES)
def test_after_the_first_piece_it_is_not(name: str, how: str) -> None:
    body = _chunk(_events(name)[0])
    with FaultServer([receive(), send(HEAD + body), stall()]) as server:
        with (
            lm_at(name, server.url, idle_timeout=0.1) as lm,
            pytest.raises(errors.StreamStalledError) as caught,
        ):
            read_all(lm, how)
        assert len(server.requests) == 1
    assert caught.value.partial == "Par"
    assert not caught.value.retryable
