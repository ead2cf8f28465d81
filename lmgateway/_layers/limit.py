"""Limits: requests a minute, tokens a minute and exchanges in flight, shared by the process."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from threading import get_ident
from typing import Any

from .._base.values import shown
from .._drive.cancel import Deadline
from .._drive.futures import LockFreeFuture
from ..errors import InvalidSettingError, LMGatewayError, RequestTimeoutError
from ..types import Blocking, Completion, Exchange, Flow, HTTPRequest, Sleep, Source, Wait
from .context import Attempt, EffectLayer, Send
from .permits import Permit, RateLimiter, Reservation, Semaphore

__all__ = ["Limiter", "Limits", "limit", "limiter_for", "limiters"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one provider may be asked for; None is without limit.

    Attributes:
        rpm: Requests a minute, evenly spread: at most a second's worth leaves at once.
        tpm: Tokens a minute, of prompt and answer together. Each request is estimated before
            (a token for 4 characters, and ``max_tokens``) and corrected by the usage in its
            answer. A request that failed is not given back.
        in_flight: Exchanges at the same time. A stream counts until it is closed.
    """

    rpm: float | None = None
    tpm: float | None = None
    in_flight: int | None = None

    def __post_init__(self) -> None:
        for name in ("rpm", "tpm", "in_flight"):
            value = getattr(self, name)
            whole = name == "in_flight"
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "a whole number" if whole else "a number"
                raise InvalidSettingError(f"the limit {name} must be {kind}, not {shown(value)}")
            if not 0 < value <= (sys.maxsize if whole else sys.float_info.max):
                raise InvalidSettingError(
                    f"the limit {name} must be greater than 0 and finite, not {shown(value)}; "
                    "leave it out for no limit"
                )

    def __bool__(self) -> bool:
        """Whether there is any limit at all."""
        return (self.rpm, self.tpm, self.in_flight) != (None, None, None)


def limit(limits: Limits) -> EffectLayer:
    """The layer that holds an attempt's exchanges to these limits."""

    def layer(send: Send, attempt: Attempt) -> Send:
        limiter = limiter_for(attempt.call.provider, limits)
        return _Limited(limiter, send, attempt)

    return layer


limiters: dict[tuple[str, Limits], Limiter] = {}
"""All of this process."""


def limiter_for(provider: str, limits: Limits) -> Limiter:
    """The limiter that all calls of this process share which name this provider and limits."""
    key = (provider, limits)
    return limiters.get(key) or limiters.setdefault(key, Limiter(provider, limits))


# What the parent has in flight will not come back in a child.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=limiters.clear)


