"""A call that failed leaves nothing for the cycle collector: an error holds its frames alive."""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import suppress

import pytest
from layers.flows import Pump, call_of

from lmgateway._layers.context import Call, Step
from lmgateway._layers.fallback import fallback
from lmgateway._layers.limit import Limits, limit, limiters
from lmgateway._layers.observe import observe, on_call
from lmgateway._layers.retry import retry
from lmgateway.errors import ServerError
from lmgateway.types import Completion, Exchange, Flow, HTTPRequest, Request, Sleep


def failing(request: Request) -> Flow[Completion]:
    raise ServerError("busy", status=503, retry_after=0.0)
    yield Sleep(0)


def retried(call: Call) -> Step:
    return retry(failing, call)


def fallen_back(call: Call) -> Step:
    return fallback(failing, call, [("other", failing)])


def watched(call: Call) -> Step:
    with on_call(lambda event: None):
        return observe(failing, call)


def limited(call: Call) -> Step:
    from lmgateway._layers.context import Attempt

    def send(exchange: Exchange) -> Flow[Completion]:
        return (yield from failing(Request("m")))

    def step(request: Request) -> Flow[Completion]:
        attempt = Attempt(call, request)
        try:
            layer = limit(Limits(rpm=1e9, tpm=1e9, in_flight=1))
            completion: Completion = yield from layer(send, attempt)(HTTPRequest("GET", "", "/"))
            return completion
        finally:
            attempt.exit()

    return step


@pytest.mark.parametrize("layer", [retried, fallen_back, watched, limited])
def test_a_failed_call_leaves_no_cycle(layer: Callable[[Call], Step]) -> None:
    def fail() -> None:
        with suppress(ServerError):
            Pump().run(layer(call_of())(Request("m", "Hi")))

    limiters.clear()
    fail()
    gc.collect()
    gc.disable()
    try:
        counts = []
        for _ in range(5):  # threads that other tests left may litter too, but not each time
            fail()
            counts.append(gc.collect())
        assert 0 in counts
    finally:
        gc.enable()
