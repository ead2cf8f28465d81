"""What a transport is: it turns an HTTPRequest into an HTTPResponse, blocking or awaiting.

A transport is given a request that is final: ``base_url`` is set, ``path`` is path and query as
they are sent, ``headers`` are all that there are, Host among them, and ``content`` is the body. It
sends these byte for byte, and looks at nothing else of the request but ``method`` and ``stream``.
It knows nothing of providers, retries or caches. Whatever goes wrong is raised as a
``TransportError``, or as an ``APIError`` if there is an answer that must not be followed or read to
its end: a redirect, or a body over the cap.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .._drive.cancel import Deadline
from ..types import Flow, HTTPRequest, HTTPResponse, Read

__all__ = [
    "AsyncBody",
    "AsyncTransport",
    "Body",
    "BodySource",
    "Transport",
    "TransportOptions",
    "is_event_stream",
]

MEBIBYTE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class TransportOptions:
    """The options that a transport is made with; equal options share a transport.

    Attributes:
        verify: True for the system's certificate authorities (and REQUESTS_CA_BUNDLE /
            SSL_CERT_FILE), or the path of a CA bundle.
        connect_timeout: Seconds to make a connection, TLS included.
        idle_timeout: Seconds between two pieces of a body; None for as long as the deadline.
        max_body: Bytes of a whole body after decompression.
    """

    verify: bool | str = True
    connect_timeout: float = 10.0
    idle_timeout: float | None = None
    max_body: int = 64 * MEBIBYTE


class Body(Protocol):
    """A body that is still arriving, read by a blocking driver."""

    def read(self, deadline: Deadline) -> bytes:
        """The next bytes as they come, decompressed; b"" at the end.

        Raises ConnectionFailedError if the connection breaks before the body is complete, and
        RequestTimeoutError at the deadline or after ``idle_timeout`` seconds without a byte.
        """

    def close(self) -> None:
        """Close the connection unless the body was read to its end; at once, from any thread."""


class AsyncBody(Protocol):
    """A body that is still arriving, read by an awaiting driver."""

    async def read(self, deadline: Deadline) -> bytes:
        """As Body.read."""

    def close(self) -> None:
        """As Body.close."""


class Transport(Protocol):
    """Sends a request and blocks until its answer."""

    def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """Send a request and return its answer, within the deadline.

        An answer is returned whatever its status, with its whole body. If ``stream=True`` asked
        for a stream, the body of a 2xx is a ``BodySource`` instead.
        """

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are done."""


class AsyncTransport(Protocol):
    """Sends a request and awaits its answer."""

    async def send(self, request: HTTPRequest, deadline: Deadline) -> HTTPResponse:
        """As Transport.send; if it is cancelled, its socket is closed at once."""

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""


def is_event_stream(headers: Mapping[str, str]) -> bool:
    """Whether a response with these headers is one of server-sent events.

    Args:
        headers: By name, in any case.
    """
    return headers.get("Content-Type", "").partition(";")[0].strip().lower() == "text/event-stream"


class BodySource:
    """The source of a response that comes from a transport; each read is a Read effect."""

    __slots__ = ("body",)

    def __init__(self, body: Body | AsyncBody) -> None:
        self.body = body

    def read(self) -> Flow[bytes]:
        """The next bytes, b"" at the end."""
        chunk: Any = yield Read(self.body)
        return bytes(chunk)

    def close(self) -> None:
        """Let go of the connection."""
        self.body.close()
