"""The async transport over aiohttp: each event loop has its connections, which end with it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from math import inf
from typing import Any
from weakref import finalize

import aiohttp
from aiohttp.http import HttpProcessingError

from .._drive.cancel import CancelScope, Deadline
from ..errors import InputError, LMGatewayError
from ..types import HTTPRequest, HTTPResponse
from . import errors
from .aiohttp_pool import Connector, Destination, Reply
from .decoding import DecodingError
from .protocols import BodySource, TransportOptions
from .trust import tls_context

__all__ = ["AiohttpTransport"]

NEVER = 365 * 86400.0
MAX_HEADERS = 100  # as http.client has it


class AiohttpTransport:
    """Sends requests over aiohttp; any number of them may be in flight.

    It may be used from any number of event loops, one after the other or in several threads.

    Raises:
        ConfigError: The CA bundle does not exist or cannot be read.
    """

    def __init__(self, options: TransportOptions) -> None:
        self.options = options
        self._tls = tls_context(verify=options.verify)
        self._connectors: dict[asyncio.AbstractEventLoop, Connector] = {}
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options!r})"

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Send a request and await its answer; if it is cancelled, its socket is closed at once."""
        proxy: str | None = None
        try:
            with _until(deadline):
                connector = self._connector(asyncio.get_running_loop())
                destination = connector.destination(request)
                proxy = destination.proxy
                reply = await self._ask(connector, destination, request)
                try:
                    return await self._answer(request, reply, deadline)
                except BaseException as error:
                    reply.close()
                    if isinstance(error, DecodingError):
                        raise errors.undecodable(reply.status, error) from None
                    raise
        except _ERRORS as error:
            failure = _explained(error, request, proxy)
        raise failure  # here it has no context: aiohttp's own errors hold headers, and so the key

    async def aclose(self) -> None:
        """Close the connections of the running event loop; sending again opens others."""
        connector = self._connectors.get(asyncio.get_running_loop())
        if connector is not None:
            await connector.close()

    def close(self) -> None:
        """Have every loop close its idle connections now, and those in use when they are done."""
        if self._pid != os.getpid():
            return
        for loop, connector in list(self._connectors.items()):
            with suppress(RuntimeError):  # that loop is closed, and its connections with it
                loop.call_soon_threadsafe(connector.retire)

    async def _ask(
        self, connector: Connector, destination: Destination, request: HTTPRequest
    ) -> Reply:
        message = destination.message(request)
        try:
            reply = await connector.ask(destination, message, headless=request.method == "HEAD")
        except TimeoutError:
            raise errors.slow_to_connect(self.options.connect_timeout) from None
        if reply.status == 407 and destination.proxy is not None:
            reply.close()
            raise errors.proxy_refused(407, destination.proxy)
        return reply

    async def _answer(self, request: HTTPRequest, reply: Reply, deadline: Deadline) -> HTTPResponse:
        status, headers = reply.status, reply.headers
        if len(headers) > MAX_HEADERS:
            raise errors.not_http(f"more than {MAX_HEADERS} headers")
        coding = headers.get("Transfer-Encoding", "identity").strip().lower()
        if coding not in ("chunked", "identity"):
            raise errors.not_http("the transfer coding is neither chunked nor identity")
        if 300 <= status < 400:
            raise errors.redirected(status, headers.get("Location", ""), request.url)
        if request.stream and status < 300:
            body = _Body(request, reply, self.options)
            return HTTPResponse(status, headers, source=BodySource(body))
        return HTTPResponse(status, headers, await self._whole(reply, deadline, request.max_body))

    async def _whole(self, reply: Reply, deadline: Deadline, most: int | None) -> bytes:
        content, idle = reply.content, self.options.idle_timeout
        cap = most or self.options.max_body
        if (reply.length or 0) > cap:
            raise errors.too_large(cap, reply.status)
        decoder = reply.decoder()
        pieces: list[bytes] = []
        size = 0
        while not content.at_eof():
            piece = content.read_nowait()  # it often came with the head: no timer is needed
            if not piece and not content.at_eof():
                with _until(deadline, idle):
                    piece = await content.readany()
            for plain in (piece,) if decoder is None else decoder.feed(piece):
                size += len(plain)
                if size > cap:
                    raise errors.too_large(cap, reply.status)
                pieces.append(plain)
        if decoder is not None:
            decoder.finish()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _connector(self, loop: asyncio.AbstractEventLoop) -> Connector:
        if self._pid != os.getpid():  # the sockets are our parent's: keep them, touch them never
            self._inherited, self._connectors, self._pid = self._connectors, {}, os.getpid()
        connector = self._connectors.get(loop)
        if connector is not None and not connector.closed:
            return connector
        if connector is None:
            self._end_with(loop)
        self._connectors[loop] = connector = Connector(
            self._tls, self.options.connect_timeout, loop
        )
        return connector

    def _end_with(self, loop: asyncio.AbstractEventLoop) -> None:
        # asyncio does not say when a loop is closed, but it drops its timers then: what only a
        # timer keeps alive dies with the loop, or else at the exit of the interpreter.
        witness = _Witness()
        loop.call_later(NEVER, witness)
        finalize(witness, _end, self._connectors, loop, os.getpid())


