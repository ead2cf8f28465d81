"""The blocking transport over requests: its adapter, without its session.

A session merges headers, cookies, proxies, .netrc and redirects for each call. That takes half of
its time, and we want none of it. So we call ``HTTPAdapter.send``, where the session's work ends
and urllib3's begins. The package ``responses`` intercepts requests there as well, in users' tests.
"""

from __future__ import annotations

import http.client
import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException, Timeout
from requests.structures import CaseInsensitiveDict

from .._drive.cancel import Deadline
from ..errors import OUT_OF_STACK, ConnectionFailedError, LMGatewayError, RequestTimeoutError
from ..types import HTTPRequest, HTTPResponse
from . import errors
from .decoding import PIECE, Decoder, DecodingError, decoder_for
from .protocols import BodySource, TransportOptions
from .trust import tls_context
from .urllib3_pool import Target, find_target
from .watchdog import IDLE, InFlight, set_current

__all__ = ["RequestsTransport"]

TARGETS = 1024  # services whose pools are kept


class _Headers(CaseInsensitiveDict[str]):
    """Headers as requests has them, made and listed more quickly."""

    def __init__(self, given: Mapping[str, str]) -> None:
        self._store = {name.lower(): (name, value) for name, value in given.items()}

    def items(self) -> Any:
        """Pairs of name and value."""
        return self._store.values()


class _Prepared(PreparedRequest):
    """A request of ours in requests' form."""

    target: Target
    line: str  # the target of the request line


class _Adapter(HTTPAdapter):
    """requests' adapter, which need not look up what the request already knows."""

    def get_connection_with_tls_context(self, request: Any, *args: Any, **options: Any) -> Any:
        return request.target.pool

    def cert_verify(self, *args: Any, **options: Any) -> None:
        """The pool's TLS context verifies."""

    def request_url(self, request: Any, proxies: Any) -> str:
        root: str = request.target.root
        return root

    def build_response(self, req: Any, resp: Any) -> Response:
        response = Response()
        response.status_code = resp.status
        response.headers = resp.headers
        response.reason = resp.reason
        response.url = req.url
        response.request = req
        response.raw = resp
        return response


