"""Anthropic's Messages API as a provider for lmgateway: a wire format unlike OpenAI's."""

from __future__ import annotations

from lmgateway import hookimpl
from lmgateway.types import Answer, CompletionWarning, Flow, Info, ModelCard, Request, send
from lmgateway.wire.openai import parse_models

from .build import PARAMS, models_request, prepare
from .messages import FORMAT
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
        api=2,
        capabilities=frozenset(
            {"files", "images", "messages", "prefill", "reasoning", "schema", "system", "tools"}
        ),
        params=PARAMS,
        portable=frozenset({FORMAT}),
    )


@hookimpl
def lmgateway_complete(request: Request, settings: Settings) -> Flow[Answer]:
    """One exchange with ``/v1/messages``."""
    http_request, warnings = prepare(request, settings)
    return _told(parse(request, (yield from send(http_request))), warnings)


@hookimpl
def lmgateway_stream(request: Request, settings: Settings) -> Flow[Answer]:
    """The same, piece by piece."""
    http_request, warnings = prepare(request, settings)
    head = yield from send(http_request)
    return _told((yield from read_stream(request, head)), warnings)


def _told(answer: Answer, warnings: list[CompletionWarning]) -> Answer:
    if warnings:
        answer["warnings"] = warnings
    return answer


@hookimpl
def lmgateway_models(settings: Settings) -> Flow[list[ModelCard]]:
    """``GET /v1/models``."""
    return parse_models((yield from send(models_request(settings))))
