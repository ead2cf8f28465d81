"""The innermost send: an exchange on its way out, with all that only a sent request needs."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit

from .._layers.context import Attempt, Call
from ..errors import InputError
from ..types import Blocking, Exchange, Flow, HTTPRequest
from .credentials import credentials
from .faults import unsound

__all__ = ["netloc_of", "send_to_wire"]


def send_to_wire(attempt: Attempt, exchange: Exchange) -> Flow[Any]:
    """The innermost send: it fills in what a request needs only when it really goes out."""
    attempt.origin = "wire"
    if isinstance(exchange, Blocking):
        from .._drive.workers import run_blocking

        response = yield from run_blocking(exchange)
    else:
        assert isinstance(exchange, HTTPRequest)
        call = attempt.call
        request = _completed(exchange, call)
        call.host, call.path = netloc_of(request.base_url or ""), request.path
        try:
            response = yield request
        except InputError:
            if not _are_texts(exchange.headers):
                raise unsound(exchange, call.endpoint) from None
            raise
    source = getattr(response, "source", None)
    if source is not None:
        attempt.on_exit(source.close)
    return response


def _are_texts(headers: Mapping[Any, Any]) -> bool:
    return all(isinstance(each, str) for pair in headers.items() for each in pair)


def _completed(request: HTTPRequest, call: Call) -> HTTPRequest:
    """The request as it is sent: with a base URL, credentials and all headers."""
    endpoint = call.endpoint
    base_url = request.base_url if request.base_url is not None else endpoint.base_url
    if not base_url:
        raise endpoint.missing_base_error()
    proofs = credentials(request, endpoint)
    if proofs:
        call.proofs = (*call.proofs, proofs)
    return HTTPRequest(
        request.method,
        base_url,
        request.path,
        headers={**endpoint.headers(), **request.headers, **proofs},
        json=request.json,
        stream=request.stream,
    )


@lru_cache(maxsize=256)
def netloc_of(url: str) -> str:
    """``host[:port]`` of a URL, without user information."""
    return urlsplit(url).netloc.rpartition("@")[2]
