"""What may be sent: the checks of method and headers, and how a JSON body is written."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .._base.values import on_fresh_stack
from ..errors import InputError

__all__ = ["check_headers", "check_method", "encode"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")

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


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise InputError, which quotes no value, if HTTP cannot send one of these headers."""
    for name, value in headers.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InputError("the name and the value of a header must each be a str")
        if not _TOKEN.fullmatch(name):
            raise InputError(f"{name[:40]!r} cannot be the name of a header")
        if not _VALUE.fullmatch(value):
            raise InputError(
                f"the value of the header {name} has a character in it that HTTP cannot send "
                f"(a line break, a control character, or one beyond latin-1)"
            )
