"""The request to ``/v1/messages``, built without I/O.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import JSON, CompletionWarning, HTTPRequest, Request

from .messages import convert
from .settings import DEFAULT_VERSION, Settings

__all__ = ["DEFAULT_MAX_TOKENS", "PARAMS", "build", "models_request", "prepare"]

#: The API has no default of its own and wants a number.
DEFAULT_MAX_TOKENS = 4096

_AS_THEY_ARE = (
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "thinking",
    "service_tier",
)

PARAMS = frozenset(_AS_THEY_ARE) | {
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "extra_body",
}
"""What is sent on, in OpenAI's names where it has one."""

_SAMPLING = ("temperature", "top_p", "top_k")
_WITHOUT_SAMPLING = "2026-10-21"

_CHOICES = {"auto": "auto", "required": "any", "none": "none"}


def build(request: Request, settings: Settings) -> HTTPRequest:
    """The request to send; the first half of ``prepare``."""
    return prepare(request, settings)[0]


def prepare(request: Request, settings: Settings) -> tuple[HTTPRequest, list[CompletionWarning]]:
    """The request to send, and what of it is not quite as was asked.

    Raises:
        InputError: A message, a tool or a parameter has no form in this API.
        UnsupportedError: So it is, and ``param`` says what ``unsupported="adapt"`` may translate.
    """
    extra = _extra(request.params)
    conversation = convert(request, extra.get("thinking", request.params.get("thinking")))
    body: dict[str, JSON] = {
        "model": request.model,
        "max_tokens": DEFAULT_MAX_TOKENS,
        "messages": conversation.messages,
    }
    if conversation.system:
        body["system"] = conversation.system
    for name in _AS_THEY_ARE:
        if name in request.params:
            body[name] = _taken(name, request.params[name], settings)
    body.update(_renamed(request))
    if request.stream:
        body["stream"] = True
    body.update(extra)
    if not conversation.thinks:
        body.pop("thinking", None)
    http_request = HTTPRequest(
        "POST",
        settings.api_base,
        "/v1/messages",
        headers=_headers(settings),
        json=body,
        auth=_auth(settings),
        stream=request.stream,
        vary=_vary(settings),
    )
    return http_request, conversation.warnings


def models_request(settings: Settings) -> HTTPRequest:
    """``GET /v1/models``: as many as one page holds."""
    return HTTPRequest(
        "GET",
        settings.api_base,
        "/v1/models?limit=1000",
        headers=_headers(settings),
        auth=_auth(settings),
    )


def _headers(settings: Settings) -> dict[str, str]:
    headers = {"anthropic-version": settings.api_version}
    if settings.beta:
        headers["anthropic-beta"] = settings.beta
    return headers


def _vary(settings: Settings) -> tuple[str, ...]:
    """The headers that were set, for they shape the answer."""
    beta = ("anthropic-beta",) if settings.beta else ()
    return beta if settings.api_version == DEFAULT_VERSION else ("anthropic-version", *beta)


def _auth(settings: Settings) -> Any:
    """Resolved when the request is sent, so that a cached answer needs no key."""
    return lambda: {"x-api-key": settings.api_key.get_secret_value()}


def _taken(name: str, value: JSON, settings: Settings) -> JSON:
    """The value of a parameter that this version of the API takes."""
    if name in _SAMPLING and settings.api_version >= _WITHOUT_SAMPLING:  # dates, written alike
        raise UnsupportedError(
            f"the Messages API takes no {name} since version {_WITHOUT_SAMPLING}", param=name
        )
    return value


def _renamed(request: Request) -> dict[str, JSON]:
    """What OpenAI calls by another name."""
    params = request.params
    body: dict[str, JSON] = {}
    if "stop" in params:
        stop = params["stop"]
        body["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if "tools" in params:
        body["tools"] = _tools(params["tools"])
    if choice := _tool_choice(params):
        body["tool_choice"] = choice
    output: dict[str, JSON] = {}
    if "reasoning_effort" in params:
        output["effort"] = _effort(params["reasoning_effort"])
    if request.schema is not None:
        output["format"] = {"type": "json_schema", "schema": dict(request.schema)}
    if output:
        body["output_config"] = output
    return body


def _effort(effort: JSON) -> JSON:
    """OpenAI's word, where it is one of this API's too; for the others it has ``thinking``."""
    if effort in ("none", "minimal"):
        raise UnsupportedError(
            f"the Messages API has no effort {effort}: give thinking, or another effort",
            param="reasoning_effort",
        )
    return effort


def _tools(tools: object) -> list[JSON]:
    if not isinstance(tools, Sequence) or isinstance(tools, str):
        raise InputError("tools must be a list of tools")
    return [_tool(tool, place) for place, tool in enumerate(tools)]


def _tool(tool: Any, place: int) -> JSON:
    """A function as OpenAI describes it; a tool in the API's own form passes as it is."""
    if not isinstance(tool, Mapping):
        raise InputError(f"tools[{place}] must be a dict")
    if tool.get("type") != "function":
        return dict(tool)
    function = tool.get("function")
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InputError(f'tools[{place}].function has no "name"')
    given = {name: function[name] for name in ("description", "strict") if name in function}
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return {"name": function["name"], **given, "input_schema": schema}


def _tool_choice(params: Mapping[str, Any]) -> dict[str, JSON] | None:
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


def _extra(params: Mapping[str, Any]) -> Mapping[str, JSON]:
    extra = params.get("extra_body") or {}
    if not isinstance(extra, Mapping):
        raise InputError("extra_body must be a dict")
    for name in ("model", "messages", "system", "stream"):
        if name in extra:
            raise InputError(f"extra_body cannot hold {name}, which has a place of its own")
    return extra
