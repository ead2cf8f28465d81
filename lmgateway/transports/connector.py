"""The connections under the native async transport: one pool an event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from ssl import SSLContext
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import ClientRequest, ClientResponse
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler

from ..workers import Workers
from .threads import outcome

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection

__all__ = ["Connector"]

KEEPALIVE_SECONDS = 60.0
READ_BYTES = 64 * 1024

_resolvers = Workers(32)


_LOST = (aiohttp.ServerDisconnectedError, OSError)


class _Wire(ResponseHandler):
    """aiohttp's end of a connection, which keeps count."""

    carried = 0  # requests, in all
    heard = False  # a byte, since the last of them was sent

    def data_received(self, data: bytes) -> None:
        self.heard = True
        super().data_received(data)

    def set_exception(self, exc: Any, *cause: BaseException) -> None:
        # A body that breaks the chunked coding in a packet of its own would leave its reader
        # waiting: aiohttp tells the connection and not the body.
        super().set_exception(exc, *cause)
        if self._payload is not None and self._payload.exception() is None:
            self._payload.set_exception(aiohttp.ClientPayloadError("the body broke off"))


class Connector(aiohttp.TCPConnector):
    """The connections of one event loop, and one exchange on one of them.

    What ``ClientSession`` adds to this (cookies, redirects, .netrc, tracing) is a seventh of the
    time of a call, and nothing that we want.
    """

    def __init__(self, tls: SSLContext, connect_timeout: float) -> None:
        super().__init__(
            ssl=tls, limit=0, keepalive_timeout=KEEPALIVE_SECONDS, resolver=_Resolver()
        )
        self._factory = cast(Any, partial(_Wire, loop=self._loop))
        self._limits = aiohttp.ClientTimeout(connect=connect_timeout, ceil_threshold=inf)

    async def ask(self, make: Callable[[], ClientRequest]) -> ClientResponse:
        """Send what ``make`` returns and await the head of the answer.

        Once more, and unseen, where the server closed a kept-alive connection while the request
        was on its way.

        Raises:
            TimeoutError: No connection was made in time.
            aiohttp.ClientError: Anything else.
        """
        request = make()
        connection = await self.connect(request, [], self._limits)
        wire = cast(_Wire, connection.protocol)
        try:
            return await self._exchange(request, connection, wire)
        except _LOST:
            if wire.carried == 1 or wire.heard:
                raise
        # While this one failed, the loop heard of all others that the server had closed with it.
        request = make()
        connection = await self.connect(request, [], self._limits)
        return await self._exchange(request, connection, cast(_Wire, connection.protocol))

    async def _exchange(
        self, request: ClientRequest, connection: Connection, wire: _Wire
    ) -> ClientResponse:
        wire.carried += 1
        wire.heard = False
        wire.set_response_params(
            skip_payload=request.method == "HEAD",
            read_until_eof=True,
            auto_decompress=False,  # it would take a gzip body that was cut short for a whole one
            read_bufsize=READ_BYTES,
        )
        response: ClientResponse | None = None
        try:
            response = await request.send(connection)
            return await response.start(connection)
        except BaseException:
            if response is not None:
                response.close()
            connection.close()
            raise

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


class _Resolver(AbstractResolver):
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
