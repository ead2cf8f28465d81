"""The request to ``/v1/messages``, built without I/O.

https://docs.anthropic.com/en/api/messages
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lmgateway.errors import InputError, MissingCredentialError, UnsupportedError
from lmgateway.types import JSON, CompletionWarning, HTTPRequest, Request

from .messages import Conversation, convert
from .models import Traits, traits
from .reasoning import DEFAULT_MAX_TOKENS, Reasoning, clash, reasoning_of, room
from .schema import closed, is_any_object
from .settings import DEFAULT_VERSION, WITHOUT_SAMPLING, Settings
from .system import joined
from .tools import tool_choice, wire_tools

__all__ = ["DEFAULT_MAX_TOKENS", "PARAMS", "SAMPLING", "build", "models_request", "prepare"]

_AS_THEY_ARE = (
    "temperature",
    "top_p",
    "top_k",
    "metadata",
    "service_tier",
    "cache_control",
)

PARAMS = frozenset(_AS_THEY_ARE) | {
    "max_tokens",
    "thinking",
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "reasoning_effort",
    "extra_body",
}
"""What is sent on, in OpenAI's names where it has one."""

SAMPLING = frozenset({"temperature", "top_p", "top_k"})
"""What the API takes no more since version 2026-10-21, and what new models never took."""


def build(request: Request, settings: Settings) -> HTTPRequest:
    """The request to send; the first half of ``prepare``."""
    return prepare(request, settings)[0]


def prepare(request: Request, settings: Settings) -> tuple[HTTPRequest, list[CompletionWarning]]:
    """The request to send, and what of it is not quite as was asked.

    Raises:
        InputError: A message, a tool or a parameter has no form in this API.
        UnsupportedError: So it is, and ``param`` says what ``unsupported="adapt"`` may translate.
    """
    params, model = request.params, traits(request.model)
    extra = _extra(params)
    reasoning = reasoning_of(params, extra, model)
    conversation = convert(request, reasoning.thinking, model)
    output = None
    if reasoning.effort is not None or request.schema is not None:
        output = _output(request, extra, reasoning, model, conversation)
    body = _body(request, conversation, settings, model)
    if extra:
        _merge(body, extra, conversation.warnings)
    if reasoning.thinking is None or not conversation.thinks:
        body.pop("thinking", None)
        if body["max_tokens"] is None:
            body["max_tokens"] = DEFAULT_MAX_TOKENS
    else:
        body["thinking"] = thinking = reasoning.thinking
        limit = room(thinking, body["max_tokens"], settings.beta, conversation.warnings)
        body["max_tokens"] = limit
        _check_sampling(body, extra, model)
    if output:
        body["output_config"] = output
    http_request = HTTPRequest(
        "POST",
        settings.api_base,
        "/v1/messages",
        headers=_headers(settings),
        json=body,
        auth=_auth(settings),
        stream=request.stream,
        vary=_vary(settings),
        kept_as=None if request.schema is None else _kept_as(body, request.schema),
    )
    return http_request, conversation.warnings


def _body(
    request: Request, conversation: Conversation, settings: Settings, model: Traits
) -> dict[str, JSON]:
    """What is said by parameters that this API has itself, or under another name."""
    params = request.params
    body: dict[str, JSON] = {
        "model": request.model,
        "max_tokens": params.get("max_tokens"),
        "messages": conversation.messages,
    }
    if conversation.system:
        body["system"] = conversation.system
    for name in _AS_THEY_ARE:
        if name in params:
            body[name] = _taken(name, params[name], settings, model)
    if "stop" in params:
        stop = params["stop"]
        body["stop_sequences"] = [stop] if isinstance(stop, str) else list(stop)
    if "tools" in params:
        body["tools"] = wire_tools(params["tools"])
    if choice := tool_choice(params):
        body["tool_choice"] = choice
    if request.stream:
        body["stream"] = True
    return body


def _merge(
    body: dict[str, JSON], extra: Mapping[str, JSON], warnings: list[CompletionWarning]
) -> None:
    """Add ``extra_body``, which goes before what a parameter says of the same."""
    for name, value in extra.items():
        if body.get(name, value) not in (None, value):
            detail = "extra_body says it as well: that was sent"
            warnings.append({"kind": "dropped", "name": name, "detail": detail})
        body[name] = value


