"""Drivers: the loops that perform the effects of a flow, one that blocks and one that awaits.

``advance`` and ``aadvance`` run a flow to its next Emit or to its end. If something goes wrong
while an effect is performed, it is thrown *into* the flow, so that every layer sees it and can
clean up; KeyboardInterrupt and CancelledError as well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import PluginContractError, RequestTimeoutError
from ..types import Emit, Flow, HTTPRequest, Read, Sleep, Wait
from .cancel import Cancelled, Deadline
from .futures import LockFreeFuture, await_, wait, would_deadlock

if TYPE_CHECKING:
    from .._transports.protocols import AsyncTransport, Transport

__all__ = ["Done", "Work", "aadvance", "advance", "arun", "run"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done(Generic[T]):
    """A flow came to its end with this value."""

    value: T


@dataclass(frozen=True, slots=True)
class Work:
    """An effect of the core's own: what is done in one way by whoever blocks, else in another."""

    run: Callable[[], object]
    arun: Callable[[], Awaitable[object]]


def run(flow: Flow[T], transport: Transport, deadline: Deadline) -> T:
    """Run a flow to its end, blocking; pieces it emits are dropped."""
    try:
        while True:
            event = advance(flow, transport, deadline)
            if type(event) is Done:
                return event.value
    finally:
        flow.close()  # Ctrl-C need not have come while an effect was performed


async def arun(flow: Flow[T], transport: AsyncTransport, deadline: Deadline) -> T:
    """Run a flow to its end, awaiting; pieces it emits are dropped."""
    try:
        while True:
            event = await aadvance(flow, transport, deadline)
            if type(event) is Done:
                return event.value
    finally:
        flow.close()


def advance(flow: Flow[T], transport: Transport, deadline: Deadline) -> Emit | Done[T]:
    """Run a flow to its next Emit or its end, blocking.

    Raises Cancelled, and closes the flow, if the deadline was cancelled meanwhile.
    """
    resume: Any = flow.send
    value: Any = None
    try:
        while True:
            try:
                effect = resume(value)
            except StopIteration as stop:
                return Done(stop.value)
            kind = type(effect)
            if kind is Emit:
                return effect  # type: ignore[no-any-return]
            resume = flow.send
            try:
                if kind is HTTPRequest:
                    value = transport.send(effect, deadline)
                elif kind is Read:
                    deadline.on_cancel(effect.body.close)
                    value = effect.body.read(deadline)
                elif kind is Wait:
                    value = _wait(effect.future, effect.timeout, effect.owner, deadline)
                elif kind is Sleep:
                    value = None
                    _wait(LockFreeFuture(), effect.seconds, None, deadline)
                elif kind is Work:
                    value = effect.run()
                else:
                    raise _unknown(effect)
            except Exception as error:
                resume, value = flow.throw, error
            except BaseException as error:  # Ctrl-C goes before a cancel of ours
                resume, value = flow.throw, error
                continue
            if deadline.cancelled:
                value = None  # a body among it hangs up
                flow.close()
                raise Cancelled
    finally:
        deadline.on_cancel(None)  # a body holds the deadline, and an error's traceback this frame:
        del value, resume  # leave no cycle behind


async def aadvance(flow: Flow[T], transport: AsyncTransport, deadline: Deadline) -> Emit | Done[T]:
    """Run a flow to its next Emit or its end, awaiting; otherwise as ``advance``."""
    resume: Any = flow.send
    value: Any = None
    with deadline:
        try:
            while True:
                try:
                    effect = resume(value)
                except StopIteration as stop:
                    return Done(stop.value)
                kind = type(effect)
                if kind is Emit:
                    return effect  # type: ignore[no-any-return]
                resume = flow.send
                if deadline.cancelled:  # and the flow goes on all the same
                    flow.close()
                    raise Cancelled
                try:
                    if kind is HTTPRequest:
                        value = await transport.send(effect, deadline)
                    elif kind is Read:
                        value = await effect.body.read(deadline)
                    elif kind is Wait:
                        value = await _await(effect.future, effect.timeout, effect.owner, deadline)
                    elif kind is Sleep:
                        value = None
                        await _await(LockFreeFuture(), effect.seconds, None, deadline)
                    elif kind is Work:
                        value = await effect.arun()
                    else:
                        raise _unknown(effect)
                except Exception as error:
                    resume, value = flow.throw, error
                except BaseException as error:
                    resume, value = flow.throw, error
                    continue
                if deadline.cancelled:
                    value = None
                    flow.close()
                    raise Cancelled
        finally:
            del value, resume


def _unknown(effect: object) -> PluginContractError:
    return PluginContractError(
        f"a flow yielded {type(effect).__name__!r}, which is no effect: "
        "yield from send(...), read(...), or yield Emit(...)"
    )


def _wait(
    future: Future[Any], seconds: float | None, owner: int | None, deadline: Deadline
) -> bool:
    """Wait, within the deadline; see ``types.Wait``. Whoever sleeps waits for nobody's future."""
    if future.done() or would_deadlock(owner, blocking=True):
        return future.done()
    longest, is_deadline = _limit(seconds, deadline)
    done = wait(future, longest, deadline.on_cancel)
    if is_deadline and not (done or deadline.cancelled):
        raise _expired(deadline)
    return done


async def _await(
    future: Future[Any], seconds: float | None, owner: int | None, deadline: Deadline
) -> bool:
    if future.done() or would_deadlock(owner, blocking=False):
        return future.done()
    longest, is_deadline = _limit(seconds, deadline)
    done = await await_(future, longest)
    if is_deadline and not done:
        raise _expired(deadline)
    return done


def _limit(seconds: float | None, deadline: Deadline) -> tuple[float | None, bool]:
    """How many seconds a wait may take, None for no end; whether the deadline ends it."""
    remaining = deadline.remaining()
    if seconds is not None and seconds <= remaining:
        return seconds, False
    return (None if remaining == inf else remaining), True


def _expired(deadline: Deadline) -> RequestTimeoutError:
    return RequestTimeoutError(
        f"the call took longer than its timeout of {deadline.timeout:g} s; "
        "give timeout= more seconds, or ask for less"
    )
