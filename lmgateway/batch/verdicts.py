"""Verdicts: whether a row that failed is asked again, has failed, or stops the job.

One failure says little: the row may be bad, or the service may be down for every row. What became
of the other rows meanwhile tells the two apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from random import uniform
from time import monotonic, time

from ..errors import (
    APIError,
    AuthenticationError,
    ConfigError,
    ConnectionFailedError,
    InputError,
    LMGatewayError,
    NotFoundError,
    PermissionDeniedError,
    PluginError,
    QuotaExceededError,
    RequestTimeoutError,
)

__all__ = ["FAR", "OVERLOADED", "RetryPolicy", "StopError", "Tries", "Verdicts", "Waiting"]

OVERLOADED = frozenset({429, 503, 529})
LONGEST_PAUSE = 600.0  # seconds

#: Errors for which, as a rule, no row is to blame: the next rows would meet them as well.
_CONCERN_ALL = (
    AuthenticationError,
    ConfigError,
    NotFoundError,
    PermissionDeniedError,
    PluginError,
    QuotaExceededError,
)
#: Those of them that a row may bring about alone: by its model, what it says, or an odd answer.
_CONCERN_SOME = (NotFoundError, PermissionDeniedError, PluginError)

#: How a spent quota is told where no code tells it. It is believed only if it comes several times
#: in succession, word for word, while no row is answered.
_SPENT = re.compile(
    r"credit balance|insufficient (balance|credit|fund|quota)|(out of|purchase|no more) credits"
    r"|exceeded your (current |monthly )?(quota|budget)|quota (is )?(exceeded|exhausted)"
    r"|(usage|spend(ing)?|billing) limits?\b|plans? (&|and) billing|arrears|payment required",
    re.IGNORECASE,
)
_VARIES = re.compile(r"[\w-]*\d[\w-]*")  # ids of requests, times
FAR = 4e9  # seconds since the epoch, in the year 2096: for ever
FEW = 3  # rows that are left, and fail
MOST_PROBES = 256


class StopError(Exception):
    """The job cannot go on, for this reason."""

    def __init__(self, reason: LMGatewayError) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a row is asked again, beyond the retries within each call.

    Attributes:
        consecutive_failures: The job stops after so many calls in a row that fail for reasons
            that concern every row (a wrong key, a spent quota, a missing model).
            The row waits between half of ``backoff`` and all of it before its next call.
        tries: A row fails after so many failed calls. After the first, only those count between
            which another row was answered: while none is, the service may be down. If only
            rows are left that fail, and others were answered, all calls count.
        overloads: The same, in place of ``tries``, where the status of the last failure says that
            the service is overloaded (429, 503 or 529).
        together: If several rows are left, and all fail, they do so no earlier than so many
            seconds after the first of these failures, or after ``overloads`` calls.
        unreachable: The same where rows that are left find the service overloaded, or do not
            reach it.
        outage: The job stops after so many seconds of failures without any answer.
        backoff: Seconds, doubled with each call for the row. The row waits for a random part of
            them, from 25 % to 50 %, before it is asked again.
        longest_backoff: Seconds beyond which they are not doubled; so the longest wait is half of
            it. Where the service itself says how long to wait (``retry_after``), no row is asked
            for so long, which may be up to LONGEST_PAUSE.
    """

    consecutive_failures: int = 5
    tries: int = 4
    overloads: int = 30
    together: float = 20.0
    unreachable: float = 60.0
    outage: float = 600.0
    backoff: float = 1.0
    longest_backoff: float = 30.0


