"""The transports of this process: LMs with equal options share one, and each holds a lease."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from importlib.util import find_spec
from typing import Any, Protocol

from .._base.forks import renew_lock
from .._drive.cancel import Deadline
from ..errors import ConfigError, InputError
from ..types import HTTPRequest, HTTPResponse, Options
from .protocols import AsyncTransport, Transport, TransportOptions

__all__ = ["Leases", "acquire_async", "acquire_sync", "closed", "release"]


def closed() -> InputError:
    """The error for what is asked of an LM after its end."""
    return InputError("this LM is closed: get another with get_lm")


class HasOptions(Protocol):
    """A call; a fallback may change its options while it runs."""

    @property
    def options(self) -> Options:
        """The core options as they are now."""


class Leases:
    """What one LM holds of the shared transports; each is opened when something is first sent."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, TransportOptions], Transport | AsyncTransport] = {}
        self._latest: tuple[str, Options, Any] | None = None
        self._closed = False
        self._lock = threading.Lock()
        renew_lock(self)

    def blocking(self, call: HasOptions) -> Transport:
        """A transport for blocking drivers; opens nothing yet."""
        return _Blocking(self, call)

    def awaiting(self, call: HasOptions) -> AsyncTransport:
        """A transport for awaiting drivers; opens nothing yet."""
        return _Awaiting(self, call)

    def hold(self, kind: str, options: Options) -> Any:
        """The shared transport of that kind, which is acquired once for this LM.

        Raises InputError when the LM is closed, even in a call that began before: nobody would
        release what it acquired now.
        """
        latest = self._latest
        if latest is not None and latest[1] is options and latest[0] == kind:
            return latest[2]  # nearly always: the options are the LM's own
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
                    acquire_sync(wanted) if kind == "sync" else acquire_async(kind or None, wanted)
                )
                try:
                    self._held[key] = transport
                except BaseException:  # Ctrl-C, while the options were hashed
                    release(transport)
                    raise
            self._latest = (kind, options, transport)
            return transport

    def close(self) -> None:
        """Release every transport; one that nobody else holds is closed."""
        with self._lock:
            self._closed = True
            held, self._held = list(self._held.values()), {}
            self._latest = None
        for transport in held:
            release(transport)


class _Blocking:
    __slots__ = ("_call", "_leases")

    def __init__(self, leases: Leases, call: HasOptions) -> None:
        self._leases = leases
        self._call = call  # a fallback changes its options under way

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        transport: Transport = self._leases.hold("sync", self._call.options)
        return transport.send(request, deadline)

    def close(self) -> None:
        """Nothing of its own to close."""


class _Awaiting:
    __slots__ = ("_call", "_leases")

    def __init__(self, leases: Leases, call: HasOptions) -> None:
        self._leases = leases
        self._call = call  # a fallback changes its options under way

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        kind = self._call.options.transport or ""
        transport: AsyncTransport = self._leases.hold(kind, self._call.options)
        return await transport.send(request, deadline)

    async def aclose(self) -> None:
        """Nothing of its own to close."""


# -- what the process shares -----------------------------------------------------------------------


class _Closable(Protocol):
    def close(self) -> None: ...


