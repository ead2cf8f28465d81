"""aiohttp's connections, one pool for each event loop, and how a request goes over one."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from functools import partial
from math import inf
from ssl import SSLContext
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import aiohttp
from aiohttp import BasicAuth, ClientRequest
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from yarl import URL

from .._drive.futures import result_of
from .._drive.workers import Workers
from ..types import HTTPRequest
from . import errors
from .decoding import Decoder, decoder_for
from .silence import AT_LEAST, acknowledge, watch
from .trust import proxy_for
from .urls import place_of

if TYPE_CHECKING:
    from aiohttp import StreamReader
    from aiohttp.client_reqrep import ConnectionKey
    from aiohttp.connector import Connection
    from aiohttp.http import RawResponseMessage

__all__ = ["Connector", "Destination", "Reply"]

KEEPALIVE_SECONDS = 60.0
READ_BYTES = 64 * 1024
DESTINATIONS = 1024

_PROBE = b"HTTP/1.1 100 probe\r\n\r\n"
_BEGINNINGS = (b"H", b"HT", b"HTT", b"HTTP")

_resolvers = Workers(32)

_LOST = (aiohttp.ServerDisconnectedError, OSError)


class _Wire(ResponseHandler):
    """Our end of a connection: aiohttp's, which also notes what came outside of an answer."""

    carried = 0  # how many requests
    asked_at = 0.0  # when the last of them was sent
    latest: bytes | bytearray = b""  # what came last; b"" from an answer's end until more comes
    _is_readable: Callable[[], object] | None = None  # of the socket
    torn = False  # perhaps a part of another head came behind the last answer

    def data_received(self, data: bytes) -> None:
        if data:  # with none, aiohttp has its parser go on with what it held back
            self.latest = data
        super().data_received(data)

    def rest(self) -> None:
        """Note that the answer has ended, and no request is under way any more."""
        latest, self.latest = self.latest, b""
        self.torn = latest.rfind(b"HTTP/") > 0 or latest.endswith(_BEGINNINGS)

    @property
    def is_silent(self) -> bool:
        """Whether nothing came after the last answer, so that the next bytes are an answer.

        Bytes that came unasked (a proxy's 408 before it closes, an answer sent twice) would pass
        for the answer to the next request. A busy loop may not have read them yet, so the socket
        is asked too; the loop has read TLS's own messages by now.
        """
        if self.latest or self.should_close or self.transport is None:
            return False
        if self.torn and not self._is_between_answers():
            return False
        if self._is_readable is None:
            self._is_readable = watch(self.transport.get_extra_info("socket"))
        return not self._is_readable()

    def _is_between_answers(self) -> bool:
        # The parser does not say so; in the midst of a head, it takes this for more of it.
        try:
            messages, _, _ = self._parser.feed_data(_PROBE)  # type: ignore[union-attr]
        except HttpProcessingError:
            return False
        return [(head.reason, head.raw_headers) for head, _ in messages] == [("probe", ())]

    def set_exception(self, exc: Any, *cause: BaseException) -> None:
        # A body that breaks the chunked coding in a packet of its own would leave its reader
        # waiting: aiohttp tells the connection and not the body. What breaks after the end of
        # the body takes nothing from it.
        super().set_exception(exc, *cause)
        body = self._payload
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError("the body broke off"))