class Limiter:
    """The limits of one provider, and what is counted against them.

    Attributes:
        in_flight: The permits of its exchanges; None without that limit.
        requests: The rate of its requests; None without that limit.
        tokens: The rate of its tokens; None without that limit.
    """

    __slots__ = ("in_flight", "limits", "provider", "requests", "tokens")

    def __init__(self, provider: str, limits: Limits) -> None:
        self.provider = provider
        self.limits = limits
        self.in_flight = Semaphore(limits.in_flight) if limits.in_flight else None
        burst = max(1, int(limits.rpm // 60)) if limits.rpm else 1
        self.requests = self.tokens = None
        if limits.rpm:  # burst and rate together keep to the limit in every window of a minute
            self.requests = RateLimiter(60.0 / (limits.rpm - burst + 1), burst - 1)
        if limits.tpm:
            self.tokens = RateLimiter(60.0 / limits.tpm, limits.tpm / 60.0)


# -- the layer ---------------------------------------------------------------------------------


class _Limited:
    """A send that waits for its turn first."""

    __slots__ = ("attempt", "charged", "limiter", "send")

    def __init__(self, limiter: Limiter, send: Send, attempt: Attempt) -> None:
        self.limiter = limiter
        self.send = send
        self.attempt = attempt
        self.charged = 0
        if limiter.tokens is not None:
            attempt.on_commit(self._correct)

    def __call__(self, exchange: Exchange) -> Flow[Any]:
        if type(exchange) is HTTPRequest and not exchange.keep:
            return (yield from self.send(exchange))  # a poll; what it asks after was charged
        permit = self._permit()
        try:
            if permit is not None and permit.granted is not None:
                yield from self._queue(permit, permit.granted)
            yield from self._keep_rates()
            if permit is None:
                return (yield from self.send(exchange))
            if isinstance(exchange, Blocking):
                # A worker cannot be stopped, so the permit is released when the worker ends.
                exchange = dataclasses.replace(exchange, fn=_releasing_after(permit, exchange))
                response = yield from self.send(exchange)
                permit = None  # the worker of a stream may not have begun yet
                return response
            response = yield from self.send(exchange)
            if response.source is not None:
                held = _HeldSource(response.source, permit)
                response = dataclasses.replace(response, source=held)
                permit = None
            return response
        except BaseException as error:
            if permit is not None:
                _keep_while_running(permit, error)
            raise
        finally:
            if permit is not None:
                permit.release()

    def _permit(self) -> Permit | None:
        semaphore = self.limiter.in_flight
        if semaphore is None:
            return None
        permit = Permit(semaphore)
        # Before it is acquired, or Ctrl-C might come in between; and before anything is sent, so
        # that it runs after the connection was closed.
        self.attempt.on_exit(permit.release)
        permit.acquire()
        return permit

    def _queue(self, permit: Permit, granted: LockFreeFuture[None]) -> Flow[None]:
        size = self.limiter.limits.in_flight
        try:
            done = yield Wait(granted, owner=permit.owner)
        except RequestTimeoutError as error:
            error.add_note(f"it was waiting for one of the {size} places in flight")
            raise
        if not done:
            raise _not_now(
                f"all {size} places in flight are taken by calls of this very thread, or of one "
                "that waits for it (open streams, or tasks of the event loop that this call "
                "blocks), so waiting could never end; close the streams, or use acall() or "
                "abatch() inside an event loop"
            )

    def _keep_rates(self) -> Flow[None]:
        """Wait until both rates allow it; give back what was reserved if that fails."""
        limiter, deadline = self.limiter, self.attempt.call.deadline
        reserved: list[Reservation] = []
        try:
            if limiter.requests is not None:
                rpm = limiter.limits.rpm
                _reserve(limiter.requests, 1, deadline, f"{rpm:g} requests", reserved)
            if limiter.tokens is not None:
                tpm, units = limiter.limits.tpm, estimate(self.attempt.request)
                _reserve(limiter.tokens, units, deadline, f"{tpm:g} tokens", reserved)
                self.charged += units
            seconds = max((each.seconds for each in reserved), default=0.0)
            if seconds > 0.0:
                yield Sleep(seconds)
        except BaseException:
            for each in reserved:
                each.cancel()
            raise

    def _correct(self, completion: Completion) -> None:
        used = _used(completion)
        if used and self.charged and self.limiter.tokens is not None:
            self.limiter.tokens.correct(used - self.charged)


class _HeldSource:
    """A streamed body that holds its permit until it ends or is closed."""

    __slots__ = ("permit", "source")

    def __init__(self, source: Source, permit: Permit) -> None:
        self.source = source
        self.permit = permit

    def read(self) -> Flow[bytes]:
        """The next bytes; b"" at the end, which releases the permit."""
        self.permit.thread = get_ident()  # the reader's, who may not be the one that asked
        chunk = yield from self.source.read()
        if not chunk:
            self.permit.release()
        return chunk

    def close(self) -> None:
        """Let go of the connection and of the permit."""
        self.source.close()
        self.permit.release()


def _releasing_after(permit: Permit, exchange: Blocking) -> Callable[..., Any]:
    """The exchange's function, which releases the permit when it ends, whoever still listens."""

    def work(*args: Any) -> Any:
        if not permit.claim():  # the call was abandoned before this worker had begun
            return None
        if not exchange.stream:
            permit.thread = get_ident()
        try:
            return exchange.fn(*args)
        finally:
            permit.semaphore.release(permit)

    return work


def _keep_while_running(permit: Permit, error: BaseException) -> None:
    """Let a thread that the transport could not stop hold the permit until it ends.

    Such a transport says so by the attribute ``running``, a future, of what it raises.
    """
    running = getattr(error, "running", None)
    if isinstance(running, Future) and permit.claim():
        permit.thread = 0  # no call's thread: it releases the permit by itself
        running.add_done_callback(lambda _: permit.semaphore.release(permit))


def _reserve(
    rate: RateLimiter, units: float, deadline: Deadline, what: str, reserved: list[Reservation]
) -> None:
    remaining = deadline.remaining()
    due = rate.reserve(units, remaining, reserved)
    if isinstance(due, Reservation):
        return
    raise _not_now(
        f"the configured limit of {what} a minute would delay this call by {due:.3g} s, beyond "
        f"its deadline in {remaining:.3g} s; give timeout= more seconds, or ask less often"
    )


def _not_now(message: str) -> LMGatewayError:
    """The error for a limit: another attempt would meet it too, but another provider may answer."""
    error = RequestTimeoutError(message)
    error.retryable, error.max_retries = True, 0
    return error


# -- an estimate -------------------------------------------------------------------------------

CHARACTERS_PER_TOKEN = 4


def estimate(request: Any) -> int:
    """About how many tokens a request may use: its text and the longest answer that it allows."""
    texts = (getattr(request, name, None) for name in ("prompt", "messages", "system", "texts"))
    params = request.params
    answer = params.get("max_tokens") or params.get("max_completion_tokens") or 0
    return 1 + _characters(texts) // CHARACTERS_PER_TOKEN + answer * (params.get("n") or 1)


def _used(answer: Any) -> int:
    """The tokens that an answer tells of; 0 if it tells of none, as a list of models does."""
    usage = answer.get("usage") if isinstance(answer, dict) else None
    if not isinstance(usage, dict):
        return 0
    names = ("total_tokens", "prompt_tokens", "completion_tokens")
    total, *parts = (value if type(value := usage.get(name)) is int else 0 for name in names)
    return total or sum(parts)


def _characters(value: Any) -> int:
    """Characters of all strings in a JSON value; data URLs (images) are not text."""
    if isinstance(value, str):
        return 0 if value.startswith("data:") else len(value)
    if isinstance(value, dict):
        value = value.values()
    return sum(map(_characters, value)) if isinstance(value, Iterable) else 0
