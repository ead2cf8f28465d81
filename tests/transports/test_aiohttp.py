"""What is asked of the native async transport beyond the contract that all transports keep."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

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
    start_tls,
)

from lmgateway._drive.cancel import Deadline
from lmgateway._transports.aiohttp import AiohttpTransport
from lmgateway._transports.protocols import TransportOptions
from lmgateway.errors import ConnectionFailedError
from transports.awaiting import SSE, body_of, call, in_thread, post
from transports.checking import Authority
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


# -- cancelling and leaving ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\nDate:", head(length=10) + b"five!"],
    ids=["before the head", "in the head", "in the body"],
)
def test_a_cancelled_call_closes_its_socket_at_once(
    transport: AiohttpTransport, answer: bytes
) -> None:
    sent = threading.Event()

    async def cancel(server: FaultServer) -> None:
        task = asyncio.create_task(call(transport, server.url))
        await in_thread(sent.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await in_thread(server.await_hang_up)  # the loop, and its session, live on

    with FaultServer([receive(), send(answer), signal(sent), stall()]) as server:
        asyncio.run(cancel(server))


def test_a_cancelled_call_does_not_wait_for_a_server_that_reads_no_more(
    transport: AiohttpTransport,
) -> None:
    accepted, over = threading.Event(), threading.Event()

    async def cancel(server: FaultServer) -> None:
        request = final("POST", server.url, "/", json="x" * 30_000_000)
        task = asyncio.create_task(transport.send(request, Deadline(20)))
        await in_thread(accepted.wait, 10)
        await asyncio.sleep(0.1)  # whatever fits into the system's buffers
        (wire,) = transport._connectors[asyncio.get_running_loop()]._acquired
        assert wire.transport is not None
        sock = wire.transport.get_extra_info("socket")
        assert sock.fileno() >= 0
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert sock.fileno() < 0
        over.set()

    with FaultServer([signal(accepted), await_event(over)]) as server:
        asyncio.run(cancel(server))


def test_a_stream_that_is_left_closes_its_socket_at_once(transport: AiohttpTransport) -> None:
    async def leave(server: FaultServer) -> None:
        response = await transport.send(post(server.url, stream=True), Deadline(20))
        assert await body_of(response).read(Deadline(20)) == b"data: 1\n\n"
        body_of(response).close()
        body_of(response).close()
        await in_thread(server.await_hang_up)

    with FaultServer([receive(), send(head(200, SSE), chunk(b"data: 1\n\n")), stall()]) as server:
        asyncio.run(leave(server))


def test_a_stream_may_be_closed_from_another_thread(transport: AiohttpTransport) -> None:
    async def leave(server: FaultServer) -> None:
        body = body_of(await transport.send(post(server.url, stream=True), Deadline(20)))
        reading = asyncio.create_task(body.read(Deadline(20)))
        await in_thread(body.close)
        with pytest.raises(ConnectionFailedError):
            await reading
        await in_thread(server.await_hang_up)

    with FaultServer([receive(), send(head(200, SSE)), stall()]) as server:
        asyncio.run(leave(server))


def test_a_stream_that_is_forgotten_closes_its_socket(transport: AiohttpTransport) -> None:
    async def forget(server: FaultServer) -> None:
        response = await transport.send(post(server.url, stream=True), Deadline(20))
        del response
        gc.collect()
        await in_thread(server.await_hang_up)

    with FaultServer([receive(), send(head(200, SSE)), stall()]) as server:
        asyncio.run(forget(server))


def test_a_cancellation_at_the_moment_of_the_deadline_is_a_cancellation(
    transport: AiohttpTransport,
) -> None:
    async def both(server: FaultServer) -> None:
        async with asyncio.timeout(0.1):
            task = asyncio.create_task(in_thread(server.await_requests, 1))
            task.add_done_callback(lambda _: time.sleep(0.3))  # until both are overdue
            await call(transport, server.url, timeout=0.2)

    with FaultServer([receive(), stall()]) as server, pytest.raises(TimeoutError):
        asyncio.run(both(server))


# -- sessions and loops --------------------------------------------------------------------------


def test_a_session_ends_with_its_loop(transport: AiohttpTransport) -> None:
    with FaultServer([reply(), stall()]) as server:
        asyncio.run(call(transport, server.url))
        server.await_hang_up()


def test_a_session_ends_with_a_loop_that_is_merely_closed(transport: AiohttpTransport) -> None:
    with FaultServer([reply(), stall()]) as server:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(call(transport, server.url))
        loop.close()
        server.await_hang_up()
        del loop
        gc.collect()


def test_a_session_ends_when_its_loop_is_shut_down(transport: AiohttpTransport) -> None:
    with FaultServer([reply(), stall()], [reply(), stall()]) as server:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(call(transport, server.url))
        loop.run_until_complete(loop.shutdown_asyncgens())
        server.await_hang_up()  # uvloop closes no socket by itself, and complains of each
        loop.run_until_complete(call(transport, server.url))
        loop.close()
        server.await_hang_up(1)
        del loop
        gc.collect()


def test_a_tls_session_ends_with_a_loop_that_is_merely_closed(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    transport = AiohttpTransport(TransportOptions(verify=authority.bundle))
    shake = start_tls(authority.context("good"))
    with FaultServer([shake, reply(), stall()]) as server:
        loop = asyncio.new_event_loop()
        loop.run_until_complete(call(transport, server.tls_url))
        loop.close()
        server.await_hang_up()
        del loop
        gc.collect()


def test_a_loop_that_is_closed_with_a_call_in_flight_leaves_no_socket(
    transport: AiohttpTransport,
) -> None:
    with FaultServer([receive(), stall()]) as server:
        loop = asyncio.new_event_loop()
        task = loop.create_task(call(transport, server.url))
        while not server.requests:
            loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        server.await_hang_up()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        del task, loop
        gc.collect()


def test_aclose_ends_the_session_of_the_running_loop(transport: AiohttpTransport) -> None:
    async def use(server: FaultServer) -> None:
        await call(transport, server.url)
        await transport.aclose()
        await transport.aclose()
        await in_thread(server.await_hang_up)
        assert (await call(transport, server.url)).status == 200

    with FaultServer([reply(), stall()], [reply(), stall()]) as server:
        asyncio.run(use(server))


def test_close_ends_the_sessions_of_loops_elsewhere(transport: AiohttpTransport) -> None:
    async def use(server: FaultServer) -> None:
        await call(transport, server.url)
        await in_thread(transport.close)
        await in_thread(server.await_hang_up)

    with FaultServer([reply(), stall()]) as server:
        asyncio.run(use(server))


def test_a_call_and_a_stream_outlive_the_close_of_their_transport(
    transport: AiohttpTransport,
) -> None:
    closed = threading.Event()

    async def use(server: FaultServer) -> None:
        await call(transport, server.url)
        body = body_of(await transport.send(post(server.url, stream=True), Deadline(20)))
        waiting = asyncio.create_task(call(transport, server.url))
        await in_thread(server.await_requests, 3)
        transport.close()
        await asyncio.sleep(0)
        closed.set()
        assert (await waiting).body == b"two"
        assert await body.read(Deadline(20)) == b"one"
        assert await body.read(Deadline(20)) == b""
        for connection in range(2):
            await in_thread(server.await_hang_up, connection)

    stream = [send(head(200, SSE)), await_event(closed), send(chunk(b"one"), chunk(b""))]
    plain = [receive(), await_event(closed), send(head(length=3), b"two"), stall()]
    with FaultServer([reply(), receive(), *stream, stall()], plain) as server:
        asyncio.run(use(server))


def test_two_loops_in_two_threads_share_a_transport(transport: AiohttpTransport) -> None:
    statuses: list[int] = []

    async def use(server: FaultServer) -> None:
        for _ in range(20):
            statuses.append((await call(transport, server.url)).status)

    with FaultServer([reply()] * 40) as server:
        threads = [threading.Thread(target=lambda: asyncio.run(use(server))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(server.peers) == 2
    assert statuses == [200] * 40


@pytest.mark.slow
def test_two_thousand_calls_over_ten_loops_leave_nothing_behind(
    transport: AiohttpTransport,
) -> None:
    async def use(server: FaultServer) -> None:
        async def many() -> None:
            for _ in range(20):
                assert (await call(transport, server.url)).status == 200

        await asyncio.gather(*(many() for _ in range(10)))

    with FaultServer([*[reply()] * 200, stall()]) as server:
        for number in range(10):
            if number % 2:
                asyncio.run(use(server))
            else:
                loop = asyncio.new_event_loop()
                loop.run_until_complete(use(server))
                loop.close()
            gc.collect()
        assert len(server.requests) == 2_000
        assert len(server.peers) == 100  # ten a loop: each was used again
        for connection in range(100):
            server.await_hang_up(connection)
    assert not transport._connectors


def test_an_interpreter_ends_without_a_word_about_an_open_loop() -> None:
    code = (
        "import asyncio, sys\n"
        "from lmgateway._drive.cancel import Deadline\n"
        "from lmgateway._transports.protocols import TransportOptions\n"
        "from lmgateway._transports.aiohttp import AiohttpTransport\n"
        "from lmgateway.types import HTTPRequest\n"
        "transport, loop = AiohttpTransport(TransportOptions()), asyncio.new_event_loop()\n"
        "request = HTTPRequest('POST', sys.argv[1], '/')\n"
        "loop.run_until_complete(transport.send(request, Deadline(20)))\n"
    )
    with FaultServer([reply(), stall()]) as server:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, server.url],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert "client session" not in done.stderr  # of its own loop, asyncio may complain
    assert "unclosed transport" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of a fork with threads")
def test_a_forked_child_leaves_the_connections_of_its_parent_alone(
    transport: AiohttpTransport,
) -> None:
    with FaultServer([reply(b"1"), reply(b"3")], [reply(b"2")]) as server:
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(call(transport, server.url)).body == b"1"
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                status = 0 if asyncio.run(call(transport, server.url)).body == b"2" else 2
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert loop.run_until_complete(call(transport, server.url)).body == b"3"
        loop.close()
