"""Anthropic's Messages API as a provider for lmgateway: a wire format unlike OpenAI's."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from lmgateway import hookimpl
from lmgateway.types import Answer, CompletionWarning, Flow, Info, ModelCard, Request, send
from lmgateway.wire.openai import parse_models

from .build import PARAMS, SAMPLING, models_request, prepare
from .messages import FORMAT
from .models import traits
from .parse import parse
from .settings import WITHOUT_SAMPLING, Settings
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


INFO = Info(
    api=2,
    capabilities=frozenset(
        {"files", "images", "messages", "prefill", "reasoning", "schema", "system", "tools"}
    ),
    params=PARAMS,
    portable=frozenset({FORMAT}),
)


@hookimpl
def lmgateway_info(settings: Settings | None, model: str | None) -> Info:
    """What the model takes of all that the API does, in the version that is asked.

    Never ``n``: the API gives one answer a request.
    """
    if settings is None:
        return INFO
    return _info(model or "", settings.api_version >= WITHOUT_SAMPLING)  # dates, written alike


@lru_cache(maxsize=256)
def _info(model: str, without_sampling: bool) -> Info:
    takes = traits(model)
    params, lacks = PARAMS, set()
    if without_sampling or not takes.samples:
        params -= SAMPLING
    if not takes.thinks:
        params -= {"reasoning_effort", "thinking"}
        lacks.add("reasoning")
    if not takes.has_prefill:
        lacks.add("prefill")
    if not takes.has_schema:
        lacks.add("schema")
    if params == PARAMS and not lacks:
        return INFO
    return replace(INFO, capabilities=INFO.capabilities - lacks, params=params)


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
