"""Every effect, sync and async, by flows that a provider could have written."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import pytest

from lmgateway._drive.cancel import Cancelled, CancelScope, Deadline
from lmgateway._drive.loops import Done, aadvance, advance, arun, run
from lmgateway._transports.protocols import BodySource
from lmgateway.errors import PluginContractError, RequestTimeoutError
from lmgateway.types import Emit, Flow, HTTPRequest, HTTPResponse, Sleep, Wait, read, send


class Chunks:
    """A body of given pieces, for both drivers."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = [*pieces, b""]

    def read(self, deadline: Deadline) -> Any:
        return self.pieces.pop(0)

    def close(self) -> None:
        return


class AChunks(Chunks):
    async def read(self, deadline: Deadline) -> bytes:  # type: ignore[override]
        return self.pieces.pop(0)


class Answering:
    """A transport that answers by a function; it stands for the network, not for ourselves."""

    def __init__(self, answer: Callable[[HTTPRequest], HTTPResponse]) -> None:
        self.answer = answer

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        return self.answer(request)

    def close(self) -> None:
        return


class AAnswering(Answering):
    async def send(  # type: ignore[override]
        self, request: HTTPRequest, deadline: Deadline
    ) -> HTTPResponse:
        return self.answer(request)

    async def aclose(self) -> None:
        return


REQUEST = HTTPRequest("POST", "http://host/v1", "/completions", json={})
Answer = Callable[[HTTPRequest], HTTPResponse]


def nothing(request: HTTPRequest) -> HTTPResponse:
    raise AssertionError("nothing should have been sent")


def blocking(make: Callable[[], Flow[Any]], answer: Answer = nothing, timeout: float = 30) -> Any:
    return run(make(), Answering(answer), Deadline(timeout))


def awaiting(make: Callable[[], Flow[Any]], answer: Answer = nothing, timeout: float = 30) -> Any:
    async def main() -> Any:
        return await arun(make(), AAnswering(answer), Deadline(timeout))

    return asyncio.run(main())


both = pytest.mark.parametrize("drive", [blocking, awaiting], ids=["sync", "async"])


@both
def test_a_request_is_answered(drive: Any) -> None:
    def flow() -> Flow[int]:
        response = yield from send(REQUEST)
        return response.status

    assert drive(flow, lambda request: HTTPResponse(204)) == 204


@both
def test_an_error_of_the_transport_is_thrown_into_the_flow(drive: Any) -> None:
    def fail(request: HTTPRequest) -> HTTPResponse:
        raise KeyboardInterrupt

    def flow() -> Flow[str]:
        try:
            yield from send(REQUEST)
        except KeyboardInterrupt:
            return "seen"
        return "unseen"

    assert drive(flow, fail) == "seen"


@both
def test_a_body_is_read_to_its_end(drive: Any) -> None:
    kind = Chunks if drive is blocking else AChunks

    def flow() -> Flow[bytes]:
        head = yield from send(REQUEST)
        whole = b""
        while chunk := (yield from read(head)):
            whole += chunk
        return whole

    source = BodySource(kind(b"a", b"b"))
    assert drive(flow, lambda request: HTTPResponse(200, source=source)) == b"ab"


def test_a_body_that_was_read_is_freed_without_the_cycle_collector() -> None:
    class Holding(Chunks):
        def read(self, deadline: Deadline) -> Any:
            self.deadline = deadline  # as those of the transports do
            return super().read(deadline)

    def reading(source: BodySource) -> Flow[bytes]:
        return (yield from source.read())

    body = Holding(b"one")
    freed = weakref.ref(body)
    gc.disable()
    try:
        run(reading(BodySource(body)), Answering(lambda _: HTTPResponse(200, {})), Deadline(5))
        del body
        assert freed() is None
    finally:
        gc.enable()


def test_emits_come_out_one_by_one() -> None:
    def flow() -> Flow[str]:
        yield Emit("a")
        yield Emit("b")
        return "c"

    running, deadline = flow(), Deadline(None)
    steps = [advance(running, Answering(nothing), deadline) for _ in range(3)]
    assert steps == [Emit("a"), Emit("b"), Done("c")]


def test_emits_come_out_one_by_one_awaited() -> None:
    def flow() -> Flow[str]:
        yield Emit("a")
        return "c"

    async def main() -> list[Any]:
        running, deadline = flow(), Deadline(None)
        return [await aadvance(running, AAnswering(nothing), deadline) for _ in range(2)]

    assert asyncio.run(main()) == [Emit("a"), Done("c")]


