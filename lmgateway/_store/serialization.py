"""Exchanges as data: a request as JSON and its key, a response as bytes and back."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Any, NamedTuple

from ..types import JSON, Exchange, Flow, Headers, HTTPRequest, HTTPResponse, Kept

__all__ = [
    "Key",
    "Replay",
    "decode",
    "describe",
    "describe_request",
    "encode",
    "identify",
    "is_head",
    "is_secret_header",
    "shaping",
    "stored_headers",
    "with_headers",
    "write_json",
]

# Part of every key: change it when stored values get another meaning.
SCHEMA = b"lmgateway exchange 1\n"

# A row shorter than a database page saves no page by being compressed, and reads slower.
COMPRESS_FROM = 4096

_canonical = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), allow_nan=False, check_circular=False
).encode
_parse = json.JSONDecoder().decode
_COMPRESSED = b"\x01"  # before the bytes of zlib; what is not compressed begins with "{"


# Excepted are Portkey's own headers, which say how to answer, and words that speak of no secret.
_SECRET_HEADER = re.compile(
    r"auth(?!ors?\b)|(?<!\bport)key(?!words?\b)|token(?!iz)|secret|pass(w|phrase|code)|cookie|session"
    r"|credential|signature|assertion|jwt|bearer|[cx]srf|\bpat\b|\bpwd\b",
    re.I,
)

# A replay would tell the limits of long ago.
_OF_THE_MOMENT = re.compile(r"rate-?limit|retry-after", re.I)


class Key(NamedTuple):
    """The key of a stored answer.

    Attributes:
        request: Digest of the request without its host, as recordings are matched.
        base: Digest of the base URL; None when none is configured.
    """

    request: bytes
    base: bytes | None


def describe(exchange: Exchange, *, provider: str, sample: int) -> dict[str, JSON] | None:
    """The request as plain JSON, without host and secrets; None if it is not to be stored.

    Stored are POST requests, Blocking calls with a key, and what is ``kept``. Any other method
    asks for the state of something (GET), or changes it without an answer of a model. Of the
    headers, those that the provider names in ``vary`` are part of the request. What version 0.1
    did not know is in it only if it is set, so that what was stored then is still found.
    """
    if isinstance(exchange, HTTPRequest):
        if exchange.method != "POST" or not exchange.keep:
            return None
        asked = describe_request(exchange)
    elif exchange.key is None:
        return None
    else:
        asked = {"kept" if isinstance(exchange, Kept) else "blocking": exchange.key}
    return {"provider": provider, "sample": sample, "stream": exchange.stream, **asked}


def describe_request(request: HTTPRequest) -> dict[str, JSON]:
    """What a request asks: its bytes as digests, and of its headers those named in ``vary``."""
    body = request.json if request.kept_as is None else request.kept_as
    asked = {"method": request.method, "path": request.path, "body": body}
    if request.query:
        asked |= _describe_query(request.query)
    if request.content is not None:
        asked["content"] = f"sha256 {sha256(request.content).hexdigest()}"
    if request.form is not None:
        asked["form"] = _digest_form(request.form)
    if request.vary and (headers := shaping(request.headers, request.vary)):
        asked["headers"] = headers
    return asked


def _describe_query(query: Mapping[str, JSON]) -> dict[str, JSON]:
    """The query as pairs, in the order in which it is sent: a service may heed that."""
    pairs = [[name, value] for name, value in query.items() if value is not None]
    return {"query": pairs} if pairs else {}


def _digest_form(form: Mapping[str, Any]) -> JSON:
    """The digest of a form; the form itself if it cannot be sent, which makes no key."""
    try:
        fields = _canonical([[name, _digestible(value)] for name, value in form.items()])
    except (TypeError, ValueError, RecursionError):
        return form
    return f"sha256 {sha256(fields.encode()).hexdigest()}"


def _digestible(value: Any) -> JSON:
    if isinstance(value, bytes):
        return {"sha256": sha256(value).hexdigest()}
    if isinstance(value, (list, tuple)):
        return [_digestible(each) for each in value]
    return value


def identify(description: Mapping[str, JSON], base_url: str | None = None) -> Key | None:
    """The key of a described request; None if it is not JSON, which the transport will refuse."""
    try:
        text = _canonical(description)
    except (TypeError, ValueError, RecursionError):
        return None
    base = b"" if "blocking" in description else _digest_base(base_url)
    return Key(sha256(SCHEMA + text.encode()).digest(), base)


def with_headers(key: Key, headers: Mapping[str, Any]) -> Key:
    """The key for a request with these headers of the user's own."""
    if not headers or not (meant := shaping(headers)):
        return key
    digest = sha256(SCHEMA + key.request + _canonical(meant).encode()).digest()
    return key._replace(request=digest)


def shaping(headers: Mapping[str, Any], names: Iterable[str] | None = None) -> dict[str, str]:
    """The headers that may shape an answer, their names in lower case: all but credentials.

    Args:
        headers: By name; a value that is no text is a secret.
        names: Of those that are meant, in any case; None for all.
    """
    meant = None if names is None else {name.lower() for name in names}
    return {
        name.lower(): value
        for name, value in headers.items()
        if isinstance(value, str)
        and not is_secret_header(name)
        and (meant is None or name.lower() in meant)
    }


