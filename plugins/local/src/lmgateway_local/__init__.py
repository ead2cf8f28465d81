"""The provider ``local``: llama.cpp in the process, on any ``.gguf`` file."""

from __future__ import annotations

from dataclasses import replace
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from lmgateway import hookimpl
from lmgateway.errors import ConfigError, InputError, UnsupportedError
from lmgateway.types import (
    Answer,
    Blocking,
    Embeddings,
    EmbedLimits,
    EmbedRequest,
    Flow,
    HTTPRequest,
    Info,
    ModelCard,
    Request,
    send,
)
from lmgateway.wire.openai import (
    CHAT,
    TEXT,
    Dialect,
    Endpoint,
    Service,
    chat_request,
    completion_request,
    parse,
    parse_embeddings,
    read_stream,
)

from .tools import prepare
from .weights import DEFAULT_MODEL, Weights, find

if TYPE_CHECKING:
    from pydantic import BaseModel

    from .calls import Call
    from .engine import Spec
    from .settings import Settings

__all__ = [
    "lmgateway_close",
    "lmgateway_complete",
    "lmgateway_embed",
    "lmgateway_info",
    "lmgateway_models",
    "lmgateway_settings",
    "lmgateway_stream",
]

MAX_TOKENS = 512
"""Tokens of an answer unless ``max_tokens`` says otherwise: a small model may never stop."""

# llama.cpp ignores what it does not know, so this list has to be right.
_BOTH = frozenset(
    ("temperature", "top_p", "top_k", "min_p", "max_tokens", "n", "stop", "seed",
     "presence_penalty", "frequency_penalty", "repeat_penalty", "logit_bias", "logprobs",
     "top_logprobs", "response_format")
)  # fmt: skip
_CHAT = _BOTH | {"tools", "tool_choice", "parallel_tool_calls"}
_LLAMA = Dialect("llama.cpp", chat=_CHAT, text=_BOTH)
_SERVICE = Service(base_url=None, dialect=_LLAMA)


#: Few, so that many requests come to their end one after another, and little is lost with one.
TEXTS_AT_ONCE = 64


def _limits(settings: Settings | None, model: str) -> EmbedLimits:
    longest = None if settings is None else settings.n_ctx
    return EmbedLimits(texts=TEXTS_AT_ONCE, text_tokens=longest, empty=False)


@hookimpl
def lmgateway_info() -> Info:
    """Conversations, a system text, tools and JSON schemas; SmolLM2 when no model is named."""
    return Info(
        api=2,
        capabilities=frozenset({"messages", "prefill", "schema", "system", "tools"}),
        params=_LLAMA.params,
        default_model=DEFAULT_MODEL,
        model_is_file=True,
        embed=_limits,
    )


@hookimpl
def lmgateway_settings() -> type[BaseModel]:
    """See ``Settings``."""
    from .settings import Settings

    return Settings


@hookimpl
def lmgateway_complete(request: Request, settings: Settings) -> Flow[Answer]:
    """The whole answer."""
    _, call = _prepare(request, settings)
    response = yield from send(
        Blocking(call.answer, call.key(streamed=False), cancel=call.left.set)
    )
    return parse(request, response, call.endpoint)


@hookimpl
def lmgateway_stream(request: Request, settings: Settings) -> Flow[Answer]:
    """The answer token by token; a reader who leaves stops the computation."""
    http_request, call = _prepare(request, settings)
    key = call.key(streamed=True)
    head = yield from send(Blocking(call.stream, key, stream=True, cancel=call.left.set))
    return (yield from read_stream(request, http_request, head, needs_done=True))


