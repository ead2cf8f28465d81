"""Limits: what a flow waits for, sync and async, and that every permit comes back."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from typing import Any

import pytest
from layers.flows import Pump, answer, awaited, call_of, notes
from support.fault_server import FaultServer, reply
from support.permits import held, queued

from lmgateway import LM, get_lm
from lmgateway._drive.loops import arun, run
from lmgateway._drive.workers import run_blocking
from lmgateway._layers.context import Attempt, Call, Send
from lmgateway._layers.limit import Limits, estimate, limit, limiter_for, limiters
from lmgateway.errors import ConnectionFailedError, InvalidSettingError, RequestTimeoutError
from lmgateway.lm import spec_of
from lmgateway.types import (
    Blocking,
    Exchange,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Request,
    Sleep,
    Wait,
)

POST = HTTPRequest("POST", "http://host.test", "/completions")
OK = HTTPResponse(200, body=b"{}")
ANY: Any = None  # the transport of flows that send nothing over it


@pytest.fixture(autouse=True)
def fresh_limiters() -> Iterator[None]:
    limiters.clear()
    yield
    assert not held() + queued()  # whatever a test did, every permit came back


class Server:
    """An innermost send that answers when it is told to."""

    def __init__(self) -> None:
        self.answers: list[Future[HTTPResponse]] = []

    def __call__(self, exchange: Exchange) -> Flow[Any]:
        answer: Future[HTTPResponse] = Future()
        self.answers.append(answer)
        yield Wait(answer)
        return answer.result()


def at_once(exchange: Exchange) -> Flow[Any]:
    return OK
    yield Sleep(0)


def exchange_of(
    limits: Limits,
    send: Send,
    *,
    call: Call | None = None,
    request: Request | None = None,
    exchange: Exchange = POST,
) -> Flow[Any]:
    """One attempt that makes one exchange."""
    attempt = Attempt(call or call_of(), request or Request("m", "Hi"))
    try:
        return (yield from limit(limits)(send, attempt)(exchange))
    finally:
        attempt.exit()


def until(condition: Callable[[], object]) -> None:
    """Wait for another thread; fails after 10 seconds."""
    limit = monotonic() + 10
    pause = threading.Event()
    while not condition():
        assert monotonic() < limit
        pause.wait(0.005)


async def auntil(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


def flying(limits: Limits) -> int:
    semaphore = limiter_for("scripted", limits).in_flight
    assert semaphore is not None
    return len(semaphore.held)


def waiting(limits: Limits) -> int:
    semaphore = limiter_for("scripted", limits).in_flight
    assert semaphore is not None
    return len(semaphore.queued)


ONE = Limits(in_flight=1)


# -- what may be configured --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rpm", "tpm", "in_flight"])
@pytest.mark.parametrize("value", [0, -1, True, "600", float("nan"), float("inf")])
def test_a_limit_that_means_nothing_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(InvalidSettingError, match=name):
        Limits(**{name: value})


def test_no_limits_are_false() -> None:
    assert not Limits()
    assert Limits(rpm=1)


def test_a_provider_has_one_limiter_in_the_process() -> None:
    with ThreadPoolExecutor(8) as pool:
        limiters = set(pool.map(lambda _: limiter_for("p", Limits(rpm=5)), range(50)))
    assert len(limiters) == 1
    assert limiter_for("q", Limits(rpm=5)) not in limiters


# -- in flight ---------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3])
def test_threads_and_loops_share_the_places(size: int) -> None:
    limits, server, call = Limits(in_flight=size), Server(), call_of()
    loops = [asyncio.new_event_loop() for _ in range(2)]

    def block() -> Any:
        return run(exchange_of(limits, server, call=call), ANY, call.deadline)

    def loop(loop: asyncio.AbstractEventLoop) -> Any:
        async def both() -> Any:
            flows = [exchange_of(limits, server, call=call) for _ in range(2)]
            return await asyncio.gather(*(arun(flow, ANY, call.deadline) for flow in flows))

        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            return runner.run(both())

    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(block) for _ in range(4)]
        answers += [pool.submit(loop, each) for each in loops]
        for done in range(8):
            until(lambda done=done: len(server.answers) == min(8, done + size))
            assert flying(limits) <= size
            server.answers[done].set_result(OK)
        outcomes = [answer.result(10) for answer in answers]
    assert outcomes == [OK] * 4 + [[OK, OK]] * 2


def test_a_failed_exchange_gives_its_place_back() -> None:
    def broken(exchange: Exchange) -> Flow[Any]:
        raise ConnectionFailedError("reset")
        yield Sleep(0)

    for _ in range(3):
        with pytest.raises(ConnectionFailedError):
            Pump().run(exchange_of(ONE, broken))


@awaited
async def test_a_cancelled_task_leaves_the_queue() -> None:
    server, call = Server(), call_of()
    first = asyncio.create_task(arun(exchange_of(ONE, server, call=call), ANY, call.deadline))
    await auntil(lambda: server.answers)
    second = asyncio.create_task(arun(exchange_of(ONE, server, call=call), ANY, call.deadline))
    await auntil(lambda: waiting(ONE))
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    assert waiting(ONE) == 0
    server.answers[0].set_result(OK)
    assert await first == OK


@awaited
async def test_a_task_that_is_cancelled_as_it_is_granted_a_place_gives_it_back() -> None:
    server, call = Server(), call_of()
    tasks = [
        asyncio.create_task(arun(exchange_of(ONE, server, call=call), ANY, call.deadline))
        for _ in range(3)
    ]
    await auntil(lambda: waiting(ONE) == 2)
    server.answers[0].set_result(OK)
    while waiting(ONE) == 2:
        await asyncio.sleep(0)
    assert len(server.answers) == 1  # the second has been granted the place and does not know yet
    tasks[1].cancel()
    await auntil(lambda: len(server.answers) == 2)
    server.answers[1].set_result(OK)
    assert await tasks[2] == OK
    assert tasks[1].cancelled()


def test_a_flow_that_is_closed_in_the_queue_leaves_it() -> None:
    server = Server()
    first, second = exchange_of(ONE, server), exchange_of(ONE, server)
    next(first), next(second)
    assert (flying(ONE), waiting(ONE)) == (1, 1)
    second.close()
    assert (flying(ONE), waiting(ONE)) == (1, 0)
    first.close()


def test_a_flow_that_is_dropped_gives_its_place_back() -> None:
    first, second = exchange_of(ONE, Server()), exchange_of(ONE, Server())
    next(first), next(second)
    del first
    gc.collect()
    assert (flying(ONE), waiting(ONE)) == (1, 0)
    second.close()


def test_the_deadline_holds_in_the_queue() -> None:
    first = exchange_of(ONE, Server())
    next(first)
    call = call_of(timeout=0.05)

    def wait() -> Any:
        return run(exchange_of(ONE, Server(), call=call), ANY, call.deadline)

    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(RequestTimeoutError, match="timeout of") as caught,
    ):
        pool.submit(wait).result(10)
    assert "waiting for one of the 1 places in flight" in notes(caught.value)
    assert waiting(ONE) == 0
    first.close()


def test_waiting_for_a_stream_of_ones_own_is_an_error_and_no_deadlock() -> None:
    first, call = exchange_of(ONE, Server()), call_of(timeout=None)
    next(first)
    with pytest.raises(RequestTimeoutError, match="this very thread") as caught:
        run(exchange_of(ONE, Server(), call=call), ANY, call.deadline)
    assert caught.value.retryable  # by another provider, not by this one at once
    assert caught.value.max_retries == 0
    first.close()


@awaited
async def test_blocking_in_a_loop_whose_tasks_hold_the_places_is_an_error() -> None:
    server, call = Server(), call_of(timeout=None)
    task = asyncio.create_task(arun(exchange_of(ONE, server, call=call), ANY, call.deadline))
    await auntil(lambda: server.answers)
    with pytest.raises(RequestTimeoutError, match=r"acall\(\)"):
        run(exchange_of(ONE, server, call=call), ANY, call.deadline)
    server.answers[0].set_result(OK)
    assert await task == OK


@pytest.mark.parametrize("ends", ["later", "at-once"])
@awaited
async def test_a_thread_that_cannot_be_stopped_keeps_the_place_of_its_cancelled_task(
    ends: str,
) -> None:
    thread: Future[None] = Future()
    call = call_of()

    def threaded(exchange: Exchange) -> Flow[Any]:
        try:
            yield Wait(Future())
        except asyncio.CancelledError as error:
            error.running = thread  # type: ignore[attr-defined]
            raise

    if ends == "at-once":
        thread.set_result(None)
    task = asyncio.create_task(arun(exchange_of(ONE, threaded, call=call), ANY, call.deadline))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    if ends == "later":
        assert flying(ONE) == 1
        thread.set_result(None)
    assert flying(ONE) == 0


# -- streams -----------------------------------------------------------------------------------


class Pieces:
    """A body of two pieces."""

    def __init__(self) -> None:
        self.pieces = [b"one", b"two"]
        self.closed = 0

    def read(self) -> Flow[bytes]:
        return self.pieces.pop(0) if self.pieces else b""
        yield Sleep(0)

    def close(self) -> None:
        self.closed += 1


def streamed(pieces: Pieces, seen: list[int], reads: int, attempt: Attempt) -> Flow[None]:
    """An attempt that reads a stream so many times; notes the places taken in between."""

    def send(exchange: Exchange) -> Flow[Any]:
        return HTTPResponse(200, source=pieces)
        yield Sleep(0)

    try:
        response = yield from limit(ONE)(send, attempt)(POST)
        seen.append(flying(ONE))
        for _ in range(reads):
            yield from response.source.read()
            seen.append(flying(ONE))
        if reads == 1:
            response.source.close()
            seen.append(flying(ONE))
    finally:
        attempt.exit()


@pytest.mark.parametrize(
    "reads, seen",
    [
        pytest.param(0, [1], id="never-read"),
        pytest.param(1, [1, 1, 0], id="closed-early"),
        pytest.param(3, [1, 1, 1, 0], id="read-to-its-end"),
    ],
)
def test_a_stream_holds_its_place_until_it_is_over(reads: int, seen: list[int]) -> None:
    noted: list[int] = []
    pieces = Pieces()
    Pump().run(streamed(pieces, noted, reads, Attempt(call_of(), Request("m", "Hi"))))
    assert noted == seen
    assert pieces.closed == (1 if reads == 1 else 0)
    assert flying(ONE) == 0


def test_a_streams_place_belongs_to_its_reader() -> None:
    attempt = Attempt(call_of(), Request("m", "Hi"))
    flow = streamed(Pieces(), [], 1, attempt)

    def send(exchange: Exchange) -> Flow[Any]:
        return HTTPResponse(200, source=Pieces())
        yield Sleep(0)

    response = Pump().run(limit(ONE)(send, attempt)(POST))
    with ThreadPoolExecutor(1) as pool:  # another thread goes on reading
        pool.submit(Pump().run, response.source.read()).result(10)
    second = exchange_of(ONE, Server())
    wait = next(second)
    assert isinstance(wait, Wait)
    assert wait.owner is None
    second.close()
    attempt.exit()
    flow.close()


def test_an_answer_that_came_whole_holds_nothing() -> None:
    attempt = Attempt(call_of(), Request("m", "Hi"))
    for _ in range(2):  # a provider may make several exchanges in one attempt
        Pump().run(limit(ONE)(at_once, attempt)(POST))
        assert flying(ONE) == 0


# -- work in the process -----------------------------------------------------------------------


def in_worker(exchange: Exchange) -> Flow[Any]:
    assert isinstance(exchange, Blocking)
    return run_blocking(exchange)


def test_work_in_the_process_takes_a_place_until_it_ends() -> None:
    call = call_of()
    outcome = run(
        exchange_of(ONE, in_worker, call=call, exchange=Blocking(lambda: flying(ONE))),
        ANY,
        call.deadline,
    )
    assert outcome == 1
    until(lambda: flying(ONE) == 0)


def test_abandoned_work_keeps_its_place_until_the_worker_ends() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)

    flow = exchange_of(ONE, in_worker, exchange=Blocking(work))
    next(flow)
    assert begun.wait(10)
    flow.close()
    assert flying(ONE) == 1
    go_on.set()
    until(lambda: flying(ONE) == 0)


def test_a_wait_for_a_worker_of_a_call_of_this_thread_can_end() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)

    first = exchange_of(ONE, in_worker, exchange=Blocking(work))
    next(first)
    assert begun.wait(10)
    second = exchange_of(ONE, at_once)
    wait = next(second)
    assert isinstance(wait, Wait)
    assert wait.owner is None
    go_on.set()
    assert wait.future.result(10) is None
    with pytest.raises(StopIteration):
        second.send(True)
    first.close()


def test_work_that_had_not_begun_when_it_was_abandoned_never_runs() -> None:
    kept: list[Blocking] = []
    ran: list[int] = []

    def later(exchange: Exchange) -> Flow[Any]:
        assert isinstance(exchange, Blocking)
        kept.append(exchange)
        yield Wait(Future())

    flow = exchange_of(ONE, later, exchange=Blocking(lambda: ran.append(1)))
    next(flow)
    flow.close()
    assert flying(ONE) == 0
    kept[0].fn()
    assert ran == []


def test_streamed_work_may_begin_after_its_head_was_answered() -> None:
    kept: list[Blocking] = []
    attempt = Attempt(call_of(), Request("m", "Hi"))

    def head_first(exchange: Exchange) -> Flow[Any]:
        assert isinstance(exchange, Blocking)
        kept.append(exchange)
        return HTTPResponse(200, source=Pieces())
        yield Sleep(0)

    pushed: list[bytes] = []
    work = Blocking(lambda push: push(b"piece"), stream=True)
    Pump().run(limit(ONE)(head_first, attempt)(work))
    assert flying(ONE) == 1
    kept[0].fn(pushed.append)
    assert pushed == [b"piece"]
    assert flying(ONE) == 0
    attempt.exit()


# -- requests and tokens a minute --------------------------------------------------------------


def sleeps(limits: Limits, count: int, **more: Any) -> list[float]:
    pump = Pump()
    for _ in range(count):
        pump.run(exchange_of(limits, at_once, **more))
    return pump.sleeps


def test_requests_are_spread_over_the_minute() -> None:
    assert sleeps(Limits(rpm=60), 3) == pytest.approx([1.0, 2.0], abs=0.2)


def test_a_seconds_worth_of_requests_leaves_at_once() -> None:
    assert len(sleeps(Limits(rpm=600), 12)) == 2


def test_tokens_are_estimated_from_the_text_and_the_longest_answer() -> None:
    request = Request("m", "x" * 40, params={"max_tokens": 50, "n": 2})
    assert estimate(request) == 1 + 10 + 100
    assert sleeps(Limits(tpm=6660), 2, request=request) == []
    assert sleeps(Limits(tpm=111), 2, request=request) == pytest.approx([59.0], abs=0.2)


def test_an_image_is_not_text() -> None:
    parts = [
        {"type": "text", "text": "x" * 400},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "x" * 100_000}},
    ]
    request = Request("m", messages=[{"role": "user", "content": parts}])
    assert 100 <= estimate(request) < 110


@pytest.mark.parametrize(
    "usage",
    [
        pytest.param({"total_tokens": 600}, id="total"),
        pytest.param({"prompt_tokens": 500, "completion_tokens": 100}, id="parts"),
    ],
)
def test_usage_corrects_the_estimate(usage: Any) -> None:
    limits, attempt = Limits(tpm=600), Attempt(call_of(), Request("m", "x" * 400))
    Pump().run(limit(limits)(at_once, attempt)(POST))
    attempt.commit(answer(usage=usage))
    assert sleeps(limits, 1) == pytest.approx([59.0], abs=0.5)


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param([{"id": "m"}], id="a list of models"),
        pytest.param(answer(usage={"prompt_tokens": 1, "completion_tokens": None}), id="None"),
        pytest.param(answer(usage={"total_tokens": "600"}), id="a str"),
        pytest.param({**answer(), "usage": None}, id="no usage"),
    ],
)
def test_an_answer_that_tells_of_no_tokens_is_none_the_worse(outcome: Any) -> None:
    limits, attempt = Limits(tpm=600), Attempt(call_of(), Request("m", "Hi"))
    Pump().run(limit(limits)(at_once, attempt)(POST))
    attempt.commit(outcome)


@pytest.mark.loopback
def test_texts_to_embed_count_before_they_are_sent() -> None:
    listed = b'{"data": [{"index": 0, "embedding": [1.0]}]}'
    with FaultServer([reply(listed)]) as server:
        lm = get_lm("openai", model="m", api_base=server.url, api_key="k", retries=0, timeout=5)
        lm = LM(dataclasses.replace(spec_of(lm), layers=(limit(Limits(tpm=600)),)))
        lm.embed("word " * 800)
        with pytest.raises(RequestTimeoutError, match="600 tokens a minute"):
            lm.embed("word " * 800)
        assert len(server.requests) == 1


def test_an_answer_that_was_not_sent_for_corrects_nothing() -> None:
    limits, attempt = Limits(tpm=600), Attempt(call_of(), Request("m", "Hi"))
    sleeps(limits, 1)
    limit(limits)(at_once, attempt)
    attempt.commit(answer(usage={"total_tokens": 600}))
    assert sleeps(limits, 1) == []


def test_a_wait_beyond_the_deadline_is_an_error_at_once() -> None:
    limits = Limits(rpm=1)
    sleeps(limits, 1)
    flow = exchange_of(limits, at_once, call=call_of(timeout=5.0))
    with pytest.raises(
        RequestTimeoutError, match=r"limit of 1 requests a minute would delay this call by 60 s"
    ) as caught:
        Pump().run(flow)
    assert (caught.value.retryable, caught.value.max_retries) == (True, 0)
    assert sleeps(limits, 1) == pytest.approx([60.0], abs=0.2)


def test_what_a_refused_call_had_reserved_is_given_back() -> None:
    limits = Limits(rpm=60, tpm=1)
    sleeps(limits, 1)
    for _ in range(5):
        with pytest.raises(RequestTimeoutError, match="tokens a minute"):
            Pump().run(exchange_of(limits, at_once, call=call_of(timeout=5.0)))
    rate = limiter_for("scripted", limits).requests
    assert rate is not None
    assert rate.reserve(1, 1.5) != pytest.approx(2.0, abs=0.5)


def test_a_call_that_is_closed_while_it_sleeps_gives_its_turn_back() -> None:
    limits = Limits(rpm=60)
    sleeps(limits, 1)
    flow = exchange_of(limits, at_once)
    assert isinstance(next(flow), Sleep)
    flow.close()
    assert sleeps(limits, 1) == pytest.approx([1.0], abs=0.2)
