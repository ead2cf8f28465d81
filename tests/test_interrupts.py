"""Ctrl-C at every instruction of a blocking call: places, flights and locks come back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from layers.flows import call_of
from support.collector import Tracer
from support.permits import held, queued

import lmgateway
from lmgateway import LM, get_lm, hookimpl
from lmgateway._call import cleanup
from lmgateway._drive.futures import LockFreeFuture, start
from lmgateway._drive.workers import Workers
from lmgateway._layers import limit, singleflight
from lmgateway._layers.context import Attempt
from lmgateway._layers.limit import limiters
from lmgateway._layers.permits import RateLimiter, Reservation, Semaphore
from lmgateway._store.serialization import Key
from lmgateway._store.sqlite import Store
from lmgateway._transports import leases, watchdog
from lmgateway._transports.leases import Leases
from lmgateway._transports.protocols import BodySource
from lmgateway._transports.watchdog import Guard
from lmgateway.lm import spec_of
from lmgateway.testing import lm_from
from lmgateway.types import (
    Answer,
    Blocking,
    Cleanup,
    Emit,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Request,
    read,
    send,
)
from lmgateway.types import kept as keep
from lmgateway.wire.auth import Token

LONG = 30.0
SOAK = Path(__file__).with_name("soak") / "interrupts.py"

#: Where each instruction is struck. Beyond, only where the interpreter looks for signals: a
#: `with lock:` is safe there, though not between its last instruction and the lock's own code.
_CORE = Path(lmgateway.__file__).parent
STRUCK = {
    *map(str, (_CORE / "_layers").glob("*.py")),
    *(str(_CORE / "_call" / f"{name}.py") for name in ("attempt", "cleanup", "hook")),
    *(str(_CORE / "_drive" / f"{name}.py") for name in ("futures", "loops", "streams")),
}
PLACES = 500  # instructions at which a call is struck, of all that it runs
EVERY = 10**6
#: Evenly over the call, and each of them where there is time.
PLACED = pytest.mark.parametrize(
    "places", [PLACES, pytest.param(EVERY, marks=pytest.mark.soak, id="every")]
)


#: Since Python 3.12 a frame tells of its instructions only where its code told of them before, so
#: that two runs do not count alike; there, lines have to do.
EACH = "opcode" if sys.version_info < (3, 12) else "line"
LEAST = 1000 if EACH == "opcode" else 150  # a call has more


class Striker(Tracer):
    """Raises KeyboardInterrupt before the ``number``-th instruction of what is struck."""

    def __init__(self, number: int) -> None:
        super().__init__(STRUCK, number, strike_now, EACH)


def strike_now() -> None:
    raise KeyboardInterrupt


# -- a service in the process ------------------------------------------------------------------

ANSWER = {"choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}]}
PIECES = [
    b'data: {"choices": [{"index": 0, "delta": {"content": "y"}}]}\n\n',
    b'data: {"choices": [{"index": 0, "delta": {"content": "es"}, "finish_reason": "stop"}]}\n\n',
    b"data: [DONE]\n\n",
]
EVENTS = {"Content-Type": "text/event-stream"}


class Body:
    """A body in pieces."""

    def __init__(self) -> None:
        self._pieces = [*PIECES, b""]

    def read(self, deadline: Any) -> bytes:
        return self._pieces.pop(0)

    def close(self) -> None:
        pass


class Service:
    """A transport that answers everything."""

    def send(self, request: HTTPRequest, deadline: Any) -> HTTPResponse:
        if request.stream:
            return HTTPResponse(200, EVENTS, source=BodySource(Body()))
        return HTTPResponse(200, {"Content-Type": "application/json"}, json.dumps(ANSWER).encode())


def hold(_: Leases, kind: str, options: Any) -> Any:
    return Service()


@pytest.fixture
def lm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LM]:
    """With a cache, one permit and both rates."""
    monkeypatch.setattr(Leases, "hold", hold)
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path))
    config = tmp_path / "lmgateway.toml"
    config.write_text("[limits.openai]\nin_flight = 1\nrpm = 1e9\ntpm = 1e9\n")
    limiters.clear()
    options = {"temperature": 0, "retries": 0, "timeout": LONG, "config": str(config)}
    with get_lm("openai/m", api_base="http://host.test", api_key="sk-ours", **options) as lm:
        yield lm


class Careless:
    """A provider that never closes what it opens, and works in the process as well."""

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        asked = HTTPRequest("POST", "http://host.test", "/x", json={}, stream=True)
        response = yield from send(asked)
        yield from read(response)
        yield Emit("y")
        return {"prompt": "", "choices": [{"text": "y"}]}

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        text = yield from send(Blocking(lambda: "yes", key=request.prompt))
        return {"prompt": "", "choices": [{"text": text}]}


@pytest.fixture
def careless(lm: LM) -> LM:
    """A model of it, with a cache and one place in flight."""
    made = lm_from(Careless(), "careless", model="m", cache=True)
    return LM(spec_of(made).with_layers(limit.limit(limit.Limits(in_flight=1))))


class Fetching:
    """A provider whose token runs out at once, so that each call fetches one."""

    def fetch(self) -> Flow[Any]:
        yield from send(HTTPRequest("POST", "http://host.test", "/token", json={}, keep=False))
        return "the-token", 0

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        token = Token("of the interrupts", self.fetch)
        yield from send(HTTPRequest("POST", "http://host.test", "/x", json={}, auth=token))
        return {"prompt": "", "choices": [{"text": "yes"}]}


def nothing_is_taken() -> None:
    assert not held() + queued()
    assert not singleflight.flights


# -- the calls that are struck -----------------------------------------------------------------


def whole(lm: LM, prompt: str) -> None:
    assert lm(prompt) == ["yes"]


def streamed(lm: LM, prompt: str) -> None:
    assert "".join(lm.stream(prompt)) == "yes"


def streamed_in_a_block(lm: LM, prompt: str) -> None:
    with lm.stream(prompt) as pieces:
        assert list(pieces) == ["y", "es"]


def left(lm: LM, prompt: str) -> None:
    with lm.stream(prompt) as pieces:
        assert next(pieces) == "y"


def dropped(lm: LM, prompt: str) -> None:
    assert next(lm.stream(prompt)) == "y"


def embedded(lm: LM, prompt: str) -> None:
    with_suppressed_shape(lm.embed, prompt)


def with_suppressed_shape(ask: Callable[[str], object], prompt: str) -> None:
    try:
        ask(prompt)
    except lmgateway.ResponseFormatError:  # the service answers as to a chat
        return


CALLS = [whole, streamed, streamed_in_a_block, left, dropped, embedded]
Ask = Callable[[LM, str], None]


def strike(call: Ask, lm: LM, places: int, like: Ask | None = None) -> Iterator[BaseException]:
    """Strike a call at so many of its instructions, evenly; gives what came of each.

    Args:
        call: What is struck.
        lm: Who is asked.
        places: How often.
        like: What has as many instructions, where the call's own number is by chance.
    """
    call(lm, "warm")
    with Striker(0) as striker:
        (like or call)(lm, "counted")
    assert striker.count > LEAST
    for number in range(1, striker.count + 1, max(1, striker.count // places)):
        try:
            with Striker(number):
                call(lm, f"struck {number}")
        except KeyboardInterrupt as error:
            yield error


# What strikes while a dropped stream is closed by the collector is told to nobody.
unheard = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.mark.slow
@unheard
@PLACED
@pytest.mark.parametrize("call", CALLS)
def test_nothing_stays_taken_wherever_it_strikes(call: Ask, places: int, lm: LM) -> None:
    struck = 0
    for error in strike(call, lm, places):
        struck += 1
        error.__traceback__ = None
        nothing_is_taken()
        whole(lm, f"next {struck}")
    assert struck > min(places, LEAST) // 2


def streamed_carelessly(lm: LM, prompt: str) -> None:
    assert list(lm.stream(prompt)) == ["y"]


@pytest.mark.slow
@unheard
@pytest.mark.parametrize("call", [whole, streamed_carelessly, left])
def test_nothing_stays_taken_of_a_careless_provider(call: Ask, careless: LM) -> None:
    for error in strike(call, careless, 5000):  # that is every one
        error.__traceback__ = None
        wait_for_workers()
        nothing_is_taken()


@pytest.mark.slow
def test_nobody_waits_for_a_token_whose_fetching_was_struck(lm: LM) -> None:
    with lm_from(Fetching(), "fetching", model="m") as made:
        for error in strike(whole, made, 1000):
            error.__traceback__ = None
            nothing_is_taken()


def wait_for_workers() -> None:
    """Work in the process has its place until it ends."""
    moment = threading.Event()
    for _ in range(5000):
        if not held():
            break
        moment.wait(0.001)


class Jobs:
    """A provider whose jobs are kept as one, and are to be cancelled when they are left."""

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        text = yield from keep({"q": request.prompt}, self.job())
        return {"prompt": "", "choices": [{"text": text}]}

    def job(self) -> Flow[str]:
        yield from send(HTTPRequest("POST", "http://host.test", "/jobs", json={}))
        yield Cleanup(HTTPRequest("DELETE", "http://host.test", "/jobs/1"))
        yield from send(HTTPRequest("GET", "http://host.test", "/jobs/1", keep=False))
        return "yes"


@pytest.mark.slow
@PLACED
def test_no_thread_waits_for_a_flow_that_was_struck(places: int, lm: LM) -> None:
    made = lm_from(Jobs(), "jobs", model="m", cache=True)
    jobs = LM(spec_of(made).with_layers(limit.limit(limit.Limits(in_flight=1))))
    moment = threading.Event()
    for error in strike(whole, jobs, places):
        error.__traceback__ = None
        nothing_is_taken()
        for _ in range(5000):
            if not cleanup._waiting:
                break
            moment.wait(0.001)
        assert not cleanup._waiting


@pytest.mark.slow
@pytest.mark.parametrize("call", [whole, embedded])
def test_nothing_stays_taken_while_a_debugger_holds_the_traceback(call: Ask, lm: LM) -> None:
    kept = []
    for error in strike(call, lm, 300):
        kept.append(error)
        nothing_is_taken()
    assert len(kept) > 100


@pytest.mark.slow
@unheard
def test_who_asks_the_same_elsewhere_is_answered_wherever_it_strikes(lm: LM) -> None:
    answers: list[object] = []
    begun = threading.Event()

    def asked_twice(lm: LM, prompt: str) -> None:
        def ask() -> None:
            begun.set()
            try:
                answers.append(lm(prompt))
            except BaseException as error:
                answers.append(error)

        begun.clear()
        other = threading.Thread(target=ask, daemon=True)
        tracing = sys.gettrace()
        sys.settrace(None)
        other.start()
        begun.wait(LONG)
        sys.settrace(tracing)
        try:
            whole(lm, prompt)
        finally:
            sys.settrace(None)
            other.join(LONG)
            assert not other.is_alive()

    for _ in strike(asked_twice, lm, 300, like=whole):
        nothing_is_taken()
    assert len(answers) > 300
    assert all(answer == ["yes"] for answer in answers)


# -- the pieces by themselves ------------------------------------------------------------------


def instructions_of(action: Callable[[], object]) -> int:
    with Striker(0) as striker:
        action()
    return striker.count


def test_a_place_that_is_left_again_is_handed_on_wherever_the_first_time_ended() -> None:
    def queue() -> tuple[Semaphore, Any, Any]:
        semaphore = Semaphore(1)
        return semaphore, semaphore.acquire(), semaphore.acquire()

    for number in range(1, instructions_of(queue()[1].release) + 1):
        semaphore, first, second = queue()
        with pytest.raises(KeyboardInterrupt), Striker(number):
            first.release()
        first.release()
        assert second.granted.done()
        second.release()
        assert not semaphore.held


def test_a_flight_that_lands_again_wakes_everybody_wherever_the_first_landing_ended() -> None:
    def followed(key: str) -> tuple[singleflight.Flight, list[object]]:
        led, woken = singleflight.join(key)[0], []
        for _ in range(3):
            led.future.add_done_callback(woken.append)
        return led, woken

    count = instructions_of(lambda: followed("counted")[0].done(singleflight.Result(b"one")))
    for number in range(1, count + 1):
        led, woken = followed("struck")
        with suppress(KeyboardInterrupt), Striker(number):
            led.done(singleflight.Result(b"one"))
        led.done()
        assert len(woken) >= 3
        assert led.future.result(0) in (singleflight.Result(b"one"), singleflight.NO_RESULT)
        assert not singleflight.flights


def test_a_slot_can_be_given_back_wherever_its_reservation_ended() -> None:
    count = instructions_of(lambda: RateLimiter(1.0, 0).reserve(1, 1e9, []))
    for number in range(1, count + 1):
        rate, kept = RateLimiter(1000.0, 0), list[Reservation]()
        with suppress(KeyboardInterrupt), Striker(number):
            rate.reserve(1, 1e9, kept)
        for each in kept:
            each.cancel()
        assert isinstance(rate.reserve(1, 0), Reservation)  # at once: nothing stands before it


def test_a_scope_goes_on_with_its_exits_where_it_was_cut_short() -> None:
    done: list[str] = []

    def cut_short() -> None:
        done.append("cut")
        if done.count("cut") == 1:
            raise KeyboardInterrupt

    call = call_of()
    attempt = Attempt(call, Request("m"))
    attempt.on_exit(lambda: done.append("first"))
    attempt.on_exit(cut_short)
    with pytest.raises(KeyboardInterrupt):
        attempt.exit()
    call.leave()
    call.leave()
    assert done == ["cut", "cut", "first"]


def test_a_future_keeps_its_first_result() -> None:
    future: LockFreeFuture[int] = LockFreeFuture()
    with pytest.raises(TimeoutError):
        future.result(0.01)
    future.set_result(1)
    future.set_result(2)
    assert (future.result(), future.exception(), future.cancel()) == (1, None, False)


def test_a_future_whose_work_never_began_can_be_cancelled() -> None:
    future: LockFreeFuture[int] = LockFreeFuture()
    assert future.cancel()
    assert not future.set_running_or_notify_cancel()
    begun: LockFreeFuture[int] = LockFreeFuture()
    assert begun.set_running_or_notify_cancel()
    assert not begun.cancel()
    assert (begun.running(), begun.done()) == (True, False)


def test_a_start_that_ctrl_c_broke_is_told_as_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(thread: threading.Thread) -> None:
        try:
            raise KeyboardInterrupt
        finally:
            raise RuntimeError("release unlocked lock")

    def refused(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", broken)
    with pytest.raises(KeyboardInterrupt):
        start(threading.Thread())
    with pytest.raises(KeyboardInterrupt):
        get_lm("echo").batch(["a", "b"])
    monkeypatch.setattr(threading.Thread, "start", refused)
    with pytest.raises(RuntimeError):
        start(threading.Thread())


class StruckLock:
    """A lock that Ctrl-C strikes in the very moment in which it was taken."""

    def __init__(self, lock: Any) -> None:
        self.lock = lock

    def acquire(self, *arguments: Any, **keywords: Any) -> bool:
        assert self.lock.acquire(*arguments, **keywords)
        raise KeyboardInterrupt

    def release(self) -> None:
        self.lock.release()

    def __enter__(self) -> None:
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def is_free(lock: Any) -> bool:
    """Whether another thread could take it."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(lock.acquire(blocking=False)))
    thread.start()
    thread.join(LONG)
    return found == [True]


