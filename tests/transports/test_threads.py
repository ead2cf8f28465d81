"""What is asked of the threaded transport beyond the contract that all transports keep."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from support.fault_server import FaultServer, await_event, chunk, head, receive, reply, send, stall

from lmgateway._drive.cancel import Deadline
from lmgateway._drive.futures import result_of
from lmgateway._drive.workers import Workers
from lmgateway._transports.protocols import TransportOptions
from lmgateway._transports.requests import RequestsTransport
from lmgateway._transports.threads import ThreadedTransport
from lmgateway.errors import ConnectionFailedError, RequestTimeoutError
from lmgateway.types import HTTPRequest, HTTPResponse
from transports.awaiting import SSE, body_of, call, in_thread, post

pytestmark = [pytest.mark.loopback, pytest.mark.filterwarnings("error")]


def threaded(limit: int = 8) -> ThreadedTransport:
    return ThreadedTransport(RequestsTransport(TransportOptions()), limit=limit)


def test_no_more_requests_are_in_flight_than_there_may_be_threads() -> None:
    go_on = threading.Event()

    async def crowd(server: FaultServer) -> None:
        transport = threaded(limit=3)
        calls = [asyncio.create_task(call(transport, server.url)) for _ in range(9)]
        await in_thread(server.await_requests, 3)
        assert len(server.peers) == 3
        go_on.set()
        assert [(await each).status for each in calls] == [200] * 9
        transport.close()

    script = [receive(), await_event(go_on), send(head(length=0)), *[reply()] * 9]
    with FaultServer(script) as server:
        asyncio.run(crowd(server))
        assert len(server.peers) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_a_cancelled_call_closes_its_socket_at_once(stream: bool) -> None:
    async def cancel(server: FaultServer) -> None:
        transport = threaded(limit=1)
        first = asyncio.create_task(transport.send(post(server.url, stream=stream), Deadline(20)))
        await in_thread(server.await_requests, 1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await in_thread(server.await_hang_up)
        assert (await call(transport, server.url)).status == 200
        transport.close()

    with FaultServer([receive(), stall()], [reply()]) as server:
        asyncio.run(cancel(server))


def test_a_cancelled_call_keeps_its_thread_until_it_ends() -> None:
    hanging = Hanging()

    async def cancel() -> None:
        transport = ThreadedTransport(hanging, limit=1)
        first = asyncio.create_task(call(transport, "http://127.0.0.1:1"))
        await in_thread(hanging.begun.wait, 10)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        second = asyncio.create_task(call(transport, "http://127.0.0.1:1"))
        done, _ = await asyncio.wait([second], timeout=0.1)
        assert not done
        hanging.free.set()
        assert (await second).status == 200

    asyncio.run(cancel())


def test_a_call_cancelled_before_its_turn_is_never_sent() -> None:
    go_on = threading.Event()

    async def cancel(server: FaultServer) -> None:
        transport = threaded(limit=1)
        first = asyncio.create_task(call(transport, server.url))
        await in_thread(server.await_requests, 1)
        second = asyncio.create_task(call(transport, server.url))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        await first
        assert (await call(transport, server.url)).status == 200
        transport.close()

    with FaultServer([receive(), await_event(go_on), send(head(length=0)), reply()]) as server:
        asyncio.run(cancel(server))
        assert len(server.requests) == 2


def test_a_stream_that_is_left_closes_its_socket_at_once() -> None:
    async def leave(server: FaultServer) -> None:
        response = await threaded().send(post(server.url, stream=True), Deadline(20))
        body = body_of(response)
        assert await body.read(Deadline(20)) == b"data: 1\n\n"
        body.close()
        await in_thread(server.await_hang_up)

    with FaultServer([receive(), send(head(200, SSE), chunk(b"data: 1\n\n")), stall()]) as server:
        asyncio.run(leave(server))


def test_a_read_that_is_cancelled_closes_its_socket_at_once() -> None:
    async def leave(server: FaultServer) -> None:
        body = body_of(await threaded().send(post(server.url, stream=True), Deadline(20)))
        reading = asyncio.create_task(body.read(Deadline(20)))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await in_thread(server.await_hang_up)

    with FaultServer([receive(), send(head(200, SSE)), stall()]) as server:
        asyncio.run(leave(server))


def test_the_deadline_holds_while_no_thread_is_free() -> None:
    async def wait(server: FaultServer) -> None:
        transport = threaded(limit=1)
        first = asyncio.create_task(call(transport, server.url))
        await in_thread(server.await_requests, 1)
        with pytest.raises(RequestTimeoutError):
            await call(transport, server.url, timeout=0.1)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first

    with FaultServer([receive(), stall()]) as server:
        asyncio.run(wait(server))
        assert len(server.requests) == 1


def test_without_any_thread_nothing_is_sent_and_the_error_is_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("lmgateway-worker"):
            raise RuntimeError("can't start new thread")
        start(thread)

    with FaultServer([reply()]) as server:
        monkeypatch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(ConnectionFailedError, match="no thread could be started") as caught:
            asyncio.run(call(threaded(), server.url))
        assert caught.value.retryable
        assert not server.requests


class Hanging:
    """A blocking transport that the system has let hang, deaf to every deadline."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.free = threading.Event()

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        self.begun.set()
        self.free.wait(30)
        return HTTPResponse(200)

    def close(self) -> None:
        self.free.set()


def test_a_call_that_hangs_holds_up_neither_its_caller_nor_the_end_of_the_loop() -> None:
    hanging = Hanging()
    began = time.monotonic()
    with pytest.raises(RequestTimeoutError):
        asyncio.run(call(ThreadedTransport(hanging), "http://127.0.0.1:1", timeout=0.1))
    assert time.monotonic() - began < 5
    hanging.close()


def test_a_call_that_ends_after_its_loop_was_closed_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hanging = Hanging()
    transport = ThreadedTransport(hanging, limit=1)

    async def leave() -> None:
        task = asyncio.create_task(call(transport, "http://127.0.0.1:1"))
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(leave())
    hanging.close()
    assert asyncio.run(call(transport, "http://127.0.0.1:1")).status == 200
    assert not caplog.records  # where concurrent.futures reports a callback that failed


def test_a_closed_transport_sends_no_more() -> None:
    transport = threaded()
    transport.close()
    with pytest.raises(ConnectionFailedError, match="closed"):
        asyncio.run(call(transport, "http://127.0.0.1:1"))


def test_one_waiter_that_gives_up_leaves_the_future_to_the_others() -> None:
    free = threading.Event()

    async def wait() -> int:
        begun = threading.Event()

        def work() -> int:
            begun.set()
            free.wait(10)
            return 7

        future = Workers(1).submit(work)
        await in_thread(begun.wait, 10)
        impatient = asyncio.create_task(result_of(future))
        patient = asyncio.create_task(result_of(future))
        await asyncio.sleep(0)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        free.set()
        return await patient

    assert asyncio.run(wait()) == 7
