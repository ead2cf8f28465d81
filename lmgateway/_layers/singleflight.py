"""Single-flight: of calls that ask the same thing at the same time, one sends."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from copy import copy
from threading import get_ident
from typing import Any, NamedTuple

from .._drive.futures import LockFreeFuture
from ..errors import LMGatewayError

__all__ = ["NO_RESULT", "Flight", "Result", "flights", "join"]


class Result(NamedTuple):
    """What a leader leaves to its followers.

    Attributes:
        response: What the exchange brought; shared only where nobody can change it.
        encoded: The response as bytes, where it can be stored.
        stored: Whether a completion made of it was validated, and given to the cache.
        error: The typed error that the exchange failed with.
        alone: It may concern the leader alone, as a wrong key does: each follower sends for
            itself.
    """

    response: Any = None
    encoded: bytes | None = None
    stored: bool = False
    error: LMGatewayError | None = None
    alone: bool = False


NO_RESULT = Result()
"""The leader was cancelled or ran out of its own time: one follower takes its place."""


class Flight:
    """One exchange on its way, which followers wait for.

    Attributes:
        future: Its result.
        result: What counts as its result if the leader leaves and says nothing.
        owner: ``threading.get_ident()`` of its leader.
        leader: What leads it, where that could come to wait for itself; None if it cannot.
    """

    __slots__ = ("_key", "_results", "future", "leader", "owner", "result")

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._results: list[Result] = []
        self.future: LockFreeFuture[Result] = LockFreeFuture()
        self.result = NO_RESULT
        self.owner = get_ident()
        self.leader: object = None

    def done(self, result: Result | None = None) -> None:
        """End the flight; only the first result counts, and a second call ends what is left to do.

        It takes no lock, because the garbage collector may drop a call in the midst of anything
        else, and because Ctrl-C may cut it short at any instruction.
        """
        leads = flights.get(self._key) is self
        if not (leads or self._results):
            return  # nobody follows it; or it is a parent's, and this process was forked
        result = self.result if result is None else result
        if result.error is not None and not self._results:
            # A copy, for the leader's own goes on to be told where it happened.
            result = Result(error=copy(result.error))
        self._results.append(result)
        if leads:
            flights.pop(self._key, None)
        self.future.set_result(self._results[0])


flights: dict[Hashable, Flight] = {}
"""All that are on their way in this process."""


def join(
    key: Hashable, on_exit: Callable[[Callable[[], None]], object] = lambda done: None
) -> tuple[Flight, bool]:
    """The flight of a key; whether the caller leads it, and so must end it with ``done``.

    Args:
        key: What is asked.
        on_exit: Is given what ends the flight, before anybody can follow: the leader's last duty.
    """
    flight = flights.get(key)
    if flight is not None:
        return flight, False
    own = Flight(key)
    on_exit(own.done)
    flight = flights.setdefault(key, own)
    return flight, flight is own


# In a forked child nobody is left to end what the parent's threads lead.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=flights.clear)