def test_the_lock_of_the_caches_writers_is_given_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "answers.sqlite3")
    lock = store._writing
    store._writing = StruckLock(lock)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        store.put(Key(b"request", b"base"), b"value")
    assert is_free(lock)


def test_the_lock_of_the_pools_is_given_back() -> None:
    shared = leases.Shared()
    lock, made = shared.lock, StringIO()
    assert shared.acquire("key", lambda: made) is made
    shared.lock = StruckLock(lock)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        shared.release(made)
    assert is_free(lock)


def test_a_connection_of_the_cache_that_was_struck_is_not_counted_as_out(tmp_path: Path) -> None:
    store = Store(tmp_path / "answers.sqlite3")
    store.put(Key(b"request", b"base"), b"value")
    store.close()  # so that nobody else has one out
    for method in ("_take", "_give"):
        with pytest.MonkeyPatch.context() as patch:
            struck_after(patch, store, method)
            with pytest.raises(KeyboardInterrupt):
                store.get(Key(b"request", b"base"))
        assert not store._out
    assert is_free(store._lock)


def struck_after(patch: pytest.MonkeyPatch, owner: Any, method: str) -> None:
    """Let Ctrl-C strike as soon as a method has done its work, before anybody has what it gave."""
    done = getattr(type(owner), method)

    def struck(self: Any, *arguments: Any) -> Any:
        done(self, *arguments)
        raise KeyboardInterrupt

    patch.setattr(type(owner), method, struck)


def test_a_guard_whose_arming_was_struck_is_armed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scheduled: list[float] = []

    def schedule(guard: Guard, at: float) -> None:
        scheduled.append(at)
        if len(scheduled) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(watchdog._watchdog, "schedule", schedule)
    guard = Guard(lambda: None)
    with pytest.raises(KeyboardInterrupt):
        guard.arm(1.0)
    guard.arm(2.0)
    assert scheduled == [1.0, 2.0]


def test_a_worker_whose_start_was_struck_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    workers = Workers(1)

    def struck(thread: threading.Thread) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", struck)
        with pytest.raises(KeyboardInterrupt):
            workers.submit(lambda: "lost")
    assert workers.submit(lambda: "next").result(LONG) == "next"


# -- real signals ------------------------------------------------------------------------------


def interrupted(times: int, seconds: float) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SOAK), "--interrupts", str(times)],
        capture_output=True,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timers")
def test_hundreds_of_interrupts_lose_nothing() -> None:
    interrupted(400, 120)


@pytest.mark.soak
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timers")
def test_ten_thousand_interrupts_lose_nothing() -> None:
    interrupted(10_000, 1200)
