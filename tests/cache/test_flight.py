from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.collector import LINES, Collector
from support.fault_server import FaultServer, await_event, head, receive, reply, stall
from support.fault_server import send as sends
from support.service import AsyncService, Where, World, embedded, says

from lmgateway import LM, errors, get_lm
from lmgateway._drive.loops import advance, run
from lmgateway._layers import singleflight
from lmgateway.types import Completion, Emit, HTTPRequest, HTTPResponse, Request, send


def together(world: World, count: int, answer: Any = None, **options: Any) -> list[Future[Any]]:
    """Calls that all ask the same while the first is in flight; they have ended on return."""
    world.service.gate = threading.Event()
    if answer is not None:
        world.service.answer = answer
    with ThreadPoolExecutor(count) as pool:
        leader = pool.submit(world.ask, **options)
        assert world.service.arrived.acquire(timeout=10)
        followers = [pool.submit(world.ask, **options) for _ in range(count - 1)]
        wait_for(lambda: waiting() == count - 1)
        world.service.gate.set()
    return [leader, *followers]


def waiting() -> int:
    """How many wait for a flight."""
    return sum(len(one.future._done_callbacks) for one in list(singleflight.flights.values()))


def wait_for(condition: Callable[[], bool]) -> None:
    tick = threading.Event()
    for _ in range(2000):
        if condition():
            return
        tick.wait(0.005)
    raise AssertionError("it never came to that")


def test_a_hundred_equal_calls_at_once_send_one(world: World) -> None:
    answers = [future.result() for future in together(world, 100)]
    assert len(world.service.requests) == 1
    assert sorted(answer["cached"] for answer in answers) == [False] + [True] * 99
    assert len({answer["choices"][0]["text"] for answer in answers}) == 1
    assert not singleflight.flights


def test_followers_share_no_object(world: World) -> None:
    one, two = (future.result() for future in together(world, 2))
    one["choices"][0]["text"] = "spoilt"
    assert two["choices"][0]["text"].startswith("answer")


def test_followers_of_blocking_work_share_no_object(world: World) -> None:
    gate, begun, ran = threading.Event(), threading.Event(), []
    outcome = {"deep": ["x"]}

    def work() -> Any:
        ran.append(1)
        begun.set()
        gate.wait(10)
        return outcome

    world.provider = embedded(work, {"model": "sha"})
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(world.ask)
        assert begun.wait(10)
        follower = pool.submit(world.ask)
        wait_for(lambda: waiting() >= 1 and len(singleflight.flights) == 1)
        gate.set()
    raw = follower.result()["raw"]
    assert raw == leader.result()["raw"] == outcome
    assert len(ran) == 1
    assert raw is not outcome
    assert raw["deep"] is not outcome["deep"]


def test_different_calls_do_not_wait_for_each_other(world: World) -> None:
    world.service.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(world.ask, prompt) for prompt in ("a", "b")]
        assert all(world.service.arrived.acquire(timeout=10) for _ in range(2))
        world.service.gate.set()
    assert len({future.result()["choices"][0]["text"] for future in futures}) == 2


def test_what_is_not_cached_is_not_shared(world: World) -> None:
    world.service.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(world.ask, temperature=1) for _ in range(2)]
        assert all(world.service.arrived.acquire(timeout=10) for _ in range(2))
        world.service.gate.set()
    assert [future.result()["cached"] for future in futures] == [False, False]


def refuse(error: Exception) -> Any:
    def answer(request: HTTPRequest) -> HTTPResponse:
        raise error

    return answer


def test_a_typed_error_is_shared_as_copies(world: World) -> None:
    error = errors.ConnectionFailedError("reset")
    raised = [future.exception() for future in together(world, 20, refuse(error))]
    assert len(world.service.requests) == 1
    assert {type(one) for one in raised} == {errors.ConnectionFailedError}
    assert len({id(one) for one in raised}) == 20
    assert all(one.retryable for one in raised)  # type: ignore[union-attr]


def test_an_error_status_is_shared_with_its_headers(world: World) -> None:
    raised = [future.exception() for future in together(world, 5, lambda _: says("x", 429))]
    assert len(world.service.requests) == 1
    assert {(type(one), one.retry_after) for one in raised} == {  # type: ignore[union-attr]
        (errors.RateLimitError, 7.0)
    }


def test_a_bad_answer_is_shared_and_each_says_so(world: World) -> None:
    bad = HTTPResponse(200, {}, b"{}")
    raised = [future.exception() for future in together(world, 5, lambda _: bad)]
    assert len(world.service.requests) == 1
    assert {type(one) for one in raised} == {errors.ResponseFormatError}


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda _: says("x", 401), id="a refused key"),
        pytest.param(lambda _: says("x", 403), id="a forbidden model"),
        pytest.param(refuse(errors.MissingCredentialError("no key")), id="no key"),
        pytest.param(refuse(RuntimeError("a bug")), id="a bug"),
    ],
)
def test_a_failure_of_the_leaders_own_is_not_shared(world: World, answer: Any) -> None:
    raised = [future.exception() for future in together(world, 5, answer)]
    assert None not in raised
    assert len(world.service.requests) == 5


