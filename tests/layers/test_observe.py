"""Observation: one event for each call on every path, and nothing of the prompt unless asked."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from time import monotonic
from typing import Any

import pytest
from layers.flows import Script, answer, awaited, call_of, run_step

from lmgateway._drive.loops import arun, run
from lmgateway._layers import observe as module
from lmgateway._layers.context import Call, Step
from lmgateway._layers.fallback import fallback
from lmgateway._layers.observe import CallEvent, observe, on_call
from lmgateway._layers.retry import retry
from lmgateway.errors import InvalidRequestError, LMGatewayError, ServerError
from lmgateway.types import Completion, Emit, Flow, Request, Wait

ANY: Any = None


@pytest.fixture
def events() -> Iterator[list[CallEvent]]:
    seen: list[CallEvent] = []
    with on_call(seen.append):
        yield seen
    assert module._subscriptions == ()


def watched(step: Step, call: Call | None = None) -> Step:
    call = call or call_of()
    call.path = "/chat/completions"
    return observe(step, call)


def only(events: list[CallEvent]) -> CallEvent:
    (event,) = events
    return event


def test_when_nobody_listens_there_is_no_layer() -> None:
    step = Script("yes")
    assert observe(step, call_of()) is step


def test_an_answer_is_told_of(events: list[CallEvent]) -> None:
    def step(request: Request) -> Flow[Completion]:
        return Completion(
            prompt="Hi",
            choices=[{"text": "a", "finish_reason": "stop"}, {"text": "b"}],
            model="m-1",
            usage={"prompt_tokens": 3, "completion_tokens": 4},
            id="chat-1",
            request_id="r-1",
            provider="p",
            endpoint="completions",
            cached=True,
        )
        yield

    request = Request("m", "Hi", params={"temperature": 0.5, "n": 2, "stop": "x", "echo": True})
    run_step(watched(step, call_of("p")), request)
    event = only(events)
    assert 0 <= event.duration < 10
    assert dataclasses.replace(event, duration=0.0) == CallEvent(
        provider="p",
        model="m",
        outcome="ok",
        duration=0.0,
        attempts=0,
        cached=True,
        endpoint="completions",
        host="host.test",
        response_model="m-1",
        response_id="chat-1",
        request_id="r-1",
        usage={"prompt_tokens": 3, "completion_tokens": 4},
        finish_reasons=("stop", None),
        params={"temperature": 0.5, "n": 2},
    )


def test_an_error_is_told_of(events: list[CallEvent]) -> None:
    error = InvalidRequestError("no", status=422, request_id="r-1")
    with pytest.raises(InvalidRequestError):
        run_step(watched(Script(error)))
    event = only(events)
    assert (event.outcome, event.error, event.status) == ("error", "InvalidRequestError", 422)
    assert (event.request_id, event.endpoint) == ("r-1", "chat/completions")


@pytest.mark.parametrize(
    "error, outcome",
    [
        (LMGatewayError("x"), "error"),
        (ValueError("x"), "error"),
        (KeyboardInterrupt(), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else value,
)
def test_every_way_to_fail_has_an_outcome(
    events: list[CallEvent], error: BaseException, outcome: str
) -> None:
    with pytest.raises(type(error)):
        run_step(watched(Script(error)))
    assert only(events).outcome == outcome
    assert only(events).error == type(error).__name__


@awaited
async def test_a_cancelled_task_is_told_of() -> None:
    def waiting(request: Request) -> Flow[Completion]:
        yield Wait(Future())
        return answer()

    call = call_of()
    events: list[CallEvent] = []
    with on_call(events.append):
        task = asyncio.create_task(arun(watched(waiting, call)(ANY_REQUEST), ANY, call.deadline))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert only(events).outcome == "cancelled"


ANY_REQUEST = Request("m", "Hi")


def test_a_stream_that_is_left_is_abandoned_and_no_error(events: list[CallEvent]) -> None:
    def endless(request: Request) -> Flow[Completion]:
        while True:
            yield Emit("x")

    flow = watched(endless)(Request("m", "Hi", stream=True))
    next(flow)
    flow.close()
    event = only(events)
    assert (event.outcome, event.error, event.streamed) == ("abandoned", None, True)


def test_the_time_to_the_first_piece_is_that_of_streams(events: list[CallEvent]) -> None:
    call = call_of()
    call.first_piece = call.started + 0.25
    run_step(watched(Script("yes"), call), Request("m", "Hi", stream=True))
    run_step(watched(Script("yes"), call), Request("m", "Hi"))
    assert events[0].time_to_first_piece == pytest.approx(0.25)
    assert events[1].time_to_first_piece is None


def test_attempts_and_fallbacks_are_told_of(events: list[CallEvent]) -> None:
    call = call_of("first")
    step = retry(Script(ServerError("busy", status=503, retry_after=0.0)), call)
    other = Script("yes")
    run_step(watched(fallback(step, call, [("other", other)]), call))
    event = only(events)
    assert event.attempts == 3
    assert [each["error"] for each in event.fallback_from] == ["ServerError"]


def test_the_duration_is_from_the_beginning_of_the_call(events: list[CallEvent]) -> None:
    call = call_of()
    call.started = monotonic() - 100
    run_step(watched(Script("yes"), call))
    assert 100 <= only(events).duration < 110


def test_the_prompt_is_for_those_who_asked() -> None:
    with_, without = [], []
    with on_call(with_.append, include_prompt=True), on_call(without.append):
        run_step(watched(Script("yes")), Request("m", "secret"))
    assert only(with_).prompt == "secret"
    assert only(without).prompt is None
    assert "secret" not in repr(only(with_))


def test_an_event_is_frozen() -> None:
    event = CallEvent(provider="p", model="m", outcome="ok", duration=1.0, attempts=1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        event.model = "other"  # type: ignore[misc]


def ended_by_call(subscription: Callable[[], None]) -> None:
    subscription()
    subscription()


def ended_by_leaving(subscription: Any) -> None:
    with subscription:
        pass


@pytest.mark.parametrize("end", [ended_by_call, ended_by_leaving])
def test_a_subscription_ends(end: Callable[[Any], None]) -> None:
    events: list[CallEvent] = []
    other = on_call(events.append)
    end(on_call(events.append))
    run_step(watched(Script("yes")))
    assert len(events) == 1
    other()


def test_a_callback_runs_in_the_context_in_which_the_call_began() -> None:
    trace = contextvars.ContextVar("trace", default="none")
    seen: list[str] = []

    def callback(event: CallEvent) -> None:
        seen.append(trace.get())
        trace.set("the callback's own")

    with on_call(callback):
        trace.set("the caller's")
        step = watched(Script("yes"))
        trace.set("another's")
        run_step(step)
    assert seen == ["the caller's"]
    assert trace.get() == "another's"


def test_a_callback_that_raises_is_warned_of_once_and_breaks_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(event: CallEvent) -> None:
        raise ValueError("a fault of the callback")

    events: list[CallEvent] = []
    with on_call(broken), on_call(events.append):
        with pytest.warns(RuntimeWarning, match="broken.* raised ValueError: a fault"):
            completion, _ = run_step(watched(Script("yes")))
        assert completion["choices"][0]["text"] == "yes"
        for _ in range(2):
            run_step(watched(Script("yes")))
    assert len(events) == 3
    assert len(caplog.records) == 1


def test_a_warning_that_is_an_error_breaks_nothing_either() -> None:
    with on_call(lambda event: 1 / 0):
        completion, _ = run_step(watched(Script("yes")))
    assert completion["choices"][0]["text"] == "yes"


def test_the_real_driver_tells_of_a_call(events: list[CallEvent]) -> None:
    call = call_of()
    run(watched(Script("yes"), call)(ANY_REQUEST), ANY, call.deadline)
    assert only(events).outcome == "ok"


# -- the log -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome, line",
    [
        pytest.param("yes", r"p m: ok in 0\.\d+ s, attempts 0, tokens \? \+ \?", id="answer"),
        pytest.param(
            ServerError("secret", status=503, request_id="r-1"),
            r"p m: ServerError in 0\.\d+ s, attempts 0, tokens \? \+ \?, request id r-1",
            id="error",
        ),
    ],
)
def test_a_call_is_one_line_at_debug(
    caplog: pytest.LogCaptureFixture, outcome: Any, line: str
) -> None:
    with caplog.at_level(logging.DEBUG, "lmgateway"):
        step = watched(Script(outcome), call_of("p"))
        with contextlib.suppress(ServerError):
            run_step(step, Request("m", "secret"))
    (record,) = caplog.records
    assert record.levelno == logging.DEBUG
    assert re.fullmatch(line, record.getMessage())
    assert "secret" not in caplog.text


def test_the_log_is_quiet_until_the_program_sets_it_up() -> None:
    code = """
import logging
from lmgateway import get_lm
assert get_lm("echo").complete("Hi")
logging.getLogger("lmgateway").error("not to be seen")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
