"""Single-flight: of calls that ask the same thing at the same time, one sends."""

from __future__ import annotations

import os
from collections.abc import Hashable
from concurrent.futures import Future
from copy import copy
from threading import get_ident
from typing import Any, NamedTuple

from ..errors import LMGatewayError

__all__ = ["NOTHING", "Flight", "Landing", "join"]


class Landing(NamedTuple):
    """What a leader leaves to its followers.

    Attributes:
        outcome: What the exchange brought; shared only where nobody can change it.
        value: The same as bytes, where it is worth keeping.
        stored: Whether a completion made of it was validated, and the cache given it.
        error: The typed error it failed with.
        alone: The outcome may be the leader's own, such as a wrong key: nobody waits again.
    """

    outcome: Any = None
    value: bytes | None = None
    stored: bool = False
    error: LMGatewayError | None = None
    alone: bool = False


NOTHING = Landing()
"""The leader was cancelled or ran out of its own time: one follower takes over."""


class Flight:
    """One exchange on its way, and the future its followers wait for."""

    __slots__ = ("_aloft", "_key", "future", "owner")

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._aloft = [True]
        self.future: Future[Landing] = Future()
        self.owner = get_ident()

    def land(self, landing: Landing) -> None:
        """End the flight; only the first landing counts.

        Takes no lock: a call that is dropped may land in the garbage collector, in the midst of
        anything else.
        """
        try:
            self._aloft.pop()
        except IndexError:
            return
        if _flights.get(self._key) is not self:  # it is a parent's, and this process was forked
            return
        del _flights[self._key]
        if landing.error is not None:
            # A copy, for the leader's own goes on to be told where it happened.
            landing = Landing(error=copy(landing.error))
        self.future.set_result(landing)


_flights: dict[Hashable, Flight] = {}


def join(key: Hashable) -> tuple[Flight, bool]:
    """The flight of this key, and whether the caller leads it and must land it."""
    flight = _flights.get(key)
    if flight is not None:
        return flight, False
    own = Flight(key)
    flight = _flights.setdefault(key, own)
    return flight, flight is own


# In a forked child nobody is left to land what the parent's threads lead.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_flights.clear)
