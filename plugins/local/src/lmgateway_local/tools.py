"""Tools, for models that know them and for models that do not.

A model whose chat template knows tools is asked by llama.cpp itself, and calls one if it wants to.
A call that it *must* make (``tool_choice`` ``required``, or a tool's name) is made by a grammar:
llama.cpp alone would let it talk before the call for as long as it likes. A model without tools in
its template is told of them in the system text, and writes a call as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lmgateway.errors import InputError, UnsupportedError

__all__ = ["AsCall", "prepare"]

Body = dict[str, Any]

_MOST_CALLS = 16  # a small model may never stop
_NAMES = ("tools", "tool_choice", "parallel_tool_calls")


def prepare(body: Body, knows_tools: Callable[[], bool]) -> tuple[Body, frozenset[str]]:
    """The body as llama.cpp is to get it, and the functions that its answer may spell as JSON.

    Args:
        body: For ``chat/completions``.
        knows_tools: Whether the model's chat template knows tools; asked only if it matters.

    Raises:
        InputError: The tools or the choice among them make no sense.
        UnsupportedError: Log probabilities are asked for beside tools.
    """
    messages = body.get("messages") or ()
    tools, choice = body.get("tools") or (), body.get("tool_choice", "auto")
    if not tools and ("tool_choice" in body or "parallel_tool_calls" in body):
        raise InputError("tool_choice and parallel_tool_calls need tools")
    if tools and (body.get("logprobs") or body.get("top_logprobs")):
        raise UnsupportedError("llama.cpp gives no logprobs beside tools", param="logprobs")
    functions = _functions(tools)
    forced = _forced(functions, choice) if functions else []
    if not forced and (not (functions or any(map(_is_about_tools, messages))) or knows_tools()):
        return body, frozenset()
    several = body.get("parallel_tool_calls")
    spelled = _without(body)
    if forced:
        spelled["response_format"] = _format(forced, several=bool(several))
    if knows_tools():  # the template itself tells the model of them
        given = body.get("chat_template_kwargs") or {}
        spelled["chat_template_kwargs"] = {**given, "tools": list(tools)}
    else:
        spelled["messages"] = _in_words(messages)
        if choice == "none":
            functions = []
        if functions:
            text = _MUST if forced else _MAY
            told = text.format(_HOW_MANY[several if several is None else bool(several)])
            spelled["messages"] = _introduced(spelled["messages"], told, forced or functions)
    return spelled, frozenset(function["name"] for function in forced or functions)


_HOW_MANY = {None: "one", False: "exactly one", True: "one or more"}
_MUST = "Call {} of these functions with what the user says:"
_MAY = (
    "You may call {} of these functions. If you do, answer with JSON and nothing else, "
    '{{"name": ..., "arguments": ...}}, or a list of those. If you need none, answer in words.'
)


def _without(body: Body) -> Body:
    return {name: value for name, value in body.items() if name not in _NAMES}


def _functions(tools: Sequence[Any]) -> list[Mapping[str, Any]]:
    functions = []
    for place, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InputError(f'tools[{place}] must be {{"type": "function", "function": ...}}')
        if not isinstance(function.get("parameters"), Mapping | None):
            raise InputError(f"tools[{place}].function.parameters must be a JSON schema, as a dict")
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


def _format(functions: list[Mapping[str, Any]], *, several: bool) -> Body:
    """The ``response_format`` that only a call of one of the functions fits, or a list of them."""
    definitions: Body = {}
    calls = []
    for place, function in enumerate(functions):
        # Two functions may each have a definition of the same name: each is a room of its own.
        here = f"#/$defs/{place}"
        arguments = function.get("parameters") or {"type": "object"}
        definitions[str(place)] = _moved(arguments, here)
        calls.append({
            "type": "object",
            "properties": {"name": {"const": function["name"]}, "arguments": {"$ref": here}},
            "required": ["name", "arguments"],
            "additionalProperties": False,
        })  # fmt: skip
    schema: Body = calls[0] if len(calls) == 1 else {"anyOf": calls}
    if several:
        schema = {"type": "array", "items": schema, "minItems": 1, "maxItems": _MOST_CALLS}
    schema = {**schema, "$defs": definitions}
    return {"type": "json_schema", "json_schema": {"name": "call", "schema": schema}}


def _moved(schema: Any, place: str) -> Any:
    """A schema whose references are looked for from another place than the top."""
    if isinstance(schema, Mapping):
        return {
            name: f"{place}{each[1:]}"
            if name == "$ref" and isinstance(each, str) and each.startswith("#")
            else _moved(each, place)
            for name, each in schema.items()
        }
    if isinstance(schema, (list, tuple)):
        return [_moved(each, place) for each in schema]
    return schema


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
    custom = call.get("custom")
    if isinstance(custom, Mapping):  # of OpenAI's tools that take a free text
        function, arguments = custom, json.dumps(custom.get("input"))
    else:
        function = call.get("function") or {}
        arguments = function.get("arguments") or "{}"
    return f'{{"name": {json.dumps(function.get("name"))}, "arguments": {arguments}}}'


def _introduced(messages: list[Any], text: str, functions: list[Mapping[str, Any]]) -> list[Any]:
    """The conversation with the functions told in its system text."""
    told = [json.dumps(dict(function), ensure_ascii=False) for function in functions]
    text = "\n".join([text, *told])
    first = messages[0] if messages else {}
    if first.get("role") == "system":
        return [{**first, "content": f"{_text(first)}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


class AsCall:
    """Takes the chunks of an answer that may spell calls as JSON; gives those of the calls.

    A text that begins like JSON is held back until it is all there; any other passes as it comes.
    """

    __slots__ = ("_held", "_names")

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names
        self._held: dict[int, str | None] = {}  # by choice; None once it is known to be no call

    def turned(self, chunk: Body) -> Body:
        """The chunk to hand on; it has no choices if it is only a piece of a call."""
        if not chunk.get("choices"):
            return chunk
        choices = map(self._choice, chunk["choices"])
        return {**chunk, "choices": [choice for choice in choices if choice is not None]}

    def _choice(self, choice: Body) -> Body | None:
        index, reason = choice.get("index", 0), choice.get("finish_reason")
        held = self._held.setdefault(index, "")
        if held is None:
            return choice
        delta = dict(choice.get("delta") or {})
        held += delta.pop("content", None) or ""
        if reason is None and (not held.strip() or held.lstrip()[0] in "{["):
            self._held[index] = held
            return {**choice, "delta": delta} if delta else None
        self._held[index] = None
        if reason == "stop" and (calls := self._read(held)):
            delta["tool_calls"] = [{"index": n, **call} for n, call in enumerate(calls)]
            return {**choice, "delta": delta, "finish_reason": "tool_calls"}
        return {**choice, "delta": {**delta, "content": held}}

    def _read(self, text: str) -> list[Body]:
        """The calls that a text spells; none if it is anything else."""
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return []
        calls = []
        for call in said if isinstance(said, list) else [said]:
            if not isinstance(call, dict) or call.get("name") not in self._names:
                return []
            arguments = json.dumps(call.get("arguments", {}), ensure_ascii=False)
            function = {"name": call["name"], "arguments": arguments}
            calls.append({"type": "function", "function": function})
        return calls
