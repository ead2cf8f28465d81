"""Requests to OpenAI-compatible hosts, built without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..._base.values import TypeSchema
from ...errors import InputError, UnsupportedError
from ...types import JSON, Auth, EmbedRequest, HTTPRequest, Request
from .exact import exact_schema, is_exact
from .params import CHAT, OPENAI, TEXT, Dialect, Endpoint, body_params, extra_body
from .turns import wire_messages

__all__ = [
    "Service",
    "chat_request",
    "completion_request",
    "embed_request",
    "models_request",
]


@dataclass(frozen=True, slots=True)
class Service:
    """Where a host is, as whom to ask it, and what it takes.

    Attributes:
        base_url: With the version, as in ``https://host/v1``; None as long as nothing is sent.
        auth: See ``lmgateway.types.Auth``; None for a host that asks for no key.
        headers: Sent with every request.
        dialect: The parameters it takes.
    """

    base_url: str | None
    auth: Auth | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    dialect: Dialect = OPENAI


def chat_request(request: Request, service: Service) -> HTTPRequest:
    """``POST /chat/completions``: a prompt becomes one user message, ``system`` goes before it.

    Raises:
        UnsupportedError: the endpoint lacks a parameter; the nearest one is named.
        InputError: a value is of the wrong type.
    """
    if request.prompt is not None:
        messages: list[Any] = [{"role": "user", "content": request.prompt}]
    else:
        messages = wire_messages(request.messages or (), service.dialect.longest_id)
    if request.system is not None:
        messages.insert(0, {"role": "system", "content": request.system})
    body: dict[str, JSON] = {"model": request.model, "messages": messages}
    return _post(request, service, CHAT, body)


def completion_request(request: Request, service: Service, *, text: str) -> HTTPRequest:
    """``POST /completions`` with a text that is ready to be continued.

    Whoever rendered it has put ``request.system`` and the messages into it.

    Raises:
        UnsupportedError: the endpoint lacks a parameter; the nearest one is named.
        InputError: a value is of the wrong type.
    """
    body: dict[str, JSON] = {"model": request.model, "prompt": text}
    return _post(request, service, TEXT, body)


def embed_request(request: EmbedRequest, service: Service) -> HTTPRequest:
    """``POST /embeddings`` for all texts at once; ``params`` are ``dimensions``, ``user``, ..."""
    body: dict[str, JSON] = {"model": request.model, "input": list(request.texts)}
    for name, value in request.params.items():
        if name == "encoding_format" and value not in (None, "float"):
            raise UnsupportedError(
                "encoding_format is always float here: vectors come as numbers",
                param="encoding_format",
            )
        if name != "extra_body" and value is not None:
            body[name] = value
    extra = extra_body(request.params)
    if "input" in extra:
        raise InputError("extra_body cannot hold input: give the texts to embed()")
    body.update(extra)
    return HTTPRequest(
        "POST",
        service.base_url,
        "/embeddings",
        headers=service.headers,
        json=body,
        auth=service.auth,
    )


def models_request(service: Service) -> HTTPRequest:
    """``GET /models``."""
    return HTTPRequest(
        "GET", service.base_url, "/models", headers=service.headers, auth=service.auth
    )


def _post(
    request: Request, service: Service, endpoint: Endpoint, body: dict[str, JSON]
) -> HTTPRequest:
    dialect, closed = service.dialect, None
    body.update(body_params(request.params, dialect, endpoint))
    if request.schema is not None:
        if "response_format" in body:
            raise InputError("schema and response_format say the same thing: give one of them")
        if "response_format" not in dialect.of(endpoint):
            raise UnsupportedError(
                f"/{endpoint} of {dialect.name} takes no JSON schema; /{CHAT} does",
                param="schema",
            )
        body["response_format"] = _response_format(request.schema)
        if isinstance(request.schema, TypeSchema) and (exact := exact_schema(request.schema)):
            closed = _response_format(exact)
    if request.stream:
        body["stream"] = True
        if dialect.stream_usage:
            body.setdefault("stream_options", {"include_usage": True})
    elif "stream_options" in body:
        raise InputError("stream_options is for streams: call stream() or astream()")
    body.update(extra_body(request.params))
    http_request = HTTPRequest(
        "POST",
        service.base_url,
        f"/{endpoint}",
        headers=service.headers,
        json=body,
        auth=service.auth,
        stream=request.stream,
    )
    return http_request if closed is None else _closed(http_request, closed)


def _closed(request: HTTPRequest, response_format: dict[str, JSON]) -> HTTPRequest:
    """The request with the schema closed; it is kept as what was asked."""
    body = {**request.json, "response_format": response_format}
    return replace(request, json=body, kept_as=request.json)


def _response_format(schema: Mapping[str, JSON]) -> dict[str, JSON]:
    title = schema.get("title")
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", title)[:64] if isinstance(title, str) else ""
    # OpenAI refuses strict=True for a schema that leaves anything open, and vLLM does not mind.
    return {
        "type": "json_schema",
        "json_schema": {
            "name": name or "answer",
            "schema": dict(schema),
            "strict": is_exact(schema),
        },
    }
