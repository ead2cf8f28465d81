"""OpenTelemetry: spans and metrics as the GenAI conventions want them, in the SDK's own words."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from layers.flows import Script, awaited, call_of, run_step

from lmgateway._drive.loops import arun
from lmgateway._layers.context import Call
from lmgateway._layers.observe import observe
from lmgateway.errors import ServerError
from lmgateway.types import Completion, Emit, Flow, Request

pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, Tracer

from lmgateway.otel import instrument


class Telemetry:
    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.reader = InMemoryMetricReader()
        self.traces = TracerProvider()
        self.traces.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider([self.reader])

    @property
    def tracer(self) -> Tracer:
        return self.traces.get_tracer("test")

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    @property
    def span(self) -> ReadableSpan:
        (span,) = self.spans
        return span

    def points(self, metric: str) -> list[Any]:
        data = self.reader.get_metrics_data()
        return [
            point
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for each in scope.metrics
            if each.name == metric
            for point in each.data.data_points
        ]


@pytest.fixture
def telemetry() -> Iterator[Telemetry]:
    telemetry = Telemetry()
    with instrument(telemetry.traces, telemetry.meters):
        yield telemetry
    telemetry.traces.shutdown()
    telemetry.meters.shutdown()


def whole(request: Request) -> Flow[Completion]:
    return Completion(
        prompt="Hi",
        choices=[{"text": "a", "finish_reason": "stop"}, {"text": "b", "finish_reason": "length"}],
        model="m-1",
        usage={"prompt_tokens": 3, "completion_tokens": 40, "cached_tokens": 1},
        id="chat-1",
        provider="mistral",
        endpoint="chat/completions",
    )
    yield


def call_at(host: str | None = "host.test:8000", path: str | None = "/chat/completions") -> Call:
    call = call_of("mistral")
    call.host, call.path, call.attempts = host, path, 2
    return call


PARAMS = {"temperature": 0.5, "max_tokens": 9, "n": 2, "seed": 7, "stop": "secret"}


def test_a_call_is_a_client_span(telemetry: Telemetry) -> None:
    run_step(observe(whole, call_at()), Request("m", "secret", params=PARAMS))
    span = telemetry.span
    assert (span.name, span.kind) == ("chat m", SpanKind.CLIENT)
    assert span.status.status_code is StatusCode.UNSET
    assert dict(span.attributes or {}) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "m",
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.max_tokens": 9,
        "gen_ai.request.seed": 7,
        "gen_ai.request.choice.count": 2,
        "gen_ai.response.id": "chat-1",
        "gen_ai.response.model": "m-1",
        "gen_ai.response.finish_reasons": ("stop", "length"),
        "gen_ai.usage.input_tokens": 3,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.usage.cache_read.input_tokens": 1,
        "server.address": "host.test",
        "server.port": 8000,
        "lmgateway.attempts": 2,
        "lmgateway.outcome": "ok",
    }


def test_a_span_is_as_long_as_the_call(telemetry: Telemetry) -> None:
    call = call_at()
    call.started -= 2.0
    run_step(observe(whole, call))
    span = telemetry.span
    assert span.start_time is not None
    assert span.end_time is not None
    assert 2e9 <= span.end_time - span.start_time < 4e9


def test_a_failed_call_is_an_error_by_its_class_and_tells_no_text(telemetry: Telemetry) -> None:
    with pytest.raises(ServerError):
        run_step(observe(Script(ServerError("secret", status=503)), call_at(path="/completions")))
    span = telemetry.span
    assert span.name == "text_completion m"
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["error.type"] == "ServerError"
    assert "secret" not in span.to_json()
    (point,) = telemetry.points("gen_ai.client.operation.duration")
    assert point.attributes["error.type"] == "ServerError"


def test_a_stream_that_is_left_is_no_error(telemetry: Telemetry) -> None:
    def endless(request: Request) -> Flow[Completion]:
        while True:
            yield Emit("x")

    call = call_at()
    flow = observe(endless, call)(Request("m", "Hi", stream=True))
    next(flow)
    call.first_piece = call.started + 0.5
    flow.close()
    attributes = telemetry.span.attributes or {}
    assert telemetry.span.status.status_code is StatusCode.UNSET
    assert attributes["lmgateway.outcome"] == "abandoned"
    assert attributes["gen_ai.request.stream"] is True
    assert attributes["gen_ai.response.time_to_first_chunk"] == pytest.approx(0.5)
    (point,) = telemetry.points("gen_ai.client.operation.time_to_first_chunk")
    assert point.sum == pytest.approx(0.5)


def test_metrics_have_the_buckets_and_attributes_of_the_conventions(telemetry: Telemetry) -> None:
    run_step(observe(whole, call_at()), Request("m", "Hi"))
    (duration,) = telemetry.points("gen_ai.client.operation.duration")
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    assert duration.explicit_bounds[-1] == 81.92
    assert dict(duration.attributes) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mistral_ai",
        "gen_ai.request.model": "m",
        "gen_ai.response.model": "m-1",
        "server.address": "host.test",
        "server.port": 8000,
    }
    tokens = telemetry.points("gen_ai.client.token.usage")
    assert {point.attributes["gen_ai.token.type"]: point.sum for point in tokens} == {
        "input": 3,
        "output": 40,
    }
    assert tokens[0].explicit_bounds[-1] == 67108864


def test_a_cached_answer_is_a_span_and_no_operation_of_the_service(telemetry: Telemetry) -> None:
    def cached(request: Request) -> Flow[Completion]:
        completion = yield from whole(request)
        completion["cached"] = True
        return completion

    run_step(observe(cached, call_at(host=None)))
    assert (telemetry.span.attributes or {})["lmgateway.cached"] is True
    assert telemetry.points("gen_ai.client.operation.duration") == []
    assert telemetry.points("gen_ai.client.token.usage") == []


@pytest.mark.parametrize(
    "host, address, port",
    [
        ("host.test", "host.test", None),
        ("127.0.0.1:80", "127.0.0.1", 80),
        ("[::1]:8000", "::1", 8000),
        ("[::1]", "::1", None),
        (None, None, None),
    ],
)
def test_the_host_is_an_address_and_a_port(
    telemetry: Telemetry, host: str | None, address: str | None, port: int | None
) -> None:
    run_step(observe(whole, call_at(host)))
    attributes = telemetry.span.attributes or {}
    assert (attributes.get("server.address"), attributes.get("server.port")) == (address, port)


def parent_of(telemetry: Telemetry) -> tuple[int | None, int]:
    (inner,) = [span for span in telemetry.spans if span.name == "chat m"]
    (outer,) = [span for span in telemetry.spans if span.name == "outer"]
    assert outer.context is not None
    return (inner.parent.span_id if inner.parent else None), outer.context.span_id


def test_a_span_is_a_child_of_the_span_in_which_the_call_began(telemetry: Telemetry) -> None:
    with telemetry.tracer.start_as_current_span("outer"):
        flow = observe(whole, call_at())(Request("m", "Hi"))
    with telemetry.tracer.start_as_current_span("later"), pytest.raises(StopIteration):
        next(flow)
    parent, outer = parent_of(telemetry)
    assert parent == outer


@awaited
async def test_tasks_have_their_own_parents() -> None:
    telemetry = Telemetry()

    async def one(name: str) -> None:
        with telemetry.tracer.start_as_current_span(name):
            await asyncio.sleep(0)
            call = call_at()
            await arun(observe(whole, call)(Request(name, "Hi")), None, call.deadline)  # type: ignore[arg-type]

    with instrument(telemetry.traces, telemetry.meters):
        await asyncio.gather(*(one(f"m{n}") for n in range(5)))
    ids = {span.name: span.context.span_id for span in telemetry.spans if span.context}
    for span in telemetry.spans:
        if span.name.startswith("chat "):
            assert span.parent is not None
            assert span.parent.span_id == ids[span.name.removeprefix("chat ")]
    assert len(telemetry.spans) == 10


def test_it_ends_with_its_subscription(telemetry: Telemetry) -> None:
    other = Telemetry()
    instrument(other.traces, other.meters)()
    run_step(observe(whole, call_at()))
    assert other.spans == []
    assert len(telemetry.spans) == 1


def test_without_the_library_the_error_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry'] = None; import lmgateway.otel"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'lmgateway-core[otel]'" in done.stderr
