"""Retries: what is attempted again, when, and what is raised in the end."""

from __future__ import annotations

import copy
import logging
import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from layers.flows import Pump, Script, call_of, notes, run_step

from lmgateway._layers.retry import RetryBudget, budget_for, budgets, retry
from lmgateway.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidRequestError,
    LMGatewayError,
    QuotaExceededError,
    RateLimitError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
)
from lmgateway.types import Request


@pytest.fixture(autouse=True)
def fresh_budgets() -> None:
    budgets.clear()


def marked(error: LMGatewayError, **attributes: Any) -> LMGatewayError:
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


@pytest.mark.parametrize(
    "error, runs",
    [
        pytest.param(ConnectionFailedError("reset"), 3, id="connection"),
        pytest.param(ServerError("busy", status=503), 3, id="503"),
        pytest.param(RateLimitError("slow", status=429), 3, id="429"),
        pytest.param(InvalidRequestError("slow", status=408), 3, id="408"),
        pytest.param(InvalidRequestError("no", status=400), 1, id="400"),
        pytest.param(AuthenticationError("who?", status=401), 1, id="401"),
        pytest.param(QuotaExceededError("spent", status=429), 1, id="spent-quota"),
        pytest.param(RequestTimeoutError("late"), 1, id="deadline"),
        pytest.param(marked(ServerError("x", status=500), retryable=False), 1, id="after-a-piece"),
        pytest.param(
            marked(ResponseFormatError("no JSON"), retryable=True, max_retries=1), 2, id="once"
        ),
        pytest.param(
            marked(ConnectionFailedError("at once"), max_retries=0), 1, id="not-here-but-elsewhere"
        ),
    ],
)
def test_only_what_may_pass_is_attempted_again(error: LMGatewayError, runs: int) -> None:
    step, call = Script(error), call_of()
    with pytest.raises(type(error)) as caught:
        run_step(retry(step, call))
    assert caught.value is error
    assert step.runs == call.attempts == runs


def test_an_answer_after_failures_is_the_answer() -> None:
    step = Script(ConnectionFailedError("reset"), ServerError("busy", status=503), "yes")
    completion, pump = run_step(retry(step, call_of()))
    assert completion["choices"][0]["text"] == "yes"
    assert len(pump.sleeps) == 2


def test_a_limit_on_one_kind_of_failure_leaves_the_others_their_attempts() -> None:
    once = marked(ResponseFormatError("no JSON"), retryable=True, max_retries=1)
    step = Script(ServerError("busy", status=503), once, "yes")
    completion, _ = run_step(retry(step, call_of()))
    assert completion["choices"][0]["text"] == "yes"


@pytest.mark.parametrize("retries, runs", [(0, 1), (1, 2), (5, 6)])
def test_retries_is_what_the_options_say(retries: int, runs: int) -> None:
    step = Script(ConnectionFailedError("reset"))
    with pytest.raises(ConnectionFailedError):
        run_step(retry(step, call_of(retries=retries)))
    assert step.runs == runs


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("a fault of ours")])
def test_what_is_not_ours_passes_through(error: BaseException) -> None:
    step = Script(error)
    with pytest.raises(type(error)):
        run_step(retry(step, call_of()))
    assert step.runs == 1


def test_the_error_says_which_attempt_it_is_about_and_what_the_others_met() -> None:
    step = Script(
        ServerError("busy", status=503),
        ConnectionFailedError("reset by peer"),
        ConnectionFailedError("refused"),
    )
    with pytest.raises(ConnectionFailedError, match=r"refused .*attempt 3 of 3") as caught:
        run_step(retry(step, call_of()))
    assert "attempt 1 failed: ServerError: busy" in notes(caught.value)
    assert "attempt 2 failed: ConnectionFailedError: reset by peer" in notes(caught.value)


# -- how long it waits -------------------------------------------------------------------------


def sleeps_of(error: Exception, *, retries: int = 2, timeout: float | None = 1000.0) -> list[float]:
    budgets.clear()
    pump = Pump()
    step = retry(Script(error), call_of(retries=retries, timeout=timeout))
    with pytest.raises(type(error)):
        pump.run(step(Request("m", "Hi")))
    return pump.sleeps


