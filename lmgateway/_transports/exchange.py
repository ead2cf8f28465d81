"""One blocking request on its way, and what may cut it short."""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING

from .._drive.cancel import Deadline

if TYPE_CHECKING:
    from .connections import Watched

__all__ = ["CONNECT", "DEADLINE", "IDLE", "Exchange", "carry", "current"]

CONNECT, DEADLINE, IDLE = "connect", "deadline", "idle"


class Exchange:
    """One request on its way: the time it has, and the connection that carries it.

    Attributes:
        deadline: Of the whole call.
        connect_timeout: Seconds to make a connection.
        fresh: It must not go over a connection that carried another before.
        reused: The connection had carried another request before.
        began: A byte of the response has arrived.
        expired: Which limit cut it short: "connect", "deadline" or "idle"; None if none did.
        aborted: It was cut short on request.
    """

    __slots__ = (
        "_connection",
        "_limit",
        "_lock",
        "aborted",
        "began",
        "connect_timeout",
        "deadline",
        "expired",
        "fresh",
        "reused",
    )

    def __init__(self, deadline: Deadline, connect_timeout: float, *, fresh: bool = False) -> None:
        self.deadline = deadline
        self.connect_timeout = connect_timeout
        self.fresh = fresh
        self.reused = False
        self.began = False
        self.expired: str | None = None
        self.aborted = False
        self._limit = DEADLINE
        self._connection: Watched | None = None
        self._lock = threading.Lock()  # held to let go of a connection, and to abort

    @property
    def connection(self) -> Watched | None:
        """What it goes over; None before and after."""
        return self._connection

    def take(self, connection: Watched) -> None:
        """Go over this connection from now on."""
        self._connection = connection
        connection.exchange = self

    def watch(self, limit: str = DEADLINE, seconds: float | None = None) -> float:
        """Let the connection be cut at the deadline, or after that many seconds if they end first.

        Returns the ``time.monotonic()`` at which that is.
        """
        expires_at = self.deadline.expires_at
        self._limit = DEADLINE
        if seconds is not None and (sooner := monotonic() + seconds) < expires_at:
            expires_at = sooner
            self._limit = limit
        if self._connection is not None:
            self._connection.guard.arm(expires_at)
        return expires_at

    def settle(self) -> None:
        """Stop the clock, and note if it was too late."""
        if self._connection is not None and not self._connection.guard.disarm():
            self.expire()

    def expire(self) -> None:
        """Note that the limit being watched has run out."""
        self.expired = self.expired or self._limit

    def let_go(self) -> None:
        """Be done with the connection; another exchange may take it."""
        with self._lock:
            self.settle()
            if self._connection is not None:
                self._connection.exchange = None
                self._connection = None

    def abort(self) -> None:
        """Cut the connection if it is still held; from any thread."""
        with self._lock:
            self.aborted = True
            if self._connection is not None:
                self._connection.cut()


class _Current(threading.local):
    exchange: Exchange | None = None


current = _Current()


def carry(exchange: Exchange | None) -> None:
    """Say which exchange the connections serve that this thread is going to use.

    urllib3 chooses the connection inside its own code and hands nothing through to it.
    """
    current.exchange = exchange