@hookimpl
def lmgateway_embed(request: EmbedRequest, settings: Settings) -> Flow[Embeddings]:
    """Vectors of length 1, of as many dimensions as the model has."""
    from .texts import Texts

    for name, value in request.params.items():
        if value is not None and not (name == "encoding_format" and value in ("float", "base64")):
            raise UnsupportedError(f"llama.cpp embeds without {name}{_INSTEAD.get(name, '')}")
    weights = find(request.model)
    pooling = settings.pooling or ("model" if weights.pools() else "mean")
    expires_at = inf if request.timeout is None else monotonic() + request.timeout
    spec = replace(_spec(weights, settings), pooling=pooling)
    texts = Texts(spec, settings.holds.add, request.texts, expires_at)
    response = yield from send(Blocking(texts.answer, texts.key(), cancel=texts.left.set))
    return parse_embeddings(request, response)


_INSTEAD = {
    "dimensions": ": a vector has as many as the model",
    "input_type": ": put before each text what the model was trained to find there",
}


@hookimpl
def lmgateway_models(settings: Settings) -> list[ModelCard]:
    """The model that goes by a name, if it is installed; all others go by the path of a file."""
    try:
        find(DEFAULT_MODEL)
    except ConfigError:
        return []
    return [{"id": DEFAULT_MODEL, "context_length": settings.n_ctx}]


@hookimpl
def lmgateway_close(settings: Settings) -> None:
    """Free what these settings kept loaded, unless others keep it too."""
    from .engine import let_go

    settings.holds.release()
    let_go()


def _prepare(request: Request, settings: Settings) -> tuple[HTTPRequest, Call]:
    """The request as a server would get it, and as llama.cpp does.

    Raises:
        InputError, UnsupportedError: it cannot be done, or not with these settings.
        ConfigError: the default model's weights are not installed.
    """
    from .calls import Call

    endpoint = CHAT if settings.use_chat_api or request.prompt is None else TEXT
    http_request = _build(request, endpoint)
    body: dict[str, Any] = {"max_tokens": MAX_TOKENS, **http_request.json}
    if endpoint == TEXT and "response_format" in body:
        body.update(_as_schema(body.pop("response_format")))
    if "seed" in body:  # a prompt half remembered is computed in other steps, with other roundings
        body.setdefault("cache_prompt", False)
    n = body.get("n", 1)
    if n > settings.n_parallel:
        raise InputError(
            f"n={n} needs n_parallel={n}, and it is {settings.n_parallel}: "
            f"get_lm(..., n_parallel={n}), or ask for fewer"
        )
    weights = find(request.model)
    spelled: frozenset[str] = frozenset()
    if endpoint == CHAT:
        body, spelled = prepare(body, weights.knows_tools)
    spec = _spec(weights, settings)
    body["model"] = spec.name
    expires_at = inf if request.timeout is None else monotonic() + request.timeout
    call = Call(spec, settings.holds.add, endpoint, body, expires_at, spelled)
    return http_request, call


def _build(request: Request, endpoint: Endpoint) -> HTTPRequest:
    request = replace(request, stream=False)  # the call adds what a stream needs
    if endpoint == CHAT:
        return chat_request(request, _SERVICE)
    if request.system is not None:
        raise InputError("use_chat_api=False takes no system text: put it into the prompt")
    return completion_request(request, _SERVICE, text=request.prompt or "")


def _spec(weights: Weights, settings: Settings) -> Spec:
    from .engine import Spec

    return Spec(
        weights.path,
        weights.digest(),
        weights.name,
        settings.n_ctx,
        settings.n_parallel,
        settings.threads,
    )


def _as_schema(response_format: dict[str, Any]) -> dict[str, Any]:
    """llama.cpp ignores ``response_format`` in ``/completions`` and obeys ``json_schema``."""
    match response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return {"json_schema": schema}
        case {"type": "json_object", "schema": schema}:
            return {"json_schema": schema}
        case {"type": "json_object"}:
            return {"json_schema": {"type": "object"}}
        case {"type": "text"}:
            return {}
    raise InputError(
        "response_format is {'type': 'json_schema', 'json_schema': {'schema': ...}}, "
        "{'type': 'json_object'} or {'type': 'text'}"
    )
