"""The row runner: asks one row, again and again while that is worth it, at the service's pace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from .._call.allowlist import check_row
from .._drive.cancel import Cancelled, Deadline
from .._drive.gather import Reply
from .._layers.context import Attempt, EffectLayer, Send
from .._layers.limit import Limiter, Limits, limit, limiter_for
from ..errors import (
    InputError,
    LMGatewayError,
    RequestTimeoutError,
    TransportError,
    UnsupportedError,
)
from ..lm import LM, derived, spec_of
from ..types import Completion, Exchange, Flow
from .adaptive_limit import AdaptiveLimit, rest
from .answers import timed
from .progress import Counts
from .rows import IGNORE, Row
from .verdicts import (
    OVERLOADED,
    RetryPolicy,
    StopError,
    Tries,
    Verdicts,
    Waiting,
    retry_after,
)

__all__ = ["RetryPolicy", "RowRunner", "StopError"]

MOST_MODELS = 64
RETRY_POLICY = RetryPolicy()


class RowRunner:
    """Asks the rows of a job, all of one LM's provider.

    Args:
        lm: The LM; it must stay open until ``close``.
        concurrency: Calls in flight at most.
        limits: Requests and tokens a minute, beside those that are configured for the provider.
        counts: Where attempts are counted.
        patience: Seconds of failures, without any answer, after which the job stops.

    Attributes:
        limit: How many calls may be in flight.
        verdicts: Judges the failures.
        stopping: Is set once no further call begins.
    """

    def __init__(
        self,
        lm: LM,
        concurrency: int,
        limits: Limits,
        counts: Counts,
        patience: float | None = None,
    ) -> None:
        spec = spec_of(lm)
        configured = Limits(**{name: each.value for name, each in spec.selection.limits.items()})
        self.stopping = asyncio.Event()
        self.limit = AdaptiveLimit(
            min(concurrency, configured.in_flight or concurrency), self.stopping
        )
        self.verdicts = Verdicts(RETRY_POLICY, patience, counts.answered_before)
        self._limiters = [limiter_for(lm.provider, each) for each in (configured, limits) if each]
        self._layers: tuple[EffectLayer, ...] = (
            _watch(self.limit, counts, self.verdicts),
            self._note_backoff,
        )
        if limits:
            self._layers = (limit(limits), *self._layers)
        # The calls that wait between a failed attempt and the next.
        self._backing_off: dict[asyncio.Task[Any], Deadline] = {}
        self._lm = lm
        self._counts = counts
        self._spec = spec
        self._turn = asyncio.Lock()
        self._why_stopped: LMGatewayError | None = None
        self._copies: list[LM] = []
        self._own_model = derived(lm, *self._layers)
        self._models: dict[str, LM] = {lm.model: self._own_model}

    def close(self) -> None:
        """Give the connections back."""
        for lm in (*self._models.values(), *self._copies):
            lm.close()

    def waiting(self) -> Waiting | None:
        """What is waited for; None while rows are answered."""
        return self.verdicts.waiting()

    def rows_follow(self, bring: Callable[[int], None]) -> None:
        """See ``Runner`` in pipeline.py."""
        self.verdicts.unread += 1
        self.verdicts.on_stall.append(bring)

    def none_follow(self, bring: Callable[[int], None]) -> None:
        """See ``Runner`` in pipeline.py."""
        self.verdicts.unread -= 1
        self.verdicts.on_stall.remove(bring)

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
        tries = self.verdicts.begin(row.number)
        try:
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
                    return self._answered(completion, monotonic() - began)
                finally:
                    self.limit.release()
                await rest(self.stopping, seconds)
        finally:
            self.verdicts.end(tries)
        if self._why_stopped is not None:
            raise StopError(self._why_stopped)
        return None

    def _answered(self, completion: Completion, seconds: float) -> Completion:
        self.limit.grow()
        self.verdicts.succeed()
        self._counts.answer_seconds += seconds
        return timed(completion, seconds)

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

    def _judge(self, error: LMGatewayError, tries: Tries, began: float) -> float | None:
        """In how many seconds to ask the row again; None if the row has failed.

        Raises StopError if no other row would be answered either.
        """
        try:
            if any(each.in_flight and each.in_flight.stuck() for each in self._limiters):
                raise StopError(error)  # whoever holds the permits waits for the end of this job
            seconds = self.verdicts.judge(error, tries)
        except StopError:
            self._why_stopped = error
            self.drain()
            raise
        status = getattr(error, "status", 0)
        if status in OVERLOADED or isinstance(error, RequestTimeoutError):
            self.limit.cut(began)
        if seconds is not None and (asked := retry_after(error)) is not None:
            self.limit.hold_back(asked)
        return seconds


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


def _watch(adaptive: AdaptiveLimit, counts: Counts, verdicts: Verdicts) -> EffectLayer:
    """The innermost layer: it sees every attempt, and cuts the limit at once."""

    def layer(send: Send, attempt: Attempt) -> Send:
        def watched(exchange: Exchange) -> Flow[Any]:
            counts.attempts += 1
            began = monotonic()
            try:
                response = yield from send(exchange)
            except TransportError as error:
                verdicts.suspect(type(error).__name__)
                if isinstance(error, RequestTimeoutError):
                    adaptive.cut(began)
                raise
            status = getattr(response, "status", 200)
            if status >= 400 and (status in OVERLOADED or status >= 500):
                verdicts.suspect(f"HTTP status {status}")
                if status in OVERLOADED:
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