class _Witness:
    """An object that lives as long as the loop, which holds a timer for it."""

    def __call__(self) -> None:
        """The timer has run out after a year: do nothing."""


def _end(
    connectors: dict[asyncio.AbstractEventLoop, Connector],
    loop: asyncio.AbstractEventLoop,
    pid: int,
) -> None:
    if pid == os.getpid() and (connector := connectors.pop(loop, None)) is not None:
        connector.sever()


class _Body:
    """A body that is still arriving."""

    def __init__(self, request: HTTPRequest, reply: Reply, options: TransportOptions) -> None:
        self._request = request
        self._reply = reply
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._decoder = reply.decoder()
        self._decoded: Iterator[bytes] = iter(())

    async def read(self, deadline: Deadline) -> bytes:
        """The next bytes as they come, decompressed; b"" at the end."""
        try:
            return await self._next(deadline)
        except DecodingError as error:
            failure: LMGatewayError = errors.undecodable(self._reply.status, error)
        except _ERRORS as error:
            failure = _explained(error, self._request)
        except BaseException:
            self.close()
            raise
        self.close()
        raise failure.locate(host=errors.host_and_port(self._request.url))

    async def _next(self, deadline: Deadline) -> bytes:
        while True:
            if plain := next(self._decoded, b""):
                return plain
            raw = await self._raw(deadline)
            if self._decoder is None:
                return raw
            if not raw:
                self._decoder.finish()
                return b""
            self._decoded = self._decoder.feed(raw)

    async def _raw(self, deadline: Deadline) -> bytes:
        content = self._reply.content
        if (piece := content.read_nowait()) or content.at_eof():
            return piece  # without the price of a timer
        with _until(deadline, self._options.idle_timeout):
            return await content.readany()

    def close(self) -> None:
        """Close the connection unless the body was read to its end; at once, from any thread."""
        if self._reply.closed:
            return
        with suppress(RuntimeError):
            if asyncio.get_running_loop() is self._loop:
                self._reply.close()
                return
        with suppress(RuntimeError):  # that loop is closed, and its sockets with it
            self._loop.call_soon_threadsafe(self._reply.close)

    def __del__(self) -> None:
        self.close()


class _until(CancelScope):  # noqa: N801 - used as a statement
    """Raise RequestTimeoutError at the deadline, or after ``idle`` seconds if that is sooner.

    It does what ``asyncio.timeout`` does, at half of its cost.
    """

    __slots__ = ("_deadline", "_idle", "_timer")

    def __init__(self, deadline: Deadline, idle: float | None = None) -> None:
        self.cancelled = self._interrupted = False  # as in a scope's own, which takes longer
        self._task = None
        self._deadline = deadline
        self._idle = idle
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        seconds = self._deadline.remaining()
        if self._idle is not None and self._idle < seconds:
            seconds = self._idle
        else:
            self._idle = None
        if seconds <= 0:
            raise self.error()
        if seconds < inf:
            super().__enter__()
            self._timer = asyncio.get_running_loop().call_later(seconds, self.interrupt)

    def __exit__(self, *raised: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
            if self._interrupted:
                super().__exit__(*raised)
            self._task = None

    def error(self) -> LMGatewayError:
        """The error for the limit that has run out."""
        if self._idle is not None:
            return errors.stalled(self._idle)
        return errors.timed_out(self._deadline)


_ERRORS = (LMGatewayError, aiohttp.ClientError, HttpProcessingError, OSError)


def _explained(error: Exception, request: HTTPRequest, proxy: str | None = None) -> LMGatewayError:
    place = errors.host_and_port(request.url)
    failure = error if isinstance(error, LMGatewayError) else _failure(error, place, proxy)
    return failure.locate(host=place)


def _failure(error: Exception, place: str, proxy: str | None) -> LMGatewayError:
    match error:
        case aiohttp.ClientConnectorCertificateError(certificate_error=OSError() as reason):
            return errors.system_failed(reason, place, proxy)
        case aiohttp.ClientConnectorError():
            return errors.system_failed(error.os_error, place, proxy)
        case aiohttp.ClientHttpProxyError():
            return errors.proxy_refused(error.status, proxy)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return InputError("the base URL is not a valid URL: check its host and port")
        case HttpProcessingError():
            # The parser's words, without the bytes that it goes on to quote.
            words, quotes, _ = error.message.partition(":\n")
            if "chunk" not in words.lower():  # else a good head, and a bad body in the same packet
                return errors.not_http(words if quotes else "")
    return errors.broke((isinstance(error, OSError) and error.strerror) or "")
