"""What went wrong on the way, as one of our errors: what happened, and what to do next."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
from collections.abc import Iterator

from requests.exceptions import (
    InvalidProxyURL,
    InvalidSchema,
    InvalidURL,
    Timeout,
)

from ..errors import (
    OUT_OF_STACK,
    ConfigError,
    ConnectionFailedError,
    InputError,
    LMGatewayError,
    RequestTimeoutError,
)
from . import faults
from .connections import HeadError
from .decoding import DecodingError
from .exchange import CONNECT, IDLE, Exchange
from .targets import Target

__all__ = ["explain", "is_lost_connection", "ran_out"]

_NOT_TLS = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"}
)


def is_lost_connection(error: BaseException) -> bool:
    """Whether the other side ended the connection, as opposed to anything else."""
    return any(isinstance(link, (ConnectionError, ssl.SSLEOFError)) for link in _chain(error))


def ran_out(exchange: Exchange, *, idle_timeout: float | None = None) -> LMGatewayError:
    """The error for the limit that ran out."""
    if exchange.expired == CONNECT:
        return ConnectionFailedError(
            f"no connection was made within {exchange.connect_timeout:g} s (connect_timeout)"
        )
    if exchange.expired == IDLE:
        return faults.stalled(idle_timeout or 0.0)
    return RequestTimeoutError(
        f"no complete answer within the {exchange.deadline.timeout or 0:g} s of the call (timeout)"
    )


def explain(
    error: Exception,
    exchange: Exchange,
    target: Target,
    *,
    idle_timeout: float | None = None,
    status: int = 200,
) -> LMGatewayError:
    """The error to raise for one that requests, urllib3, ssl or socket raised.

    Only a root that cannot hold a URL, a header or a body is chained as its cause.

    Args:
        error: What was raised.
        exchange: Knows the limits, and whether one of them ended it.
        target: Where it was going.
        idle_timeout: Seconds, as in TransportOptions.
        status: Of the answer, where there was one.
    """
    if exchange.aborted:
        explained: LMGatewayError = ConnectionFailedError(
            "the response was closed while it was read"
        )
        explained.retryable = False
    elif exchange.expired:
        explained = ran_out(exchange, idle_timeout=idle_timeout)
    elif isinstance(error, LMGatewayError):
        explained = error
    elif isinstance(error, DecodingError):
        explained = faults.undecodable(status, str(error))
    else:
        explained = _explain_chain(list(_chain(error)), exchange, target)
    return explained.locate(host=target.place)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and those it wraps, outermost first: each library has a way of its own."""
    link: BaseException | None = error
    for _ in range(10):
        if link is None:
            return
        yield link
        inner = [getattr(link, "reason", None), *link.args, link.__cause__]
        link = next((x for x in inner if isinstance(x, BaseException)), None)


def _explain_chain(
    chain: list[BaseException], exchange: Exchange, target: Target
) -> LMGatewayError:
    root = chain[-1]
    if isinstance(root, RecursionError):
        return LMGatewayError(OUT_OF_STACK)
    if any(isinstance(x, InvalidProxyURL) for x in chain):
        return ConfigError("the proxy that the environment names is not a valid URL")
    if any(isinstance(x, (InvalidURL, InvalidSchema)) for x in chain):
        return InputError("the URL of the request cannot be reached by HTTP")
    if isinstance(root, Timeout):
        return RequestTimeoutError("the request timed out")
    failure = _explain_root(root, exchange, target)
    failure.__cause__ = root
    return failure


def _explain_root(root: BaseException, exchange: Exchange, target: Target) -> ConnectionFailedError:
    via = f"the proxy {target.proxy}" if target.proxy else "the service"
    if isinstance(root, socket.gaierror):
        name = target.proxy.rpartition(":")[0] if target.proxy else target.host
        return faults.unknown_host(name)
    if isinstance(root, ssl.SSLError):
        return _explain_tls(root)
    if isinstance(root, ConnectionRefusedError):
        return ConnectionFailedError(f"{via} refused the connection: is it running there?")
    if isinstance(root, HeadError):
        return faults.answered_garbage(root)
    if refusal := re.match(r"Tunnel connection failed: (\d{3})", str(root)):
        return _explain_refused_tunnel(int(refusal[1]), target)
    if isinstance(root, http.client.IncompleteRead):
        return ConnectionFailedError("the connection was closed before the body was complete")
    if isinstance(root, (ConnectionError, http.client.HTTPException)):
        part = "in the middle of the answer" if exchange.began else "before an answer came"
        return ConnectionFailedError(f"the connection broke {part}")
    if isinstance(root, OSError) and root.strerror:
        return ConnectionFailedError(f"no connection to {via}: {root.strerror}")
    return ConnectionFailedError(f"the exchange failed ({type(root).__name__})")


def _explain_tls(root: ssl.SSLError) -> ConnectionFailedError:
    if isinstance(root, ssl.SSLCertVerificationError):
        return faults.untrusted(root.verify_message)
    if isinstance(root, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return ConnectionFailedError("the connection broke inside TLS")
    if root.reason in _NOT_TLS:
        return faults.permanent(
            "the service does not speak TLS at this port: is it an http:// URL, or another port?"
        )
    return faults.permanent(f"TLS failed: {root.reason or type(root).__name__}")


def _explain_refused_tunnel(status: int, target: Target) -> ConnectionFailedError:
    if status == 407:
        return refused_by_proxy(target)
    failure = ConnectionFailedError(
        f"the proxy {target.proxy} did not connect to the service: status {status}"
    )
    failure.retryable = status >= 500
    return failure


def refused_by_proxy(target: Target) -> ConnectionFailedError:
    """The error for a 407."""
    return faults.permanent(
        f"the proxy {target.proxy} wants a user name and a password (407): "
        "put them into HTTPS_PROXY or HTTP_PROXY"
    ).locate(host=target.place)