@both
def test_a_wait_ends_when_another_thread_completes_the_future(drive: Any) -> None:
    future: Future[int] = Future()

    def flow() -> Flow[tuple[bool, int]]:
        threading.Thread(target=future.set_result, args=(7,)).start()
        done = yield Wait(future)
        return done, future.result()

    assert drive(flow) == (True, 7)


@both
@pytest.mark.parametrize("settle", ["result", "exception", "cancel"])
def test_a_wait_for_what_is_done_does_not_wait(drive: Any, settle: str) -> None:
    future: Future[int] = Future()
    if settle == "result":
        future.set_result(1)
    elif settle == "exception":
        future.set_exception(ValueError())
    else:
        future.cancel()

    def flow() -> Flow[bool]:
        return (yield Wait(future))

    assert drive(flow) is True


@both
def test_a_wait_gives_up_after_its_own_timeout(drive: Any) -> None:
    def flow() -> Flow[bool]:
        return (yield Wait(Future(), 0.01))

    assert drive(flow) is False


@both
def test_a_wait_ends_at_the_deadline(drive: Any) -> None:
    def flow() -> Flow[bool]:
        return (yield Wait(Future()))

    with pytest.raises(RequestTimeoutError, match=r"timeout of 0\.01 s"):
        drive(flow, timeout=0.01)


def test_a_wait_for_the_very_thread_that_would_block_is_answered_at_once() -> None:
    def flow() -> Flow[bool]:
        return (yield Wait(Future(), owner=threading.get_ident()))

    assert blocking(flow) is False


def test_one_waiter_that_gives_up_leaves_the_future_to_the_others() -> None:
    future: Future[int] = Future()

    def flow(timeout: float) -> Flow[bool]:
        return (yield Wait(future, timeout))

    async def main() -> list[bool]:
        async def drive(timeout: float) -> bool:
            return await arun(flow(timeout), AAnswering(nothing), Deadline(30))

        patient = asyncio.create_task(drive(30))
        hasty = await drive(0.01)
        future.set_result(1)
        return [hasty, await patient]

    assert asyncio.run(main()) == [False, True]


@both
def test_a_sleep_longer_than_the_deadline_ends_at_it(drive: Any) -> None:
    def flow() -> Flow[None]:
        yield Sleep(60)

    with pytest.raises(RequestTimeoutError):
        drive(flow, timeout=0.01)


@both
def test_what_is_no_effect_is_refused(drive: Any) -> None:
    def flow() -> Flow[None]:
        yield "a string"  # type: ignore[misc]

    with pytest.raises(PluginContractError, match="'str'"):
        drive(flow)


