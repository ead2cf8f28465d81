"""Schemas that OpenAI holds an answer to (``strict``): every object says all that it may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...types import JSON

__all__ = ["exact_schema", "is_exact"]

#: What a strict schema may say. OpenAI refuses a strict schema that says anything else.
_WORDS = frozenset(
    ("$defs", "$ref", "additionalProperties", "anyOf", "const", "description", "enum", "format",
     "items", "properties", "required", "title", "type", "exclusiveMaximum", "exclusiveMinimum",
     "maxItems", "maximum", "minItems", "minimum", "multipleOf", "pattern")
)  # fmt: skip
_KINDS = ("type", "$ref", "anyOf")  # one of them must be there
_FORMATS = frozenset(
    ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid")
)


def exact_schema(schema: Mapping[str, JSON]) -> dict[str, JSON] | None:
    """The schema of a type with its objects closed; None where that is not all it takes.

    None as well for a schema that says all already.
    """
    if schema.get("type") != "object" or is_exact(schema):
        return None
    try:
        closed: dict[str, JSON] = _closed(schema)
    except _NotStrictError:
        return None
    return closed if is_exact(closed) else None


class _NotStrictError(Exception):
    """The schema says something that no strict schema may say."""


def _closed(schema: Any) -> Any:
    if not isinstance(schema, Mapping):
        raise _NotStrictError
    if (
        schema.keys().isdisjoint(_KINDS)
        or not schema.keys() <= _WORDS
        or ("$ref" in schema and len(schema) > 1 and "$defs" not in schema)
    ):
        raise _NotStrictError
    if schema.get("format", "date") not in _FORMATS:
        raise _NotStrictError
    made = {**schema}
    for name in ("$defs", "properties"):
        if name in made:
            made[name] = {each: _closed(inner) for each, inner in made[name].items()}
    if "items" in made:
        made["items"] = _closed(made["items"])
    if "anyOf" in made:
        made["anyOf"] = [_closed(each) for each in made["anyOf"]]
    if "properties" in made:
        made.setdefault("additionalProperties", False)
    return made


def is_exact(schema: JSON) -> bool:
    """Whether every object in it lists all its properties as required and allows no other."""
    waiting = [schema]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | tuple):
            waiting += each
        elif isinstance(each, Mapping):
            if ("properties" in each or each.get("type") == "object") and not _says_all(each):
                return False
            waiting += each.values()
    return True


def _says_all(schema: Mapping[str, JSON]) -> bool:
    names, required = schema.get("properties", {}), schema.get("required", ())
    return (
        schema.get("additionalProperties") is False
        and isinstance(names, Mapping)
        and isinstance(required, list | tuple)
        and all(isinstance(name, str) for name in required)
        and set(names) == set(required)
    )
