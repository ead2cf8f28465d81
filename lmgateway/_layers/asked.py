"""One exchange as the cache sees it: its request as data, its keys, and its stream as it comes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .._store.serialization import Key, describe, identify, with_headers
from ..types import JSON, Blocking, Exchange, Flow, HTTPRequest, HTTPResponse, Source

if TYPE_CHECKING:
    from .context import Call

__all__ = ["Asked", "Tee", "ask_of", "is_good", "is_repeatable"]


class Asked(NamedTuple):
    """One exchange, its request as data, and its keys; None if it cannot be stored.

    Attributes:
        exchange: As the provider made it.
        request: As it is recorded: the same for every user.
        recorded: The key of that request.
        key: The key in the cache, where the user's own headers count too.
    """

    exchange: Exchange
    request: Mapping[str, JSON] | None
    recorded: Key | None
    key: Key | None


def ask_of(exchange: Exchange, call: Call) -> Asked:
    """An exchange of a call, with its keys."""
    request = describe(exchange, provider=call.provider, sample=call.options.sample)
    base = getattr(exchange, "base_url", None) or call.endpoint.base_url
    recorded = key = identify(request, base) if request is not None else None
    if key is not None and call.options.headers and not isinstance(exchange, Blocking):
        key = with_headers(key, call.options.headers)
    return Asked(exchange, request, recorded, key)


def is_repeatable(exchange: Exchange, params: Mapping[str, Any]) -> bool:
    """Whether the same answer is to be expected again: temperature 0, or a seed."""
    if params.get("temperature") == 0 or params.get("seed") is not None:
        return True
    body = exchange.json if isinstance(exchange, HTTPRequest) else None
    return isinstance(body, dict) and (body.get("temperature") == 0 or body.get("seed") is not None)


def is_good(response: Any) -> bool:
    """Whether what an exchange brought is no error response."""
    return not isinstance(response, HTTPResponse) or 200 <= response.status <= 299


class Tee:
    """A stream's source that keeps a copy of its bytes; of more than ``limit``, none."""

    __slots__ = ("_left", "_source", "chunks")

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._left = limit
        self.chunks: list[bytes] | None = []

    def read(self) -> Flow[bytes]:
        """The next bytes, b"" at the end."""
        chunk = yield from self._source.read()
        if self.chunks is not None:
            self._left -= len(chunk)
            if self._left < 0:
                self.chunks = None
            else:
                self.chunks.append(chunk)
        return chunk

    def close(self) -> None:
        """Close the connection."""
        self._source.close()
