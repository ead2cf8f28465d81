"""The connections under the native async transport: one pool an event loop."""

from __future__ import annotations

import asyncio
import select
import socket
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from ..workers import Workers
from .threads import outcome

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace

__all__ = ["Connector", "PooledRequest", "Resolver", "resend_unseen"]

_resolvers = Workers(32)


class _Wire(ResponseHandler):
    """aiohttp's end of a connection, which keeps count."""

    carried = 0  # requests, in all
    heard = False  # a byte, since the last of them was sent

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)


class PooledRequest(ClientRequest):
    """A request that knows what became of it on its connection."""

    _wire: _Wire | None = None

    @property
    def is_stale(self) -> bool:
        """Whether its connection had carried another before, and has not answered this one."""
        return self._wire is not None and self._wire.carried > 1 and not self._wire.heard

    async def send(self, conn: Connection) -> ClientResponse:
        """Send it over a connection."""
        wire = conn.protocol
        if isinstance(wire, _Wire):
            wire.carried += 1
            wire.heard = False
            self._wire = wire
        return await super().send(conn)


class Connector(aiohttp.TCPConnector):
    """A pool that hands out no dead connection and closes what it must without a last word."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast(Any, partial(_Wire, loop=self._loop))

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        """A connection of the pool that is still good, or a new one."""
        while True:
            connection = await super().connect(req, traces, timeout)
            wire = connection.protocol
            if not isinstance(wire, _Wire) or not wire.carried or not _is_readable(wire):
                return connection
            connection.close()

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        if should_close and not self._closed:
            # A plain close would first send what is left of a long prompt.
            protocol.abort()
        super()._release(key, protocol, should_close=should_close)

    def drop(self) -> None:
        """Close every connection; in the thread of a living loop."""
        self._close()

    def sever(self) -> None:
        """Close every socket without the help of the loop, which is gone."""
        protocols = [protocol for pool in self._conns.values() for protocol, _ in pool]
        for protocol in [*protocols, *self._acquired]:
            if protocol.transport is not None:
                _sever(protocol.transport)
        self._close()


def _sever(transport: asyncio.BaseTransport) -> None:
    # asyncio offers no public way to close a transport once its loop is closed, and its
    # finalizer complains. Other loops (uvloop) close their sockets themselves.
    tls: Any = getattr(transport, "_ssl_protocol", None)
    if tls is not None:
        with suppress(Exception):
            transport.abort()  # type: ignore[attr-defined]
    raw: Any = transport if tls is None else getattr(tls, "_transport", None)
    with suppress(Exception):
        raw._call_connection_lost(None)


def _is_readable(wire: _Wire) -> bool:
    """Whether an idle connection has something to say, which can only be good-bye."""
    sock = None if wire.transport is None else wire.transport.get_extra_info("socket")
    if sock is None or sock.fileno() < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([sock.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


async def resend_unseen(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
    """Send once more what a kept-alive connection lost before any byte of an answer."""
    # The server may have closed it while our request was on its way.
    try:
        return await handler(request)
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
        if not (isinstance(request, PooledRequest) and request.is_stale):
            raise
    await request.close()
    return await handler(request)


class Resolver(AbstractResolver):
    """Looks names up in daemon workers: one that hangs must not hold up the end of the loop."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host."""

        def look_up() -> list[tuple[Any, ...]]:
            flags = socket.AI_ADDRCONFIG
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, flags)
            return [
                (found_family, proto, *socket.getnameinfo(address, numeric))
                for found_family, _, proto, _, address in found
            ]

        numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=int(service),
                family=found_family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for found_family, proto, address, service in await outcome(_resolvers.submit(look_up))
        ]

    async def close(self) -> None:
        """Nothing is open."""
