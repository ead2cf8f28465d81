"""What may be sent: the checks of method, headers and URL, and how a JSON body is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from .._base.values import on_fresh_stack
from ..errors import InputError

__all__ = ["check_base_url", "check_headers", "check_method", "encode"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_ASCII = re.compile(r"[\t\x20-\x7e]*")
_LATIN_1 = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def encode(document: Any) -> bytes:
    """A JSON document in UTF-8; raises InputError, which does not quote it, if it is not one."""
    try:
        try:
            return _encode(document).encode()
        except RecursionError:
            return on_fresh_stack(_encode, document).encode()
    except (TypeError, ValueError, RecursionError) as error:
        reason = "a lone surrogate" if isinstance(error, UnicodeError) else str(error)
    raise InputError(f"the request's body cannot be written as JSON: {reason}")


def check_method(method: str) -> None:
    """Raise InputError if this cannot be an HTTP method."""
    if not _TOKEN.fullmatch(method):
        raise InputError(f"{method[:40]!r} cannot be an HTTP method")


def check_headers(headers: Mapping[str, str], *, latin_1: bool = False) -> None:
    """Raise InputError, which quotes no value, if HTTP cannot send one of these headers.

    Args:
        headers: By name.
        latin_1: Whether the values are written as latin-1, and not as ASCII.
    """
    sendable, limit = (_LATIN_1, "latin-1") if latin_1 else (_ASCII, "ASCII")
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InputError("the name and the value of a header must each be a str")
        if not _TOKEN.fullmatch(name):
            raise InputError(f"{name[:40]!r} cannot be the name of a header")
        if not sendable.fullmatch(value):
            raise InputError(
                f"the value of the header {name} has a character in it that HTTP cannot send "
                f"(a line break, a control character, or one beyond {limit})"
            )


def check_base_url(url: str) -> None:
    """Raise InputError if no request can be sent to this base URL."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InputError("the base URL is not a valid URL: check its host and port") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("a base URL begins with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise InputError("a base URL may not hold a user name or a password")
    if parts.query or parts.fragment:
        raise InputError("a base URL may not hold a query or a fragment")
    if port == 0:
        raise InputError("a base URL may not name port 0")
