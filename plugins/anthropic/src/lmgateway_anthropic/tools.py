"""Tools, as OpenAI describes them or in the API's own form, and which of them is to be called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmgateway.errors import InputError
from lmgateway.types import JSON

from .marks import mark_of
from .schema import closed

__all__ = ["tool_choice", "wire_tools"]

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}
_MARKS = ("cache_control", "prompt_cache_breakpoint")
_READ = frozenset({"type", "function", "name", "description", "parameters", "strict", *_MARKS})


def wire_tools(tools: object) -> list[JSON]:
    """The tools as the API takes them; raises InputError for what is none."""
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise InputError("tools must be a list of tools")
    return [_tool(tool, place) for place, tool in enumerate(tools)]


def _tool(tool: Any, place: int) -> JSON:
    """A function as OpenAI describes it; a tool in the API's own form passes as it is."""
    where = f"tools[{place}]"
    if not isinstance(tool, Mapping):
        raise InputError(f"{where} must be a dict")
    if tool.get("type") == "custom" and "custom" in tool:
        raise InputError(f"{where} takes a free text, and the Messages API has no such tools")
    if tool.get("type") != "function":
        return dict(tool)
    function = tool.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f'{where}.function has no "name"')
    made: dict[str, JSON] = {"name": function["name"]}
    for name in ("description", "strict"):
        if function.get(name, tool.get(name)) is not None:
            made[name] = function.get(name, tool.get(name))
    made["input_schema"] = _input_schema(function.get("parameters"), made.get("strict"), where)
    for said in (function, tool):  # of its own: defer_loading, input_examples, ...
        made.update({n: v for n, v in said.items() if n not in _READ and v is not None})
        if (marked := mark_of(said)) is not None:
            made["cache_control"] = marked
    return made


def _input_schema(parameters: Any, strict: JSON, where: str) -> JSON:
    if not parameters:
        return {
            "type": "object",
            "properties": {},
            **({"additionalProperties": False} if strict else {}),
        }
    if not isinstance(parameters, Mapping):
        raise InputError(f"{where}.function.parameters must be a JSON schema")
    schema = {"type": "object", **parameters} if "type" not in parameters else dict(parameters)
    return closed(schema) if strict is True else schema


def tool_choice(params: Mapping[str, Any]) -> dict[str, JSON] | None:
    """Which tool is to be called; None if nothing is said of it."""
    choice = params.get("tool_choice")
    parallel = params.get("parallel_tool_calls")
    if choice is None and parallel is None:
        return None
    if "tools" not in params:
        raise InputError("tool_choice and parallel_tool_calls need tools")
    match choice:
        case None:
            chosen: dict[str, JSON] = {"type": "auto"}
        case str() if choice in _CHOICES:
            chosen = {"type": _CHOICES[choice]}
        case {"type": "function", "function": {"name": str(name)}}:
            chosen = {"type": "tool", "name": name}
        case {"type": "auto" | "any" | "none" | "tool"}:
            chosen = dict(choice)
        case _:
            raise InputError(
                f"tool_choice must be one of {', '.join(_CHOICES)}, or "
                '{"type": "function", "function": {"name": ...}}'
            )
    if parallel is not None and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = not parallel
    return chosen