def test_a_leader_interrupted_lands_nothing_and_one_takes_over(world: World) -> None:
    first = threading.Event()

    def answer(request: HTTPRequest) -> HTTPResponse:
        if not first.is_set():
            first.set()
            raise KeyboardInterrupt
        return says("good")

    leader, *followers = together(world, 10, answer)
    assert isinstance(leader.exception(), KeyboardInterrupt)
    assert {future.result()["choices"][0]["text"] for future in followers} == {"good"}
    assert len(world.service.requests) == 2


def test_a_leader_out_of_time_lands_nothing_and_one_takes_over(world: World) -> None:
    first = threading.Event()

    def answer(request: HTTPRequest) -> HTTPResponse:
        if not first.is_set():
            first.set()
            assert world_call.deadline.timeout is not None
            world_call.deadline.expires_at = 0.0
            raise errors.RequestTimeoutError("too late")
        return says("good")

    flow, world_call = world.flow("q", {"temperature": 0})
    world.service.answer = answer
    world.service.gate = threading.Event()
    with ThreadPoolExecutor(5) as pool:
        leader = pool.submit(run, flow, world.service, world_call.deadline)
        assert world.service.arrived.acquire(timeout=10)
        followers = [pool.submit(world.ask) for _ in range(4)]
        wait_for(lambda: waiting() == 4)
        world.service.gate.set()
    assert isinstance(leader.exception(), errors.RequestTimeoutError)
    assert {future.result()["choices"][0]["text"] for future in followers} == {"good"}
    assert len(world.service.requests) == 2


def test_a_follower_keeps_its_own_deadline(world: World) -> None:
    world.service.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(world.ask)
        assert world.service.arrived.acquire(timeout=10)
        follower = pool.submit(world.ask, timeout=0.05)
        assert isinstance(follower.exception(timeout=10), errors.RequestTimeoutError)
        world.service.gate.set()
        assert not leader.result()["cached"]


def test_a_call_on_the_leaders_own_thread_goes_alone(world: World) -> None:
    inner: list[Completion] = []

    def answer(request: HTTPRequest) -> HTTPResponse:
        if not inner:
            inner.append({"prompt": "", "choices": []})
            inner.append(world.ask())
        return says("good")

    world.service.answer = answer
    assert not world.ask()["cached"]
    assert inner[1]["choices"][0]["text"] == "good"


def test_a_provider_may_ask_the_same_twice_in_one_call(world: World) -> None:
    def twice(request: Request) -> Any:
        exchange = HTTPRequest("POST", None, "/completions", json={"p": request.prompt})
        yield from send(exchange)
        yield from send(exchange)
        return {"choices": [{"text": "x"}]}

    world.provider = twice
    flow, call = world.flow("q", {"temperature": 0, "timeout": 5.0})

    async def main() -> Completion:
        from lmgateway._drive.loops import arun

        return await arun(flow, AsyncService(world.service), call.deadline)

    assert asyncio.run(main())["choices"][0]["text"] == "x"


def test_without_a_base_it_waits_for_none_with_one(world: World) -> None:
    world.service.gate = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        leader = pool.submit(world.ask)
        assert world.service.arrived.acquire(timeout=10)
        homeless = World(world.layer, world.service, Where(base_url=None))
        with pytest.raises(errors.MissingCredentialError):
            homeless.ask()
        world.service.gate.set()
        leader.result()


CHAT = json.dumps({"choices": [{"message": {"content": "Paris."}}]}).encode()


def account(server: FaultServer, **options: Any) -> LM:
    mine = {"api_key": "sk-ours", "temperature": 0, "retries": 0, "timeout": 10.0, **options}
    return get_lm("openai", model="m", api_base=f"{server.url}/v1", **mine)


@pytest.mark.loopback
@pytest.mark.parametrize(
    "other",
    [
        {"api_key": "sk-theirs"},
        {"headers": {"X-Team": "theirs"}},
        {"max_body": 1000},
        {"idle_timeout": 20.0},
        {"connect_timeout": 5.0},
    ],
    ids=lambda other: next(iter(other)),
)
def test_who_asks_as_another_or_within_other_limits_asks_alone(
    other: dict[str, Any], file: Path
) -> None:
    go_on = threading.Event()
    refused = head(400, length=2) + b"{}"
    with FaultServer([receive(), await_event(go_on), sends(refused)], [reply(CHAT)]) as server:
        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(account(server), "q")
            server.await_requests(1)
            assert pool.submit(account(server, **other), "q").result(10) == ["Paris."]
            go_on.set()
        assert isinstance(leader.exception(), errors.InvalidRequestError)


