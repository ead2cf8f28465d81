"""What may go wrong between here and the service, in the same words for every transport."""

from __future__ import annotations

import socket
import ssl
from urllib.parse import urljoin, urlsplit

from .._drive.cancel import Deadline
from ..errors import (
    APIError,
    ConnectionFailedError,
    RequestTimeoutError,
    api_error,
    excerpt,
    too_large,
)

__all__ = [
    "broke",
    "host_and_port",
    "not_http",
    "permanent",
    "proxy_refused",
    "redirected",
    "slow_to_connect",
    "stalled",
    "system_failed",
    "timed_out",
    "too_large",
    "undecodable",
]


def host_and_port(url: str) -> str:
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


def permanent(message: str) -> ConnectionFailedError:
    """The error for what another attempt would meet as well."""
    error = ConnectionFailedError(message)
    error.retryable = False
    return error


# -- before the request is sent --------------------------------------------------------------------


def system_failed(error: OSError, place: str, proxy: str | None) -> ConnectionFailedError:
    """The error for one that the system or its TLS raised.

    Args:
        error: What was raised.
        place: ``host:port`` of the service.
        proxy: ``host:port`` of the proxy on the way there, or None.
    """
    match error:
        case socket.gaierror():
            host = (proxy or place).rpartition(":")[0]
            unknown = ConnectionFailedError(
                f"the host name {host} cannot be resolved: check its spelling, and the network"
            )
            return unknown.locate(max_retries=1)
        case ssl.SSLError():
            return _tls_failed(error)
        case ConnectionError() if not isinstance(error, ConnectionRefusedError):
            return broke()
    refused = isinstance(error, ConnectionRefusedError)  # each transport has words of its own
    reason = "connection refused" if refused else error.strerror or str(error)
    there, suspect = (f" to the proxy {proxy}", "proxy") if proxy else ("", "base URL")
    return ConnectionFailedError(
        f"cannot connect{there}: {excerpt(reason, 120)}; check the {suspect} and the network"
    )


def _tls_failed(error: ssl.SSLError) -> ConnectionFailedError:
    if isinstance(error, ssl.SSLCertVerificationError):  # it will be so the next time as well
        reason = (error.verify_message or str(error)).rstrip(".")
        return permanent(
            f"the service's certificate was not accepted: {excerpt(reason, 160)}. If an authority "
            "of your own signed it, give the path of its CA bundle as verify= or in "
            "REQUESTS_CA_BUNDLE"
        )
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return broke("TLS was cut off")
    return permanent(
        f"no TLS connection could be made: {excerpt(error.reason or 'TLS failed', 120)}. Does the "
        "service speak TLS at this port, or is it an http:// URL?"
    )


def slow_to_connect(seconds: float) -> ConnectionFailedError:
    """The error for a connect timeout that ran out before the deadline did."""
    return ConnectionFailedError(
        f"no connection within {seconds:g} s; check the network, or raise connect_timeout"
    )


def proxy_refused(status: int, proxy: str | None) -> ConnectionFailedError:
    """The error for a proxy, ``host:port``, that did not pass the request on."""
    if status == 407:
        return permanent(
            f"the proxy {proxy} wants a user name and a password (407): put them into HTTPS_PROXY "
            "or HTTP_PROXY"
        )
    error = ConnectionFailedError(
        f"the proxy {proxy} did not connect to the service: status {status}"
    )
    error.retryable = status >= 500
    return error


# -- while the answer comes ------------------------------------------------------------------------


def broke(reason: str = "") -> ConnectionFailedError:
    """The error for a connection that was lost."""
    detail = f": {excerpt(reason, 120)}" if reason else ""
    return ConnectionFailedError(f"the connection broke before the response was complete{detail}")


def not_http(reason: str = "") -> ConnectionFailedError:
    """The error for an answer that is not HTTP."""
    detail = f": {excerpt(reason, 120)}" if reason else ""
    return permanent(f"the answer is not valid HTTP{detail}")


def timed_out(deadline: Deadline) -> RequestTimeoutError:
    """The error for the deadline of the call."""
    limit = "" if deadline.timeout is None else f" of {deadline.timeout:g} s"
    return RequestTimeoutError(f"the timeout{limit} ran out before the response was complete")


def stalled(seconds: float) -> RequestTimeoutError:
    """The error for the idle timeout, which ran out between two pieces of a body."""
    error = RequestTimeoutError(f"nothing arrived for {seconds:g} s (idle_timeout)")
    error.retryable = True
    return error


def undecodable(status: int, reason: object) -> APIError:
    """The error for a body that is not what its Content-Encoding says."""
    return api_error(status, f"the answer cannot be decompressed: {reason}")


def redirected(status: int, location: str, url: str) -> APIError:
    """The error for a redirect. None is followed: it would take key and prompt to another host."""
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
