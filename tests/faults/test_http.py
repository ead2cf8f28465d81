"""The rows of HTTP statuses and headers, end to end: what the server saw is counted."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import pytest
from faults.play import (
    FILLER,
    JSON,
    KEY,
    MODES,
    NATIVE,
    PLAIN,
    PROMPT,
    SLACK,
    STREAMS,
    Case,
    Mode,
    check_words,
    fine,
    lm_at,
    params,
    play,
    row,
    whole,
)
from support.fault_server import FaultServer, head, receive, send
from transports.checking import Authority

from lmgateway import errors
from lmgateway.errors import LMGatewayError

pytestmark = pytest.mark.loopback

REQUEST_ID = ("request id req-77",)


def told(message: str = "no", **fields: Any) -> dict[str, Any]:
    """OpenAI's form of an error."""
    return {"error": {"message": message, **fields}}


# A service that sends back all it was sent, and more.
ECHO = told(f"{KEY} {FILLER * 5000} {PROMPT}")
PAGE = f"<html><body><h1>no</h1>{KEY} {FILLER * 5000} {PROMPT}</body></html>".encode()


def status(
    row: str,
    number: int,
    right: type[LMGatewayError],
    retried: int = 0,
    *,
    what: str = "",
    body: Any = ECHO,
    headers: Mapping[str, str] = JSON,
    mentions: tuple[str, ...] = (),
) -> Case:
    """An answer with this status."""
    script = [receive(), send(whole(body, number, headers))]
    what = " ".join(filter(None, (str(number), what)))
    return Case(row, script, right, what, retried, tuple(MODES),
                (f"status {number}", *REQUEST_ID, *mentions), within=SLACK)  # fmt: skip


OVERFLOW = told("long", code="context_length_exceeded")
QUOTA = told("spent", type="insufficient_quota", code="insufficient_quota")
AGAIN = "408, 409, 429, 500, 502, 503, 504, 529"
KEYED = ("OPENAI_API_KEY",)
REFUSALS = [
    *(status("400, 413, 422", number, errors.InvalidRequestError) for number in (400, 413, 422)),
    *(status("400, 413, 422", number, errors.ContextLengthError, what="context", body=OVERFLOW)
      for number in (400, 413, 422)),
    status("401, 403", 401, errors.AuthenticationError, mentions=KEYED),
    status("401, 403", 403, errors.PermissionDeniedError, mentions=KEYED),
    status("401, 403", 401, errors.AuthenticationError, what="of Ray", mentions=KEYED,
           body={"error": "Unauthorized"}),
    status("402, or 429 whose code is a spent quota", 402, errors.QuotaExceededError),
    status("402, or 429 whose code is a spent quota", 429, errors.QuotaExceededError, body=QUOTA),
    status("404", 404, errors.NotFoundError, mentions=("model m", "http://127.0.0.1:")),
    *(status("other 4xx, unknown 5xx", number, errors.InvalidRequestError)
      for number in (405, 410, 418, 431, 451, 499)),
]  # fmt: skip
RETRIES = [
    *(status(AGAIN, number, errors.InvalidRequestError, 2) for number in (408, 409)),
    status(AGAIN, 429, errors.RateLimitError, 2),
    *(status(AGAIN, number, errors.ServerError, 2) for number in (500, 502, 503, 504, 529)),
    status(AGAIN, 502, errors.ServerError, 2, what="a page", body=PAGE,
           headers={"Content-Type": "text/html"}),
    status(AGAIN, 503, errors.ServerError, 2, what="of Ray", body={"detail": "busy"}),
    *(status("other 4xx, unknown 5xx", number, errors.ServerError, 2) for number in (501, 599)),
]  # fmt: skip


def asked(value: str, name: str = "Retry-After", retried: int = 2, what: str = "") -> Case:
    """A 429 that says when to come again."""
    case = status("Retry-After", 429, errors.RateLimitError, retried, headers={name: value},
                  what=f"{name} {what or value}")  # fmt: skip
    return case


