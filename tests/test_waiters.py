"""A call that blocks an event loop waits for nothing that only that loop could bring."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import Any

import pytest
from support.fault_server import FaultServer, await_event, chunk, head, receive, reply, send, stall
from support.permits import held, queued

import lmgateway
from lmgateway import errors, get_lm
from lmgateway._drive.cancel import Deadline
from lmgateway._drive.futures import LockFreeFuture, waiters, waiting
from lmgateway._drive.loops import arun, run
from lmgateway._layers import singleflight
from lmgateway._layers.limit import limiters
from lmgateway.batch import process_batch
from lmgateway.batch import run as run_job
from lmgateway.testing import ScriptedLM
from lmgateway.types import Flow, Wait

LONG = 60.0
ANY: Any = None

JSON = {"Content-Type": "application/json"}
ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}
).encode()
VECTORS = json.dumps({"data": [{"index": 0, "embedding": [1.0]}]}).encode()
EVENTS = head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


def event(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, **more}
    return chunk(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())


OPENED = EVENTS + event("y")
CLOSED = event("es", finish_reason="stop") + chunk(b"data: [DONE]\n\n") + chunk(b"")


def answered_after(go_on: threading.Event) -> list[Any]:
    """What a server does with a request: it answers when it may."""
    return [receive(), await_event(go_on), send(head(200, JSON, length=len(ANSWER)) + ANSWER)]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    limiters.clear()
    yield
    assert not singleflight.flights
    assert not held() + queued()


@pytest.fixture(params=["aiohttp", "threads"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def in_time(main: Callable[[], Awaitable[Any]]) -> None:
    """Run a loop in a thread that may hang; a hang fails the test and nothing else."""
    failures: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(main())  # type: ignore[arg-type]
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(LONG)
    assert not thread.is_alive(), "it waits for itself"
    if failures:
        raise failures[0]


def model(server: FaultServer, transport: str, folder: Path, **keywords: Any) -> lmgateway.LM:
    """An LM without any end to its calls; ``in_flight`` is a limit of its provider."""
    places = keywords.pop("in_flight", None)
    file = folder / "lmgateway.toml"
    file.write_text(f"[limits.openai]\nin_flight = {places}\n" if places else "")
    options = {"timeout": None, "retries": 0, "temperature": 0, "transport": transport, **keywords}
    return get_lm("openai/m", api_base=server.url, api_key="sk-ours", config=str(file), **options)


# -- the ways to block the loop ----------------------------------------------------------------


def text_of(completion: Any) -> str:
    return str(completion["choices"][0]["text"])


def call(lm: lmgateway.LM, folder: Path) -> list[str]:
    return lm("same")


def complete(lm: lmgateway.LM, folder: Path) -> list[str]:
    return [text_of(lm.complete("same"))]


def batch(lm: lmgateway.LM, folder: Path) -> list[str]:
    return [text_of(each) for each in lm.batch(["same"])]


def batch_of_equals(lm: lmgateway.LM, folder: Path) -> list[str]:
    return [text_of(each) for each in lm.batch(["same", "same", "same"])][:1]


def batch_in_a_batch(lm: lmgateway.LM, folder: Path) -> list[str]:
    def inner(request: Any) -> str:
        return text_of(lm.batch(["same"])[0])

    return [text_of(each) for each in ScriptedLM(inner).batch(["outer"])]


def batch_in_a_callback(lm: lmgateway.LM, folder: Path) -> list[str]:
    outcomes: list[Any] = []

    def ask(seen: Any) -> None:
        if seen.provider == "echo":
            outcomes.extend(lm.batch(["same"], return_exceptions=True))

    with lmgateway.on_call(ask):
        get_lm("echo").batch(["outer"])
    if isinstance(outcomes[0], Exception):
        raise outcomes[0]
    return [text_of(each) for each in outcomes]


def loop_in_a_batch(lm: lmgateway.LM, folder: Path) -> list[str]:
    def inner(request: Any) -> str:
        return asyncio.run(lm.acall("same"))[0]

    return [text_of(each) for each in ScriptedLM(inner).batch(["outer"])]


def thread_of_a_loop_in_a_batch(lm: lmgateway.LM, folder: Path) -> list[str]:
    def inner(request: Any) -> str:
        return asyncio.run(asyncio.to_thread(lm, "same"))[0]  # type: ignore[arg-type]

    return [text_of(each) for each in ScriptedLM(inner).batch(["outer"])]


def rows(lm: lmgateway.LM, folder: Path) -> list[str]:
    row = process_batch(["same"], lm)[0]
    return [row["response"]["body"]["choices"][0]["message"]["content"]]


def job(lm: lmgateway.LM, folder: Path) -> list[str]:
    run_job(["same"], folder / "out.jsonl", lm)
    row = json.loads((folder / "out.jsonl").read_text())
    return [row["response"]["body"]["choices"][0]["message"]["content"]]


def job_whose_rows_ask(lm: lmgateway.LM, folder: Path) -> list[str]:
    asked: list[str] = []

    def made() -> Iterator[str]:
        asked.extend(lm("same"))
        yield "row"

    run_job(made(), folder / "out.jsonl", get_lm("echo"))
    return asked


def stream(lm: lmgateway.LM, folder: Path) -> list[str]:
    with lm.stream("same") as pieces:
        return ["".join(pieces)]


def embed(lm: lmgateway.LM, folder: Path) -> list[str]:
    lm.embed("same")
    return ["yes"]


def models(lm: lmgateway.LM, folder: Path) -> list[str]:
    lm.models()
    return ["yes"]


SHARING = [
    call,
    complete,
    batch,
    batch_of_equals,
    batch_in_a_batch,
    batch_in_a_callback,
    loop_in_a_batch,
    thread_of_a_loop_in_a_batch,
    rows,
    job,
    job_whose_rows_ask,
]
each_that_shares = pytest.mark.parametrize("way", SHARING)
each_way = pytest.mark.parametrize("way", [*SHARING, stream, embed, models])

Way = Callable[[lmgateway.LM, Path], list[str]]


# -- a flight ----------------------------------------------------------------------------------


@pytest.mark.loopback
@each_that_shares
def test_what_a_task_of_the_loop_is_being_answered_is_asked_without_sharing(
    way: Way, transport: str, tmp_path: Path
) -> None:
    go_on = threading.Event()
    with FaultServer(
        answered_after(go_on), [reply(ANSWER, 200, JSON)] * 9, *[[reply(ANSWER, 200, JSON)]] * 8
    ) as s:

        async def main() -> None:
            lm = model(s, transport, tmp_path)
            task = asyncio.create_task(lm.acall("same"))
            await asyncio.to_thread(s.await_requests, 1)
            try:
                assert way(lm, tmp_path) == ["yes"]
            finally:
                go_on.set()
            assert await task == ["yes"]
            await lm.aclose()

        in_time(main)


# -- places in flight --------------------------------------------------------------------------


async def by_a_task(lm: lmgateway.LM) -> Callable[[], Awaitable[object]]:
    task = asyncio.create_task(lm.acall("other"))

    async def end() -> None:
        assert await task == ["yes"]

    return end


async def by_an_open_stream(lm: lmgateway.LM) -> Callable[[], Awaitable[object]]:
    opened = lm.astream("other")
    assert await anext(opened) == "y"

    async def end() -> None:
        assert [piece async for piece in opened] == ["es"]

    return end


async def by_an_open_blocking_stream(lm: lmgateway.LM) -> Callable[[], Awaitable[object]]:
    opened = lm.stream("other")
    assert next(opened) == "y"

    async def end() -> None:
        assert list(opened) == ["es"]

    return end


@pytest.mark.loopback
@pytest.mark.parametrize("places", [1, 2])
@pytest.mark.parametrize("held", [by_a_task, by_an_open_stream, by_an_open_blocking_stream])
@each_way
def test_a_place_that_the_loop_holds_is_not_waited_for(
    way: Way, held: Any, places: int, transport: str, tmp_path: Path
) -> None:
    go_on = threading.Event()
    whole = held is by_a_task
    first = head(200, JSON, length=len(ANSWER)) if whole else OPENED
    rest = ANSWER if whole else CLOSED
    script = [receive(), send(first), await_event(go_on), send(rest), stall()]
    with FaultServer(*[script] * places) as server:

        async def main() -> None:
            lm = model(server, transport, tmp_path, in_flight=places, cache=False)
            ends = [await held(lm) for _ in range(places)]
            await asyncio.to_thread(server.await_requests, places)
            try:
                with pytest.raises(errors.RequestTimeoutError, match="could never end"):
                    way(lm, tmp_path)
            finally:
                go_on.set()
            for end in ends:
                await end()
            await lm.aclose()

        in_time(main)


@pytest.mark.loopback
@each_way
def test_a_place_that_the_loop_is_to_have_before_is_not_waited_for(
    way: Way, transport: str, tmp_path: Path
) -> None:
    """Another thread has the only one, and a task of the loop is the next."""
    go_on = threading.Event()
    again = reply(ANSWER, 200, JSON)
    with FaultServer([*answered_after(go_on), again], [again]) as server:

        async def main() -> None:
            lm = model(server, transport, tmp_path, in_flight=1, cache=False)
            elsewhere = asyncio.create_task(asyncio.to_thread(lm, "elsewhere"))
            await asyncio.to_thread(server.await_requests, 1)
            task = asyncio.create_task(lm.acall("next"))
            while not queued():
                await asyncio.sleep(0)
            try:
                with pytest.raises(errors.RequestTimeoutError, match="could never end"):
                    way(lm, tmp_path)
            finally:
                go_on.set()
            assert await elsewhere == await task == ["yes"]
            await lm.aclose()

        in_time(main)


@pytest.mark.loopback
@pytest.mark.parametrize("way", [batch, batch_of_equals, rows, job])
def test_the_places_that_the_loop_does_not_hold_are_used(
    way: Way, transport: str, tmp_path: Path
) -> None:
    go_on = threading.Event()
    with FaultServer(answered_after(go_on), [reply(ANSWER, 200, JSON)] * 9) as server:

        async def main() -> None:
            lm = model(server, transport, tmp_path, in_flight=2, cache=False)
            task = asyncio.create_task(lm.acall("other"))
            await asyncio.to_thread(server.await_requests, 1)
            try:
                assert way(lm, tmp_path) == ["yes"]
            finally:
                go_on.set()
            assert await task == ["yes"]
            await lm.aclose()

        in_time(main)


# -- who is not waited for shares and waits as ever --------------------------------------------


def in_a_thread(lm: lmgateway.LM) -> Awaitable[Any]:
    return asyncio.to_thread(lm, "same")


def in_an_executor(lm: lmgateway.LM) -> Awaitable[Any]:
    return asyncio.get_running_loop().run_in_executor(None, lm, "same")


def batch_in_a_thread(lm: lmgateway.LM) -> Awaitable[Any]:
    return asyncio.to_thread(batch, lm, Path())


def rows_in_a_thread(lm: lmgateway.LM) -> Awaitable[Any]:
    return asyncio.to_thread(rows, lm, Path())


async def abatch(lm: lmgateway.LM) -> list[str]:
    return [text_of(each) for each in await lm.abatch(["same"])]


@pytest.mark.loopback
@pytest.mark.parametrize(
    "keywords", [{}, {"in_flight": 1, "cache": False}], ids=["flight", "limit"]
)
@pytest.mark.parametrize(
    "way", [in_a_thread, in_an_executor, batch_in_a_thread, rows_in_a_thread, abatch]
)
def test_a_loop_that_goes_on_is_waited_for(
    way: Callable[[lmgateway.LM], Awaitable[Any]],
    keywords: dict[str, Any],
    transport: str,
    tmp_path: Path,
) -> None:
    go_on = threading.Event()
    again = reply(ANSWER, 200, JSON)
    with FaultServer([*answered_after(go_on), again], [again]) as server:

        async def main() -> None:
            lm = model(server, transport, tmp_path, **keywords)
            task = asyncio.create_task(lm.acall("same"))
            await asyncio.to_thread(server.await_requests, 1)
            waits = asyncio.ensure_future(way(lm))
            while not is_waited_for():
                await asyncio.sleep(0)
            assert len(server.requests) == 1
            go_on.set()
            assert await waits == await task == ["yes"]
            assert len(server.requests) == (2 if keywords else 1)
            await lm.aclose()

        in_time(main)


def is_waited_for() -> bool:
    flights = list(singleflight.flights.values())
    return any(each.future._done_callbacks for each in flights) or bool(queued())


@pytest.mark.loopback
def test_a_batch_that_blocks_a_loop_waits_for_the_place_of_another_thread(tmp_path: Path) -> None:
    go_on = threading.Event()
    again = reply(ANSWER, 200, JSON)
    with FaultServer([*answered_after(go_on), again], [again]) as server:

        async def main() -> None:
            lm = model(server, "threads", tmp_path, in_flight=1, cache=False)
            elsewhere = asyncio.create_task(asyncio.to_thread(lm, "elsewhere"))
            await asyncio.to_thread(server.await_requests, 1)

            def release() -> None:
                while not queued():
                    go_on.wait(0.005)
                go_on.set()

            threading.Thread(target=release, daemon=True).start()
            assert batch(lm, tmp_path) == ["yes"]
            assert await elsewhere == ["yes"]
            await lm.aclose()

        in_time(main)


# -- the waiters by themselves -----------------------------------------------------------------


def test_who_waits_is_known_where_it_is_waited_for_and_nowhere_else() -> None:
    assert waiters() == ()
    with waiting() as context:
        assert waiters() == ()  # the waiting thread itself
        assert context().run(waiters) == (threading.get_ident(),)
        assert copy_context().run(waiters) == ()  # as asyncio.to_thread does it


def test_who_waits_for_a_waiter_waits_as_well() -> None:
    found: list[tuple[int, ...]] = []

    def inner() -> None:
        with waiting() as context:
            found.append(context().run(waiters))

    with waiting() as context:
        thread = threading.Thread(target=context().run, args=(inner,))
        thread.start()
        thread.join(LONG)
    assert found == [(threading.get_ident(), thread.ident)]


def test_who_waits_no_longer_is_forgotten_in_what_outlives_the_wait() -> None:
    kept = None
    with suppress(KeyboardInterrupt), waiting() as context:
        kept = context()
        raise KeyboardInterrupt
    assert kept is not None
    assert kept.run(waiters) == ()


@pytest.mark.parametrize("driver", ["blocking", "awaiting"])
def test_a_driver_waits_for_no_thread_that_waits_for_it(driver: str) -> None:
    def flow() -> Flow[bool]:
        return (yield Wait(LockFreeFuture(), owner=threading.main_thread().ident))

    def work() -> bool:
        if driver == "blocking":
            return bool(run(flow(), ANY, Deadline(None)))
        return bool(asyncio.run(arun(flow(), ANY, Deadline(None))))

    with waiting() as context:
        assert context().run(work) is False
