"""Transports shared by everything in a process that asks for equal ones."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Hashable
from importlib.util import find_spec
from typing import Any, Protocol

from ..errors import ConfigError
from .protocols import AsyncTransport, Transport, TransportOptions

__all__ = ["ASYNC_TRANSPORTS", "acquire_async", "acquire_sync", "release"]

ASYNC_TRANSPORTS = ("aiohttp", "threads")


class _Closable(Protocol):
    def close(self) -> None: ...


class _Shared:
    """What is open in this process, and how many hold it.

    An LM may be dropped by the garbage collector, in the midst of anything else: so nothing is
    counted down while this very thread counts, and nobody waits to give back.
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
            self._settle()
        return taken

    def release(self, transport: _Closable) -> None:
        self.returned.append(transport)
        self._settle()

    def _settle(self) -> None:
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
        """Take one back; it is in the list if nobody holds it any more."""
        left = self.holders.get(id(transport), 0) - 1
        if left > 0:
            self.holders[id(transport)] = left
        if left != 0:
            return []
        del self.holders[id(transport)]
        self.open = {key: other for key, other in self.open.items() if other is not transport}
        return [transport]


def acquire_sync(options: TransportOptions) -> Transport:
    """The blocking transport with these options, to be given back to ``release``.

    Raises:
        ConfigError: The options cannot be met.
    """

    def make() -> Transport:
        _check_urllib3()
        from .requests import RequestsTransport

        return RequestsTransport(options)

    transport: Transport = _shared.acquire(("sync", options), make)
    return transport


def _check_urllib3() -> None:
    """Refuse a urllib3 that requests still takes and that has no ``read1``."""
    import urllib3

    version = urllib3.__version__  # type: ignore[attr-defined]
    if tuple(int(part) for part in version.split(".")[:2]) < (2, 3):
        raise ConfigError(
            f"urllib3 {version} is too old to send requests with: pip install -U 'urllib3>=2.3'"
        )


def acquire_async(name: str | None, options: TransportOptions) -> AsyncTransport:
    """The async transport of that name with these options, to be given back to ``release``.

    Args:
        name: "aiohttp" or "threads"; None takes aiohttp where it is installed, else threads.
        options: Equal ones share a transport.

    Raises:
        ConfigError: There is no such transport, or the options cannot be met.
    """
    if name is None:
        name = "aiohttp" if find_spec("aiohttp") is not None else "threads"
    make = _MAKERS.get(name)
    if make is None:
        raise ConfigError(
            f"there is no transport {name!r}: transport= is one of {', '.join(ASYNC_TRANSPORTS)}"
        )
    transport: AsyncTransport = _shared.acquire((name, options), lambda: make(options))
    return transport


def _make_aiohttp(options: TransportOptions) -> AsyncTransport:
    try:
        from .aiohttp import AiohttpTransport
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"transport='aiohttp' needs the package {error.name}: "
            "pip install 'lmgateway-core[async]', or take transport='threads'"
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
    """Give back what was acquired; who is last closes it. Safe in any thread, never blocks.

    A transport of another process, or one that was given back too often, is left alone.
    """
    _shared.release(transport)


_shared = _Shared()
_inherited: list[_Shared] = []


def _begin_anew() -> None:
    global _shared
    _inherited.append(_shared)  # kept, so that nothing closes the sockets of the parent
    _shared = _Shared()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