def test_backoff_has_full_jitter_under_a_ceiling_that_doubles() -> None:
    many = [sleeps_of(ConnectionFailedError("x"), retries=6) for _ in range(40)]
    for place, ceiling in enumerate([0.5, 1.0, 2.0, 4.0, 8.0, 8.0]):
        seconds = [sleeps[place] for sleeps in many]
        assert 0.0 <= min(seconds) < ceiling / 2 < max(seconds) <= ceiling


@pytest.mark.parametrize("asked", [0.0, 0.25, 7.0, 120.0])
def test_retry_after_is_waited_exactly(asked: float) -> None:
    assert sleeps_of(RateLimitError("slow", status=429, retry_after=asked)) == [asked, asked]


@pytest.mark.parametrize("asked", [-1.0, math.nan, math.inf])
def test_a_retry_after_that_means_nothing_is_passed_over(asked: float) -> None:
    sleeps = sleeps_of(RateLimitError("slow", status=429, retry_after=asked))
    assert all(0.0 <= seconds <= 1.0 for seconds in sleeps)
    assert len(sleeps) == 2


@pytest.mark.parametrize(
    "asked, timeout", [(120.5, None), (10.0, 5.0)], ids=["over-120-s", "over-the-deadline"]
)
def test_a_retry_after_that_is_too_long_is_raised_at_once(
    asked: float, timeout: float | None
) -> None:
    error = RateLimitError("slow", status=429, retry_after=asked)
    assert sleeps_of(error, timeout=timeout) == []
    assert error.retry_after == asked
    assert "not retried" in notes(error)


def test_a_retry_that_would_begin_after_the_deadline_is_not_begun() -> None:
    error = ServerError("busy", status=503)
    assert sleeps_of(error, timeout=0.0) == []
    assert "timeout" in notes(error)


# -- the budget --------------------------------------------------------------------------------


def test_a_dead_service_is_not_hammered() -> None:
    runs = 0
    for _ in range(200):
        step = Script(ConnectionFailedError("refused"))
        with pytest.raises(ConnectionFailedError) as caught:
            run_step(retry(step, call_of()))
        runs += step.runs
    assert runs == 200 + 500 // 5
    assert "retry budget of host.test is spent" in notes(caught.value)


@pytest.mark.parametrize(
    "error, cost",
    [
        pytest.param(ServerError("busy", status=503), 5, id="503"),
        pytest.param(ServerError("late", status=504), 10, id="504"),
        pytest.param(marked(RequestTimeoutError("idle"), retryable=True), 10, id="timeout"),
    ],
)
def test_a_success_gives_back_what_its_retry_cost(error: LMGatewayError, cost: int) -> None:
    with pytest.raises(type(error)):
        run_step(retry(Script(error), call_of(retries=1)))
    budget = budget_for("scripted", "host.test")
    assert budget.tokens == 500 - cost
    run_step(retry(Script(error, "yes"), call_of()))
    assert budget.tokens == 500 - cost
    run_step(retry(Script("yes"), call_of()))
    assert budget.tokens == 500 - cost + 1


def test_a_cached_answer_says_nothing_about_the_service() -> None:
    budget = budget_for("scripted", "host.test")
    budget.spend(50)
    call = call_of()
    call.cached = True
    run_step(retry(Script("yes"), call))
    assert budget.tokens == 450


def test_endpoints_have_budgets_of_their_own() -> None:
    budget_for("scripted", "one.test").spend(500)
    assert not budget_for("scripted", "one.test").spend(1)
    assert budget_for("scripted", "two.test").spend(1)


def test_a_budget_never_exceeds_its_capacity() -> None:
    budget = RetryBudget()
    budget.refund(7)
    assert budget.tokens == RetryBudget.CAPACITY


def test_a_retry_is_logged_without_words_of_the_service(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "lmgateway"):
        run_step(retry(Script(ServerError("Tell nobody", status=503), "yes"), call_of()))
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert "host.test: attempt 1 failed with ServerError (status 503)" in record.getMessage()
    assert "Tell" not in record.getMessage()


@pytest.mark.parametrize(
    "copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))], ids=["copy", "pickle"]
)
def test_a_copy_of_an_error_has_notes_of_its_own(copied: Callable[[Any], Any]) -> None:
    error = marked(ServerError("busy", status=503), max_retries=1)
    error.add_note("one")
    other = copied(error)
    other.add_note("two")
    assert (notes(error), notes(other), other.max_retries) == ("one", "one\ntwo", 1)