class Shared:
    """The open transports of this process, and how many hold each.

    The garbage collector may drop an LM in the midst of anything else. So nobody waits in order
    to release a transport, and a thread that is counting does not count down within.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()  # to open the threads, their blocking transport is acquired
        self.open: dict[Hashable, Any] = {}
        self.holders: dict[int, int] = {}
        self.returned: deque[_Closable] = deque()
        self.counting = False

    def acquire(self, key: Hashable, make: Callable[[], Any]) -> Any:
        taken: Any = None
        try:
            with self.lock:
                outer, self.counting = self.counting, True
                try:
                    transport = self.open.get(key)
                    if transport is None:
                        transport = self.open[key] = make()
                    self.holders[id(transport)] = self.holders.get(id(transport), 0) + 1
                    taken = transport
                finally:
                    self.counting = outer
        except BaseException:
            if taken is not None:  # Ctrl-C: nobody will give back what nobody was given
                self.returned.append(taken)
            raise
        finally:
            self._take_back()
        return taken

    def release(self, transport: _Closable) -> None:
        self.returned.append(transport)
        self._take_back()

    def _take_back(self) -> None:
        # Whoever fails to get the lock may go: its holder looks again after letting go of it.
        while self.returned:
            unused: list[_Closable] = []
            try:  # it is taken within, or Ctrl-C might come in between
                if not self.lock.acquire(blocking=False) or self.counting:
                    return
                self.counting = True
                try:
                    while self.returned:
                        unused += self._count_down(self.returned.popleft())
                finally:
                    self.counting = False
            finally:
                try:  # noqa: SIM105 - suppress() would be a step in which Ctrl-C may strike
                    self.lock.release()
                except RuntimeError:  # another thread has it
                    pass
            for transport in unused:
                transport.close()

    def _count_down(self, transport: _Closable) -> list[_Closable]:
        """Take one back; the list holds it if nobody else does."""
        left = self.holders.get(id(transport), 0) - 1
        if left > 0:
            self.holders[id(transport)] = left
        if left != 0:
            return []
        del self.holders[id(transport)]
        self.open = {key: other for key, other in self.open.items() if other is not transport}
        return [transport]


def acquire_sync(options: TransportOptions) -> Transport:
    """The blocking transport with these options; hand it to ``release`` in the end.

    Raises:
        ConfigError: The options cannot be met.
    """

    def make() -> Transport:
        _check_urllib3()
        from .requests import RequestsTransport

        return RequestsTransport(options)

    transport: Transport = shared.acquire(("sync", options), make)
    return transport


def _check_urllib3() -> None:
    """Refuse a urllib3 that has no ``read1``, which requests alone would take."""
    import urllib3

    version = urllib3.__version__  # type: ignore[attr-defined]
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 3):
        raise ConfigError(
            f"urllib3 {version} is too old to send requests with: pip install -U 'urllib3>=2.3'"
        )


def acquire_async(name: str | None, options: TransportOptions) -> AsyncTransport:
    """The async transport of that name with these options; hand it to ``release`` in the end.

    Args:
        name: "aiohttp" or "threads"; None takes aiohttp if it is installed, else threads.
        options: Who asks with equal options gets the same transport.

    Raises:
        ConfigError: There is no such transport, or the options cannot be met.
    """
    if name is None:
        name = "aiohttp" if find_spec("aiohttp") is not None else "threads"
    make = _MAKERS.get(name)
    if make is None:
        raise ConfigError(
            f"there is no transport {name!r}: transport= is one of {', '.join(_MAKERS)}"
        )
    transport: AsyncTransport = shared.acquire((name, options), lambda: make(options))
    return transport


def _make_aiohttp(options: TransportOptions) -> AsyncTransport:
    try:
        from .aiohttp import AiohttpTransport
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"transport='aiohttp' needs the package {error.name}: pip install "
            "'lmgateway-core[async]', or take transport='threads'"
        ) from error
    return AiohttpTransport(options)


def _make_threads(options: TransportOptions) -> AsyncTransport:
    from .threads import ThreadedTransport

    blocking = acquire_sync(options)
    return ThreadedTransport(blocking, close=lambda: release(blocking))


_MAKERS: dict[str, Callable[[TransportOptions], AsyncTransport]] = {
    "aiohttp": _make_aiohttp,
    "threads": _make_threads,
}


def release(transport: Any) -> None:
    """Release a transport that was acquired; the last release closes it.

    It may be called in any thread and never blocks. A transport of another process, or one that
    was released too often, is left alone.
    """
    shared.release(transport)


shared = Shared()
_inherited: list[Shared] = []


def _begin_anew() -> None:
    global shared
    _inherited.append(shared)  # kept, so that nothing closes the sockets of the parent
    shared = Shared()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