def _check_sampling(body: Mapping[str, JSON], extra: Mapping[str, JSON], model: Traits) -> None:
    """Refuse what a model that thinks does not take; ``extra_body`` is sent as it is."""
    name = clash(body, model)
    if name is not None and name not in extra:
        raise UnsupportedError(f"while the model thinks, it takes no other {name}", param=name)


def _kept_as(body: dict[str, JSON], schema: Mapping[str, JSON]) -> JSON:
    """The body with the schema as it was given, by which version 0.1 kept its answers."""
    output = body.get("output_config", {})
    if "format" not in output or output["format"]["schema"] == schema:
        return None
    given = {"type": "json_schema", "schema": dict(schema)}
    return {**body, "output_config": {**output, "format": given}}


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

    def auth() -> dict[str, str]:
        token = settings.auth_token
        headers = {}
        if token is not None:
            headers["authorization"] = f"Bearer {token.get_secret_value()}"
        try:
            headers["x-api-key"] = settings.api_key.get_secret_value()
        except MissingCredentialError:
            if token is None:
                raise
        return headers

    return auth


def _taken(name: str, value: JSON, settings: Settings, model: Traits) -> JSON:
    """The value of a parameter that this version of the API, and this model, takes."""
    if name in SAMPLING and settings.api_version >= WITHOUT_SAMPLING:  # dates, written alike
        raise UnsupportedError(
            f"the Messages API takes no {name} since version {WITHOUT_SAMPLING}", param=name
        )
    if name in SAMPLING and not model.samples:
        raise UnsupportedError(f"the model takes no {name}", param=name)
    if name == "metadata" and isinstance(value, Mapping) and value.keys() - {"user_id"}:
        raise UnsupportedError("the Messages API takes user_id alone in metadata", param=name)
    if name == "service_tier" and value in ("default", "flex", "priority", "scale"):
        raise UnsupportedError(
            f"{value} is a tier of OpenAI's: give auto or standard_only", param=name
        )
    if name == "cache_control" and value is True:
        return {"type": "ephemeral"}
    return value


def _output(
    request: Request,
    extra: Mapping[str, JSON],
    reasoning: Reasoning,
    model: Traits,
    conversation: Conversation,
) -> dict[str, JSON]:
    """``output_config``: the effort, the schema, and what ``extra_body`` says of it."""
    output: dict[str, JSON] = {}
    if (given := extra.get("output_config")) is not None:
        if not isinstance(given, Mapping):
            raise InputError("extra_body.output_config must be a dict")
        output.update(given)
    effort = reasoning.effort
    if effort is not None and output.setdefault("effort", effort) != effort:
        raise InputError("reasoning_effort and output_config.effort differ: give one of them")
    if request.schema is None:
        return output
    if "format" in output:
        raise InputError("schema and output_config.format say the same thing: give one of them")
    if not model.has_schema:
        raise UnsupportedError("the model takes no JSON schema", param="schema")
    if is_any_object(request.schema):
        _ask_for_object(request.schema, conversation)
    else:
        output["format"] = {"type": "json_schema", "schema": closed(request.schema)}
    return output


def _ask_for_object(schema: Mapping[str, JSON], conversation: Conversation) -> None:
    """Ask in words for an object of any names, which a closed schema cannot say."""
    said = "Answer with one JSON object and nothing else: no text around it, no code fence."
    if schema.keys() - {"type"}:
        said += f" It must fit this JSON schema: {json.dumps(schema, ensure_ascii=False)}"
    conversation.system = joined([conversation.system, said] if conversation.system else [said])
    detail = "the Messages API takes closed objects only: the model was asked in words"
    conversation.warnings.append({"kind": "adapted", "name": "schema", "detail": detail})


def _extra(params: Mapping[str, Any]) -> Mapping[str, JSON]:
    extra = params.get("extra_body") or {}
    if not isinstance(extra, Mapping):
        raise InputError("extra_body must be a dict")
    for name in ("model", "messages", "system", "stream"):
        if name in extra:
            raise InputError(f"extra_body cannot hold {name}, which has a place of its own")
    return extra
