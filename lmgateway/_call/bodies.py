"""Bodies: what a request's ``json``, ``content`` or ``form`` is as bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote_plus

from .._transports.checks import encode
from .._transports.urls import pairs
from ..errors import InputError
from ..types import HTTPRequest

__all__ = ["body_of"]

JSON_TYPE = "application/json"
FORM_TYPE = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"

_BOUNDARY = re.compile(r""";\s*boundary\s*=\s*(?:"([^"]{1,70})"|([^\s";]{1,70}))""", re.I)
_LINE = re.compile(r"[\x20-\x7e]+")


def body_of(request: HTTPRequest, given: str | None) -> tuple[bytes | None, str | None]:
    """The body, None if there is none, and its Content-Type, None if nobody says one.

    Equal requests have equal bytes: the boundary of a form is derived from its content.

    Args:
        request: With at most one of ``json``, ``content`` and ``form``.
        given: The Content-Type that the plugin gave. It stays; one for a multipart form that
            names no boundary is given one.

    Raises:
        InputError: It cannot be written: it is no JSON, or holds half of a surrogate pair.
        TypeError: It is not as the contract says.
    """
    if request.content is None and request.form is None:
        if request.json is None:
            return None, given
        return encode(request.json), given or JSON_TYPE
    if sum(each is not None for each in (request.json, request.content, request.form)) > 1:
        raise TypeError("it has more than one of json, content and form")
    if request.form is None:
        if not isinstance(request.content, bytes):
            raise TypeError(f"its content is a {type(request.content).__name__} and no bytes")
        return request.content, given
    fields = list(pairs(request.form, "form", str, bytes, tuple))
    if given is None:
        is_multipart = any(not isinstance(value, str) for _, value in fields)
    else:
        is_multipart = given.strip().lower().startswith("multipart/")
    return _multipart(fields, given or MULTIPART) if is_multipart else _urlencoded(fields, given)


def _urlencoded(fields: Iterable[tuple[str, Any]], given: str | None) -> tuple[bytes, str]:
    written = []
    for name, value in fields:
        if not isinstance(value, str):
            raise TypeError(f"its form is sent as {given}, and {name[:40]!r} in it is bytes")
        written.append(quote_plus(_utf8(name)) + "=" + quote_plus(_utf8(value)))
    return "&".join(written).encode(), given or FORM_TYPE


def _multipart(fields: Iterable[tuple[str, Any]], given: str) -> tuple[bytes, str]:
    """RFC 7578, and names written as the WHATWG says: "multipart/form-data encoding algorithm"."""
    parts = [_part(name, value) for name, value in fields]
    found = _BOUNDARY.search(given)
    if found is not None:
        boundary, media_type = found[1] or found[2], given
        if not _LINE.fullmatch(boundary) or _holds(parts, boundary):
            raise TypeError("the boundary in its Content-Type cannot be used: leave it out")
    else:
        boundary = next(each for each in _boundaries(parts) if not _holds(parts, each))
        media_type = f"{given.rstrip('; ')}; boundary={boundary}"
    line = b"--" + boundary.encode()
    body = b"".join(line + b"\r\n" + part + b"\r\n" for part in parts)
    return body + line + b"--\r\n", media_type


def _holds(parts: Iterable[bytes], boundary: str) -> bool:
    return any(boundary.encode() in part for part in parts)


def _boundaries(parts: Iterable[bytes]) -> Iterator[str]:
    digest = sha256()
    for part in parts:
        digest.update(b"%d:%b" % (len(part), part))
    while True:
        yield digest.hexdigest()[:40]
        digest.update(b"again")


def _part(name: str, value: Any) -> bytes:
    """One part of a multipart body: its headers, an empty line, and its content."""
    disposition = f'Content-Disposition: form-data; name="{_in_quotes(name)}"'
    match value:
        case str():
            return _utf8(disposition) + b"\r\n\r\n" + _utf8(value)
        case bytes():
            return _utf8(disposition) + b"\r\n\r\n" + value
        case (str(file_name), bytes(content)):
            media_type = "application/octet-stream"
        case (str(file_name), bytes(content), str(media_type)) if _LINE.fullmatch(media_type):
            pass
        case _:
            raise TypeError(
                f"{name[:40]!r} in its form is neither (file name, bytes) nor (file name, bytes, "
                "media type)"
            )
    head = f'{disposition}; filename="{_in_quotes(file_name)}"\r\nContent-Type: {media_type}'
    return _utf8(head) + b"\r\n\r\n" + content


def _in_quotes(name: str) -> str:
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InputError("a request's form holds a lone surrogate, which cannot be sent") from None
