"""What may go wrong between here and the service, in the same words for every transport."""

from __future__ import annotations

from urllib.parse import urlsplit

from ..deadline import Deadline
from ..errors import (
    APIError,
    ConnectionFailedError,
    RequestTimeoutError,
    ResponseFormatError,
    TransportError,
    excerpt,
)

__all__ = [
    "answered_garbage",
    "broke",
    "failed_to_connect",
    "host_of",
    "proxy_refused",
    "redirected",
    "slow_to_connect",
    "stalled",
    "timed_out",
    "too_large",
    "undecodable",
    "unknown_host",
    "untrusted",
]


def host_of(url: str) -> str:
    """``host[:port]`` of a URL, without user information."""
    return urlsplit(url).netloc.rpartition("@")[2]


def failed_to_connect(reason: object) -> ConnectionFailedError:
    """Refused, unreachable, or reset while connecting."""
    return ConnectionFailedError(
        f"cannot connect: {excerpt(str(reason), 120)}; check the base URL and the network"
    )


def slow_to_connect(seconds: float) -> ConnectionFailedError:
    """The connect timeout ran out before the deadline did."""
    return ConnectionFailedError(
        f"no connection within {seconds:g} s; check the network, or raise connect_timeout"
    )


def unknown_host(host: str) -> ConnectionFailedError:
    """DNS knows no address."""
    return ConnectionFailedError(
        f"the name of host {host} cannot be resolved; check the base URL and the network"
    )


def untrusted(reason: object) -> ConnectionFailedError:
    """TLS failed: another attempt would fail in the same way."""
    error = ConnectionFailedError(
        f"no trusted TLS connection: {excerpt(str(reason), 160)}; check the scheme and host of the "
        "base URL, and for a private authority give its CA bundle with verify="
    )
    error.retryable = False
    return error


def proxy_refused(status: int) -> ConnectionFailedError:
    """The proxy did not open a tunnel."""
    error = ConnectionFailedError(
        f"the proxy refused the connection with status {status}; check HTTPS_PROXY and NO_PROXY"
    )
    error.retryable = status >= 500
    return error


def broke(reason: object = "") -> ConnectionFailedError:
    """The connection was lost after the request had begun to be sent."""
    detail = excerpt(str(reason), 120)
    return ConnectionFailedError(
        "the connection broke before the response was complete" + (f": {detail}" if detail else "")
    )


def answered_garbage(reason: object = "") -> ConnectionFailedError:
    """What came back is not HTTP."""
    detail = excerpt(str(reason), 120)
    return ConnectionFailedError(
        "the answer is not a valid HTTP response" + (f": {detail}" if detail else "")
    )


def timed_out(deadline: Deadline) -> RequestTimeoutError:
    """The total deadline of the call ran out."""
    limit = "" if deadline.timeout is None else f" of {deadline.timeout:g} s"
    return RequestTimeoutError(f"the timeout{limit} ran out before the response was complete")


def stalled(seconds: float) -> RequestTimeoutError:
    """The idle timeout ran out between two pieces of a body."""
    return RequestTimeoutError(f"the response stalled: nothing came for {seconds:g} s")


def too_large(limit: int, status: int) -> APIError:
    """The body is larger than the cap, counted after decompression."""
    return ResponseFormatError(
        f"the response is larger than {limit} bytes and was not read to its end", status=status
    )


def undecodable(encoding: str) -> TransportError:
    """The body is not what its Content-Encoding says."""
    error = TransportError(f"the response is not valid {excerpt(encoding, 40) or 'encoded'} data")
    error.retryable = True
    return error


def redirected(status: int, location: str) -> APIError:
    """A redirect, which is never followed: it would take key and prompt to another host."""
    target = host_of(location)
    where = f"to host {excerpt(target, 120)}" if target else "to another path"
    return APIError(
        f"the service redirects {where}; neither key nor prompt was sent there. If that is right, "
        "make it the base URL",
        status=status,
    )
