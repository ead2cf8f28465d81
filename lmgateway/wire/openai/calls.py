"""The tool calls of an answer, in OpenAI's form."""

from __future__ import annotations

from contextlib import suppress

from ...errors import ResponseFormatError
from ...types import JSON, Request, derived_id
from ..pieces import mend
from .arguments import parse_arguments, write
from .faults import load
from .fields import malformed, string, text

__all__ = ["holds_more", "read_tool_calls"]


def read_tool_calls(raw: JSON, where: str, request: Request, index: int) -> list[dict[str, JSON]]:
    """The calls of one choice, each with OpenAI's own keys and ``parsed``.

    Args:
        raw: As they came.
        where: The name of the field, for messages.
        request: What was asked: a call without an id gets one that is derived from it.
        index: Of the choice.

    Raises:
        ResponseFormatError: a call has no name, or a field of the wrong type.
    """
    if type(raw) is not list:
        raise malformed(where, raw, "a list")
    return [
        _tool_call(call, f"{where}[{place}]", request, (index, place))
        for place, call in enumerate(raw)
    ]


def holds_more(calls: list[dict[str, JSON]]) -> bool:
    """Whether a call says anything beside OpenAI's keys, such as ``extra_content``."""
    return any(
        _says_more(call, _KEYS)
        or call.get("type") not in _TYPES
        or _says_more(call.get("function") or {}, _FUNCTION)
        for call in calls
    )


def _says_more(fields: dict[str, JSON], known: frozenset[str]) -> bool:
    return not known.issuperset(fields) and any(fields[name] for name in fields.keys() - known)


_KEYS = frozenset({"id", "type", "function", "custom", "index"})
_FUNCTION = frozenset({"name", "arguments"})
_TYPES = (None, "", "function", "custom")


def _tool_call(raw: JSON, where: str, request: Request, place: tuple[int, int]) -> dict[str, JSON]:
    if type(raw) is not dict:
        raise malformed(where, raw, "an object")
    kind = raw.get("type") or "function"
    if kind != "function" and "function" not in raw:  # OpenAI's custom tools: free text
        whole: dict[str, JSON] = load(write(raw, where))
        custom = {name: value for name, value in whole.items() if name in _KEYS and name != "index"}
        custom["id"] = string(custom, "id", f"{where}.") or derived_id(request, *place)
        return custom
    function = raw.get("function")
    if type(function) is not dict:
        raise malformed(f"{where}.function", function, "an object")
    name = function.get("name")
    if type(name) is not str or not name:
        raise malformed(f"{where}.function.name", name, "a name")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # as some hosts send them
        arguments = write(arguments, f"{where}.function.arguments")
    arguments = "" if arguments is None else text(arguments, f"{where}.function.arguments")
    call: dict[str, JSON] = {
        # Without an id the answer of the tool could not be told whose it is.
        "id": string(raw, "id", f"{where}.") or derived_id(request, *place),
        "type": "function",
        "function": {"name": name if name.isascii() else mend(name), "arguments": arguments},
    }
    with suppress(ResponseFormatError):  # a model may write anything: the text is there
        call["parsed"] = parse_arguments(arguments)
    return call
