"""Retries: another attempt after a failure that may pass, within the deadline and a budget."""

from __future__ import annotations

import logging
import os
from math import isfinite
from random import uniform
from threading import Lock
from typing import Any

from ..errors import ConfigError, InputError, LMGatewayError, RequestTimeoutError, UnsupportedError
from ..types import Flow, Sleep
from .context import Call, Step

__all__ = ["RetryBudget", "budget_for", "budgets", "retry"]

logger = logging.getLogger("lmgateway")

# Seconds.
FIRST_BACKOFF = 0.5
LONGEST_BACKOFF = 8.0
LONGEST_RETRY_AFTER = 120.0
_TIMEOUT_STATUSES = frozenset({408, 504})


def retry(step: Step, call: Call) -> Step:
    """Attempt a step up to ``call.options.retries + 1`` times.

    An error is retried if all of these hold: it is ``retryable`` (after an emitted piece the
    attempt has made it otherwise); it was retried less often than its ``max_retries``; the wait
    ends before the deadline; the endpoint's budget allows it.

    Raises the last attempt's own error. Its notes say what the attempts before it met, and why
    there was no further one.
    """

    def attempts(request: Any) -> Flow[Any]:
        allowed = call.options.retries + 1
        limited = cost = number = 0
        history: list[str] = []
        while True:
            number += 1
            call.attempts += 1
            try:
                answer = yield from step(request)
            except LMGatewayError as error:
                if not isinstance(error, (ConfigError, InputError, UnsupportedError)):
                    error.locate(attempt=number, attempts=allowed)
                limited += error.max_retries is not None
                seconds = None
                if number < allowed and _worthwhile(error, limited):
                    seconds = _delay(error, call, number)
                if seconds is not None:
                    cost = _pay(error, call)
                if seconds is None or not cost:
                    for note in history:
                        error.add_note(note)
                    raise
                history.append(f"attempt {number} failed: {type(error).__name__}: {error.message}")
                _log(error, call, number, seconds)
            else:
                if not call.cached:
                    _refund(call, cost)
                return answer
            finally:
                call.leave()
            yield Sleep(seconds)

    return attempts


def _worthwhile(error: LMGatewayError, limited: int) -> bool:
    return error.retryable and (error.max_retries is None or limited <= error.max_retries)


def _delay(error: LMGatewayError, call: Call, number: int) -> float | None:
    """Seconds to wait before the next attempt, or None if it would be too late."""
    asked: float | None = getattr(error, "retry_after", None)
    if asked is not None and isfinite(asked) and asked >= 0.0:
        if asked > LONGEST_RETRY_AFTER:
            error.add_note(
                f"not retried: the service asks to wait {asked:g} s, "
                f"and {LONGEST_RETRY_AFTER:g} s is the longest wait"
            )
            return None
        seconds = asked
    else:
        # Full jitter: callers that failed together do not come back together.
        ceiling = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(number - 1, 10))
        seconds = uniform(0.0, ceiling)
    remaining = call.deadline.remaining()
    if seconds >= remaining:
        error.add_note(
            f"not retried: the next attempt would begin in {seconds:.3g} s, "
            f"and {remaining:.3g} s of the call's timeout are left"
        )
        return None
    return seconds


def _log(error: LMGatewayError, call: Call, number: int, seconds: float) -> None:
    logger.info(
        "%s: attempt %d failed with %s%s, the next begins in %.3g s",
        call.host or call.provider,
        number,
        type(error).__name__,
        f" (status {status})" if (status := getattr(error, "status", 0)) else "",
        seconds,
    )


# -- the budget --------------------------------------------------------------------------------


class RetryBudget:
    """Tokens that retries of one endpoint cost, so that a dead service is not hammered.

    The figures are those of botocore's standard mode: 500 tokens, 5 for a retry, 10 after a
    timeout. A success gives back what its last retry cost, or 1 if it needed none.
    """

    CAPACITY = 500
    COST = 5
    TIMEOUT_COST = 10
    REFUND = 1

    __slots__ = ("_lock", "tokens")

    def __init__(self) -> None:
        self.tokens = self.CAPACITY
        self._lock = Lock()

    def spend(self, cost: int) -> bool:
        """Take that many tokens, unless there are too few."""
        with self._lock:
            if self.tokens < cost:
                return False
            self.tokens -= cost
            return True

    def refund(self, tokens: int) -> None:
        """Give tokens back, up to the capacity."""
        with self._lock:
            self.tokens = min(self.CAPACITY, self.tokens + tokens)


budgets: dict[tuple[str, str | None], RetryBudget] = {}


def budget_for(provider: str, host: str | None) -> RetryBudget:
    """The budget of an endpoint, which the whole process shares."""
    key = (provider, host)
    return budgets.get(key) or budgets.setdefault(key, RetryBudget())


def _pay(error: LMGatewayError, call: Call) -> int:
    """What the next attempt cost the budget; 0 if it cannot be paid."""
    slow = isinstance(error, RequestTimeoutError)
    slow = slow or getattr(error, "status", 0) in _TIMEOUT_STATUSES
    cost = RetryBudget.TIMEOUT_COST if slow else RetryBudget.COST
    if budget_for(call.provider, call.host).spend(cost):
        return cost
    error.add_note(
        f"not retried: the retry budget of {call.host or call.provider} is spent, because many "
        "of its calls failed lately; it fills again as calls succeed"
    )
    return 0


def _refund(call: Call, cost: int) -> None:
    budget = budgets.get((call.provider, call.host))
    if budget is not None:
        budget.refund(cost or RetryBudget.REFUND)


# A lock that another thread held while this process was forked would never be released.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=budgets.clear)
