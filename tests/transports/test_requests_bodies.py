import gzip
import threading
import tracemalloc
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any, cast

import pytest
from support.fault_server import (
    FaultServer,
    await_event,
    chunk,
    head,
    receive,
    reply,
    send,
    signal,
    stall,
)

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.protocols import Body, BodySource, TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway.errors import APIError, ConnectionFailedError, ResponseFormatError
from lmgateway.types import HTTPRequest, HTTPResponse
from transports.sending import final

pytestmark = pytest.mark.loopback

SSE = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}


def post(
    url: str, json: Any = None, headers: Mapping[str, str] | None = None, *, stream: bool = False
) -> HTTPRequest:
    sent = {} if json is None else json
    return final("POST", url, "/v1/x", json=sent, headers=headers or {}, stream=stream)


def body_of(response: HTTPResponse) -> Body:
    assert isinstance(response.source, BodySource)
    return cast(Body, response.source.body)


@pytest.fixture
def transport() -> Any:
    transport = RequestsTransport(TransportOptions())
    yield transport
    transport.close()


# -- streams -------------------------------------------------------------------------------------


def flushed(compress: Any, data: bytes) -> bytes:
    return bytes(compress.compress(data) + compress.flush(zlib.Z_SYNC_FLUSH))


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_piece_is_delivered_before_the_next_is_sent(
    transport: RequestsTransport, coding: str
) -> None:
    packer, read_one = zlib.compressobj(wbits=31), threading.Event()
    pieces = [flushed(packer, b"one"), flushed(packer, b"two") + packer.flush()]
    if not coding:
        pieces = [b"one", b"two"]
    script = [
        receive(),
        send(head(200, SSE | {"Content-Encoding": coding}), chunk(pieces[0])),
        await_event(read_one),
        send(chunk(pieces[1]), chunk(b"")),
    ]
    with FaultServer(script) as server:
        deadline = Deadline(10)
        body = body_of(transport.send(post(server.url, stream=True), deadline))
        assert body.read(deadline) == b"one"
        read_one.set()
        assert body.read(deadline) == b"two"
        assert body.read(deadline) == b""
        assert body.read(deadline) == b""


def test_a_deadline_whose_clock_is_stopped_stands(transport: RequestsTransport) -> None:
    looked = threading.Event()
    script = [receive(), send(head(200, SSE), chunk(b"one")), await_event(looked)]
    script += [send(chunk(b"two"), chunk(b""))]
    with FaultServer(script) as server:
        deadline = Deadline(0.5)
        body = body_of(transport.send(post(server.url, stream=True), deadline))
        assert body.read(deadline) == b"one"
        deadline.stop_clock()
        threading.Event().wait(0.8)  # longer than the deadline
        deadline.start_clock()
        looked.set()
        assert body.read(deadline) == b"two"


def test_close_wakes_a_reader_in_another_thread(transport: RequestsTransport) -> None:
    with FaultServer([receive(), send(head(200, SSE)), stall()]) as server:
        deadline = Deadline(30)
        body = body_of(transport.send(post(server.url, stream=True), deadline))
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(body.read, deadline)
            while reading.running() and not body._reading.locked():  # type: ignore[attr-defined]
                threading.Event().wait(0.01)
            began = monotonic()
            body.close()
            body.close()
            error = reading.exception(timeout=5)
        assert isinstance(error, ConnectionFailedError)
        assert not error.retryable
        assert server.await_hang_up() - began < 2


def test_closing_an_unfinished_stream_hangs_up(transport: RequestsTransport) -> None:
    with FaultServer([receive(), send(head(200, SSE), chunk(b"one")), stall()]) as server:
        body = body_of(transport.send(post(server.url, stream=True), Deadline(30)))
        body.close()
        server.await_hang_up()
        with pytest.raises(ConnectionFailedError):
            body.read(Deadline(10))


