"""Requests to OpenAI-compatible hosts, built without I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..._base.values import TypeSchema
from ...errors import InputError, UnsupportedError
from ...types import JSON, Auth, EmbedLimits, EmbedRequest, HTTPRequest, Request
from .exact import exact_schema, is_exact
from .params import CHAT, OPENAI, TEXT, Dialect, Endpoint, body_params, extra_body
from .turns import wire_messages

__all__ = [
    "Embedding",
    "Service",
    "chat_request",
    "completion_request",
    "embed_request",
    "models_request",
]


@dataclass(frozen=True, slots=True)
class Embedding:
    """How a host embeds.

    Attributes:
        base64: Whether it may be asked for vectors in base64, which is a quarter of the bytes.
        limits: What one request may hold.
        input_types: Its words for ``"query"`` and ``"document"``; empty if it has no
            ``input_type``, None if that is not known: then the value goes out as it is.
        dimensions: Its name for ``dimensions``.
    """

    base64: bool = False
    limits: EmbedLimits = field(default_factory=lambda: EmbedLimits(texts=2048))
    input_types: Mapping[str, str] | None = None
    dimensions: str = "dimensions"


_UNKNOWN = Embedding()


@dataclass(frozen=True, slots=True)
class Service:
    """Where a host is, as whom to ask it, and what it takes.

    Attributes:
        base_url: With the version, as in ``https://host/v1``; None as long as nothing is sent.
        auth: See ``lmgateway.types.Auth``; None for a host that asks for no key.
        headers: Sent with every request.
        dialect: The parameters it takes.
        embedding: How it embeds.
    """

    base_url: str | None
    auth: Auth | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    dialect: Dialect = OPENAI
    embedding: Embedding = _UNKNOWN


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


#: Another type of number may be as wide as a float, and be none.
_OTHER_NUMBERS = frozenset({
    "output_dtype", "embedding_type", "embedding_types", "embed_dtype", "endianness",
})  # fmt: skip


def embed_request(request: EmbedRequest, service: Service) -> HTTPRequest:
    """``POST /embeddings`` for all texts at once; ``params`` are ``dimensions``, ``user``, ...

    Vectors are asked for in base64 where the host is known to give them so. A text that is a list
    of parts goes out as a message, which is how vLLM takes images.

    Raises:
        UnsupportedError: The host lacks a parameter or a value of one.
        InputError: ``extra_body`` holds what is not its own.
    """
    embedding, texts = service.embedding, request.texts
    body: dict[str, JSON] = {"model": request.model}
    if len(texts) == 1 and not isinstance(texts[0], str):
        body["messages"] = [{"role": "user", "content": list(texts[0])}]
    else:
        body["input"] = list(texts)
    for name, value in request.params.items():
        if name == "input_type" and value is not None:
            body[name] = _input_type(value, embedding)
        elif name == "dimensions" and value is not None:
            body[embedding.dimensions] = value
        elif name != "extra_body" and value is not None:
            body[name] = value
    extra = extra_body(request.params)
    if "input" in extra:
        raise InputError("extra_body cannot hold input: give the texts to embed()")
    body.update(extra)
    _choose_encoding(body, embedding)
    return HTTPRequest(
        "POST",
        service.base_url,
        "/embeddings",
        headers=service.headers,
        json=body,
        auth=service.auth,
        kept_as=_kept_as(body),
    )


def _input_type(value: JSON, embedding: Embedding) -> JSON:
    """What a text is for, in the host's word."""
    words = embedding.input_types
    if words is None or not isinstance(value, str):
        return value
    if not words:
        raise UnsupportedError(
            "this host has no input_type: it embeds queries and documents alike",
            param="input_type",
        )
    return words.get(value, value)


def _choose_encoding(body: dict[str, JSON], embedding: Embedding) -> None:
    given, others = body.get("encoding_format"), _OTHER_NUMBERS & body.keys()
    odd = [name for name in others if body[name] not in ("float", ["float"], "float32", "little")]
    if given is None:
        if embedding.base64 and not odd:
            body["encoding_format"] = "base64"
    elif given not in ("float", "base64"):
        raise UnsupportedError(
            "encoding_format is float or base64: vectors come as numbers either way",
            param="encoding_format",
        )
    elif given == "base64" and odd:
        raise UnsupportedError(
            f"encoding_format base64 is read as floats, which {odd[0]} asks not to get",
            param="encoding_format",
        )


def _kept_as(body: dict[str, JSON]) -> JSON:
    """By what an answer is found: base64 says only how its numbers are written."""
    if body.get("encoding_format") != "base64":
        return None
    return {name: value for name, value in body.items() if name != "encoding_format"}


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
    extra = extra_body(request.params)
    body.update(extra)
    http_request = HTTPRequest(
        "POST",
        service.base_url,
        f"/{endpoint}",
        headers=service.headers,
        json=body,
        auth=service.auth,
        stream=request.stream,
    )
    if closed is None or "response_format" in extra:
        return http_request
    return _closed(http_request, closed)


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
