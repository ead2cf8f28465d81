"""Fallbacks: for which errors, in which order, and what the answer says."""

from __future__ import annotations

import logging

import pytest
from layers.flows import Script, answer, call_of, notes, run_step

from lmgateway._layers.fallback import fallback
from lmgateway.errors import (
    AuthenticationError,
    ConnectionFailedError,
    ContentFilteredError,
    InputError,
    InvalidRequestError,
    LMGatewayError,
    MissingCredentialError,
    QuotaExceededError,
    ServerError,
    UnsupportedError,
)
from lmgateway.types import Completion, Flow, Request


def down() -> ServerError:
    return ServerError("busy", status=503, provider="first")


def test_without_alternatives_there_is_no_layer() -> None:
    step = Script("yes")
    assert fallback(step, call_of(), ()) is step


def test_an_answer_asks_nobody_else() -> None:
    other = Script("no")
    completion, _ = run_step(fallback(Script("yes"), call_of(), [("other", other)]))
    assert completion["choices"][0]["text"] == "yes"
    assert "fallback_from" not in completion
    assert other.runs == 0


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(ConnectionFailedError("refused"), id="connection"),
        pytest.param(ServerError("busy", status=503), id="503"),
        pytest.param(QuotaExceededError("spent", status=402), id="spent-quota"),
    ],
)
def test_a_failure_of_the_service_asks_the_next(error: LMGatewayError) -> None:
    step = fallback(Script(error), call_of("first"), [("other", Script("yes"))])
    completion, _ = run_step(step)
    assert completion["choices"][0]["text"] == "yes"
    assert completion["fallback_from"] == [
        {
            "provider": "first",
            "model": "m",
            "error": type(error).__name__,
            "message": error.message,
        }
    ]


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(InputError("no"), id="input"),
        pytest.param(UnsupportedError("no"), id="unsupported"),
        pytest.param(InvalidRequestError("no", status=400), id="400"),
        pytest.param(AuthenticationError("who?", status=401), id="401"),
        pytest.param(MissingCredentialError("no key"), id="no-key"),
        pytest.param(ContentFilteredError("no", status=400), id="content"),
        pytest.param(KeyboardInterrupt(), id="ctrl-c"),
    ],
)
def test_an_error_of_the_callers_own_is_raised(error: BaseException) -> None:
    other = Script("no")
    with pytest.raises(type(error)):
        run_step(fallback(Script(error), call_of(), [("other", other)]))
    assert other.runs == 0


@pytest.mark.parametrize("kind", [ServerError, QuotaExceededError])
def test_nobody_is_asked_after_a_piece(kind: type[LMGatewayError]) -> None:
    error = kind("cut")
    error.retryable, error.partial = False, "Par"
    other, call = Script("no"), call_of()
    call.emitted = 1
    with pytest.raises(kind):
        run_step(fallback(Script(error), call, [("other", other)]))
    assert other.runs == 0


def test_what_an_error_knows_of_an_answer_keeps_nobody_from_being_asked() -> None:
    error = down()
    error.partial = "Par"
    completion, _ = run_step(fallback(Script(error), call_of(), [("other", Script("yes"))]))
    assert completion["choices"][0]["text"] == "yes"


def test_they_are_asked_in_order_and_each_failure_is_told() -> None:
    alternatives = [
        ("second", Script(MissingCredentialError("no key", provider="second"))),
        ("third", Script(ConnectionFailedError("refused", provider="third"))),
        ("fourth", Script("yes")),
        ("fifth", Script("never")),
    ]
    completion, _ = run_step(fallback(Script(down()), call_of("first"), alternatives))
    assert [
        (each["provider"], each["error"]) for each in completion["fallback_from"]
    ] == [
        ("first", "ServerError"),
        ("second", "MissingCredentialError"),
        ("third", "ConnectionFailedError"),
    ]  # fmt: skip
    assert alternatives[-1][1].runs == 0


def test_when_all_fail_the_first_error_is_raised_and_tells_of_the_others() -> None:
    error = down()
    alternatives = [
        ("second", Script(ConnectionFailedError("refused", provider="second"))),
        ("third", Script(AuthenticationError("who?", status=401))),
    ]
    with pytest.raises(ServerError) as caught:
        run_step(fallback(Script(error), call_of(), alternatives))
    assert caught.value is error
    assert "fallback second failed: ConnectionFailedError: refused" in notes(error)
    assert "fallback third failed: AuthenticationError: who?" in notes(error)


def test_nobody_is_asked_after_the_deadline() -> None:
    other = Script("no")
    with pytest.raises(ServerError) as caught:
        run_step(fallback(Script(down()), call_of(timeout=0.0), [("other", other)]))
    assert other.runs == 0
    assert "other was not asked" in notes(caught.value)


def test_an_alternative_that_breaks_off_after_a_piece_is_not_passed_over() -> None:
    cut = ConnectionFailedError("cut")
    cut.retryable, cut.partial = False, "Par"
    last, call = Script("no"), call_of()

    def breaks_off(request: Request) -> Flow[Completion]:
        call.emitted = 1
        raise cut
        yield

    with pytest.raises(ConnectionFailedError, match="cut"):
        run_step(fallback(Script(down()), call, [("other", breaks_off), ("last", last)]))
    assert last.runs == 0


def test_what_an_alternative_fell_back_from_is_told_as_well() -> None:
    def nested(request: Request) -> Flow[Completion]:
        return answer(fallback_from=[{"provider": "second", "error": "ServerError"}])
        yield

    completion, _ = run_step(fallback(Script(down()), call_of("first"), [("second", nested)]))
    assert [each["provider"] for each in completion["fallback_from"]] == ["first", "second"]


def test_a_fallback_is_a_warning_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    run_step(fallback(Script(down()), call_of("first"), [("other", Script("yes"))]))
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == "first failed with ServerError: asking other instead"
