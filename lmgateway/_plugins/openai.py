"""OpenAI, and any host that speaks its wire format."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, SecretStr

from ..hookspecs import hookimpl
from ..types import (
    Answer,
    Embeddings,
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
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    api_base: str = "https://api.openai.com/v1"
    api_key: SecretStr | None = None
    use_chat_api: bool = True
    dialect: Literal["openai", "vllm"] = "openai"
    organization: str | None = None
    project: str | None = None


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
    params = wire.OPENAI.params | wire.VLLM.params
    if model and settings is not None and settings.dialect == "openai" and reasons(model):
        params -= {"max_tokens"}
    return Info(api=2, capabilities=wire.CAPABILITIES, params=params)


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
    return wire.embed(request, service(settings))


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


def service(settings: Settings) -> wire.Service:
    """The host, and the credentials for it."""
    headers = {}
    if settings.organization:
        headers["OpenAI-Organization"] = settings.organization
    if settings.project:
        headers["OpenAI-Project"] = settings.project
    return wire.Service(settings.api_base, settings.api_key, headers, _DIALECTS[settings.dialect])
