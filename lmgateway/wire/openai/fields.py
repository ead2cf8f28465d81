"""Fields of an answer's JSON: read strictly, or kept as they came where nothing reads them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import isfinite

from ..._base.values import flaw, is_deep
from ...errors import ResponseFormatError
from ...types import JSON
from ..pieces import mend

__all__ = ["beside", "malformed", "others", "sound", "string", "text"]

_LARGE = 2**63


def malformed(where: str, value: JSON, expected: str) -> ResponseFormatError:
    """The error for a field that is missing or of the wrong type."""
    if value is None:
        return ResponseFormatError(f"{where} is missing in the answer, {expected} was expected")
    kind = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}.get(
        type(value), "a number"
    )
    if type(value) is float and not isfinite(value):
        kind = "NaN or Infinity"
    return ResponseFormatError(f"{where} in the answer is {kind}, {expected} was expected")


def text(value: JSON, where: str) -> str:
    """A text at the heart of the answer.

    Raises:
        ResponseFormatError: it is none.
    """
    if type(value) is not str:
        raise malformed(where, value, "a string")
    return value if value.isascii() else mend(value)


def string(raw: Mapping[str, JSON], name: str, where: str) -> str | None:
    """As ``text``, for a field that may be missing or null."""
    value = raw.get(name)
    return None if value is None else text(value, f"{where}{name}")


def beside(raw: Mapping[str, JSON], name: str) -> str | None:
    """A text that is no part of the answer's heart; None for what is none."""
    value = raw.get(name)
    if type(value) is not str:
        return None
    return value if value.isascii() else mend(value)


def others(raw: Mapping[str, JSON], known: Iterable[str]) -> dict[str, JSON]:
    """The fields that are not known and say something, as they came.

    What nothing can be made of (nested more than 100 deep, NaN) is left out.
    """
    kept = {}
    for name, value in raw.items():
        if name in known or value is None or value == [] or value == {}:
            continue
        whole = sound(value)
        if whole is not None:
            kept[name if name.isascii() else mend(name)] = whole
    return kept


def sound(value: JSON) -> JSON:
    """JSON of an answer as it can be written again: with whole characters and finite numbers.

    None if it is nested more than 100 deep. What is sound already is the same object.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else mend(value)
    if value is None or kind is bool or (kind is int and -_LARGE < value < _LARGE):
        return value
    if flaw(value, "") is None:
        return value
    return None if is_deep(value) else _sound(value)


def _sound(value: JSON) -> JSON:
    if type(value) is str:
        return mend(value)
    if type(value) is dict:
        return {mend(name): _sound(each) for name, each in value.items()}
    if type(value) is list:
        return [_sound(each) for each in value]
    return value if flaw(value, "") is None else None
