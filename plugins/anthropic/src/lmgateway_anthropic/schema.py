"""A JSON schema as the API's structured output takes it.

Each object is closed. What the API cannot hold an answer to (a least number, a longest text) is
told to the model in the description of its place, as Anthropic's SDK does; the core checks the
answer against the whole schema afterwards. What would change its meaning is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import JSON

__all__ = ["closed", "is_any_object"]

Schema = dict[str, JSON]

_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_TYPES = frozenset(("object", "array", "string", "integer", "number", "boolean", "null"))
_DEFINITIONS = ("$defs", "definitions")
_UNIONS = ("anyOf", "oneOf", "allOf")
_OF_OBJECTS = ("properties", "required", "additionalProperties")


def is_any_object(schema: Mapping[str, JSON]) -> bool:
    """Whether it is an object of names that are not listed: no closed schema can say that."""
    if schema.get("type") != "object" or schema.get("properties"):
        return False
    return bool(schema.get("additionalProperties", "properties" not in schema))


def closed(schema: Mapping[str, JSON]) -> Schema:
    """The schema with each object closed, and what the API does not know in words.

    Raises:
        UnsupportedError: It refers to itself, or a part of it takes anything; the place is named.
    """
    _check_references(schema)
    return _closed(schema, "schema")


def _closed(schema: Any, where: str) -> Schema:
    if not isinstance(schema, Mapping):
        raise _unsupported(where, "it takes anything")
    rest = {**schema}
    made: Schema = {}
    for name in _DEFINITIONS:
        if (defined := rest.pop(name, None)) is not None:
            made[name] = {
                each: _closed(inner, f"{where}.{name}.{each}")
                for each, inner in _members(defined, f"{where}.{name}")
            }
    if (reference := rest.pop("$ref", None)) is not None:
        # Beside a reference the API knows nothing, so what stands there goes around it.
        made.update(
            {"anyOf": [{"$ref": reference}]} if "description" in rest else {"$ref": reference}
        )
        if "description" not in rest:
            return made
        rest.pop("title", None)
    else:
        _say_type(rest, made, where)
    for name in ("description", "title"):
        if (said := rest.pop(name, None)) is not None:
            made[name] = said
    _say_inside(rest, made, where)
    if rest:
        said = "{" + ", ".join(f"{name}: {value}" for name, value in rest.items()) + "}"
        before = made.get("description")
        made["description"] = f"{before}\n\n{said}" if before is not None else said
    return made


def _say_type(rest: Schema, made: Schema, where: str) -> None:
    """What the value is: one of some values, of some schemas, or of a type."""
    given = rest.pop("type", None)
    kind = given if given is not None else _type_of(rest)
    values = rest.get("enum")
    if isinstance(values, list) and values and all(map(_is_plain, values)):
        made["enum"] = rest.pop("enum")
    if "const" in rest and _is_plain(rest["const"]):
        made["const"] = rest.pop("const")
    union = next((name for name in _UNIONS if isinstance(rest.get(name), list)), None)
    if union is not None:
        made["allOf" if union == "allOf" else "anyOf"] = [
            _closed(each, f"{where}.{union}[{n}]") for n, each in enumerate(rest.pop(union))
        ]
    elif "enum" in made or "const" in made:
        return
    elif isinstance(kind, list) and kind and all(map(_is_type, kind)):
        of_one = {name: rest.pop(name) for name in [*rest] if name not in ("description", "title")}
        made["anyOf"] = [_closed({"type": each, **_of_type(each, of_one)}, where) for each in kind]
    elif _is_type(kind):
        made["type"] = kind
    else:
        raise _unsupported(where, "it has no type")


def _say_inside(rest: Schema, made: Schema, where: str) -> None:
    """What an object, a list or a text holds."""
    kind = made.get("type")
    if kind == "object":
        if is_any_object({"type": "object", **rest}):
            raise _unsupported(where, "it is an object of any names; list its properties")
        made["properties"] = {
            name: _closed(inner, f"{where}.{name}")
            for name, inner in _members(rest.pop("properties", None), f"{where}.properties")
        }
        rest.pop("additionalProperties", None)
        made["additionalProperties"] = False
        if (required := rest.pop("required", None)) is not None:
            if not isinstance(required, (list, tuple)):
                raise InputError(f"{where}.required must be a list")
            made["required"] = list(required)
    elif kind == "array":
        if (items := rest.pop("items", None)) is not None:
            made["items"] = _closed(items, f"{where}.items")
        if (least := rest.pop("minItems", None)) is not None:
            (made if least in (0, 1) else rest)["minItems"] = least
    elif kind == "string" and (form := rest.pop("format", None)) is not None:
        (made if isinstance(form, str) and form in _FORMATS else rest)["format"] = form


def _members(value: JSON, where: str) -> Iterable[tuple[str, JSON]]:
    """What an object of schemas holds; raises InputError if it is no object."""
    if value is None:
        return ()
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be an object of schemas")
    return value.items()


def _type_of(schema: Mapping[str, JSON]) -> str | None:
    """The type of a schema that does not say it."""
    return "object" if "properties" in schema else "array" if "items" in schema else None


def _of_type(kind: str, schema: Schema) -> Schema:
    """What of a schema of several types speaks of one of them."""
    of_lists = {name for name in schema if name.endswith("tems")}
    of_kind = {"object": set(_OF_OBJECTS), "array": of_lists}
    other = set().union(*(names for each, names in of_kind.items() if each != kind))
    return {} if kind == "null" else {n: v for n, v in schema.items() if n not in other}


def _is_type(kind: JSON) -> bool:
    return isinstance(kind, str) and kind in _TYPES


def _is_plain(value: JSON) -> bool:
    return value is None or isinstance(value, (str, int, float, bool))


def _unsupported(where: str, why: str) -> UnsupportedError:
    return UnsupportedError(
        f"{where} cannot be asked of the Messages API, whose objects are closed: {why}",
        param="schema",
    )


# -- references ----------------------------------------------------------------------------------


def _check_references(schema: Mapping[str, JSON]) -> None:
    """Refuse a schema that refers to itself, or to what it does not hold."""
    named = {
        f"#/{group}/{name}": inner
        for group in _DEFINITIONS
        for name, inner in _members(schema.get(group), f"schema.{group}")
    }
    leads = {name: set(_references(inner)) for name, inner in named.items()}
    top = {name: each for name, each in schema.items() if name not in _DEFINITIONS}
    for reference in set(_references(top)).union(*leads.values()):
        if reference not in named:
            why = "it refers to itself" if reference == "#" else f"it has no {reference}"
            raise _unsupported("schema", why)
    for name in named:
        waiting, seen = [*leads[name]], set[str]()
        while waiting:
            each = waiting.pop()
            if each == name:
                raise _unsupported(f"schema.{name[2:].replace('/', '.')}", "it refers to itself")
            if each not in seen:
                seen.add(each)
                waiting += leads[each]


def _references(schema: JSON) -> Iterator[str]:
    """The references in a schema; a property of that name is none."""
    if isinstance(schema, Mapping):
        for name, value in schema.items():
            if name == "$ref" and isinstance(value, str):
                yield value
            elif name not in ("default", "examples", "enum", "const"):
                yield from _references(value)
    elif isinstance(schema, list):
        for each in schema:
            yield from _references(each)
