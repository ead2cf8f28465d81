"""Rows: what one line of the input asks, and by which id its answer is known."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import isnan
from numbers import Integral
from typing import Any, TypeAlias

from .._call.allowlist import check_name
from .._plugins.contract import Plugin
from ..errors import InputError, UnsupportedError
from .digests import Digests, digest

__all__ = ["IGNORE", "Raw", "Row", "check_columns", "identified", "interpret"]

Raw: TypeAlias = "str | list[Any] | Mapping[str, Any] | BadLine"
"""What a source gives: a prompt, messages, a dict, or a line that cannot be read."""

IGNORE = "or, if it is no parameter, name it in ignore= or --ignore"
_ENVELOPE = frozenset({"method", "url", "body", "id"})


@dataclass(frozen=True, slots=True)
class BadLine:
    """A line of the input that is no row, and why."""

    content: bytes = field(repr=False)
    fault: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a job.

    Attributes:
        id: Its ``custom_id``, or what stands for its content and its occurrence.
        arguments: Keywords for ``LM.complete``.
        model: The model that the row names; None for that of the job.
        raw_endpoint: Whether it is written for ``/completions``: its prompt goes out as it is.
        fault: Why it cannot be asked; None if it can.
        number: Which row of the input it is, counted from 1.
    """

    id: str
    arguments: Mapping[str, Any] = field(default_factory=dict, repr=False)
    model: str | None = None
    raw_endpoint: bool = False
    fault: InputError | UnsupportedError | None = None
    number: int = field(default=0, compare=False)


def check_columns(names: Iterable[str], plugin: Plugin, ignore: Collection[str] = ()) -> None:
    """Refuse a column of a table that no row may fill, before the first row is asked.

    Raises InputError, or UnknownParameterError for a name that nobody knows.
    """
    names = list(names)
    beside = {"custom_id", "model", *ignore, *(_ENVELOPE if "body" in names else ())}
    for name in names:
        try:
            if name not in beside:
                check_name(name, plugin, f"the column {name!r:.80}")
        except (InputError, UnsupportedError) as error:
            raise error.advise(IGNORE) from None


def identified(raws: Iterable[Raw], ignore: Collection[str] = ()) -> Iterator[Row]:
    """The rows of a source, each with an id of its own.

    The same content twice is two samples. The same ``custom_id`` twice is a fault of the second
    row, since nobody could tell the two answers apart; its id is that of a row without one.

    Args:
        raws: What the source gives.
        ignore: Names of fields that are not for us.
    """
    seen = Digests()
    for number, raw in enumerate(raws, 1):
        try:
            if isinstance(raw, BadLine):
                raise InputError(raw.fault)
            name, row = interpret(raw, ignore)
        except (InputError, UnsupportedError) as error:
            name, row = None, Row("", fault=error)
            with suppress(InputError):
                name = _custom_id(raw)
        if name is not None and seen.add(digest("id:" + name)) > 1:
            fault = InputError(f"the custom_id {name!r:.80} occurs more than once in the input")
            name, row = None, Row("", fault=fault)
        if name is None:
            key = digest(b"row:" + _content(raw, row))
            name = f"{key.hex()}-{seen.add(key)}"
        yield replace(row, id=name, number=number)


def interpret(raw: Raw, ignore: Collection[str] = ()) -> tuple[str | None, Row]:
    """A row without its id, and the ``custom_id`` if it has one.

    Raises InputError or UnsupportedError for what is no row.
    """
    if isinstance(raw, str):
        return None, Row("", {"prompt": raw})
    if isinstance(raw, (list, tuple)):
        return None, Row("", {"messages": raw})
    if not isinstance(raw, Mapping):
        raise InputError(f"a row must be a prompt, messages or an object, not {_kind(raw)}")
    fields = _given(raw, ignore)
    name = _custom_id(fields)
    fields.pop("custom_id", None)
    raw_endpoint = False
    if "body" in fields:
        raw_endpoint = _check_envelope(fields)
        body = fields["body"]
        if not isinstance(body, Mapping):
            raise InputError(f'"body" must be an object, not {_kind(body)}')
        fields = _given(body, ignore)
    if ("prompt" in fields) == ("messages" in fields):
        both = "both" if "prompt" in fields else "neither"
        raise InputError(f'a row has "prompt" or "messages": this one has {both}')
    model = fields.pop("model", None)
    if model is not None and not isinstance(model, str):
        raise InputError(f'"model" must be a text, not {_kind(model)}')
    return name, Row("", fields, model, raw_endpoint)


def _given(raw: Mapping[str, Any], ignore: Collection[str]) -> dict[str, Any]:
    """The fields that are there and for us."""
    return {name: raw[name] for name in raw if name not in ignore and raw[name] is not None}


def _check_envelope(fields: Mapping[str, Any]) -> bool:
    """Check OpenAI's batch form; whether it is for ``/completions``."""
    method, url = fields.get("method", "POST"), fields.get("url", "/v1/chat/completions")
    others = sorted(map(repr, fields.keys() - _ENVELOPE))
    if others:
        raise InputError(f'beside "body", OpenAI\'s batch form has no field {others[0]:.80}')
    if method != "POST" or not isinstance(url, str):
        raise InputError('"method" must be "POST", and "url" a text')
    if "://" in url or url.startswith("//"):
        raise InputError(f'"url" is a path, and names no host: that is the job\'s, not {url!r:.80}')
    path = url.rstrip("/")
    if path.endswith("/chat/completions"):
        return False
    if path.endswith("/completions"):
        return True
    raise UnsupportedError(f"a batch asks /chat/completions or /completions, not {url!r:.80}")


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=repr).encode


def _custom_id(raw: Any) -> str | None:
    name = raw.get("custom_id") if isinstance(raw, Mapping) else None
    if name is None or name == "" or (isinstance(name, float) and isnan(name)):
        return None  # tables write a missing value as one of these
    if isinstance(name, str):
        return name
    # A column of whole numbers in which some are missing comes as floats.
    if isinstance(name, Integral) and not isinstance(name, bool):
        return str(int(name))
    if isinstance(name, float) and name.is_integer():
        return str(int(name))
    raise InputError(
        f'"custom_id" must be a text or a whole number, not {_kind(name)} {name!r:.80}'
    )


def _content(raw: Raw, row: Row) -> bytes:
    """What a row asks, in one way of writing it; of a bad one, the whole of it."""
    if isinstance(raw, BadLine):
        return raw.content
    what: Any = raw if row.fault else [row.model, row.raw_endpoint, row.arguments]
    try:
        return _encode(what).encode()
    except (TypeError, ValueError, RecursionError):  # keys of several types, circles, great depth
        return repr(what).encode("utf-8", "surrogatepass")


def _kind(value: object) -> str:
    return type(value).__name__
