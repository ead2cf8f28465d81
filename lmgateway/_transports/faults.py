"""What may go wrong between here and the service, in the same words for every transport."""

from __future__ import annotations

from urllib.parse import urljoin, urlsplit

from .._drive.cancel import Deadline
from ..errors import (
    APIError,
    ConnectionFailedError,
    RequestTimeoutError,
    api_error,
    excerpt,
)

__all__ = [
    "answered_garbage",
    "broke",
    "failed_to_connect",
    "host_of",
    "not_tls",
    "permanent",
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
    """``host:port`` of a URL, without user information; "" where there is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not host:
        return ""
    port = port or (443 if parts.scheme == "https" else 80)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
    error = ConnectionFailedError(
        f"the host name {host} cannot be resolved: check its spelling, and the network"
    )
    return error.locate(max_retries=1)


def untrusted(reason: str) -> ConnectionFailedError:
    """The certificate is bad, expired or of another host: it will be so the next time as well."""
    return permanent(
        f"the service's certificate was not accepted: {excerpt(reason.rstrip('.'), 160)}. If an "
        "authority of your own signed it, give the path of its CA bundle as verify= or in "
        "REQUESTS_CA_BUNDLE"
    )


def not_tls(reason: str) -> ConnectionFailedError:
    """The handshake failed for another reason, most often because a port speaks plain HTTP."""
    return permanent(
        f"no TLS connection could be made: {excerpt(reason, 120)}. Does the service speak TLS at "
        "this port, or is it an http:// URL?"
    )


def permanent(message: str) -> ConnectionFailedError:
    """What another attempt would meet as well."""
    error = ConnectionFailedError(message)
    error.retryable = False
    return error


def proxy_refused(status: int) -> ConnectionFailedError:
    """The proxy did not open a tunnel."""
    if status == 407:
        return permanent(
            "the proxy wants a user name and a password (407): put them into HTTPS_PROXY or "
            "HTTP_PROXY"
        )
    error = ConnectionFailedError(f"the proxy did not connect to the service: status {status}")
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
    return permanent("the answer is not valid HTTP" + (f": {detail}" if detail else ""))


def timed_out(deadline: Deadline) -> RequestTimeoutError:
    """The total deadline of the call ran out."""
    limit = "" if deadline.timeout is None else f" of {deadline.timeout:g} s"
    return RequestTimeoutError(f"the timeout{limit} ran out before the response was complete")


def stalled(seconds: float) -> RequestTimeoutError:
    """The idle timeout ran out between two pieces of a body."""
    error = RequestTimeoutError(f"nothing arrived for {seconds:g} s (idle_timeout)")
    error.retryable = True
    return error


def too_large(limit: int, status: int) -> APIError:
    """The body is larger than the cap, counted after decompression."""
    error = api_error(
        status, f"the answer is larger than {limit} bytes (max_body) and was not read"
    )
    error.retryable = False
    return error


def undecodable(status: int, reason: str) -> APIError:
    """The body is not what its Content-Encoding says."""
    return api_error(status, f"the answer cannot be decompressed: {reason}")


def redirected(status: int, location: str, url: str) -> APIError:
    """A redirect, which is never followed: it would take key and prompt to another host."""
    try:
        there = urlsplit(urljoin(url, location)).netloc.rpartition("@")[2]
    except ValueError:
        there = ""
    where = f"redirects to {excerpt(there, 255)}" if location and there else "redirects"
    return APIError(
        f"the service {where}, and a redirect is not followed: nothing was sent there. If it is "
        "the right place, make it the base URL",
        status=status,
    )
