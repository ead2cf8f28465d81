"""A batch ends: a row that always fails fails, and a service that is down is waited for."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from lmgateway import errors
from lmgateway.batch import process_batch, row_runner, run, status
from lmgateway.batch.verdicts import RetryPolicy, Verdicts
from lmgateway.errors import InputError, LMGatewayError
from lmgateway.testing import ScriptedLM
from lmgateway.types import Request

FAST = RetryPolicy(
    backoff=0.002, longest_backoff=0.006, together=0.03, unreachable=0.05, outage=5.0
)
SPENT = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_runner, "RETRY_POLICY", FAST)


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "answers.jsonl"


def named(rows: int) -> list[dict[str, str]]:
    return [{"custom_id": str(number), "prompt": str(number)} for number in range(rows)]


def failing(bad: set[int], failure: Callable[[], LMGatewayError]) -> ScriptedLM:
    def script(request: Request) -> Any:
        return failure() if int(str(request.prompt)) in bad else "yes"

    return ScriptedLM(script, retries=0)


def failed(path: Path) -> dict[str, str]:
    rows = map(json.loads, path.read_text().splitlines())
    return {row["custom_id"]: row["error"]["type"] for row in rows if row["error"] is not None}


FAILURES: dict[str, Callable[[], LMGatewayError]] = {
    "429": lambda: errors.RateLimitError("slow", status=429),
    "500": lambda: errors.ServerError("broken", status=500),
    "503": lambda: errors.ServerError("full", status=503),
    "timeout": lambda: errors.RequestTimeoutError("late"),
    "broken": lambda: errors.ConnectionFailedError("reset"),
    "404": lambda: errors.NotFoundError("no such model", status=404),
    "403": lambda: errors.PermissionDeniedError("not this", status=403),
}
PLACES: dict[str, tuple[int, set[int]]] = {
    "the first": (60, {0}),
    "in the middle": (60, {30}),
    "the last": (60, {59}),
    "the last ten": (60, set(range(50, 60))),
    "alternately": (40, set(range(0, 40, 2))),
}


KINDS_AND_PLACES = [(kind, place) for kind in FAILURES for place in ("the first", "the last")]
KINDS_AND_PLACES += [
    (kind, place)
    for kind in ("429", "500")
    for place in ("in the middle", "the last ten", "alternately")
]


@pytest.mark.parametrize("kind, place", KINDS_AND_PLACES)
def test_rows_that_always_fail_end(output: Path, kind: str, place: str) -> None:
    rows, bad = PLACES[place]
    concurrency = (1, 4, 100)[(len(kind) + len(place)) % 3]
    summary = run(named(rows), output, failing(bad, FAILURES[kind]), concurrency=concurrency)
    assert (summary.answered, summary.failed) == (rows - len(bad), len(bad))
    name = type(FAILURES[kind]()).__name__
    assert failed(output) == {str(number): name for number in bad}


@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_block_of_bad_rows_holds_up_no_good_ones(output: Path, concurrency: int) -> None:
    bad = set(range(20, 35))
    lm = failing(bad, FAILURES["500"])
    summary = run(named(60), output, lm, concurrency=concurrency, ordered=True)
    assert (summary.answered, summary.failed) == (45, 15)


def test_a_short_patience_asks_the_rows_behind_a_bad_block_too(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_runner, "RETRY_POLICY", replace(FAST, tries=10**6, overloads=10**6))
    lm = failing(set(range(20)), FAILURES["500"])
    summary = run(named(60), output, lm, concurrency=8, patience=0.2)
    assert (summary.answered, summary.failed) == (40, 20)


def test_a_row_left_from_an_earlier_run_ends_with_patience(output: Path) -> None:
    run(named(40), output, failing(set(), FAILURES["500"]))
    lm = failing({40}, FAILURES["500"])
    with pytest.raises(errors.ServerError):  # a service that answers nobody is down
        run(named(40) + [{"prompt": "40"}] * 9, output, lm, patience=0.05)
    summary = run(named(41), output, lm, patience=0.05)
    assert (summary.skipped, summary.failed) == (40, 1)


@pytest.mark.parametrize(
    "kind, rows",
    [("429", 1), ("500", 1), ("503", 30), ("timeout", 1), ("broken", 30)],
)
def test_a_service_that_is_down_for_all_is_waited_for_until_patience_ends(
    output: Path, kind: str, rows: int
) -> None:
    lm = failing(set(range(rows)), FAILURES[kind])
    with pytest.raises(type(FAILURES[kind]())):
        run(named(rows), output, lm, patience=0.05)
    assert output.read_bytes() == b""
    assert run(named(rows), output, failing(set(), FAILURES[kind])).answered == rows


def test_a_service_that_is_down_in_the_middle_is_waited_for(output: Path) -> None:
    calls = 0

    def script(request: Request) -> Any:
        nonlocal calls
        calls += 1
        return errors.ServerError("down", status=502) if 20 < calls < 120 else "yes"

    summary = run(named(100), output, ScriptedLM(script, retries=0), concurrency=8)
    assert (summary.answered, summary.failed) == (100, 0)


# -- a quota told by a sentence ------------------------------------------------------------------


_requests = count(1000)


def spent() -> LMGatewayError:
    return errors.InvalidRequestError(f"{SPENT} (request req_{next(_requests)})", status=400)


@pytest.mark.parametrize("first, concurrency", [(0, 20), (30, 1), (30, 20), (97, 20)])
def test_a_quota_that_is_spent_stops_the_job_whatever_says_so(
    output: Path, first: int, concurrency: int
) -> None:
    lm = failing(set(range(first, 100)), spent)
    with pytest.raises(errors.InvalidRequestError, match="credit balance"):
        run(named(100), output, lm, concurrency=concurrency)
    assert len(lm.requests) <= first + 30
    assert failed(output) == {}
    assert run(named(100), output, failing(set(), spent)).answered + first == 100


@pytest.mark.parametrize(
    "message", [SPENT, "max_tokens: 99999 > 8192"], ids=["as a quota", "of another kind"]
)
def test_a_few_bad_rows_among_good_ones_stop_nothing(output: Path, message: str) -> None:
    bad = {3, 17, 40, 41}

    lm = failing(bad, lambda: errors.InvalidRequestError(message, status=400))
    summary = run(named(200), output, lm, concurrency=10)
    assert (summary.answered, summary.failed) == (196, 4)


# -- what is told ---------------------------------------------------------------------------------


def test_a_wait_is_told_in_the_log_and_by_status(
    output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from lmgateway.batch import progress

    monkeypatch.setattr(progress, "SHORT_WAIT", 0.0)
    monkeypatch.setattr(progress, "LOOKS", 0.01)
    seen: list[Any] = []

    def script(request: Request) -> Any:
        if output.with_name("answers.jsonl.job").exists() and not seen:
            told = status(output).waiting
            seen.extend([told] if told is not None else [])
        return "yes" if seen else errors.ServerError("the disk burns", status=500)

    with caplog.at_level(logging.WARNING, "lmgateway.batch"):
        run(named(1), output, ScriptedLM(script, retries=0), patience=60)
    (told,) = seen
    assert (told.rows, told.row) == (1, 1)
    assert "ServerError: the disk burns" in told.why
    assert 55 < told.until - told.since < 61
    (record,) = caplog.records
    assert "waiting for 1 row, until 20" in record.getMessage()
    assert "the disk burns" in record.getMessage()
    assert status(output).waiting is None


def test_attempts_that_fail_within_a_call_are_told_before_the_call_has_failed() -> None:
    from lmgateway.batch.progress import wait_text

    verdicts = Verdicts(FAST, patience=float("inf"))
    verdicts.begin(7)
    assert verdicts.waiting() is None
    verdicts.suspect("HTTP status 503")
    told = verdicts.waiting()
    assert told is not None
    words = wait_text(told)
    assert "waiting for 1 row, for ever, since calls fail: HTTP status 503" in words
    verdicts.succeed()
    assert verdicts.waiting() is None


@pytest.mark.parametrize("given", [0, -1, True, "5", float("nan"), 10**400], ids=repr)
def test_patience_is_a_number_of_seconds(output: Path, given: Any) -> None:
    with pytest.raises(InputError, match="patience must be"):
        run(named(1), output, "echo", patience=given)
    with pytest.raises(InputError, match="patience must be"):
        process_batch(named(1), "echo", patience=given)


# -- rate and time left ---------------------------------------------------------------------------

RUNS: dict[str, Callable[[float], tuple[float, float]]] = {
    # What is done after so many seconds: asked, and from the cache. Truth: 100 a second.
    "steady": lambda t: (100 * t, 0),
    "a slow start": lambda t: (100 * t * t / 4 if t < 2 else 100 * (t - 1), 0),
    "cached rows rush by first": lambda t: (100 * max(0.0, t - 1), min(t, 1.0) * 20_000),
    "cached rows rush by later": lambda t: (100 * t, 5_000 * min(1.0, max(0.0, t - 4.0))),
    "half of them cached": lambda t: (50 * t, 50 * t),
    "limited by rate, with a burst": lambda t: (1_000 * min(t, 1) + 100 * t, 0),
}


@pytest.mark.parametrize("run_", RUNS)
@pytest.mark.parametrize("seconds", [5.5, 20, 120])
def test_the_rate_is_right_after_five_seconds(run_: str, seconds: float) -> None:
    from lmgateway.batch.speed import Speed

    speed, now = Speed(0.0), 0.0
    while now < seconds:
        now += 0.25
        asked, cached = RUNS[run_](now)
        speed.look(now, int(asked), int(cached))
    assert 80 <= speed.rate <= 120