def test_a_cancelled_task_closes_its_flow() -> None:
    seen: list[str] = []

    def flow() -> Flow[None]:
        try:
            yield Wait(Future())
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    async def main() -> None:
        task = asyncio.create_task(arun(flow(), AAnswering(nothing), Deadline(30)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert seen == ["cancelled"]


# -- a call that is given up -------------------------------------------------------------------


class Arriving(Answering):
    """A transport whose answer never comes; whoever gives the call up wakes it."""

    def __init__(self) -> None:
        super().__init__(nothing)

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        woken = threading.Event()
        deadline.on_cancel(woken.set)
        woken.wait(30)
        raise ConnectionError("it was cut")


class AArriving(AAnswering):
    def __init__(self) -> None:
        super().__init__(nothing)

    async def send(  # type: ignore[override]
        self, request: HTTPRequest, deadline: Deadline
    ) -> HTTPResponse:
        await asyncio.sleep(30)
        raise AssertionError


def given_up(flow: Flow[Any], drive: Any, deadline: Deadline) -> None:
    """Drive a flow that is given up; whoever does so is in the flow itself, or elsewhere."""
    if drive is blocking:
        run(flow, Arriving(), deadline)
    else:
        asyncio.run(arun(flow, AArriving(), deadline))


@both
@pytest.mark.parametrize(
    "effect",
    [Sleep(30), Wait(Future()), Wait(Future(), 30), REQUEST],
    ids=lambda e: type(e).__name__,
)
def test_a_call_can_be_given_up_from_another_thread(drive: Any, effect: Any) -> None:
    deadline, ended = Deadline(None), list[BaseException]()

    def flow() -> Flow[None]:
        threading.Thread(target=deadline.cancel).start()
        try:
            yield effect
        except BaseException as error:
            ended.append(error)
            raise

    with pytest.raises(Cancelled):
        given_up(flow(), drive, deadline)
    assert type(ended[0]) in (GeneratorExit, asyncio.CancelledError)  # and no failure to retry


@both
def test_a_call_that_was_given_up_before_does_nothing_that_takes_time(drive: Any) -> None:
    deadline = Deadline(None)
    deadline.cancel()

    def flow() -> Flow[None]:
        yield Sleep(30)

    with pytest.raises(Cancelled):
        given_up(flow(), drive, deadline)


@both
def test_a_flow_that_goes_on_although_it_was_given_up_is_closed(drive: Any) -> None:
    deadline, seen = Deadline(None), list[str]()

    def flow() -> Flow[None]:
        threading.Thread(target=deadline.cancel).start()
        try:
            try:
                yield Sleep(30)
            except asyncio.CancelledError:
                seen.append("swallowed")
            yield REQUEST
        finally:
            seen.append("closed")

    with pytest.raises(Cancelled):
        given_up(flow(), drive, deadline)
    assert seen[-1] == "closed"


def asleep() -> Flow[None]:
    yield Sleep(30)


def cancelling() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


def test_a_task_whose_call_was_given_up_goes_on() -> None:
    async def work(deadline: Deadline) -> int:
        with pytest.raises(Cancelled):
            await arun(asleep(), AAnswering(nothing), deadline)
        await asyncio.sleep(0)
        return cancelling()

    async def main() -> int:
        deadline = Deadline(None)
        task = asyncio.create_task(work(deadline))
        await asyncio.sleep(0)
        deadline.cancel()
        deadline.cancel()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(main()) == 0


@pytest.mark.parametrize("first", ["the call", "the task"])
def test_a_task_that_is_cancelled_as_its_call_is_given_up_stays_cancelled(first: str) -> None:
    async def work(deadline: Deadline) -> int:
        with pytest.raises(asyncio.CancelledError):
            await arun(asleep(), AAnswering(nothing), deadline)
        return cancelling()

    async def main() -> int:
        deadline = Deadline(None)
        task = asyncio.create_task(work(deadline))
        await asyncio.sleep(0)
        if first == "the call":
            deadline.cancel()
        task.cancel()
        deadline.cancel()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(main()) == 1


def test_a_timeout_that_ends_as_the_call_is_given_up_stays_a_timeout() -> None:
    async def work(deadline: Deadline, limits: list[asyncio.Timeout]) -> int:
        with suppress(TimeoutError):
            async with asyncio.timeout(30) as limit:
                limits.append(limit)
                await arun(asleep(), AAnswering(nothing), deadline)
        assert limits[0].expired()
        return cancelling()

    async def main() -> int:
        deadline, limits = Deadline(None), list[asyncio.Timeout]()
        task = asyncio.create_task(work(deadline, limits))
        await asyncio.sleep(0)
        limits[0].reschedule(0.0)
        deadline.cancel()
        return await asyncio.wait_for(task, 10)

    assert asyncio.run(main()) == 0


def test_a_call_whose_loop_was_closed_can_still_be_given_up() -> None:
    deadline = Deadline(None)

    async def enter() -> None:
        deadline.__enter__()

    asyncio.run(enter())
    deadline.cancel()
    assert deadline.cancelled


def test_a_part_of_a_call_that_is_interrupted_ends_with_its_own_error() -> None:
    class Part(CancelScope):
        def error(self) -> Exception:
            return TimeoutError("too slow")

    async def main() -> int:
        part = Part()
        asyncio.get_running_loop().call_soon(part.interrupt)
        with pytest.raises(TimeoutError, match="too slow"), Deadline(None), part:
            await asyncio.sleep(30)
        with part:  # it was interrupted, and not given up: it can be used again
            await asyncio.sleep(0)
        return cancelling()

    assert asyncio.run(main()) == 0


def test_the_clock_of_a_deadline_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("lmgateway._drive.cancel.monotonic", lambda: now[0])
    deadline = Deadline(10)
    deadline.stop_clock()
    now[0] += 60
    assert deadline.remaining() == 10
    deadline.start_clock()
    now[0] += 4
    assert deadline.remaining() == 6