class Destination:
    """One base URL: how the connections of one event loop reach it, and what goes there.

    Attributes:
        request: What aiohttp's connector asks for host, port, TLS and proxy. It is never sent.
        proxy: ``host:port`` of the proxy on the way there, or None.

    Raises:
        InputError: The URL cannot be used.
        ConfigError: The environment names a proxy that cannot be used.
    """

    __slots__ = ("_own", "_prefix", "proxy", "request")

    def __init__(self, base_url: str, loop: asyncio.AbstractEventLoop) -> None:
        there = place_of(base_url)
        url, proxy = URL(there.origin), proxy_for(there.url)
        self.request = ClientRequest("GET", url, proxy=URL(proxy) if proxy else None, loop=loop)
        self.proxy = None if proxy is None else errors.host_and_port(proxy)
        direct = proxy is None or self.request.is_ssl()  # else the proxy must hear the whole URL
        self._prefix = there.prefix if direct else there.url
        self._own: dict[str, str] = {}
        if not direct and (who := BasicAuth.from_url(URL(proxy or ""))) is not None:
            self._own["Proxy-Authorization"] = who.encode()

    def message(self, request: HTTPRequest) -> bytes:
        """The whole request as it goes over the wire, byte for byte."""
        headers = {**request.headers, **self._own} if self._own else request.headers
        lines = "\r\n".join(map(": ".join, headers.items()))
        first = f"{request.method} {self._prefix}{request.path} HTTP/1.1"
        head = f"{first}\r\n{lines}\r\n\r\n".encode("latin-1")
        return head + request.content if request.content else head


