"""The native async transport, on aiohttp: one pool an event loop, which ends with the loop."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from weakref import finalize

import aiohttp
from aiohttp.http import HttpProcessingError

from .._drive.cancel import Deadline
from ..errors import InputError, LMGatewayError
from ..types import HTTPRequest, HTTPResponse
from . import faults
from .connector import Connector, Reply
from .decoding import Decoder, DecodingError, decoder_for
from .environment import tls_context
from .protocols import BodySource, TransportOptions

__all__ = ["AiohttpTransport"]

EVENT_STREAM = "text/event-stream"
NEVER = 365 * 86400.0
MAX_HEADERS = 100  # as http.client has it

_TORN = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class AiohttpTransport:
    """Sends requests over aiohttp, without limit to how many are in flight.

    It may be used from any number of event loops, one after the other or in several threads.

    Raises:
        ConfigError: The CA bundle does not exist or cannot be read.
    """

    def __init__(self, options: TransportOptions) -> None:
        self.options = options
        self._tls = tls_context(options.verify)
        self._connectors: dict[asyncio.AbstractEventLoop, Connector] = {}
        self._pid = os.getpid()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.options!r})"

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Send it and await its answer; cancelled, it closes its socket at once."""
        try:
            with _until(deadline):
                reply = await self._ask(request)
                try:
                    return await self._answer(request, reply, deadline)
                except BaseException:
                    reply.close()
                    raise
        except _FAULTS as error:
            fault = _explain(error, request)
        raise fault  # here it has no context: aiohttp's own errors hold headers, and so the key

    async def aclose(self) -> None:
        """Close the connections of the running event loop; sending again opens others."""
        connector = self._connectors.get(asyncio.get_running_loop())
        if connector is not None:
            await connector.close()

    def close(self) -> None:
        """Have every loop close its connections, those in use when their exchange has ended."""
        if self._pid != os.getpid():
            return
        for loop, connector in list(self._connectors.items()):
            with suppress(RuntimeError):  # that loop is closed, and its connections with it
                loop.call_soon_threadsafe(connector.retire)

    async def _ask(self, request: HTTPRequest) -> Reply:
        connector = self._connector(asyncio.get_running_loop())
        destination = connector.destination(request)
        message = destination.message(request)
        try:
            reply = await connector.ask(destination, message, headless=request.method == "HEAD")
        except TimeoutError:
            raise faults.slow_to_connect(self.options.connect_timeout) from None
        if reply.status == 407 and destination.proxied:
            reply.close()
            raise faults.proxy_refused(reply.status)
        return reply

    async def _answer(self, request: HTTPRequest, reply: Reply, deadline: Deadline) -> HTTPResponse:
        status, headers = reply.status, reply.headers
        if len(headers) > MAX_HEADERS:
            raise faults.answered_garbage(f"more than {MAX_HEADERS} headers")
        coding = headers.get("Transfer-Encoding", "identity").strip().lower()
        if coding not in ("chunked", "identity"):
            raise faults.answered_garbage("the transfer coding is neither chunked nor identity")
        if 300 <= status < 400:
            raise faults.redirected(status, headers.get("Location", ""), request.url)
        if request.stream and status < 300:
            kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
            if kind == EVENT_STREAM:
                body = _Body(request, reply, self.options)
                return HTTPResponse(status, headers, source=BodySource(body))
        return HTTPResponse(status, headers, await self._whole(reply, deadline))

    async def _whole(self, reply: Reply, deadline: Deadline) -> bytes:
        content, cap, idle = reply.content, self.options.max_body, self.options.idle_timeout
        if (reply.length or 0) > cap:
            raise faults.too_large(cap, reply.status)
        decoder = _Decoding(reply)
        pieces: list[bytes] = []
        size = 0
        while not content.at_eof():
            if idle is None:
                piece = await content.readany()
            else:
                with _until(deadline, idle):
                    piece = await content.readany()
            for plain in decoder.feed(piece):
                size += len(plain)
                if size > cap:
                    raise faults.too_large(cap, reply.status)
                pieces.append(plain)
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
    """Lives as long as the loop that holds a timer for it."""

    def __call__(self) -> None:
        """Do nothing: a year has gone by."""


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
        self._decoder = _Decoding(reply)
        self._decoded: Iterator[bytes] = iter(())

    async def read(self, deadline: Deadline) -> bytes:
        """The next bytes as they come, decompressed; b"" at the end."""
        try:
            return await self._next(deadline)
        except _FAULTS as error:
            fault = _explain(error, self._request)
        except BaseException:
            self.close()
            raise
        self.close()
        raise fault

    async def _next(self, deadline: Deadline) -> bytes:
        while True:
            if plain := next(self._decoded, b""):
                return plain
            raw = await self._raw(deadline)
            if not raw:
                self._decoder.finish()
                return b""
            self._decoded = iter(self._decoder.feed(raw))

    async def _raw(self, deadline: Deadline) -> bytes:
        content = self._reply.content
        if (piece := content.read_nowait()) or content.at_eof():
            return piece  # without the price of a timer
        with _until(deadline, self._options.idle_timeout):
            return await content.readany()

    def close(self) -> None:
        """Close the connection unless the body was read to its end; from any thread, at once."""
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