@dataclass(slots=True)
class Tries:
    """The calls that were made for one row.

    Attributes:
        number: Which row of the input it is.
        calls: How many failed.
        blamed: How many count against the row.
        first: How many other rows had been answered at its first failure; -1 before.
        last: The same, at its last failure.
    """

    number: int = 0
    calls: int = 0
    blamed: int = 0
    first: int = -1
    last: int = -1


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job waits for.

    Attributes:
        rows: How many rows are asked again and again.
        row: The number of the one that failed last, counted from 1; 0 if none has failed so far,
            but attempts to ask it did.
        why: Its error, or why the latest attempt failed.
        since: Seconds since the epoch: when the failures began.
        until: The same: until when they are waited for, at the longest; FAR for ever.
    """

    rows: int
    row: int
    why: str
    since: float
    until: float


class Verdicts:
    """Judges the failures of all rows of a job.

    Args:
        policy: How often a row is asked again.
        patience: Seconds, in place of ``policy.outage``.
        answered_before: How many rows had an answer when the run began.

    Attributes:
        unread: How many pipelines may still bring further rows.
        in_hand: Rows that are being asked, or wait to be asked again.
        on_stall: Are called with a number when all rows in hand fail: so many more are to be
            brought, to find out whether the service is down or those rows are bad.
    """

    def __init__(
        self, policy: RetryPolicy, patience: float | None = None, answered_before: int = 0
    ) -> None:
        self.unread = 0
        self.in_hand = 0
        self.on_stall: list[Callable[[int], None]] = []
        self._answered_before = answered_before
        self._policy = policy
        self._patience = policy.outage if patience is None else patience
        self._fresh = 0  # rows in hand that have not failed often
        self._probes = 1
        self._successes = self._consecutive_failures = 0
        self._refusal = ""
        self._down_since: float | None = None  # the first failure since the last success
        self._latest: tuple[Tries, LMGatewayError] | None = None
        self._suspicion = ""  # why the latest attempt failed
        self._held_until = 0.0

    def begin(self, number: int) -> Tries:
        """A row comes in hand."""
        self.in_hand += 1
        self._fresh += 1
        return Tries(number)

    def end(self, tries: Tries) -> None:
        """A row is out of hand."""
        self.in_hand -= 1
        self._fresh -= tries.calls < self._policy.tries

    def succeed(self) -> None:
        """A row was answered."""
        self._consecutive_failures = 0
        self._successes += 1
        self._down_since = self._latest = None
        self._probes = 1

    def suspect(self, why: str) -> None:
        """An attempt of a call failed; the call may try again, and no row has failed so far."""
        if self._down_since is None:
            self._down_since = monotonic()
        self._suspicion = why

    def judge(self, error: LMGatewayError, tries: Tries) -> float | None:
        """In how many seconds to ask the row again; None if the row has failed.

        Raises StopError if no other row would be answered either.
        """
        now = monotonic()
        tries.calls += 1
        self._fresh -= tries.calls == self._policy.tries
        # A failure counts against the row only while others succeed; else the service is down.
        tries.blamed += self._successes != tries.last
        tries.last = self._successes
        if tries.first < 0:
            tries.first = self._successes
        spent = _tells_spent(error)
        if spent or _concerns_all(error):
            return self._judge_refusal(error, tries, spent=spent)
        if not _may_pass(error):
            return None
        if self._down_since is None:
            self._down_since = now
        self._latest = tries, error
        overloaded = _overloaded(error)
        if tries.blamed >= (self._policy.overloads if overloaded else self._policy.tries):
            return None
        if self._only_bad_rows_left() and self._tried_enough(error, tries, now):
            return None
        if now >= self._down_since + self._patience:
            raise StopError(error)
        self._probe(tries)
        return self._pause(error, tries, now)

    def waiting(self) -> Waiting | None:
        """What the job waits for; None while rows are answered."""
        if self._down_since is None:
            return None
        end, number, why = self._down_since + self._patience, 0, self._suspicion
        if self._latest is not None:
            tries, error = self._latest
            number, why = tries.number, f"{type(error).__name__}: {error.message:.200}"
            end = self._end(tries, error)
        now, clock = monotonic(), time()
        return Waiting(
            rows=self.in_hand,
            row=number,
            why=why,
            since=clock + self._down_since - now,
            until=min(FAR, clock + max(end, self._held_until, now) - now),
        )

    def _end(self, tries: Tries, error: LMGatewayError) -> float:
        """Until when, at the longest, a row that failed is asked again, if answers are quick."""
        assert self._down_since is not None
        end = self._down_since + self._patience
        if self._only_bad_rows_left() and self._successes:
            end = min(end, max(self._down_since + self._shortened(error), self._last_try(tries)))
        return end

    def _judge_refusal(self, error: LMGatewayError, tries: Tries, *, spent: bool) -> float | None:
        policy = self._policy
        said = _VARIES.sub("#", error.message)
        if spent and said != self._refusal:
            self._consecutive_failures = 0  # a sentence is believed when it comes again
        self._refusal = said
        others_fail = tries.first == self._successes
        some = isinstance(error, _CONCERN_SOME)  # then rows are counted, else calls
        self._consecutive_failures += others_fail and not (some and tries.calls > 1)
        enough = tries.calls >= policy.tries
        if some and self._only_bad_rows_left():
            return None if enough else policy.backoff * uniform(0.5, 1.0)
        if self._consecutive_failures >= policy.consecutive_failures:
            raise StopError(error)
        if enough and others_fail:
            if not (some and self.unread) or tries.calls >= policy.overloads:
                raise StopError(error)
            self._probe(tries)
            enough = False
        return None if enough else policy.backoff * uniform(0.5, 1.0)

    def _only_bad_rows_left(self) -> bool:
        """Whether the rows in hand are the last, and most others were answered.

        In a run that goes on, those of earlier runs count, but less: the service may be down now.
        """
        if self.unread:
            return False
        return self.in_hand <= self._successes or self.in_hand * 10 <= self._answered_before

    def _tried_enough(self, error: LMGatewayError, tries: Tries, now: float) -> bool:
        """Whether a row that is left, with others like it at most, has failed."""
        assert self._down_since is not None
        down = now - self._down_since
        if down >= self._patience or not self._successes:  # in this run
            return down >= self._patience
        if tries.calls < self._policy.tries:
            return False
        return down >= self._shortened(error) or tries.calls >= self._policy.overloads

    def _shortened(self, error: LMGatewayError) -> float:
        """Seconds for which rows that are left are asked again."""
        if _overloaded(error) or isinstance(error, ConnectionFailedError):
            return min(self._patience, self._policy.unreachable)
        return 0.0 if self.in_hand <= FEW else min(self._patience, self._policy.together)

    def _last_try(self, tries: Tries) -> float:
        """When a row has been asked as often as it may be, at the latest, if answers are quick."""
        policy, moment = self._policy, monotonic()
        for call in range(tries.calls, policy.tries):
            moment += min(policy.longest_backoff, policy.backoff * 2.0**call) / 2
        return moment

    def _probe(self, tries: Tries) -> None:
        """Have further rows asked if all in hand have failed, and none was answered meanwhile.

        If patience is short, half of it without an answer is enough to suspect that.
        """
        failed = not self._fresh and tries.calls >= self._policy.tries
        if not (failed or self._half_waited()):
            return
        for call in list(self.on_stall):
            call(self._probes)
        self._probes = min(2 * self._probes, MOST_PROBES)

    def _half_waited(self) -> bool:
        since = self._down_since
        return since is not None and monotonic() >= since + self._patience / 2

    def _pause(self, error: LMGatewayError, tries: Tries, now: float) -> float:
        asked = retry_after(error)
        if asked is not None:
            self._held_until = max(self._held_until, now + asked)
            return asked
        policy = self._policy
        longest = min(policy.longest_backoff, policy.backoff * 2.0 ** min(tries.calls, 10))
        assert self._down_since is not None
        left = self._down_since + self._patience - now
        return min(longest * uniform(0.25, 0.5), max(left, 0.0))


def retry_after(error: LMGatewayError) -> float | None:
    """How many seconds the service asks to wait; None if it does not, or for absurdly long."""
    asked = error.retry_after if isinstance(error, APIError) else None
    return asked if asked is not None and 0 < asked < LONGEST_PAUSE else None


def _overloaded(error: LMGatewayError) -> bool:
    return getattr(error, "status", 0) in OVERLOADED


def _may_pass(error: LMGatewayError) -> bool:
    return error.retryable or isinstance(error, RequestTimeoutError)


def _tells_spent(error: LMGatewayError) -> bool:
    refused = isinstance(error, APIError) and 400 <= (error.status or 0) < 500
    return refused and not error.retryable and _SPENT.search(error.message) is not None


def _concerns_all(error: LMGatewayError) -> bool:
    if isinstance(error, ConnectionFailedError):
        return not error.retryable  # a certificate, say
    return isinstance(error, _CONCERN_ALL) and not isinstance(error, InputError)
