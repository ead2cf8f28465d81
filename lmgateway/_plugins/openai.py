"""OpenAI, and any host that speaks its wire format."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ..hookspecs import hookimpl
from ..types import (
    Answer,
    Embeddings,
    EmbedLimits,
    EmbedRequest,
    Flow,
    HTTPRequest,
    Info,
    ModelCard,
    Request,
)
from ..wire import openai as wire
from ..wire.openai.params import reasons

__all__ = [
    "Settings",
    "lmgateway_complete",
    "lmgateway_embed",
    "lmgateway_info",
    "lmgateway_models",
    "lmgateway_settings",
    "lmgateway_stream",
]

_DIALECTS = {"openai": wire.OPENAI, "vllm": wire.VLLM}


class EmbeddingSettings(BaseModel):
    """How a host embeds: see ``lmgateway.wire.openai.Embedding``.

    Attributes:
        base64: Whether vectors may be asked for in base64.
        texts: Texts in one request at most.
        tokens: Tokens in one request at most; None for any number.
        text_tokens: Tokens of one text at most; None for any number.
        empty: Whether a text may be empty.
        images: Whether a text may be a list of parts with images in it.
        input_types: The host's words for ``query`` and ``document``; empty if it has none.
        dimensions: The host's name for ``dimensions``.
        api_base: The host that this is about. At another address, ``text_tokens`` and ``empty``,
            and that it has no ``input_types``, hold for ``models`` only. None for any address.
        models: How the names of the host's own models begin, wherever they are served.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    base64: bool = False
    texts: int = Field(2048, ge=1)
    tokens: int | None = Field(None, ge=1)
    text_tokens: int | None = Field(None, ge=1)
    empty: bool = True
    images: bool = False
    input_types: dict[str, str] | None = None
    dimensions: str = "dimensions"
    api_base: str | None = None
    models: str | None = None


class Settings(BaseModel):
    """Where the host is and what it takes.

    Attributes:
        api_base: With the version, as in ``https://host/v1``.
        api_key: Sent as a Bearer token; a host of your own may need none. The core knows which
            of the known hosts answer nobody without one.
        use_chat_api: True for ``/chat/completions``; False sends the prompt, as it is, to
            ``/completions``.
        dialect: The parameters the host takes: ``openai``'s, or ``vllm``'s longer list.
        organization: Sent as ``OpenAI-Organization``.
        project: Sent as ``OpenAI-Project``.
        embeddings: How the host embeds, where that is known.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_base: str = "https://api.openai.com/v1"
    api_key: SecretStr | None = None
    use_chat_api: bool = True
    dialect: Literal["openai", "vllm"] = "openai"
    organization: str | None = None
    project: str | None = None
    embeddings: EmbeddingSettings | None = None


@hookimpl
def lmgateway_settings() -> type[Settings]:
    """The settings above."""
    return Settings


@hookimpl
def lmgateway_info(settings: Settings | None, model: str | None) -> Info:
    """All capabilities and parameters; the endpoint and the dialect decide later about each.

    OpenAI's models that reason refuse ``max_tokens``, so the core calls the limit of an answer by
    its other name for them.
    """
    if isinstance(model, str) and settings and settings.dialect == "openai" and reasons(model):
        return _REASONING
    return _ANY


@hookimpl
def lmgateway_complete(request: Request, settings: Settings) -> Flow[Answer]:
    """One exchange with the endpoint that ``use_chat_api`` chooses."""
    return wire.complete(request, build(request, settings))


@hookimpl
def lmgateway_stream(request: Request, settings: Settings) -> Flow[Answer]:
    """One exchange whose answer comes piece by piece."""
    return wire.stream(request, build(request, settings))


@hookimpl
def lmgateway_embed(request: EmbedRequest, settings: Settings) -> Flow[Embeddings]:
    """``POST /embeddings``."""
    return wire.embed(request, service(settings, embedding(settings, request.model)))


@hookimpl
def lmgateway_models(settings: Settings) -> Flow[list[ModelCard]]:
    """``GET /models``."""
    return wire.models(service(settings))


def build(request: Request, settings: Settings) -> HTTPRequest:
    """The request to send, without I/O."""
    where = service(settings)
    if settings.use_chat_api or request.messages is not None:
        return wire.chat_request(request, where)
    text = request.prompt or ""
    if request.system is not None:
        text = f"{request.system}\n\n{text}"
    return wire.completion_request(request, where, text=text)


def service(settings: Settings, embeds: wire.Embedding | None = None) -> wire.Service:
    """The host, and the credentials for it."""
    headers = {}
    if settings.organization:
        headers["OpenAI-Organization"] = settings.organization
    if settings.project:
        headers["OpenAI-Project"] = settings.project
    dialect = _DIALECTS[settings.dialect]
    return wire.Service(settings.api_base, settings.api_key, headers, dialect, embeds or _UNKNOWN)


def embedding(settings: Settings, model: str) -> wire.Embedding:
    """How the host embeds with this model."""
    said = settings.embeddings
    if said is None:
        return _UNKNOWN
    words = None if said.input_types is None else tuple(said.input_types.items())
    at_home = said.api_base in (None, settings.api_base)
    if at_home or (said.models is not None and model.startswith(said.models)):
        own = said.text_tokens, said.empty, words
    else:  # it speaks the host's format, and has models of its own
        own = None, True, words or None
    return _embedding(said.base64, said.texts, said.tokens, said.images, said.dimensions, *own)


@lru_cache(maxsize=64)
def _embedding(
    base64: bool,
    texts: int,
    tokens: int | None,
    images: bool,
    dimensions: str,
    text_tokens: int | None,
    empty: bool,
    words: tuple[tuple[str, str], ...] | None,
) -> wire.Embedding:
    limits = EmbedLimits(texts, tokens, text_tokens, empty, images)
    return wire.Embedding(base64, limits, None if words is None else dict(words), dimensions)


_UNKNOWN = wire.Embedding()
_ANY = Info(
    api=2,
    capabilities=wire.CAPABILITIES,
    params=wire.OPENAI.params | wire.VLLM.params,
    embed=lambda settings, model: embedding(settings, model).limits,
)
_REASONING = replace(_ANY, params=_ANY.params - {"max_tokens"})
