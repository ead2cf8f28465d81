"""The asker: one row to its answer, as often as that is worth trying, at the service's pace."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from random import uniform
from time import monotonic
from typing import Any, NoReturn, TypeAlias

from .._call.allowlist import check_row
from .._layers.call import Attempt, EffectLayer, Send
from .._layers.limit import (
    Limiter,
    Limits,
    limit,
    limiter_for,
)
from .._records.history import History
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
from ..lm import LM
from ..types import Completion, Exchange, Flow
from .gate import Gate, rest
from .rows import IGNORE, Row
from .tally import Tally

__all__ = ["Asker", "Outcome", "Patience", "StopError"]

Outcome: TypeAlias = "Completion | LMGatewayError"

OVERLOADED = frozenset({429, 503, 529})
#: What no row is to blame for: when nothing else succeeds, the next rows would meet it as well.
_HOPELESS = (
    AuthenticationError,
    ConfigError,
    NotFoundError,
    PermissionDeniedError,
    PluginError,
    QuotaExceededError,
)
MOST_MODELS = 64
LONGEST_PAUSE = 600.0


class StopError(Exception):
    """The job cannot go on; its cause is why."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often a row is asked anew, beyond the retries of each call.

    Attributes:
        strikes: Calls in a row that fail for reasons that concern every row (a wrong key, a
            spent quota, a missing model), after which the job stops.
        tries: Calls for one row while other rows are answered, before it goes to the errors.
        refusals: The same, for a service that says it is overloaded.
        outage: Seconds without any answer after which the job stops.
        backoff: Seconds before the second call for a row; the wait doubles up to the longest.
        longest: Seconds.
    """

    strikes: int = 5
    tries: int = 4
    refusals: int = 30
    outage: float = 600.0
    backoff: float = 1.0
    longest: float = 30.0


PATIENCE = Patience()


@dataclass(slots=True)
class _Trials:
    """What has been tried for one row; ``first`` and ``last``: successes of others by then."""

    calls: int = 0
    blamed: int = 0
    first: int = -1
    last: int = -1


class Asker:
    """Asks rows of one LM, and of no other service.

    Args:
        lm: Who is asked.
        concurrency: Calls in flight at most.
        limits: Requests and tokens a minute, on top of what is configured for the provider.
        tally: Where attempts are counted.
    """

    def __init__(
        self,
        lm: LM,
        concurrency: int,
        limits: Limits,
        tally: Tally,
    ) -> None:
        configured = Limits(**{k: each.value for k, each in lm._spec.selection.limits.items()})
        self.stopping = asyncio.Event()
        self.gate = Gate(min(concurrency, configured.in_flight or concurrency), self.stopping)
        self._tally = tally
        self._patience = PATIENCE
        self._limiters = [limiter_for(lm.provider, each) for each in (configured, limits) if each]
        self._layers: tuple[EffectLayer, ...] = (_watch(self.gate, tally), self._note_rests)
        # Tasks whose call waits for its next attempt, and those that were told not to.
        self._resting: set[asyncio.Task[Any]] = set()
        self._roused: set[asyncio.Task[Any]] = set()
        if limits:
            self._layers = (limit(limits), *self._layers)
        self._lm = lm
        self._turn = asyncio.Lock()
        self._strikes = self._successes = 0
        self._last_success = monotonic()
        self._copies: list[LM] = []
        self._own_model = self._equipped(lm)
        self._models: dict[str, LM] = {lm.model: self._own_model}

    def close(self) -> None:
        """Give the connections back."""
        for lm in self._models.values():
            lm._connections.close()
        for copy in self._copies:
            copy.close()

    def drain(self) -> None:
        """Begin no further call, and no further attempt of one."""
        self.stopping.set()
        self._rouse()

    async def settle(self, row: Row) -> Outcome | None:
        """What becomes of a row; None if it is left undone because the job is stopping.

        Raises StopError where the job should not go on; the row is undone then.
        """
        fault = row.fault or self._refused(row)
        if fault is not None:
            return fault
        trials = _Trials()
        while not self.stopping.is_set():
            await self._enter()
            if self.stopping.is_set():
                self.gate.leave()
                break
            began = monotonic()
            try:
                completion = await self._ask(row)
            except LMGatewayError as error:
                seconds = self._judge(error, trials, began)
                if seconds is None:
                    return error
            else:
                if completion is None:
                    break
                self._succeed()
                return completion
            finally:
                self.gate.leave()
            await rest(self.stopping, seconds)
        return None

    def _refused(self, row: Row) -> InputError | UnsupportedError | None:
        """Why a row may not be asked as it says."""
        plugin, place = self._lm._spec.plugin, f"row {row.number}"
        try:
            check_row(row.arguments, plugin, place)
        except (InputError, UnsupportedError) as error:
            return error.advise(IGNORE)
        if row.model not in (None, self._lm.model) and plugin.info.model_is_file:
            return InputError(
                f"{place}: a model of {plugin.name} is a file of this machine, which the job names "
                "and no row: give it there, model=..."
            )
        return None

    async def _enter(self) -> None:
        async with self._turn:  # one at a time, so that not all see the same place free
            await self.gate.enter()
            for limiter in self._limiters:
                await _pace(limiter, self.stopping)

    async def _ask(self, row: Row) -> Completion | None:
        """Its answer; None if the job stopped while the call waited for its next attempt."""
        lm = self._own_model if row.model is None else self._for_model(row.model)
        keywords: Mapping[str, Any] = row.arguments
        if row.raw_endpoint and "use_chat_api" in getattr(type(lm.settings), "model_fields", ()):
            keywords = {"use_chat_api": False, **keywords}
        task = asyncio.current_task()
        assert task is not None
        try:
            return await lm.acomplete(**keywords)
        except asyncio.CancelledError:
            if task not in self._roused or task.uncancel():
                raise
            return None
        finally:
            self._resting.discard(task)
            self._roused.discard(task)

    def _note_rests(self, send: Send, scope: Attempt) -> Send:
        """The layer that knows which calls wait between a failed attempt and the next."""
        task = asyncio.current_task()
        assert task is not None
        self._resting.discard(task)
        if not scope.call.options.fallbacks:  # else another model may be at work on it meanwhile
            scope.on_failure(partial(self._rest, task))
        return send

    def _rest(self, task: asyncio.Task[Any], _: LMGatewayError) -> bool:
        self._resting.add(task)
        if self.stopping.is_set():  # later, since only then the task waits, if it does
            asyncio.get_running_loop().call_soon(self._rouse)
        return False

    def _rouse(self) -> None:
        """End the calls that wait for their next attempt."""
        while self._resting:
            task = self._resting.pop()
            self._roused.add(task)
            task.cancel()

    def _for_model(self, model: str) -> LM:
        lm = self._models.get(model)
        if lm is None:
            if len(self._models) >= MOST_MODELS:
                raise InputError(f"a job asks at most {MOST_MODELS} models: split the input")
            self._copies.append(self._lm.copy(model=model))
            lm = self._models[model] = self._equipped(self._copies[-1])
        return lm

    def _equipped(self, lm: LM) -> LM:
        """The same LM with our layers, and no history; its plugin is told of one end only."""
        layers = (*lm._spec.layers, *self._layers)
        equipped = LM(replace(lm._spec, layers=layers), History(0))
        equipped._finalizer.detach()
        return equipped

    def _give_up(self, error: LMGatewayError) -> NoReturn:
        self.drain()
        raise StopError from error

    def _succeed(self) -> None:
        self.gate.succeed()
        self._strikes = 0
        self._successes += 1
        self._last_success = monotonic()

    def _judge(self, error: LMGatewayError, trials: _Trials, began: float) -> float | None:
        """In how many seconds to ask again; None if the row has failed.

        Raises StopError where no row would fare better.
        """
        patience = self._patience
        if any(each.gate is not None and each.gate.stuck() for each in self._limiters):
            self._give_up(error)  # whoever has the places waits for the end of this job
        trials.calls += 1
        # A failure counts against the row only while others succeed; else the service is down.
        trials.blamed += self._successes != trials.last
        trials.last = self._successes
        if trials.first < 0:
            trials.first = self._successes
        others_fail = trials.first == self._successes
        refused = getattr(error, "status", 0) in OVERLOADED
        if _concerns_all(error):
            self._strikes += others_fail
            enough = trials.calls >= patience.tries
            if self._strikes >= patience.strikes or (enough and others_fail):
                self._give_up(error)
            return None if enough else patience.backoff * uniform(0.5, 1.0)
        if not (error.retryable or isinstance(error, RequestTimeoutError)):
            return None
        if refused or isinstance(error, RequestTimeoutError):
            self.gate.refuse(began)
        if trials.blamed >= (patience.refusals if refused else patience.tries):
            return None
        if monotonic() - self._last_success > patience.outage and trials.calls >= patience.tries:
            self._give_up(error)
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is not None and 0 < asked < LONGEST_PAUSE:
            self.gate.pause(asked)
            return asked
        return min(patience.longest, patience.backoff * 2.0 ** min(trials.calls, 10)) * uniform(
            0.25, 0.5
        )


def _concerns_all(error: LMGatewayError) -> bool:
    if isinstance(error, ConnectionFailedError):
        return not error.retryable  # a certificate, say
    return isinstance(error, _HOPELESS) and not isinstance(error, InputError)


def _watch(gate: Gate, tally: Tally) -> EffectLayer:
    """The innermost layer: it sees every attempt, and tells the gate at once."""

    def layer(send: Send, scope: Attempt) -> Send:
        def watched(exchange: Exchange) -> Flow[Any]:
            tally.attempts += 1
            began = monotonic()
            try:
                response = yield from send(exchange)
            except RequestTimeoutError:
                gate.refuse(began)
                raise
            if getattr(response, "status", 200) in OVERLOADED:
                tally.rejections += 1
                gate.refuse(began)
            return response

        return watched

    return layer


async def _pace(limiter: Limiter, stopping: asyncio.Event) -> None:
    """Wait until a call would hardly have to wait, so that waiting does not eat its timeout."""
    for pace in filter(None, (limiter.requests, limiter.tokens)):
        while not stopping.is_set():
            due = pace.reserve(0, inf)
            seconds = due if isinstance(due, float) else due.seconds
            if seconds <= 0.0:
                break
            await rest(stopping, seconds)
