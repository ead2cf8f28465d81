"""The row runner: asks one row, again and again while that is worth it, at the service's pace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from math import inf
from random import uniform
from time import monotonic
from typing import Any, NoReturn

from .._call.allowlist import check_row
from .._drive.cancel import Cancelled, Deadline
from .._drive.gather import Reply
from .._layers.context import Attempt, EffectLayer, Send
from .._layers.limit import Limiter, Limits, limit, limiter_for
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
    UnsupportedError,
)
from ..lm import LM, derived, spec_of
from ..types import Completion, Exchange, Flow
from .adaptive_limit import AdaptiveLimit, rest
from .progress import Counts
from .rows import IGNORE, Row

__all__ = ["RetryPolicy", "RowRunner", "StopError"]

OVERLOADED = frozenset({429, 503, 529})
#: Errors for which no row is to blame: the next rows would meet them as well.
_CONCERN_ALL = (
    AuthenticationError,
    ConfigError,
    NotFoundError,
    PermissionDeniedError,
    PluginError,
    QuotaExceededError,
)
MOST_MODELS = 64
LONGEST_PAUSE = 600.0  # seconds


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
            which another row was answered: while none is, the service is down.
        overloads: The same, in place of ``tries``, where the status of the last failure says that
            the service is overloaded (429, 503 or 529).
        outage: The job stops after so many seconds without any answer, as soon as a row has been
            asked ``tries`` times.
        backoff: Seconds, doubled with each call for the row. The row waits for a random part of
            them, from 25 % to 50 %, before it is asked again.
        longest_backoff: Seconds beyond which they are not doubled; so the longest wait is half of
            it. Where the service itself says how long to wait (``retry_after``), no row is asked
            for so long, which may be up to LONGEST_PAUSE.
    """

    consecutive_failures: int = 5
    tries: int = 4
    overloads: int = 30
    outage: float = 600.0
    backoff: float = 1.0
    longest_backoff: float = 30.0


RETRY_POLICY = RetryPolicy()


@dataclass(slots=True)
class _Tries:
    """The calls that were made for one row.

    Attributes:
        calls: How many.
        blamed: How many count against the row.
        first: How many other rows had been answered at its first failure; -1 before.
        last: The same, at its last failure.
    """

    calls: int = 0
    blamed: int = 0
    first: int = -1
    last: int = -1


