"""Worker threads and the pipe, with real threads."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any

import pytest
from support.collector import LINES, Collector

from lmgateway._drive.workers import Pipe, Workers, run_blocking
from lmgateway.errors import PluginContractError, RequestTimeoutError
from lmgateway.types import Blocking, Flow, HTTPResponse, Wait, read

LONG = 10.0


def drive(flow: Flow[Any]) -> Any:
    """Run a flow that yields nothing but Waits."""
    try:
        effect = next(flow)
        while True:
            assert isinstance(effect, Wait)
            effect.future.exception(LONG)
            effect = flow.send(True)
    except StopIteration as stop:
        return stop.value


def until_idle(workers: Workers) -> None:
    """Wait for a worker to be idle: its future is done a moment before that."""
    end = time.monotonic() + LONG
    while not workers._idle:
        assert time.monotonic() < end
        time.sleep(0.001)


def refuse(thread: threading.Thread) -> None:
    """What ``Thread.start`` does where the system allows no more threads."""
    raise RuntimeError("can't start new thread")


@pytest.fixture
def gate() -> Any:
    """An event that hung work waits for; set at the end, so that no thread outlives the test."""
    event = threading.Event()
    yield event
    event.set()


# -- workers -------------------------------------------------------------------------------------


def test_a_future_holds_what_the_function_returned() -> None:
    assert Workers(2).submit(lambda: 7).result(LONG) == 7


def test_a_future_holds_what_the_function_raised() -> None:
    def fail() -> None:
        raise KeyboardInterrupt

    assert isinstance(Workers(2).submit(fail).exception(LONG), KeyboardInterrupt)


def test_a_worker_survives_what_its_work_raised() -> None:
    workers = Workers(1)
    workers.submit(lambda: 1 / 0).exception(LONG)
    assert workers.submit(lambda: "well").result(LONG) == "well"


def test_the_function_sees_the_context_variables_of_the_caller() -> None:
    variable: ContextVar[str] = ContextVar("variable")
    variable.set("here")
    assert Workers(1).submit(variable.get).result(LONG) == "here"


def test_no_thread_is_started_before_there_is_work() -> None:
    assert len(Workers(3)) == 0


def test_idle_workers_are_used_again() -> None:
    workers = Workers(100)
    threads = set()
    for _ in range(100):
        threads.add(workers.submit(threading.current_thread).result(LONG))
        until_idle(workers)
    assert len(workers) == len(threads) == 1


def test_a_thread_that_is_being_started_keeps_no_worker_from_falling_idle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(2)
    at_work = threading.Event()
    first = workers.submit(lambda: at_work.wait(LONG))
    start = threading.Thread.start

    def start_when_the_first_is_idle(thread: threading.Thread) -> None:
        at_work.set()
        until_idle(workers)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_when_the_first_is_idle)
    assert workers.submit(lambda: "second").result(LONG) == "second"
    assert first.result(LONG) is True


def test_what_no_thread_can_be_started_for_is_done_by_another(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    workers = Workers(2)
    workers.submit(lambda: gate.wait(LONG))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    second = workers.submit(lambda: "second")
    gate.set()
    assert second.result(LONG) == "second"


def test_what_nothing_can_be_started_for_fails_with_all_that_waited_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(1)
    waiting: list[Future[int]] = []

    def start(thread: threading.Thread) -> None:
        waiting.append(workers.submit(lambda: 7))  # the one thread there may be is promised
        refuse(thread)

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        failed = [workers.submit(lambda: 7), *waiting]
    assert [str(future.exception(LONG)) for future in failed] == ["can't start new thread"] * 2
    assert len(workers) == 0
    assert workers.submit(lambda: 7).result(LONG) == 7


def test_a_stream_that_no_thread_can_be_started_for_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", refuse)
    exchange = Blocking(lambda push: push(b"never"), stream=True)
    response = drive(run_blocking(exchange, Workers(1)))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        drive(read(response))


def test_no_more_threads_than_the_limit_and_all_work_is_done(gate: threading.Event) -> None:
    workers = Workers(3)
    running = threading.Semaphore(0)

    def work() -> int:
        running.release()
        gate.wait(LONG)
        return threading.get_ident()

    futures = [workers.submit(work) for _ in range(10)]
    for _ in range(3):
        assert running.acquire(timeout=LONG)
    assert not running.acquire(blocking=False)
    assert len(workers) == 3
    gate.set()
    assert len({future.result(LONG) for future in futures}) <= 3


def test_a_hung_worker_does_not_hold_up_the_others(gate: threading.Event) -> None:
    workers = Workers(2)
    workers.submit(lambda: gate.wait(LONG))
    assert workers.submit(lambda: "done").result(LONG) == "done"


def test_work_cancelled_before_its_turn_never_runs(gate: threading.Event) -> None:
    workers = Workers(1)
    workers.submit(lambda: gate.wait(LONG))
    ran: list[int] = []
    doomed = workers.submit(lambda: ran.append(1))
    last = workers.submit(lambda: "last")
    assert doomed.cancel()
    gate.set()
    assert last.result(LONG) == "last"
    assert ran == []


def test_idle_workers_end() -> None:
    workers = Workers(2, idle_seconds=0.01)
    threads: Future[threading.Thread] = workers.submit(threading.current_thread)
    threads.result(LONG).join(LONG)
    assert len(workers) == 0
    assert workers.submit(lambda: "again").result(LONG) == "again"


def test_an_idle_worker_keeps_nothing_of_its_last_job() -> None:
    import weakref

    class Thing:
        pass

    workers = Workers(1)
    thing = Thing()
    gone = threading.Event()
    weakref.finalize(thing, gone.set)
    workers.submit(lambda thing=thing: None).result(LONG)  # type: ignore[misc]
    del thing
    assert gone.wait(LONG)


def test_a_hung_worker_does_not_hold_up_the_exit_of_the_interpreter() -> None:
    code = (
        "import threading\n"
        "from lmgateway._drive.workers import Workers\n"
        "begun = threading.Event()\n"
        "def hang(): begun.set(); threading.Event().wait()\n"
        "Workers(1).submit(hang)\n"
        "begun.wait()\n"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], timeout=30, check=False)
    assert done.returncode == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of a fork with threads")
def test_a_forked_child_begins_with_workers_of_its_own(gate: threading.Event) -> None:
    workers = Workers(1)
    begun = threading.Event()

    def hang() -> None:
        begun.set()
        gate.wait(LONG)

    workers.submit(hang)
    assert begun.wait(LONG)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if workers.submit(lambda: 7).result(LONG) == 7 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# -- run_blocking --------------------------------------------------------------------------------


def test_blocking_work_runs_in_another_thread() -> None:
    assert drive(run_blocking(Blocking(threading.get_ident))) != threading.get_ident()


def test_what_blocking_work_raises_is_raised_in_the_flow() -> None:
    with pytest.raises(ZeroDivisionError):
        drive(run_blocking(Blocking(lambda: 1 / 0)))


@pytest.mark.parametrize("left", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()])
def test_work_that_leaves_the_program_ends_nobody_elses(left: BaseException) -> None:
    def leave() -> None:
        raise left

    with pytest.raises(RuntimeError, match=type(left).__name__) as caught:
        drive(run_blocking(Blocking(leave)))
    assert caught.value.__cause__ is left


def test_a_wait_that_was_not_in_time_is_a_timeout(gate: threading.Event) -> None:
    flow = run_blocking(Blocking(lambda: gate.wait(LONG)))
    next(flow)
    with pytest.raises(RequestTimeoutError):
        flow.send(False)


def test_a_flow_that_is_closed_abandons_the_work(gate: threading.Event) -> None:
    begun = threading.Event()

    def work() -> bool:
        begun.set()
        return gate.wait(LONG)

    flow = run_blocking(Blocking(work))
    effect = next(flow)
    assert isinstance(effect, Wait)
    assert begun.wait(LONG)
    flow.close()
    gate.set()
    assert effect.future.result(LONG) is True


def streamed(fn: Any) -> HTTPResponse:
    response = drive(run_blocking(Blocking(fn, stream=True)))
    assert isinstance(response, HTTPResponse)
    return response


def test_pushed_pieces_arrive_in_order_and_end() -> None:
    def work(push: Any) -> None:
        for piece in (b"a", b"", b"b", bytearray(b"c")):
            assert push(piece)

    response = streamed(work)
    received = b""
    while piece := drive(read(response)):
        received += piece
    assert (response.status, received) == (200, b"abc")
    assert drive(read(response)) == b""


def test_an_error_comes_after_the_pieces_before_it() -> None:
    def work(push: Any) -> None:
        push(b"first")
        raise OSError("the model broke")

    response = streamed(work)
    assert drive(read(response)) == b"first"
    with pytest.raises(OSError, match="the model broke"):
        drive(read(response))


def test_a_piece_that_is_not_bytes_breaks_the_contract() -> None:
    response = streamed(lambda push: push("text"))
    with pytest.raises(PluginContractError, match="takes bytes, not str"):
        drive(read(response))


# -- the pipe ------------------------------------------------------------------------------------


def test_a_worker_ahead_of_its_reader_waits_until_the_pipe_is_read() -> None:
    pipe = Pipe(limit=4)
    assert pipe.push(b"1234")
    workers = Workers(1)
    second = workers.submit(lambda: pipe.push(b"5678"))
    with pytest.raises(TimeoutError):
        second.result(0.05)
    assert drive(pipe.read()) == b"1234"
    assert second.result(LONG) is True
    assert drive(pipe.read()) == b"5678"


def test_a_waiting_worker_learns_that_nobody_listens() -> None:
    pipe = Pipe(limit=1)
    pipe.push(b"1")
    waiting = Workers(1).submit(lambda: pipe.push(b"2"))
    pipe.close()
    assert waiting.result(LONG) is False
    assert pipe.push(b"3") is False


@pytest.mark.parametrize("number", LINES)
def test_the_collector_may_close_a_pipe_as_its_worker_is_about_to_wait(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(limit=1)
    pipe.push(b"1")
    collector = Collector(sys.modules[Pipe.__module__], number, pipe.close)

    def waits(changed: Future[None]) -> None:
        if not collector.called:
            pipe.close()
        assert changed.done()

    monkeypatch.setattr("lmgateway._drive.workers.wait", waits)
    with collector:
        pipe.push(b"2")
    assert pipe.push(b"3") is False


def test_a_closed_pipe_reads_as_ended() -> None:
    pipe = Pipe()
    pipe.push(b"lost")
    pipe.close()
    pipe.close()
    assert drive(pipe.read()) == b""


def test_a_read_that_was_abandoned_loses_no_bytes() -> None:
    pipe = Pipe()
    flow = pipe.read()
    next(flow)
    flow.close()
    pipe.push(b"kept")
    assert drive(pipe.read()) == b"kept"


def test_a_hundred_thousand_pieces_arrive_whole() -> None:
    def work(push: Any) -> None:
        for _ in range(100_000):
            push(b"0123456789")

    response = streamed(work)
    size = 0
    while piece := drive(read(response)):
        size += len(piece)
    assert size == 1_000_000