@pytest.mark.parametrize("packets", [1, 2])
def test_stream_left_at_its_last_piece_gives_its_connection_back(
    transport: RequestsTransport, packets: int
) -> None:
    go_on, sent = threading.Event(), threading.Event()
    first, last = head(200, SSE) + chunk(b"data: [DONE]\n\n"), chunk(b"")
    sends = [send(first + last)] if packets == 1 else [send(first), await_event(go_on), send(last)]
    with FaultServer([receive(), *sends, signal(sent), reply(), stall()]) as server:
        body = body_of(transport.send(post(server.url, stream=True), Deadline(20)))
        assert body.read(Deadline(20)) == b"data: [DONE]\n\n"
        go_on.set()
        assert sent.wait(20)
        body.close()
        body.close()
        assert body.read(Deadline(20)) == b""
        assert transport.send(post(server.url), Deadline(20)).status == 200
        assert len(server.peers) == 1


@pytest.mark.parametrize("rest", [b"", chunk(b"more"), chunk(b"more") + chunk(b""), b"nonsense\n"])
def test_stream_left_before_its_end_gives_no_connection_back(
    transport: RequestsTransport, rest: bytes
) -> None:
    go_on, sent = threading.Event(), threading.Event()
    first = send(head(200, SSE) + chunk(b"data: [DONE]\n\n"))
    script = [receive(), first, await_event(go_on), send(rest), signal(sent), stall()]
    with FaultServer(script, [reply()]) as server:
        body = body_of(transport.send(post(server.url, stream=True), Deadline(20)))
        body.read(Deadline(20))
        go_on.set()
        assert sent.wait(20)
        body.close()
        server.await_hang_up()
        assert transport.send(post(server.url), Deadline(20)).status == 200
        assert len(server.peers) == 2


def test_dropping_an_unfinished_stream_hangs_up(transport: RequestsTransport) -> None:
    with FaultServer([receive(), send(head(200, SSE), chunk(b"one")), stall()]) as server:
        deadline = Deadline(30)
        response = transport.send(post(server.url, stream=True), deadline)
        body_of(response).read(deadline)
        del response
        server.await_hang_up()


def test_stream_of_many_chunks_is_read_in_flat_memory(transport: RequestsTransport) -> None:
    block = chunk(b"data: {}\n\n") * 1000
    with FaultServer([receive(), send(head(200, SSE), *[block] * 20, chunk(b""))]) as server:
        deadline = Deadline(60)
        body = body_of(transport.send(post(server.url, stream=True), deadline))
        tracemalloc.start()
        try:
            size = 0
            while piece := body.read(deadline):
                size += len(piece)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert size == 20_000 * len(b"data: {}\n\n")
    assert peak < 500_000


def test_answer_that_is_too_large_hangs_up() -> None:
    transport = RequestsTransport(TransportOptions(max_body=10))
    with FaultServer([receive(), send(head(length=11)), stall()]) as server:
        with pytest.raises(ResponseFormatError) as caught:
            transport.send(post(server.url), Deadline(10))
        server.await_hang_up()
    assert not caught.value.retryable  # and its traceback has held the response until here


def test_redirect_with_a_body_hangs_up(transport: RequestsTransport) -> None:
    with FaultServer([receive(), send(head(307, length=11)), stall()]) as server:
        with pytest.raises(APIError) as caught:
            transport.send(post(server.url), Deadline(10))
        server.await_hang_up()
    assert not caught.value.retryable


# -- sizes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_gzip_bomb_is_met_in_flat_memory(stream: bool) -> None:
    bomb = gzip.compress(b"\0" * 100_000_000)
    transport = RequestsTransport(TransportOptions(max_body=1_000_000))
    headers = {"Content-Encoding": "gzip", "Content-Type": "text/event-stream"}
    with FaultServer([reply(bomb, headers=headers)]) as server:
        deadline = Deadline(60)
        tracemalloc.start()
        try:
            if stream:
                body = body_of(transport.send(post(server.url, stream=True), deadline))
                assert sum(len(body.read(deadline)) for _ in range(500)) > 1_000_000
                body.close()
            else:
                with pytest.raises(ResponseFormatError):
                    transport.send(post(server.url), deadline)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 4_000_000