class RequestsTransport:
    """Sends requests over pooled connections; any number of threads may use one.

    If a kept connection turns out to be closed before the first byte of an answer, the request is
    sent once more, on a new one. In a forked child, the transport begins without connections.
    """

    def __init__(self, options: TransportOptions) -> None:
        self._options = options
        self._closed = False
        self._renew()
        _transports.add(self)

    def _renew(self) -> None:
        """Forget every connection and every lock; the servers are told nothing."""
        self._lock = threading.Lock()
        self._adapter = _Adapter()
        self._targets: dict[str, Target] = {}
        self._context: Any = None

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Send a request and return its answer, the body whole unless it is a stream.

        Raises:
            InputError: The base URL cannot be used.
            ConnectionFailedError: No complete answer; retryable where another attempt may help.
            RequestTimeoutError: The deadline or the idle timeout ran out.
            APIError: A redirect, or a body that is too large or cannot be decompressed.
        """
        target = self._target(request.base_url or "")
        prepared = _prepared(request, target)
        try:
            response, in_flight = self._begin(prepared, deadline)
            body = _Body(response.raw, in_flight, target, self._options)
            try:
                return self._answer(request, response, body)
            except BaseException:
                body.close()
                raise
        finally:
            deadline.on_cancel(None)  # a stream is closed by its body, and a request left to it

    def close(self) -> None:
        """Close the idle connections now, and those in use when they are done."""
        self._closed = True
        for target in list(self._targets.values()):
            target.pool.close()

    def _target(self, base_url: str) -> Target:
        if self._closed:
            raise errors.permanent("the transport was closed: nothing can be sent with it")
        target = self._targets.get(base_url)
        if target is None:
            with self._lock:
                if self._context is None and base_url[:6].lower() == "https:":
                    self._context = tls_context(verify=self._options.verify)
                target = self._targets.get(base_url) or find_target(
                    base_url, self._adapter, self._context
                )
                if len(self._targets) >= TARGETS:
                    self._targets.clear()  # what is under way keeps its own
                self._targets[base_url] = target
        return target

    def _begin(self, prepared: _Prepared, deadline: Deadline) -> tuple[Response, InFlight]:
        """Send it and read the head of the answer; once more if a kept connection was closed."""
        for fresh in (False, True):
            in_flight = InFlight(
                deadline, self._options.connect_timeout, fresh=fresh, line=prepared.line
            )
            deadline.on_cancel(in_flight.abort)
            response = self._try(prepared, in_flight)
            if response is not None:
                break
        assert response is not None
        return response, in_flight

    def _try(self, prepared: _Prepared, in_flight: InFlight) -> Response | None:
        target = prepared.target
        if in_flight.deadline.expired:
            in_flight.expire()
            raise in_flight.overdue().locate(host=target.place)
        set_current(in_flight)
        failure: LMGatewayError | None = None
        try:
            return self._adapter.send(prepared, stream=True)
        except Exception as error:
            in_flight.unwatch()
            cut = in_flight.expired or in_flight.aborted
            stale = in_flight.reused and not (in_flight.began or cut)
            if not (stale and _is_lost_connection(error)):
                failure = _explained(error, in_flight, target)
        finally:
            in_flight.unwatch()
            set_current(None)
        if failure is not None:  # raised here, it has no context that quotes the request
            raise failure
        return None

    def _answer(self, request: HTTPRequest, response: Response, body: _Body) -> HTTPResponse:
        status, headers = response.status_code, dict(response.headers.items())
        target = body.target
        if 300 <= status <= 399:
            location = response.headers.get("location", "")
            raise errors.redirected(status, location, target.url).locate(host=target.place)
        if status == 407 and target.in_full:
            raise errors.proxy_refused(407, target.proxy).locate(host=target.place)
        if request.stream and 200 <= status <= 299:
            return HTTPResponse(status, headers, source=BodySource(body))
        return HTTPResponse(
            status, headers, body.read_whole(request.max_body or self._options.max_body)
        )


class _Body:
    """A body that is still arriving; see protocols.Body."""

    def __init__(
        self, raw: Any, in_flight: InFlight, target: Target, options: TransportOptions
    ) -> None:
        self.target = target
        self._raw = raw
        self._in_flight = in_flight
        self._idle_timeout = options.idle_timeout
        self._pid = os.getpid()
        self._reading = threading.Lock()
        self._complete = False
        self._pieces = _decompressed(raw, in_flight, options.idle_timeout)

    def read(self, deadline: Deadline) -> bytes:
        """The next bytes as they come, decompressed; b"" at the end."""
        if self._complete:
            return b""
        self._in_flight.deadline = deadline
        with self._reading:
            return self._guarded(self._next)

    def read_whole(self, limit: int) -> bytes:
        """The whole body; raises APIError if it has more than ``limit`` bytes, decompressed."""
        return self._guarded(lambda: self._all(limit))

    def close(self) -> None:
        """Close the connection unless the body is complete; a reader in another thread wakes up."""
        if self._complete or self._ends():
            return
        if self._pid == os.getpid():  # a forked child may not cut the connection of its parent
            self._in_flight.abort()
        if self._reading.acquire(blocking=False):  # else its reader will close it
            try:
                self._raw.close()
            finally:
                self._reading.release()

    def _ends(self) -> bool:
        """Whether nothing of the body is left but its end, which has come.

        A reader of an event stream stops at the last event; the connection can be kept then.
        """
        connection, response = self._in_flight.connection, self._raw._original_response
        if response is None or self._pid != os.getpid():
            return False
        if not self._reading.acquire(blocking=False):
            return False
        try:
            with suppress(Exception):
                ended = response.isclosed()  # its last byte came with others, and was taken
                if not ended and connection is not None:
                    with connection.unwaiting():
                        ended = response.take_end()
                self._complete = ended and not next(self._pieces, b"")
        finally:
            self._reading.release()
        return self._complete

    def _guarded(self, receive: Any) -> bytes:
        """Receive within the limits; whatever goes wrong is raised as one of our errors."""
        in_flight = self._in_flight
        failure: LMGatewayError | None = None
        data = b""
        try:
            if in_flight.aborted or self._pid != os.getpid():
                raise ConnectionFailedError(
                    "the response was closed, or belongs to another process"
                )
            if in_flight.deadline.expired:
                in_flight.expire()
            else:
                in_flight.watch(IDLE, self._idle_timeout)
                data = receive()
        except Exception as error:
            in_flight.unwatch()
            failure = _explained(
                error, in_flight, self.target, self._idle_timeout, status=self._raw.status
            )
        finally:
            in_flight.unwatch()
            if failure is not None or in_flight.expired:
                self._raw.close()
        if failure is None and in_flight.expired:
            failure = in_flight.overdue(self._idle_timeout).locate(host=self.target.place)
        if failure is not None:
            raise failure
        return data

    def _next(self) -> bytes:
        piece = next(self._pieces, b"")
        self._complete = not piece
        return piece

    def _all(self, limit: int) -> bytes:
        length, encoding = self._raw.length_remaining, self._raw.headers.get("content-encoding")
        if length is not None and length > limit:
            raise errors.too_large(limit, self._raw.status)
        if length is not None and not encoding and self._idle_timeout is None:
            data: bytes = self._raw.read(decode_content=False)
        else:
            pieces, size = [], 0
            for piece in self._pieces:
                pieces.append(piece)
                size += len(piece)
                if size > limit:
                    raise errors.too_large(limit, self._raw.status)
            data = b"".join(pieces)
        self._complete = True
        return data


def _decompressed(raw: Any, in_flight: InFlight, idle_timeout: float | None) -> Iterator[bytes]:
    """The pieces of a body. It is no method, since a cycle would keep a dropped body alive."""
    decoder: Decoder | None = decoder_for(raw.headers.get("content-encoding", ""))
    while data := raw.read1(PIECE, decode_content=False):
        if idle_timeout is not None:
            in_flight.watch(IDLE, idle_timeout)
        if decoder is None:
            yield data
        else:
            yield from decoder.feed(data)
    if decoder is not None:
        decoder.finish()


def _prepared(request: HTTPRequest, target: Target) -> _Prepared:
    prepared = _Prepared()
    prepared.target = target
    prepared.method = request.method
    prepared.url = target.url + request.path
    prepared.line = target.prefix + request.path
    prepared.headers = _Headers(request.headers)
    prepared.body = request.content
    return prepared


def _is_lost_connection(error: BaseException) -> bool:
    """Whether the other side ended the connection, as opposed to anything else."""
    return any(isinstance(link, (ConnectionError, ssl.SSLEOFError)) for link in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it wraps, outermost first: each library has a way of its own."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        inner = [getattr(link, "reason", None), *link.args, link.__cause__]
        link = next((x for x in inner if isinstance(x, BaseException)), None)


def _explained(
    error: Exception,
    in_flight: InFlight,
    target: Target,
    idle_timeout: float | None = None,
    *,
    status: int = 200,
) -> LMGatewayError:
    """The error to raise for one that requests, urllib3, ssl or socket raised.

    It has the innermost of these as its cause, which cannot hold a URL, a header or a body.
    """
    if in_flight.aborted:
        failure: LMGatewayError = errors.permanent("the response was closed while it was read")
    elif in_flight.expired:
        failure = in_flight.overdue(idle_timeout)
    elif isinstance(error, LMGatewayError):
        failure = error
    elif isinstance(error, DecodingError):
        failure = errors.undecodable(status, error)
    else:
        *_, root = _chain(error)
        failure = _explained_root(root, target)
        failure.__cause__ = root if isinstance(failure, ConnectionFailedError) else None
    return failure.locate(host=target.place)


def _explained_root(root: BaseException, target: Target) -> LMGatewayError:
    if isinstance(root, RecursionError):
        return LMGatewayError(OUT_OF_STACK)
    if isinstance(root, Timeout):  # of somebody's tests
        return RequestTimeoutError("the request timed out")
    if refusal := re.match(r"Tunnel connection failed: (\d{3})", str(root)):
        return errors.proxy_refused(int(refusal[1]), target.proxy)
    if isinstance(root, http.client.HTTPException):
        return errors.broke()
    if isinstance(root, OSError) and not isinstance(root, RequestException):
        return errors.system_failed(root, target.place, target.proxy)
    return ConnectionFailedError(f"the request failed ({type(root).__name__})")


_transports: WeakSet[RequestsTransport] = WeakSet()


def _forget_connections() -> None:
    """A child process must not write on the connections of its parent."""
    for transport in _transports:
        transport._renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_connections)