PASSED = formatdate(time.time() - 3600, usegmt=True)
RETRY_AFTER = [
    *(asked(value) for value in ("0", "-1", "NaN", "inf", "1e999", "soon", "")),
    *(asked(value, "retry-after-ms") for value in ("0", "-5", "NaN")),
    asked(PASSED, what="a date gone by"),
    *(asked(value, retried=0) for value in ("61", "121", "999999999")),
    asked("61000", "retry-after-ms", 0),
    asked(formatdate(time.time() + 3600, usegmt=True), retried=0, what="a date in an hour"),
]
SHOULD_RETRY = [
    status("x-should-retry", 400, errors.InvalidRequestError, 2, what="true",
           headers={"x-should-retry": "true"}),
    status("x-should-retry", 503, errors.ServerError, 0, what="false",
           headers={"x-should-retry": "false"}),
]  # fmt: skip
EMPTY = "204, or 200 with an empty body"
EMPTIES = [
    Case(EMPTY, [receive(), send(head(204, JSON))], errors.ResponseFormatError, "204", 1),
    status(EMPTY, 200, errors.ResponseFormatError, 1, body=b""),
    status(EMPTY, 200, errors.ResponseFormatError, 1, what="white space", body=b" \r\n"),
    Case(EMPTY, [receive(), send(head(200, {"Content-Type": "text/event-stream"}, length=0))],
         errors.ResponseFormatError, "event stream", 1,
         PLAIN),
    Case(EMPTY, [receive(), send(head(200, {"Content-Type": "text/event-stream"}, length=0))],
         errors.StreamInterruptedError, "event stream", 2,
         STREAMS),
]  # fmt: skip

CASES = [*REFUSALS, *RETRIES, *RETRY_AFTER, *SHOULD_RETRY, *EMPTIES]


@pytest.mark.parametrize("case, mode", params("HTTP", CASES, NATIVE))
def test_http(case: Case, mode: Mode, authority: Authority) -> None:
    play(case, mode, authority)


@row("HTTP", "Retry-After")
def test_retry_after_ms_is_waited(mode: Mode) -> None:
    slow = [receive(), send(whole(ECHO, 429, {"retry-after-ms": "150"}))]
    with FaultServer(slow, [fine()]) as server, lm_at(server.url, mode) as lm:
        mode.ask(lm, PROMPT)
        first, second = server.requests
    assert 0.15 <= second.at - first.at < SLACK


@row("HTTP", "Retry-After", MODES[:1])
def test_a_date_is_waited_for(mode: Mode) -> None:
    until = int(time.time()) + 2
    slow = [receive(), send(whole(ECHO, 503, {"Retry-After": formatdate(until, usegmt=True)}))]
    with FaultServer(slow, [fine()]) as server, lm_at(server.url, mode) as lm:
        mode.ask(lm, PROMPT)
        assert until - 0.05 <= time.time() < until + SLACK
        assert len(server.requests) == 2


@row("HTTP", "Retry-After", MODES[:1])
def test_the_value_is_on_the_error(mode: Mode) -> None:
    slow = [receive(), send(whole(ECHO, 429, {"Retry-After": "121"}))]
    with (
        FaultServer(slow) as server,
        lm_at(server.url, mode, timeout=None) as lm,
        pytest.raises(errors.RateLimitError) as caught,
    ):
        mode.ask(lm, PROMPT)
    assert (caught.value.retry_after, caught.value.attempt) == (121, 1)


@row("HTTP", "any 3xx")
@pytest.mark.parametrize("number", [300, 301, 302, 303, 304, 307, 308])
def test_redirect(mode: Mode, number: int) -> None:
    with FaultServer([fine()]) as other:
        there = {"Location": f"{other.url}/v1/chat/completions?token=abc"}
        with (
            FaultServer([receive(), send(head(number, there, length=0))]) as server,
            lm_at(server.url, mode) as lm,
            pytest.raises(LMGatewayError, match=f"redirects to {other.host}") as caught,
        ):
            mode.ask(lm, PROMPT)
        assert len(server.requests) == 1
        assert other.peers == []
    error = caught.value
    assert type(error) is errors.APIError
    assert error.status == number
    assert "token=abc" not in str(error)
    check_words(error, server.host)


def test_what_is_sent_is_what_was_said() -> None:
    """The echo of the cases above would be empty words if nothing were sent."""
    with FaultServer([fine()]) as server, lm_at(server.url, MODES[0]) as lm:
        MODES[0].ask(lm, PROMPT)
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.body)["messages"] == [{"role": "user", "content": PROMPT}]
