"""Anthropic's Messages API as a provider for lmgateway: a wire format unlike OpenAI's."""

from __future__ import annotations

from lmgateway import hookimpl
from lmgateway.types import Completion, Flow, Info, ModelCard, Request, send
from lmgateway.wire.openai import parse_models

from .build import PARAMS, build, models_request
from .parse import parse
from .settings import Settings
from .stream import read_stream

__all__ = [
    "Settings",
    "lmgateway_complete",
    "lmgateway_info",
    "lmgateway_models",
    "lmgateway_settings",
    "lmgateway_stream",
]


@hookimpl
def lmgateway_settings() -> type[Settings]:
    """``ANTHROPIC_API_KEY``, and where the service is."""
    return Settings


@hookimpl
def lmgateway_info() -> Info:
    """Everything but ``n``: the API gives one answer a request."""
    return Info(
        capabilities=frozenset({"messages", "images", "system", "schema"}),
        params=PARAMS,
    )


@hookimpl
def lmgateway_complete(request: Request, settings: Settings) -> Flow[Completion]:
    """One exchange with ``/v1/messages``."""
    return parse(request, (yield from send(build(request, settings))))


@hookimpl
def lmgateway_stream(request: Request, settings: Settings) -> Flow[Completion]:
    """The same, piece by piece."""
    head = yield from send(build(request, settings))
    return (yield from read_stream(request, head))


@hookimpl
def lmgateway_models(settings: Settings) -> Flow[list[ModelCard]]:
    """``GET /v1/models``."""
    return parse_models((yield from send(models_request(settings))))
