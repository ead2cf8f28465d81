"""The async transport that needs no aiohttp: it sends over the blocking one, in threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from math import isinf
from typing import TypeVar, cast

from .._drive.cancel import Deadline
from .._drive.futures import result_of
from .._drive.workers import Workers
from ..errors import ConnectionFailedError
from ..types import HTTPRequest, HTTPResponse
from . import errors
from .protocols import Body, BodySource, Transport

__all__ = ["ThreadedTransport"]

T = TypeVar("T")

THREADS = 256

# The blocking transport keeps the deadline itself and says best what happened; this one steps in
# when it cannot, because no worker was free or the system's resolver hangs.
GRACE_SECONDS = 0.2


class ThreadedTransport:
    """Sends each request in one of at most ``limit`` threads.

    A call that is cancelled has its connection cut at once, and its thread is free when it has
    noticed (not while the system looks a name up); one that had not begun never does.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        limit: int = THREADS,
        close: Callable[[], None] | None = None,
    ) -> None:
        self.transport = transport
        self._close = close or transport.close
        self._workers = Workers(limit)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.transport!r}, limit={self._workers.limit})"

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Send it in a worker and await its answer."""
        future = self._workers.submit(partial(self.transport.send, request, deadline))
        try:
            response = await _within(future, deadline)
        except RuntimeError as error:  # the transport's own failures are typed
            raise ConnectionFailedError(f"no thread could be started to send it: {error}") from None
        except BaseException as error:
            future.add_done_callback(_let_go)
            if not isinstance(error, Exception):  # a limit counts the thread until it ends
                deadline.cancel()
                error.running = future  # type: ignore[attr-defined]
            raise
        if isinstance(response.source, BodySource):
            body = _ThreadedBody(cast(Body, response.source.body), self._workers)
            return HTTPResponse(response.status, response.headers, source=BodySource(body))
        return response

    async def aclose(self) -> None:
        """Do nothing: the blocking transport belongs to no event loop. See close."""

    def close(self) -> None:
        """Close what is idle; what is in use closes as it ends."""
        self._close()


class _ThreadedBody:
    def __init__(self, body: Body, workers: Workers) -> None:
        self._body = body
        self._workers = workers

    async def read(self, deadline: Deadline) -> bytes:
        """The next bytes as they come, decompressed; b"" at the end."""
        try:
            return await _within(self._workers.submit(partial(self._body.read, deadline)), deadline)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection unless the body was read to its end; from any thread, at once."""
        self._body.close()


async def _within(future: Future[T], deadline: Deadline) -> T:
    remaining = deadline.remaining()
    try:
        return await result_of(future, None if isinf(remaining) else remaining + GRACE_SECONDS)
    except TimeoutError:
        if future.done() and not future.cancelled():
            return future.result()
        raise errors.timed_out(deadline) from None


def _let_go(future: Future[HTTPResponse]) -> None:
    if future.cancelled() or future.exception() is not None:
        return
    source = future.result().source
    if source is not None:
        source.close()
