"""Tools, for models that know them and for models that do not.

A model whose chat template knows tools is asked by llama.cpp itself, and calls one if it wants to.
A call that it *must* make (``tool_choice`` ``required``, or a tool's name) is made by a grammar:
llama.cpp alone would let it talk before the call for as long as it likes. That works with every
model, and so a model without tools in its template can be made to call one, and only so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmgateway.errors import InputError, UnsupportedError

__all__ = ["AsCall", "prepare"]

Body = dict[str, Any]

_NAMES = ("tools", "tool_choice", "parallel_tool_calls")


def prepare(body: Body, knows_tools: Callable[[], bool]) -> tuple[Body, bool]:
    """The body as llama.cpp is to get it, and whether its answer is a call spelled as JSON.

    Args:
        body: For ``chat/completions``.
        knows_tools: Whether the model's chat template knows tools; asked only if it matters.

    Raises:
        InputError: The tools or the choice among them make no sense.
        UnsupportedError: The model does not know tools, and need not call one.
    """
    messages = body.get("messages") or ()
    tools, choice = body.get("tools") or (), body.get("tool_choice", "auto")
    if not tools:
        if "tool_choice" in body or "parallel_tool_calls" in body:
            raise InputError("tool_choice and parallel_tool_calls need tools")
        if any(map(_is_about_tools, messages)) and not knows_tools():
            return {**_without(body), "messages": _in_words(messages)}, False
        return body, False
    if choice == "none" and not knows_tools():
        return {**_without(body), "messages": _in_words(messages)}, False
    if body.get("logprobs") or body.get("top_logprobs"):
        raise UnsupportedError("llama.cpp gives no logprobs beside tools", param="logprobs")
    forced = _forced(_functions(tools), choice)
    if not forced:
        if not knows_tools():
            raise UnsupportedError(
                "this model's chat template knows no tools, so it can call one only if it must: "
                'give tool_choice="required" or the name of one, or another model',
                param="tools",
            )
        return body, False
    spelled = {**_without(body), "response_format": _format(forced)}
    if knows_tools():  # the template itself tells the model of them
        given = body.get("chat_template_kwargs") or {}
        spelled["chat_template_kwargs"] = {**given, "tools": list(tools)}
    else:
        spelled["messages"] = _introduced(_in_words(messages), forced)
    return spelled, True


def _without(body: Body) -> Body:
    return {name: value for name, value in body.items() if name not in _NAMES}


def _functions(tools: Sequence[Any]) -> list[Mapping[str, Any]]:
    functions = []
    for place, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InputError(f'tools[{place}] must be {{"type": "function", "function": ...}}')
        functions.append(function)
    return functions


def _forced(functions: list[Mapping[str, Any]], choice: Any) -> list[Mapping[str, Any]]:
    """The functions of which one must be called; none if it is the model's to choose."""
    match choice:
        case "auto" | "none" | None:
            return []
        case "required":
            return functions
        case {"type": "function", "function": {"name": str(name)}}:
            named = [function for function in functions if function["name"] == name]
            if named:
                return named
            raise InputError(f"tool_choice names {name!r:.60}, which is not among the tools")
    raise InputError(
        'tool_choice must be "auto", "none", "required", or '
        '{"type": "function", "function": {"name": ...}}'
    )


def _format(functions: list[Mapping[str, Any]]) -> Body:
    """The ``response_format`` that only a call of one of the functions fits."""
    definitions: Body = {}
    calls = []
    for function in functions:
        arguments = dict(function.get("parameters") or {"type": "object"})
        for name in ("$defs", "definitions"):  # what is referred to is looked for at the top
            definitions.setdefault(name, {}).update(arguments.pop(name, None) or {})
        calls.append({
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": arguments},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        })  # fmt: skip
    schema = calls[0] if len(calls) == 1 else {"anyOf": calls}
    schema = {**schema, **{name: each for name, each in definitions.items() if each}}
    return {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}


# -- a model that knows no tools -----------------------------------------------------------------


def _is_about_tools(message: Mapping[str, Any]) -> bool:
    return message.get("role") == "tool" or bool(message.get("tool_calls"))


def _in_words(messages: Sequence[Any]) -> list[Any]:
    """The conversation with calls as the texts that the model would write, and results as told."""
    spelled: list[Any] = []
    for message in messages:
        if message.get("role") == "tool":
            spelled.append({"role": "user", "content": f"The result: {_text(message)}"})
        elif message.get("tool_calls"):
            calls = [_written(call) for call in message["tool_calls"]]
            texts = [text for text in (_text(message), *calls) if text]
            spelled.append({"role": "assistant", "content": "\n".join(texts)})
        else:
            spelled.append(message)
    return spelled


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str) or content is None:
        return content or ""
    return "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))


def _written(call: Mapping[str, Any]) -> str:
    function = call.get("function") or {}
    arguments = function.get("arguments") or "{}"
    return f'{{"name": {json.dumps(function.get("name"))}, "arguments": {arguments}}}'


def _introduced(messages: list[Any], functions: list[Mapping[str, Any]]) -> list[Any]:
    """The conversation with the functions told in its system text."""
    told = "\n".join(json.dumps(dict(function), ensure_ascii=False) for function in functions)
    text = f"Call one of these functions with what the user says:\n{told}"
    first = messages[0] if messages else {}
    if first.get("role") == "system":
        return [{**first, "content": f"{_text(first)}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


class AsCall:
    """Takes the chunks of an answer that spells a call as JSON; gives those of the call."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[int, list[str]] = {}

    def turned(self, chunk: Body) -> Body:
        """The chunk to hand on; it has no choices if it is only a piece of a call."""
        choices = map(self._choice, chunk.get("choices") or ())
        kept = [choice for choice in choices if choice is not None]
        return {**chunk, "choices": kept} if "choices" in chunk else chunk

    def _choice(self, choice: Body) -> Body | None:
        texts = self._texts.setdefault(choice.get("index", 0), [])
        delta = dict(choice.get("delta") or {})
        if piece := delta.pop("content", None):
            texts.append(piece)
        reason = choice.get("finish_reason")
        if reason is None:
            return {**choice, "delta": delta} if delta else None
        text = "".join(texts)
        call = _read(text) if reason == "stop" else None
        if call is None:  # cut off
            return {**choice, "delta": {**delta, "content": text}}
        call = {"index": 0, "type": "function", "function": call}
        return {**choice, "delta": {**delta, "tool_calls": [call]}, "finish_reason": "tool_calls"}


def _read(text: str) -> Body | None:
    try:
        call = json.loads(text)
        return {"name": call["name"], "arguments": json.dumps(call["arguments"])}
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
