"""The arguments of a tool call, which are JSON in a text: read, and written again."""

from __future__ import annotations

import json

from ..._base.values import DEPTH, flaw, is_deep, on_fresh_stack
from ...errors import ResponseFormatError
from ...types import JSON
from ..pieces import mend
from .faults import load

__all__ = ["parse_arguments", "write"]


def write(value: JSON, where: str) -> str:
    """JSON of an answer as text again, for the completion to keep.

    Args:
        value: As it was decoded.
        where: The name of its field, for the message.

    Raises:
        ResponseFormatError: it is nested more than 100 deep, or holds a NaN.
    """
    if is_deep(value):
        raise ResponseFormatError(f"{where} in the answer is nested more than {DEPTH} deep")
    try:
        try:
            text = _encode(value)
        except RecursionError:
            text = on_fresh_stack(_encode, value)
    except ValueError:
        problem = flaw(value, where) or f"{where} cannot be written as JSON"
        raise ResponseFormatError(f"{problem}, in the answer") from None
    return mend(text)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def parse_arguments(arguments: str) -> JSON:
    """A tool call's arguments as JSON; no text at all is no arguments.

    Raises:
        ResponseFormatError: they are no JSON, or of a kind that cannot be written again.
    """
    if not arguments.strip():
        return {}
    value = _plain(arguments)
    if isinstance(value, str):  # some models send a JSON string of the JSON that was meant
        try:
            inner = _plain(value)
        except ResponseFormatError:
            return value
        return inner if isinstance(inner, dict | list) else value
    return value


def _plain(text: str) -> JSON:
    value = load(text)
    # Without an escape there is no half character in it, and without brackets no depth.
    suspicious = "\\u" in text or text.count("[") + text.count("{") > DEPTH
    if suspicious and (problem := flaw(value, "it")):
        raise ResponseFormatError(problem)
    return value