class RowRunner:
    """Asks the rows of a job, all of one LM's provider.

    Args:
        lm: The LM; it must stay open until ``close``.
        concurrency: Calls in flight at most.
        limits: Requests and tokens a minute, beside those that are configured for the provider.
        counts: Where attempts are counted.

    Attributes:
        limit: How many calls may be in flight.
        stopping: Is set once no further call begins.
    """

    def __init__(self, lm: LM, concurrency: int, limits: Limits, counts: Counts) -> None:
        spec = spec_of(lm)
        configured = Limits(**{name: each.value for name, each in spec.selection.limits.items()})
        self.stopping = asyncio.Event()
        self.limit = AdaptiveLimit(
            min(concurrency, configured.in_flight or concurrency), self.stopping
        )
        self._policy = RETRY_POLICY
        self._limiters = [limiter_for(lm.provider, each) for each in (configured, limits) if each]
        self._layers: tuple[EffectLayer, ...] = (_watch(self.limit, counts), self._note_backoff)
        if limits:
            self._layers = (limit(limits), *self._layers)
        # The calls that wait between a failed attempt and the next.
        self._backing_off: dict[asyncio.Task[Any], Deadline] = {}
        self._lm = lm
        self._spec = spec
        self._turn = asyncio.Lock()
        self._consecutive_failures = self._successes = 0
        self._last_success = monotonic()
        self._why_stopped: LMGatewayError | None = None
        self._copies: list[LM] = []
        self._own_model = derived(lm, *self._layers)
        self._models: dict[str, LM] = {lm.model: self._own_model}

    def close(self) -> None:
        """Give the connections back."""
        for lm in (*self._models.values(), *self._copies):
            lm.close()

    def drain(self) -> None:
        """Begin no further call, and no further attempt of a call."""
        self.stopping.set()
        for deadline in self._backing_off.values():
            deadline.cancel()

    async def run_row(self, row: Row) -> Reply | None:
        """Ask a row until there is a reply; None if it was not asked since the job stops.

        Raises StopError if the job cannot go on; the row was not answered then.
        """
        fault = row.fault or self._refused(row)
        if fault is not None:
            return fault
        tries = _Tries()
        while not self.stopping.is_set():
            await self._begin()
            if self.stopping.is_set():
                self.limit.release()
                break
            began = monotonic()
            try:
                completion = await self._ask(row)
            except Cancelled:
                break
            except LMGatewayError as error:
                seconds = self._judge(error, tries, began)
                if seconds is None:
                    return error
            else:
                self._succeed()
                return completion
            finally:
                self.limit.release()
            await rest(self.stopping, seconds)
        if self._why_stopped is not None:
            raise StopError(self._why_stopped)
        return None

    def _refused(self, row: Row) -> InputError | UnsupportedError | None:
        """Why a row may not be asked as it is."""
        place = f"row {row.number}"
        try:
            check_row(row.arguments, self._spec, place)
        except (InputError, UnsupportedError) as error:
            return error.advise(IGNORE)
        if row.model not in (None, self._lm.model) and self._spec.plugin.info.model_is_file:
            return InputError(
                f"{place}: a model of {self._spec.plugin.name} is a file of this machine, which "
                "the job names and no row: give it there, model=..."
            )
        return None

    async def _begin(self) -> None:
        """Wait until a call may begin; it counts as in flight then."""
        async with self._turn:  # one row at a time, or all would see the same free place
            await self.limit.acquire()
            for limiter in self._limiters:
                await _pace(limiter, self.stopping)

    async def _ask(self, row: Row) -> Completion:
        """Call the LM; raises Cancelled if the job stops while the call waits between attempts."""
        lm = self._own_model if row.model is None else self._for_model(row.model)
        keywords: Mapping[str, Any] = row.arguments
        if row.raw_endpoint and "use_chat_api" in getattr(type(lm.settings), "model_fields", ()):
            keywords = {"use_chat_api": False, **keywords}
        try:
            return await lm.acomplete(**keywords)
        finally:
            self._backing_off.pop(_this_task(), None)

    def _note_backoff(self, send: Send, attempt: Attempt) -> Send:
        """The layer that knows which calls wait between a failed attempt and the next."""
        self._backing_off.pop(_this_task(), None)
        if not attempt.call.options.fallbacks:  # else another model may be asked meanwhile
            attempt.on_failure(partial(self._back_off, attempt.call.deadline))
        return send

    def _back_off(self, deadline: Deadline, _: LMGatewayError) -> bool:
        self._backing_off[_this_task()] = deadline
        if self.stopping.is_set():
            deadline.cancel()
        return False

    def _for_model(self, model: str) -> LM:
        lm = self._models.get(model)
        if lm is None:
            if len(self._models) >= MOST_MODELS:
                raise InputError(f"a job asks at most {MOST_MODELS} models: split the input")
            self._copies.append(self._lm.copy(model=model))
            lm = self._models[model] = derived(self._copies[-1], *self._layers)
        return lm

    def _succeed(self) -> None:
        self.limit.grow()
        self._consecutive_failures = 0
        self._successes += 1
        self._last_success = monotonic()

    def _judge(self, error: LMGatewayError, tries: _Tries, began: float) -> float | None:
        """In how many seconds to ask the row again; None if the row has failed.

        Raises StopError if no other row would be answered either.
        """
        policy = self._policy
        if any(each.in_flight is not None and each.in_flight.stuck() for each in self._limiters):
            self._stop(error)  # whoever holds the permits waits for the end of this job
        tries.calls += 1
        # A failure counts against the row only while others succeed; else the service is down.
        tries.blamed += self._successes != tries.last
        tries.last = self._successes
        if tries.first < 0:
            tries.first = self._successes
        others_fail = tries.first == self._successes
        overloaded = getattr(error, "status", 0) in OVERLOADED
        if _concerns_all(error):
            self._consecutive_failures += others_fail
            enough = tries.calls >= policy.tries
            if self._consecutive_failures >= policy.consecutive_failures or (
                enough and others_fail
            ):
                self._stop(error)
            return None if enough else policy.backoff * uniform(0.5, 1.0)
        if not (error.retryable or isinstance(error, RequestTimeoutError)):
            return None
        if overloaded or isinstance(error, RequestTimeoutError):
            self.limit.cut(began)
        if tries.blamed >= (policy.overloads if overloaded else policy.tries):
            return None
        if monotonic() - self._last_success > policy.outage and tries.calls >= policy.tries:
            self._stop(error)
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is not None and 0 < asked < LONGEST_PAUSE:
            self.limit.hold_back(asked)
            return asked
        longest = min(policy.longest_backoff, policy.backoff * 2.0 ** min(tries.calls, 10))
        return longest * uniform(0.25, 0.5)

    def _stop(self, error: LMGatewayError) -> NoReturn:
        self._why_stopped = error
        self.drain()
        raise StopError(error)


def _concerns_all(error: LMGatewayError) -> bool:
    if isinstance(error, ConnectionFailedError):
        return not error.retryable  # a certificate, say
    return isinstance(error, _CONCERN_ALL) and not isinstance(error, InputError)


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _watch(adaptive: AdaptiveLimit, counts: Counts) -> EffectLayer:
    """The innermost layer: it sees every attempt, and cuts the limit at once."""

    def layer(send: Send, attempt: Attempt) -> Send:
        def watched(exchange: Exchange) -> Flow[Any]:
            counts.attempts += 1
            began = monotonic()
            try:
                response = yield from send(exchange)
            except RequestTimeoutError:
                adaptive.cut(began)
                raise
            if getattr(response, "status", 200) in OVERLOADED:
                counts.rejections += 1
                adaptive.cut(began)
            return response

        return watched

    return layer


async def _pace(limiter: Limiter, stopping: asyncio.Event) -> None:
    """Wait until a call would hardly have to wait, so that waiting does not eat its timeout."""
    for rate in filter(None, (limiter.requests, limiter.tokens)):
        while not stopping.is_set():
            due = rate.reserve(0, inf)
            seconds = due if isinstance(due, float) else due.seconds
            if seconds <= 0.0:
                break
            await rest(stopping, seconds)
