"""OpenTelemetry: spans and metrics of every call, by the GenAI semantic conventions.

The conventions are in development; the names here are those of release 1.37 and later
(``gen_ai.provider.name``, not ``gen_ai.system``), with ``time_to_first_chunk`` as added since:
https://opentelemetry.io/docs/specs/semconv/gen-ai/
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from ._layers.observe import CallEvent, Subscription, on_call

try:
    from opentelemetry import metrics, trace
except ImportError as error:
    raise ImportError(
        "lmgateway.otel needs OpenTelemetry: pip install 'lmgateway-core[otel]'"
    ) from error

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["instrument"]

NAME = "lmgateway"
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]
TOKENS = [float(4**power) for power in range(14)]

# Our providers' names where the conventions have another one for the same service.
_WELL_KNOWN = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "moonshot": "moonshot_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}

# The conventions know no operation that lists models, orders documents or counts tokens; a name of
# one's own is allowed then.
_OPERATIONS = {"embed": "embeddings", "models": "list_models", "count": "count_tokens"}

_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "dimensions": "gen_ai.embeddings.dimension.count",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "seed": "gen_ai.request.seed",
}


def instrument(
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
) -> Subscription:
    """Have every call of this process make a span and count in the metrics.

    The span covers the call with all its attempts, and is a child of the span that was current
    when the call began. It is made when the call ends, so it is never current itself: spans of an
    instrumented HTTP library stand beside it, not below. An answer from the cache makes a span
    with ``lmgateway.cached`` and no metrics, since no operation of the service took place.
    Neither prompt nor answer, nor any text of an error, is recorded.

    Args:
        tracer_provider: OpenTelemetry's global one if None.
        meter_provider: OpenTelemetry's global one if None.

    Returns:
        A subscription: call it to end it, or use it as a context manager.
    """
    tracer = trace.get_tracer(NAME, tracer_provider=tracer_provider)
    instruments = _Instruments(metrics.get_meter(NAME, meter_provider=meter_provider))

    def record(event: CallEvent) -> None:
        shared = _shared(event)
        _span(tracer, event, shared)
        if not event.cached:
            instruments.record(event, shared)

    return on_call(record)


class _Instruments:
    """The three histograms of a client."""

    __slots__ = ("duration", "first_chunk", "tokens")

    def __init__(self, meter: metrics.Meter) -> None:
        self.duration = meter.create_histogram(
            "gen_ai.client.operation.duration",
            unit="s",
            description="GenAI operation duration.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.first_chunk = meter.create_histogram(
            "gen_ai.client.operation.time_to_first_chunk",
            unit="s",
            description="Time from the request to the first chunk of a streamed answer.",
            explicit_bucket_boundaries_advisory=SECONDS,
        )
        self.tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            unit="{token}",
            description="Number of input and output tokens used.",
            explicit_bucket_boundaries_advisory=TOKENS,
        )

    def record(self, event: CallEvent, shared: dict[str, Any]) -> None:
        failed = {"error.type": event.error} if event.error else {}
        self.duration.record(event.duration, {**shared, **failed})
        if event.time_to_first_piece is not None:
            self.first_chunk.record(event.time_to_first_piece, shared)
        for kind, name in (("input", "prompt_tokens"), ("output", "completion_tokens")):
            tokens = event.usage.get(name)
            if isinstance(tokens, int):
                self.tokens.record(tokens, {**shared, "gen_ai.token.type": kind})


def _shared(event: CallEvent) -> dict[str, Any]:
    """The attributes that spans and metrics have in common."""
    address, port = _address(event.host)
    return _known(
        {
            "gen_ai.operation.name": _operation(event),
            "gen_ai.provider.name": _WELL_KNOWN.get(event.provider, event.provider),
            "gen_ai.request.model": event.model or None,
            "gen_ai.response.model": event.response_model,
            "server.address": address,
            "server.port": port,
        }
    )


def _operation(event: CallEvent) -> str:
    if event.kind != "complete":
        return _OPERATIONS.get(event.kind, event.kind)
    *above, endpoint = (event.endpoint or "").split("/")
    return "text_completion" if endpoint == "completions" and above[-1:] != ["chat"] else "chat"


def _span(tracer: trace.Tracer, event: CallEvent, shared: dict[str, Any]) -> None:
    end = time.time_ns()
    usage = event.usage
    count = event.params.get("n", 1)
    attributes = shared | _known(
        {
            **{name: event.params.get(ours) for ours, name in _PARAMETERS.items()
               if ours in event.params},
            "gen_ai.request.choice.count": count if count != 1 else None,
            "gen_ai.request.stream": event.streamed or None,
            "gen_ai.response.id": event.response_id,
            "gen_ai.response.finish_reasons": [each or "" for each in event.finish_reasons] or None,
            "gen_ai.response.time_to_first_chunk": event.time_to_first_piece,
            "gen_ai.usage.input_tokens": usage.get("prompt_tokens"),
            "gen_ai.usage.output_tokens": usage.get("completion_tokens"),
            "gen_ai.usage.cache_read.input_tokens": usage.get("cached_tokens"),
            "gen_ai.usage.cache_creation.input_tokens": usage.get("cache_write_tokens"),
            "error.type": event.error,
            "lmgateway.attempts": event.attempts,
            "lmgateway.cached": event.cached or None,
            "lmgateway.outcome": event.outcome,
            "lmgateway.request_id": event.request_id,
        }
    )  # fmt: skip
    span = tracer.start_span(
        f"{shared['gen_ai.operation.name']} {event.model}".rstrip(),
        kind=trace.SpanKind.CLIENT,
        attributes=attributes,
        start_time=end - int(event.duration * 1e9),
    )
    if event.error:
        span.set_status(trace.StatusCode.ERROR)
    span.end(end)


def _address(host: str | None) -> tuple[str | None, int | None]:
    """The two parts of ``host[:port]``, an IPv6 address without its brackets."""
    if not host:
        return None, None
    name, colon, port = host.rpartition(":")
    if not colon or not port.isdecimal():
        name, port = host, ""
    return name.strip("[]"), int(port) if port else None


def _known(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in attributes.items() if value is not None}
