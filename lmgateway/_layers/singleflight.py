"""Single-flight: of calls that ask the same thing at the same time, one sends."""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable
from copy import copy
from threading import get_ident
from typing import Any, NamedTuple

from .._drive.futures import Promise
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
    """One exchange on its way, and the promise its followers wait for.

    Attributes:
        future: Of its landing.
        landing: What its leader leaves who leaves without a word.
        owner: ``threading.get_ident()`` of its leader.
    """

    __slots__ = ("_key", "_landings", "future", "landing", "owner")

    def __init__(self, key: Hashable) -> None:
        self._key = key
        self._landings: list[Landing] = []
        self.future: Promise[Landing] = Promise()
        self.landing = NOTHING
        self.owner = get_ident()

    def land(self, landing: Landing) -> None:
        """End the flight; only the first landing counts, and a second ends what the first began.

        Takes no lock: a call that is dropped may land in the garbage collector, in the midst of
        anything else; and Ctrl-C may cut it short at any instruction.
        """
        leads = _flights.get(self._key) is self
        if not (leads or self._landings):
            return  # nobody follows it; or it is a parent's, and this process was forked
        if landing.error is not None and not self._landings:
            # A copy, for the leader's own goes on to be told where it happened.
            landing = Landing(error=copy(landing.error))
        self._landings.append(landing)
        if leads:
            _flights.pop(self._key, None)
        self.future.set_result(self._landings[0])

    def leave(self) -> None:
        """Land whatever there is, if it has not landed yet."""
        self.land(self.landing)


_flights: dict[Hashable, Flight] = {}


def join(
    key: Hashable, on_exit: Callable[[Callable[[], None]], object] = lambda leave: None
) -> tuple[Flight, bool]:
    """The flight of this key, and whether the caller leads it and must land it.

    Args:
        key: What is asked.
        on_exit: Is given what lands it, before anybody can follow: the leader's last duty.
    """
    flight = _flights.get(key)
    if flight is not None:
        return flight, False
    own = Flight(key)
    on_exit(own.leave)
    flight = _flights.setdefault(key, own)
    return flight, flight is own


# In a forked child nobody is left to land what the parent's threads lead.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_flights.clear)