class Reply:
    """An answer whose body is still arriving on its connection.

    Attributes:
        status: HTTP status.
        headers: By name; the case of a name does not matter.
        content: The body, as it comes.
    """

    __slots__ = ("_connection", "content", "headers", "status")

    def __init__(
        self, connection: Connection, message: RawResponseMessage, content: StreamReader
    ) -> None:
        self.status = message.code
        self.headers = message.headers
        self.content = content
        self._connection: Connection | None = connection
        content.on_eof(self._ended)

    @property
    def length(self) -> int | None:
        """How many bytes the body has, by Content-Length; None without it."""
        length = self.headers.get("Content-Length")
        return None if length is None else int(length)

    def decoder(self) -> Decoder | None:
        """The decoder of the body; raises DecodingError for a coding that we do not know."""
        coding = self.headers.get("Content-Encoding")
        return None if coding is None else decoder_for(coding)

    @property
    def closed(self) -> bool:
        """Whether the connection was closed or given back."""
        return self._connection is None

    def close(self) -> None:
        """Close the connection unless the body is complete; a reader of the body wakes up."""
        connection, self._connection = self._connection, None
        if connection is not None:
            if self.content.exception() is None:
                self.content.set_exception(aiohttp.ClientConnectionError("closed"))
            connection.close()

    def _ended(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        # One that has not taken the whole request yet would answer the next with what is left.
        if connection.transport is None or connection.transport.get_write_buffer_size():
            connection.close()
        else:
            connection.release()


class Connector(aiohttp.TCPConnector):
    """The connections of one event loop, each of which takes one request at a time.

    ``ClientSession``, ``ClientRequest`` and ``ClientResponse`` are not used: what they add
    (cookies, redirects, .netrc, tracing, bodies of many kinds) takes half of the time of a call,
    and we want none of it.
    """

    def __init__(
        self, tls: SSLContext, connect_timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(
            ssl=tls, limit=0, keepalive_timeout=KEEPALIVE_SECONDS, resolver=_Resolver(), loop=loop
        )
        self._factory = cast(Any, partial(_Wire, loop=self._loop))
        self._limits = aiohttp.ClientTimeout(connect=connect_timeout, ceil_threshold=inf)
        self._destinations: dict[str, Destination] = {}
        self._retired = False
        self._shutdown: AsyncGenerator[None] | None = self._dropped_at_shutdown()
        # The loop may have been shut down before, and used again: it warns of that.
        with suppress(StopIteration, ResourceWarning):
            self._shutdown.__anext__().send(None)

    async def _dropped_at_shutdown(self) -> AsyncGenerator[None]:
        # The one word that a loop has for those it serves before it is closed: asyncio.run, and
        # whoever ends a loop as it does, closes the generators that were begun there.
        try:
            yield
        finally:
            self.drop()

    def destination(self, request: HTTPRequest) -> Destination:
        """The destination of a request; raises InputError or ConfigError if there is none."""
        url = request.base_url or ""
        found = self._destinations.get(url)
        if found is None:
            found = Destination(url, self._loop)
            if len(self._destinations) >= DESTINATIONS:
                self._destinations.clear()
            self._destinations[url] = found
        return found

    async def ask(self, destination: Destination, message: bytes, *, headless: bool) -> Reply:
        """Send a message and await the head of the answer.

        If the server closed a kept connection while the request was on its way, the message is
        sent once more, on another connection.

        Args:
            destination: Where to.
            message: The whole request.
            headless: Whether the answer has no body, as that to HEAD.

        Raises:
            TimeoutError: No connection was made in time.
            aiohttp.ClientError, HttpProcessingError: Anything else.
        """
        connection, wire = await self._take(destination)
        try:
            return await self._send(connection, wire, message, headless)
        except _LOST:
            if wire.carried == 1 or wire.latest:
                raise
        # While this one failed, the loop heard of all others that the server had closed with it.
        connection, wire = await self._take(destination)
        return await self._send(connection, wire, message, headless)

    async def _take(self, destination: Destination) -> tuple[Connection, _Wire]:
        while True:
            connection = await self.connect(destination.request, [], self._limits)
            wire = cast(_Wire, connection.protocol)
            if not wire.carried or wire.is_silent:
                return connection, wire
            connection.close()

    async def _send(
        self, connection: Connection, wire: _Wire, message: bytes, headless: bool
    ) -> Reply:
        wire.carried += 1
        wire.asked_at = monotonic()
        wire.set_response_params(
            skip_payload=headless,
            read_until_eof=True,
            auto_decompress=False,  # it would take a gzip body that was cut short for a whole one
            read_bufsize=READ_BYTES,
        )
        try:
            if wire.transport is None:
                raise aiohttp.ServerDisconnectedError
            wire.transport.write(message)
            while True:
                head, content = await wire.read()
                if head.code == 101:
                    raise errors.not_http("status 101, which nobody asked for")
                if head.code >= 200:
                    return Reply(connection, head, content)
        except BaseException:
            connection.close()
            raise

    def _release(
        self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False
    ) -> None:
        should_close = should_close or self._retired
        if should_close and not self._closed:
            # A plain close would first send what is left of a long prompt.
            protocol.abort()
        elif protocol.transport is not None:
            wire: Any = protocol
            wire.rest()
            if monotonic() - wire.asked_at > AT_LEAST:  # to get at the socket takes longer
                acknowledge(protocol.transport.get_extra_info("socket"), wire.asked_at)
        super()._release(key, protocol, should_close=should_close)
        if self._retired and not self._acquired:
            self._close()

    def retire(self) -> None:
        """Close each connection once nobody uses it; call this in the thread of a running loop."""
        self._retired = True
        if not self._acquired:
            self.drop()
            return
        for pool in self._conns.values():
            for protocol, _ in pool:
                protocol.abort()
        self._conns.clear()

    def drop(self) -> None:
        """Close every connection; call this in the thread of a running loop."""
        for protocol in self._protocols():
            protocol.abort()  # close() would wait for the end of TLS, which nobody wants to see
        self._close()

    def sever(self) -> None:
        """Close every socket without the loop, which was closed before."""
        self._shutdown = None
        for protocol in self._protocols():
            assert protocol.transport is not None
            _sever(protocol.transport)
        self._close()

    def _protocols(self) -> list[ResponseHandler]:
        """All open connections; to aiohttp, one that is still connecting is acquired as well."""
        idle = [protocol for pool in self._conns.values() for protocol, _ in pool]
        return [each for each in [*idle, *self._acquired] if each.transport is not None]


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
    """Looks names up in daemon threads, so that one that hangs does not hold up the loop's end."""

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
            for found_family, proto, address, service in await result_of(_resolvers.submit(look_up))
        ]

    async def close(self) -> None:
        """Nothing is open."""
