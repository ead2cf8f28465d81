"""The innermost send: an exchange on its way out, with all that only a sent request needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from types import GeneratorType
from typing import Any
from urllib.parse import urlsplit

from .._layers.context import Attempt, Call
from .._transports.checks import encode
from ..errors import InputError
from ..types import Blocking, Exchange, Flow, HTTPRequest
from .credentials import credentials, prove, refused
from .faults import unsound

__all__ = ["netloc_of", "send_to_wire"]


def send_to_wire(
    attempt: Attempt, exchange: Exchange, within: tuple[HTTPRequest, ...] = ()
) -> Flow[Any]:
    """The innermost send: it fills in what a request needs only when it really goes out.

    Args:
        attempt: The one under way.
        exchange: What is to be sent.
        within: The requests whose auth waits for it, the outermost first.
    """
    if isinstance(exchange, Blocking):
        from .._drive.workers import run_blocking

        response = yield from run_blocking(exchange)
    else:
        assert isinstance(exchange, HTTPRequest)
        call = attempt.call
        ready = final(exchange, call)
        for last in (False, True):
            proofs = credentials(exchange, ready, call.endpoint, within)
            if type(proofs) is GeneratorType:
                proofs = yield from prove(exchange, proofs, attempt, send_to_wire, within)
            if proofs:
                call.proofs = (*call.proofs, proofs)
            call.host, call.path = netloc_of(ready.base_url or ""), ready.path
            try:
                response = yield _with_headers(ready, proofs)
            except InputError:
                if not _are_texts(exchange.headers):
                    raise unsound(exchange, call.endpoint) from None
                raise
            if response.status != 401 or not refused(exchange, proofs, call.endpoint) or last:
                break
    source = getattr(response, "source", None)
    if source is not None:
        attempt.on_exit(source.close)
    return response


def _are_texts(headers: Mapping[Any, Any]) -> bool:
    return all(isinstance(each, str) for pair in headers.items() for each in pair)


# MERGE: until the bytes are final here; content is set for whoever signs it
def final(request: HTTPRequest, call: Call) -> HTTPRequest:
    """The request as it is sent, but for its credentials."""
    endpoint = call.endpoint
    base_url = request.base_url if request.base_url is not None else endpoint.base_url
    if not base_url:
        raise endpoint.missing_base_error()
    return HTTPRequest(
        request.method,
        base_url,
        request.path,
        headers={**endpoint.headers(), **request.headers},
        json=request.json,
        content=encode(request.json) if request.json is not None else None,
        stream=request.stream,
    )


def _with_headers(ready: HTTPRequest, proofs: Mapping[str, str]) -> HTTPRequest:
    return replace(ready, headers={**ready.headers, **proofs})


@lru_cache(maxsize=256)
def netloc_of(url: str) -> str:
    """``host[:port]`` of a URL, without user information."""
    return urlsplit(url).netloc.rpartition("@")[2]
