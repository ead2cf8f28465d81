"""Anyscale services (Ray Serve LLM on vLLM) as a provider for lmgateway.

The model for other authors: settings, two pure functions that build a request, and hooks that
are one line each on ``lmgateway.wire.openai``.
"""

from __future__ import annotations

from lmgateway import hookimpl
from lmgateway.types import Completion, Embeddings, EmbedRequest, Flow, Info, ModelCard, Request
from lmgateway.wire import openai as wire

from .endpoint import build, service
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
        capabilities=frozenset({"messages", "images", "system", "schema"}),
        params=wire.VLLM.params,
    )


@hookimpl
def lmgateway_complete(request: Request, settings: Settings) -> Flow[Completion]:
    """One exchange with the endpoint that was chosen."""
    return (yield from wire.complete(request, build(request, settings)))


@hookimpl
def lmgateway_stream(request: Request, settings: Settings) -> Flow[Completion]:
    """The same, piece by piece; vLLM and Ray end every stream with ``[DONE]``."""
    return (yield from wire.stream(request, build(request, settings), needs_done=True))


@hookimpl
def lmgateway_embed(request: EmbedRequest, settings: Settings) -> Flow[Embeddings]:
    """``POST /embeddings``, where the service offers it."""
    return (yield from wire.embed(request, service(settings, request.timeout)))


@hookimpl
def lmgateway_models(settings: Settings) -> Flow[list[ModelCard]]:
    """``GET /models``: the models and LoRA adapters of the service."""
    return (yield from wire.models(service(settings)))
