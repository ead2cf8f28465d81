"""Connections: the transports an LM uses, opened when a request is first sent and counted."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any

from .._base.forks import renew_lock
from ..errors import InputError

if TYPE_CHECKING:
    from .._drive.cancel import Deadline
    from .._layers.call import Call
    from ..types import HTTPRequest, HTTPResponse, Options
    from .protocols import AsyncTransport, Transport, TransportOptions

__all__ = ["Connections", "closed"]


def closed() -> InputError:
    """The error for what is asked of an LM after its end."""
    return InputError("this LM is closed: get another with get_lm")


class Connections:
    """What one LM holds of the process's shared pools."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, TransportOptions], Transport | AsyncTransport] = {}
        self._latest: tuple[str, Options, Any] | None = None
        self._closed = False
        self._lock = Lock()
        renew_lock(self)

    def blocking(self, call: Call) -> Transport:
        """A transport for blocking drivers; opens nothing yet."""
        return _Blocking(self, call)

    def awaiting(self, call: Call) -> AsyncTransport:
        """A transport for awaiting drivers; opens nothing yet."""
        return _Awaiting(self, call)

    def hold(self, kind: str, options: Options) -> Any:
        """The shared transport of that kind, taken once for this LM.

        Raises InputError once the LM is closed, even to a call that had begun before: what it
        took now, nobody would give back.
        """
        latest = self._latest
        if latest is not None and latest[1] is options and latest[0] == kind:
            return latest[2]  # nearly always: the options are the LM's own
        from . import pool
        from .protocols import TransportOptions

        wanted = TransportOptions(
            options.verify, options.connect_timeout, options.idle_timeout, options.max_body
        )
        key = (kind, wanted)
        with self._lock:
            if self._closed:
                raise closed()
            transport = self._held.get(key)
            if transport is None:
                transport = (
                    pool.acquire_sync(wanted)
                    if kind == "sync"
                    else pool.acquire_async(kind or None, wanted)
                )
                try:
                    self._held[key] = transport
                except BaseException:  # Ctrl-C, while the options were hashed
                    pool.release(transport)
                    raise
            self._latest = (kind, options, transport)
            return transport

    def close(self) -> None:
        """Give everything back; a pool that nobody holds any more is closed."""
        with self._lock:
            self._closed = True
            held, self._held = list(self._held.values()), {}
            self._latest = None
        if held:
            from . import pool

            for transport in held:
                pool.release(transport)


class _Blocking:
    __slots__ = ("_call", "_connections")

    def __init__(self, connections: Connections, call: Call) -> None:
        self._connections = connections
        self._call = call  # a fallback changes its options under way

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        transport: Transport = self._connections.hold("sync", self._call.options)
        return transport.send(request, deadline)

    def close(self) -> None:
        """Nothing of its own to close."""


class _Awaiting:
    __slots__ = ("_call", "_connections")

    def __init__(self, connections: Connections, call: Call) -> None:
        self._connections = connections
        self._call = call  # a fallback changes its options under way

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        kind = self._call.options.transport or ""
        transport: AsyncTransport = self._connections.hold(kind, self._call.options)
        return await transport.send(request, deadline)

    async def aclose(self) -> None:
        """Nothing of its own to close."""