def is_secret_header(name: str) -> bool:
    """Whether a header of that name may hold a secret; in doubt, yes."""
    return _SECRET_HEADER.search(name) is not None


@lru_cache(maxsize=256)
def _digest_base(base_url: str | None) -> bytes | None:
    # A digest: a base URL may hold what its owner does not want in a file.
    return None if base_url is None else sha256(base_url.rstrip("/").encode()).digest()[:16]


def stored_headers(
    headers: Mapping[str, str], deciding: Iterable[str] = frozenset()
) -> dict[str, str]:
    """The response headers that cache and recordings store; others may hold a cookie or token.

    Args:
        headers: Of a response, their names in lower case.
        deciding: Names of further ones, in any case, by which the provider decides something
            (``Info.headers``). One that may hold a secret is not stored all the same, nor one
            that tells of the service's limits.
    """
    meant = {
        name
        for name in map(str.lower, deciding)
        if not (is_secret_header(name) or _OF_THE_MOMENT.search(name))
    }
    return {
        name: value
        for name, value in headers.items()
        if name == "content-type" or name.endswith("request-id") or name in meant
    }


def encode(response: Any, deciding: Iterable[str] = frozenset()) -> bytes | None:
    """The response of an exchange as bytes; None if it cannot be stored.

    Args:
        response: An HTTPResponse that came whole or whose source is a Replay, bytes, or JSON that
            survives being written and read.
        deciding: See ``stored_headers``.
    """
    head: dict[str, JSON]
    if isinstance(response, HTTPResponse):
        head = {"status": response.status, "headers": stored_headers(response.headers, deciding)}
        body: bytes | None = response.body
        if isinstance(response.source, Replay):
            head["chunks"] = [len(chunk) for chunk in response.source.chunks]
            body = b"".join(response.source.chunks)
        elif response.source is not None:
            return None
    elif isinstance(response, bytes):
        head, body = {"kind": "bytes"}, response
    else:
        head, body = {"kind": "json"}, write_json(response)
    if body is None:
        return None
    payload = json.dumps(head, separators=(",", ":")).encode() + b"\n" + body
    if len(payload) < COMPRESS_FROM:
        return payload
    return _COMPRESSED + zlib.compress(payload, 1)


def write_json(response: Any) -> bytes | None:
    """A return value as JSON; None if reading it back gives another value."""
    if response is None:  # no answer
        return None
    try:
        text = json.dumps(response, allow_nan=False)
        return text.encode() if json.loads(text) == response else None
    except (TypeError, ValueError, RecursionError):
        return None


def decode(value: bytes, limit: int | None = None) -> Any:
    """The response from its bytes; a stream gets a source that replays it.

    Args:
        value: What ``encode`` wrote; it may be damaged or forged.
        limit: Most bytes after decompression; None for any number.

    Raises ValueError if they are not what ``encode`` wrote.
    """
    try:
        payload = value if value[0] != _COMPRESSED[0] else _decompress(value[1:], limit)
        end = payload.index(b"\n")
        head, body = _parse(str(payload[:end], "utf-8")), payload[end + 1 :]
        if "status" in head:
            return _respond(head, body)
        return body if head["kind"] == "bytes" else json.loads(body)
    except (zlib.error, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a stored exchange: {error}") from None


def _decompress(data: bytes, limit: int | None) -> bytes:
    inflate = zlib.decompressobj()
    payload = inflate.decompress(data, limit or 0)
    if not inflate.eof or inflate.unused_data:
        raise ValueError("not a stored exchange: too long, or damaged")
    return payload


def _respond(head: dict[str, JSON], body: bytes) -> HTTPResponse:
    status, headers, lengths = head["status"], head["headers"], head.get("chunks")
    if not is_head(status, headers) or status >= 300:
        raise ValueError("not the head of a stored answer")
    if lengths is None:
        return HTTPResponse(status, Headers(headers), body)
    if any(type(each) is not int or each < 0 for each in lengths) or sum(lengths) != len(body):
        raise ValueError("not the pieces of a stored answer")
    chunks, start = [], 0
    for length in lengths:
        chunks.append(body[start : start + length])
        start += length
    return HTTPResponse(status, headers, source=Replay(chunks))


def is_head(status: JSON, headers: JSON) -> bool:
    """Whether these are a valid status and valid headers, since they come from a file."""
    if type(status) is not int or not 200 <= status <= 599 or type(headers) is not dict:
        return False
    for value in headers.values():  # noqa: SIM110 - all() takes longer than the rest of this
        if type(value) is not str:
            return False
    return True


class Replay:
    """The source of a stored stream: it gives the same pieces, without waiting."""

    __slots__ = ("_left", "chunks")

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self.chunks = [chunk for chunk in chunks if chunk]
        self._left = iter(self.chunks)

    def read(self) -> Flow[bytes]:
        """The next piece, b"" at the end."""
        yield from ()  # what makes it a flow; it has nothing to ask for
        return next(self._left, b"")

    def close(self) -> None:
        """Nothing to close."""