@pytest.mark.loopback
def test_equal_lms_share_a_flight(file: Path) -> None:
    go_on = threading.Event()
    answered = head(200, length=len(CHAT)) + CHAT
    with FaultServer([receive(), await_event(go_on), sends(answered), stall()]) as server:
        with ThreadPoolExecutor(2) as pool:
            leader = pool.submit(account(server), "q")
            server.await_requests(1)
            follower = pool.submit(account(server), "q")
            wait_for(lambda: waiting() == 1)
            go_on.set()
        assert leader.result() == follower.result() == ["Paris."]
        assert len(server.requests) == 1


def test_nobody_waits_for_a_reader_who_pauses(world: World) -> None:
    def provider(request: Request) -> Any:
        yield from send(HTTPRequest("POST", None, "/completions", json={"p": request.prompt}))
        if request.stream:
            yield Emit("x")
        return {"choices": [{"text": "x"}]}

    world.provider = provider
    paused, call = world.flow("q", {"temperature": 0}, stream=True)
    assert isinstance(advance(paused, world.service, call.deadline), Emit)
    assert world.ask(timeout=10)["choices"][0]["text"] == "x"
    paused.close()


# -- on an event loop --------------------------------------------------------------------------


def test_a_hundred_equal_tasks_send_one(world: World) -> None:
    async def main() -> list[Completion]:
        service = AsyncService(world.service)
        service.gate = asyncio.Event()
        tasks = [asyncio.create_task(world.aask("q", service)) for _ in range(100)]
        await asyncio.sleep(0)
        service.gate.set()
        return list(await asyncio.gather(*tasks))

    answers = asyncio.run(main())
    assert len(world.service.requests) == 1
    assert sum(answer["cached"] for answer in answers) == 99


def test_a_cancelled_leader_lets_one_task_take_over(world: World) -> None:
    async def main() -> list[Any]:
        service = AsyncService(world.service)
        service.gate = asyncio.Event()
        tasks = [asyncio.create_task(world.aask("q", service)) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        service.gate.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    cancelled, *answers = asyncio.run(main())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert len(world.service.requests) == 2
    assert sum(answer["cached"] for answer in answers) == 8


def test_a_cancelled_follower_leaves_the_others_alone(world: World) -> None:
    async def main() -> list[Any]:
        service = AsyncService(world.service)
        service.gate = asyncio.Event()
        tasks = [asyncio.create_task(world.aask("q", service)) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        service.gate.set()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    leader, cancelled, follower = asyncio.run(main())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert (leader["cached"], follower["cached"]) == (False, True)
    assert len(world.service.requests) == 1


def test_threads_and_loops_share_a_flight(world: World) -> None:
    world.service.gate = threading.Event()
    with ThreadPoolExecutor(2) as pool:
        leader = pool.submit(world.ask)
        assert world.service.arrived.acquire(timeout=10)
        task = pool.submit(lambda: asyncio.run(world.aask("q", AsyncService(world.service))))
        wait_for(lambda: waiting() == 1)
        world.service.gate.set()
    assert (leader.result()["cached"], task.result()["cached"]) == (False, True)


# -- the flight itself -------------------------------------------------------------------------


def test_only_the_first_landing_counts() -> None:
    led, leads = singleflight.join("key")
    assert leads
    led.done(singleflight.Result(b"one"))
    led.done(singleflight.NO_RESULT)
    assert led.future.result() == singleflight.Result(b"one")
    again, leads = singleflight.join("key")
    assert leads
    led.done(singleflight.NO_RESULT)  # a late one must not end its successor
    assert not again.future.done()
    again.done(singleflight.NO_RESULT)


@pytest.mark.parametrize("number", LINES)
def test_the_collector_may_drop_a_leader_while_another_joins(number: int) -> None:
    led, _ = singleflight.join("key")
    joined: list[tuple[singleflight.Flight, bool]] = []

    def join() -> None:
        with Collector(singleflight, number, lambda: led.done(singleflight.NO_RESULT)):
            joined.append(singleflight.join("key"))

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    led.done(singleflight.NO_RESULT)
    own, leads = joined[0]
    assert leads or own is led
    own.done(singleflight.NO_RESULT)
    assert not singleflight.flights


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_child_waits_for_no_leader_of_its_parent() -> None:
    led, _ = singleflight.join("key")
    child = os.fork()
    if child == 0:
        os._exit(0 if singleflight.join("key")[1] else 1)
    led.done(singleflight.NO_RESULT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
