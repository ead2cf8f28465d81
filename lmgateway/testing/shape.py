"""The exact shape of a provider's answer: known fields, each of its type, all of it plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_type_hints

from ..types import Answer, Choice, Completion, Usage

__all__ = ["REASONS", "flaws_of"]

#: The fields of a Completion that the core sets.
_OF_THE_CORE = Completion.__annotations__.keys() - Answer.__annotations__.keys()
#: The closed list of finish reasons.
REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "pause", "error", "other"})
#: What a choice may say in place of a text.
_SAID = ("tool_calls", "refusal", "reasoning", "parts", "finish_reason")


def flaws_of(answer: Any, request_input: Any, count: int) -> list[str]:
    """What is wrong with the answer that a provider's hook returned; empty if nothing is.

    Args:
        answer: As the hook returned it.
        request_input: The prompt or messages the user gave.
        count: How many choices were asked for.
    """
    if not isinstance(answer, dict):
        return [f"it is a {type(answer).__name__}, not a dict"]
    found = [f"{name!r} is the core's to set" for name in sorted(_OF_THE_CORE & answer.keys())]
    found += _unknown(answer, Completion, "the completion")
    if answer.get("prompt") != request_input:
        found.append('"prompt" is not what the user gave: return request.input')
    for name in ("model", "id", "request_id", "endpoint"):
        if name in answer and not isinstance(answer[name], str):
            found.append(f"{name!r} is a {type(answer[name]).__name__}, not a str: leave it out")
    found += _usage(answer.get("usage", {}))
    choices = answer.get("choices")
    if not isinstance(choices, list) or len(choices) != count:
        size = len(choices) if isinstance(choices, list) else "no list of"
        return [*found, f'"choices" holds {size} choices, and {count} were asked for']
    for place, choice in enumerate(choices):
        found += _choice(choice, place)
    return found or _json(answer)


def _choice(choice: Any, place: int) -> list[str]:
    where = f"choices[{place}]"
    if not isinstance(choice, dict):
        return [f"{where} is a {type(choice).__name__}, not a dict"]
    found = _unknown(choice, Choice, where)
    text = choice.get("text", "" if choice.get("parts") else None)  # derived from parts
    if not isinstance(text, str):
        found.append(f'{where} has no "text" that is a str')
    elif not text and not any(map(choice.get, _SAID)):
        found.append(f"{where} is silently empty: it says nothing, and not why it ended")
    if choice.get("index", place) != place:
        found.append(f'{where} has the "index" {choice["index"]}: order choices by it, from 0')
    reason = choice.get("finish_reason")
    if reason is not None and reason not in REASONS:
        found.append(f'{where} has the "finish_reason" {reason!r}, none of {sorted(REASONS)}')
    for name in ("reasoning", "refusal"):
        if name in choice and not isinstance(choice[name], str):
            found.append(f"{where}[{name!r}] is no str: leave it out")
    for number, call in enumerate(choice.get("tool_calls", ())):
        found += _tool_call(call, f"{where}.tool_calls[{number}]")
    return found


def _tool_call(call: Any, where: str) -> list[str]:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict):
        return [f'{where} is not {{"id", "type": "function", "function": {{...}}}}']
    arguments = function.get("arguments")
    if not isinstance(function.get("name"), str) or not isinstance(arguments, str):
        return [f'{where}.function needs a "name" and "arguments", both str (JSON as text)']
    return [] if isinstance(call.get("id"), str) and call["id"] else [f'{where} has no "id"']


def _usage(usage: Any) -> list[str]:
    if not isinstance(usage, dict):
        return ['"usage" is no dict']
    counts = {name: n for name, n in usage.items() if name not in ("cost", "details")}
    wrong = [name for name, n in counts.items() if type(n) is not int or n < 0]
    return _unknown(usage, Usage, "usage") + [f"usage[{n!r}] is no count" for n in wrong]


def _unknown(given: Mapping[str, Any], kind: Any, where: str) -> list[str]:
    extra = sorted(given.keys() - get_type_hints(kind).keys())
    return [f"{where} holds {name!r}, which its type does not know" for name in extra]


def _json(answer: Any) -> list[str]:
    try:
        text = json.dumps(answer, allow_nan=False)
    except (TypeError, ValueError) as error:
        return [f"it is not plain JSON: {error}"]
    return [] if json.loads(text) == answer else ["it does not survive being written as JSON"]
