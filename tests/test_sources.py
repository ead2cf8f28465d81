"""Which answers have a source: each 2xx to a stream, and for plugins of API 1 an event stream."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest
from support.fault_server import FaultServer, Script, chunk, head, receive, reply, send

from lmgateway import hookimpl
from lmgateway.errors import LMGatewayError, ResponseFormatError
from lmgateway.lm import LM
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, Emit, Flow, HTTPRequest, HTTPResponse, Info, Request, read
from lmgateway.types import send as ask

pytestmark = pytest.mark.loopback

JSON = {"Content-Type": "application/json"}
SSE = {"Content-Type": "Text/Event-Stream; charset=utf-8"}
LINES = {"Content-Type": "application/x-ndjson"}


class Plugin:
    """Says what it was given."""

    def __init__(self, url: str, api: int | None) -> None:
        self.url = url
        self.api = api
        self.head: HTTPResponse | None = None

    @hookimpl
    def lmgateway_info(self) -> Info:
        params = frozenset({"temperature"})
        if self.api is None:
            return Info(default_model="m", params=params)
        return Info(api=self.api, default_model="m", params=params)

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Any]:
        return (yield from self.lmgateway_stream(request))

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Any]:
        self.head = yield from ask(HTTPRequest("POST", self.url, "/", json={}, stream=True))
        body = self.head.body
        if self.head.source is not None:
            while piece := (yield from read(self.head)):
                body += piece
        if request.stream:
            yield Emit(body.decode())
        return {"choices": [{"text": body.decode() + "."}]}


def answers(lm: LM, way: str) -> str:
    async def awaited() -> str:
        if way == "awaited":
            return (await lm.acall("q"))[0]
        return "".join([piece async for piece in lm.astream("q")]) + "."

    if way == "plain":
        return lm("q")[0]
    return "".join(lm.stream("q")) + "." if way == "streamed" else asyncio.run(awaited())


def scripts() -> dict[str, tuple[Script, bytes]]:
    packed = gzip.compress(b'{"a":1}')
    return {
        "json": ([reply(b'{"a":1}', headers=JSON)], b'{"a":1}'),
        "chunks": (
            [receive(), send(head(200, LINES | {"Transfer-Encoding": "chunked"}), chunk(b"1\n"),
                             chunk(b"2"), chunk(b""))],
            b"1\n2",
        ),
        "gzip": ([reply(packed, headers=JSON | {"Content-Encoding": "gzip"})], b'{"a":1}'),
        "no type": ([reply(b"x", headers={})], b"x"),
        "empty": ([reply(b"", headers=JSON)], b""),
        "204": ([receive(), send(head(204))], b""),
    }  # fmt: skip


WAYS = ["plain", "awaited", "streamed", "astreamed"]


@pytest.mark.parametrize(
    "way, transport",
    [("plain", None), ("streamed", None)]
    + [(way, over) for way in ("awaited", "astreamed") for over in ("aiohttp", "threads")],
)
@pytest.mark.parametrize(
    "name, api", [("json", None)] + [(name, api) for name in scripts() for api in (1, 2)]
)
def test_api_2_has_a_source_for_each_2xx_and_api_1_a_body(
    name: str, api: int | None, transport: Any, way: str
) -> None:
    script, body = scripts()[name]
    with FaultServer(script) as server:
        plugin = Plugin(server.url, api)
        lm = lm_from(plugin, transport=transport, max_body=12345)
        assert answers(lm, way) == body.decode() + "."
        assert plugin.head is not None
        assert (plugin.head.source is not None) is (api == 2)
        assert plugin.head.body == (b"" if api == 2 else body)
        assert plugin.head.max_body == (12345 if api == 2 else plugin.head.max_body)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", [1, 2])
def test_an_event_stream_has_a_source_and_an_error_has_a_body(api: int, way: str) -> None:
    with FaultServer([reply(b"data: x\n\n", headers=SSE)]) as server:
        plugin = Plugin(server.url, api)
        assert answers(lm_from(plugin), way) == "data: x\n\n."
        assert plugin.head is not None
        assert plugin.head.source is not None
    with FaultServer([reply(b"no", 418, SSE)]) as server:
        plugin = Plugin(server.url, api)
        assert answers(lm_from(plugin), way) == "no."
        assert plugin.head is not None
        assert plugin.head.source is None


@pytest.mark.parametrize("api", [1, 2])
def test_what_streams_in_the_process_has_a_source_for_every_plugin(api: int) -> None:
    class InProcess(Plugin):
        @hookimpl
        def lmgateway_complete(self, request: Request) -> Flow[Any]:
            self.head = yield from ask(Blocking(lambda push: push(b"x"), stream=True))
            return {"choices": [{"text": (yield from read(self.head)).decode()}]}

    assert lm_from(InProcess("", api))("q") == ["x"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("length", [True, False], ids=["told", "not told"])
def test_a_body_over_max_body_is_refused_to_api_1(way: str, length: bool) -> None:
    sent = head(200, JSON, length=200) if length else head(200, JSON)
    with FaultServer([receive(), send(sent, b"x" * 200)]) as server:
        with pytest.raises(ResponseFormatError, match="larger than 100 bytes") as caught:
            answers(lm_from(Plugin(server.url, 1), max_body=100, retries=0), way)
        assert caught.value.host == server.host
        assert caught.value.retryable is False


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", [1, 2])
def test_a_body_that_breaks_off_is_an_error_to_both(api: int, way: str) -> None:
    script = [receive(), send(head(200, JSON, length=10), b"12345")]
    with FaultServer(script) as server, pytest.raises(LMGatewayError, match="broke"):
        answers(lm_from(Plugin(server.url, api), retries=0), way)


@pytest.mark.parametrize("api", [1, 2])
def test_a_connection_is_used_again_after_a_body_was_read(api: int) -> None:
    with FaultServer([reply(b"{}", headers=JSON)] * 3) as server:
        lm = lm_from(Plugin(server.url, api))
        for _ in range(3):
            assert lm("q") == ["{}."]
        assert len(server.peers) == 1
