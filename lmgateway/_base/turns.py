"""A turn as the user sees it: its digest, its parts, and ids for what a service left without."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import sha256
from math import isinf
from typing import TYPE_CHECKING, Any, TypeVar

from .values import is_deep, on_fresh_stack

if TYPE_CHECKING:
    from ..types import Part

__all__ = ["derived_id", "parts_of", "read_arguments", "says_nothing", "turn_digest"]

Given = TypeVar("Given")

#: Types of the parts of a message that are text; a part without a type is one as well.
_TEXTS = ("text", "input_text", "output_text", None)


def turn_digest(turn: Mapping[str, Any]) -> str:
    """The digest of what an assistant's turn says: its text and its tool calls.

    Who writes a turn anew without changing it (an SDK, JSON, a database) keeps the digest; who
    edits it does not. No text counts as "", no arguments as {}, and 1.0 as 1; arguments that are
    no JSON, or nested more than 100 deep, count as they stand. What is no turn has a digest too.

    Args:
        turn: A Message, or a choice.
    """
    return _sure(_digest, turn)


def _digest(turn: Mapping[str, Any]) -> str:
    calls = [_identity(call) for call in _listed(turn.get("tool_calls"))]
    return sha256(_canonical([_said(turn), calls]).encode()).hexdigest()


def _said(turn: Mapping[str, Any]) -> str:
    """The joined text; of a turn that only refuses, the refusal."""
    content = turn.get("content", turn.get("text"))
    if isinstance(content, str) and content:
        return content
    texts = [each if isinstance(each, str) else _text(each) for each in _listed(content)]
    refusal = turn.get("refusal")
    return "".join(texts) or (refusal if isinstance(refusal, str) else "")


def _text(part: Any) -> str:
    if not isinstance(part, Mapping) or part.get("type") not in _TEXTS:
        return ""
    text = part.get("text")
    return text if isinstance(text, str) else ""


def _identity(call: Any) -> list[Any]:
    if not isinstance(call, Mapping):
        return []
    function = call.get("function")
    if isinstance(function, Mapping):
        name, arguments = function.get("name"), function.get("arguments")
        return [_word(call.get("id")), _word(name), *_meant(arguments)]
    custom = call.get("custom")  # OpenAI's tools whose input is a free text
    custom = custom if isinstance(custom, Mapping) else {}
    given = (call.get("id"), custom.get("name"), custom.get("input"))
    return ["custom", *map(_word, given)]


def _word(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else f"\0{_canonical(value)}"


def _meant(arguments: Any) -> list[Any]:
    """What arguments say: as JSON in which equal numbers are written alike, or else as a text."""
    if arguments is None:
        return ["json", {}]
    text = arguments if isinstance(arguments, str) else _canonical(arguments)
    if not text.strip():
        return ["json", {}]
    try:
        value = _parse(text)
    except ValueError:
        return ["text", text]
    except RecursionError:
        try:
            value = on_fresh_stack(_parse, text)
        except (ValueError, RecursionError):  # too deep for any stack
            return ["text", text]
    return ["text", text] if is_deep(value) else ["json", _plain(value)]


def _number(text: str) -> float | str:
    value = float(text)
    return f"\0{text}" if isinf(value) else value  # or 1e400 and 1e500 would be one number


_parse = json.JSONDecoder(parse_float=_number).decode


def _plain(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _odd(value: Any) -> Any:
    """Something for what JSON cannot hold."""
    if isinstance(value, Mapping):
        return dict(value)
    return f"\0{type(value).__name__}"


_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_odd).encode


def _canonical(value: Any) -> str:
    try:
        return _encode(value)
    except (TypeError, ValueError):  # keys of several types, a circle, a number of 5,000 digits
        return f"\0{type(value).__name__}"


def _sure(act: Callable[[Given], str], given: Given) -> str:
    """Run a function that recurses a hundred deep, however little of the stack is left."""
    try:
        return act(given)
    except RecursionError:
        try:
            return on_fresh_stack(act, given)
        except RecursionError:  # what holds it is deeper than any JSON that could be sent
            return sha256(b"\0").hexdigest()


def read_arguments(arguments: Any) -> Any:
    """A call's arguments as JSON; the text itself where it is none."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments
    return arguments if is_deep(value) else value


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
    said = function.get("input") if "input" in function else None
    if said is None:
        said = call["parsed"] if "parsed" in call else read_arguments(function.get("arguments"))
    return {
        "type": "tool_call",
        "id": call.get("id", ""),
        "name": function.get("name", ""),
        "input": said,
    }


def derived_id(asked: Any, index: int, place: int) -> str:
    """An id made of what was asked, the choice's index and the call's place in it.

    Messages count by what they say, so that one that was written anew gives the same id.
    """
    return f"call_{_sure(_derived, (asked, index, place))[:24]}"


def _derived(given: tuple[Any, int, int]) -> str:
    asked, index, place = given
    if isinstance(asked, (list, tuple)):
        asked = [_seen(each) for each in asked]
    return sha256(_canonical([asked, index, place]).encode()).hexdigest()


def _seen(message: Any) -> Any:
    """A message as its reader sees it: role, text and calls, and what else its content holds."""
    if not isinstance(message, Mapping):
        return message
    content = _listed(message.get("content"))
    others = [part for part in content if not isinstance(part, str) and not _text(part)]
    return [message.get("role"), _digest(message), message.get("tool_call_id"), others]


def says_nothing(answer: Mapping[str, Any]) -> bool:
    """Whether the core has found a choice of an answer empty: no text, no call, no other part."""
    return any(
        isinstance(each, dict) and each.get("kind") == "empty"
        for each in _listed(answer.get("warnings"))
    )