class _until:  # noqa: N801 - used as a statement
    """Raise RequestTimeoutError at the deadline, or after ``idle`` seconds if that is sooner.

    ``asyncio.timeout`` in what it does, at half of its cost.
    """

    __slots__ = ("_cancelling", "_deadline", "_expired", "_idle", "_task", "_timer")

    def __init__(self, deadline: Deadline, idle: float | None = None) -> None:
        self._deadline = deadline
        self._idle = idle
        self._expired = False
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        seconds = self._deadline.remaining()
        if self._idle is not None and self._idle < seconds:
            seconds = self._idle
        else:
            self._idle = None
        if seconds <= 0:
            raise self._fault()
        if seconds < inf:
            loop = asyncio.get_running_loop()
            self._task = asyncio.current_task(loop)
            self._cancelling = self._task.cancelling() if self._task else 0
            self._timer = loop.call_later(seconds, self._expire)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._timer is None:
            return
        self._timer.cancel()
        # As in asyncio.timeout: a cancellation from elsewhere, at the same moment, comes first.
        if (
            self._expired
            and self._task is not None
            and self._task.uncancel() <= self._cancelling
            and kind is asyncio.CancelledError
        ):
            raise self._fault() from None

    def _expire(self) -> None:
        self._expired = True
        if self._task is not None:
            self._task.cancel()

    def _fault(self) -> LMGatewayError:
        if self._idle is not None:
            return faults.stalled(self._idle)
        return faults.timed_out(self._deadline)


class _Decoding:
    """The decoder of a response; it lets through what was not encoded."""

    __slots__ = ("_decoder", "_status")

    def __init__(self, reply: Reply) -> None:
        self._status = reply.status
        self._decoder: Decoder | None = None
        coding = reply.headers.get("Content-Encoding")
        if coding is not None:
            with self._translated():
                self._decoder = decoder_for(coding)

    def feed(self, data: bytes) -> Iterable[bytes]:
        return (data,) if self._decoder is None else self._feed(self._decoder, data)

    def _feed(self, decoder: Decoder, data: bytes) -> Iterator[bytes]:
        with self._translated():
            yield from decoder.feed(data)

    def finish(self) -> None:
        if self._decoder is not None:
            with self._translated():
                self._decoder.finish()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DecodingError as error:
            raise faults.undecodable(self._status, str(error)) from None


_FAULTS = (LMGatewayError, aiohttp.ClientError, HttpProcessingError, OSError)


def _explain(error: Exception, request: HTTPRequest) -> LMGatewayError:
    fault = error if isinstance(error, LMGatewayError) else _fault(error)
    return fault.locate(host=faults.host_of(request.url))


def _fault(error: Exception) -> LMGatewayError:
    match error:
        case aiohttp.ClientConnectorDNSError():
            return faults.unknown_host(error.host)
        case aiohttp.ClientConnectorCertificateError():
            reason = error.certificate_error
            return faults.untrusted(getattr(reason, "verify_message", "") or str(reason))
        case aiohttp.ClientConnectorSSLError() if not isinstance(error.os_error, _TORN):
            return faults.not_tls(getattr(error.os_error, "reason", "") or "TLS failed")
        case aiohttp.ClientHttpProxyError():
            return faults.proxy_refused(error.status)
        case aiohttp.ClientConnectorError():
            return faults.failed_to_connect(error.os_error.strerror or error.os_error)
        case aiohttp.InvalidURL() | aiohttp.NonHttpUrlClientError():
            return InputError("the base URL is not a valid URL: check its host and port")
        case aiohttp.ClientPayloadError():
            return faults.broke()
        case HttpProcessingError():
            # The parser's words, without the bytes that it goes on to quote.
            words, quotes, _ = error.message.partition(":\n")
            if "chunk" in words.lower():  # a good head, and a broken body in the same packet
                return faults.broke()
            return faults.answered_garbage(words if quotes else "")
    return faults.broke(error.strerror if isinstance(error, OSError) and error.strerror else "")
