"""Anyscale services (Ray Serve LLM on vLLM) as a provider for lmgateway.

The model for other authors: settings, two pure functions that build a request, and hooks that
are one line each on ``lmgateway.wire.openai``.
"""

from __future__ import annotations

from lmgateway import hookimpl
from lmgateway.types import Answer, Embeddings, EmbedRequest, Flow, Info, ModelCard, Request
from lmgateway.wire import openai as wire

from .endpoint import EMBEDDING, build, service, told
from .settings import Settings

__all__ = [
    "Settings",
    "lmgateway_complete",
    "lmgateway_embed",
    "lmgateway_info",
    "lmgateway_models",
    "lmgateway_settings",
    "lmgateway_stream",
]


@hookimpl
def lmgateway_settings() -> type[Settings]:
    """``ANYSCALE_API_BASE``, ``ANYSCALE_API_KEY`` and how to ask."""
    return Settings


@hookimpl
def lmgateway_info() -> Info:
    """Everything that vLLM takes; the endpoint that is chosen decides about each parameter."""
    return Info(
        api=2,
        capabilities=wire.CAPABILITIES,
        params=wire.VLLM.params,
        embed=EMBEDDING.limits,
    )


@hookimpl
def lmgateway_complete(request: Request, settings: Settings) -> Flow[Answer]:
    """One exchange with the endpoint that was chosen."""
    http_request = build(request, settings)
    return told((yield from wire.complete(request, http_request)), request, http_request)


@hookimpl
def lmgateway_stream(request: Request, settings: Settings) -> Flow[Answer]:
    """The same, piece by piece; vLLM and Ray end every stream with ``[DONE]``."""
    http_request = build(request, settings)
    answer = yield from wire.stream(request, http_request, needs_done=True)
    return told(answer, request, http_request)


@hookimpl
def lmgateway_embed(request: EmbedRequest, settings: Settings) -> Flow[Embeddings]:
    """``POST /embeddings``, where the service offers it."""
    return (yield from wire.embed(request, service(settings, request.timeout)))


@hookimpl
def lmgateway_models(settings: Settings) -> Flow[list[ModelCard]]:
    """``GET /models``: the models and LoRA adapters of the service."""
    return (yield from wire.models(service(settings)))
