"""A turn as the user sees it: its digest, its parts, and ids for what a service left without."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..types import Part

__all__ = ["derived_id", "parts_of", "turn_digest"]

_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":")).encode


def turn_digest(turn: Mapping[str, Any]) -> str:
    """The digest of what an assistant's turn says: its text and its tool calls.

    Who writes a turn anew without changing it (an SDK, JSON, a database) keeps the digest; who
    edits it does not. No text counts as "", no arguments as {}, and 1.0 as 1; arguments that are
    no JSON count as they stand.

    Args:
        turn: A Message, or a choice.
    """
    calls = [_identity(call) for call in turn.get("tool_calls") or () if isinstance(call, Mapping)]
    return sha256(_canonical([_text(turn), calls]).encode()).hexdigest()


def _text(turn: Mapping[str, Any]) -> str:
    content = turn.get("content", turn.get("text"))
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, Iterable) else ()
    texts = (part.get("text") for part in parts if isinstance(part, Mapping))
    return "".join(text for text in texts if isinstance(text, str))


def _identity(call: Mapping[str, Any]) -> list[Any]:
    function = call.get("function")
    if not isinstance(function, Mapping):  # OpenAI's custom tools, whose input is a free text
        custom = call.get("custom")
        custom = custom if isinstance(custom, Mapping) else {}
        return [call.get("id"), custom.get("name"), custom.get("input")]
    return [call.get("id"), function.get("name"), _plain(_input(function.get("arguments")))]


def _input(arguments: Any) -> Any:
    """A call's arguments as JSON; the text itself where it is none."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _plain(value: Any) -> Any:
    """JSON in which equal numbers are written alike."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def parts_of(choice: Mapping[str, Any]) -> list[Part]:
    """The parts of a choice: those that the plugin gave, or else those that its fields make."""
    given: list[Part] | None = choice.get("parts")
    if given is not None:
        return given
    parts: list[Part] = []
    if reasoning := choice.get("reasoning"):
        parts.append({"type": "reasoning", "text": reasoning})
    if text := choice.get("text"):
        parts.append({"type": "text", "text": text})
    parts += [_call_part(call) for call in choice.get("tool_calls") or ()]
    if refusal := choice.get("refusal"):
        parts.append({"type": "refusal", "text": refusal})
    return parts


def _call_part(call: Mapping[str, Any]) -> Part:
    function = call.get("function") or call.get("custom") or {}
    said = function.get("arguments", function.get("input"))
    value = call["parsed"] if "parsed" in call else _input(said)
    return {
        "type": "tool_call",
        "id": call.get("id", ""),
        "name": function.get("name", ""),
        "input": value,
    }


def derived_id(asked: Any, index: int, place: int) -> str:
    """An id made of what was asked, the choice's index and the call's place in it."""
    digest = sha256(_canonical([asked, index, place]).encode()).hexdigest()
    return f"call_{digest[:24]}"
