"""What the tests of the layers share: steps that fail by a script, and a pump without a clock."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec

from lmgateway._call.endpoint import Endpoint
from lmgateway._call.kinds import COMPLETE
from lmgateway._drive.cancel import Deadline
from lmgateway._layers.context import Call, Step
from lmgateway.types import Completion, Effect, Emit, Flow, Options, Request, Sleep

Outcome = BaseException | str
P = ParamSpec("P")


def awaited(test: Callable[P, Coroutine[Any, Any, None]]) -> Callable[P, None]:
    """A test of its own event loop."""

    @wraps(test)
    def blocking(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(test(*args, **kwargs))

    return blocking


def call_of(provider: str = "scripted", *, timeout: float | None = 60.0, **options: Any) -> Call:
    chosen = Options(timeout=timeout, **options)
    endpoint = Endpoint(provider, "the test's provider", None, chosen)
    return Call(COMPLETE, provider, chosen, endpoint, Deadline(timeout), host="host.test")


def answer(text: str = "yes", **more: Any) -> Completion:
    return Completion(prompt="Hi", choices=[{"text": text}], **more)


class Script:
    """A step whose n-th run raises or answers what stands at the n-th place, then the last."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = outcomes
        self.runs = 0

    def __call__(self, request: Request) -> Flow[Completion]:
        outcome = self.outcomes[min(self.runs, len(self.outcomes) - 1)]
        self.runs += 1
        if isinstance(outcome, BaseException):
            raise outcome
        return answer(outcome)
        yield Emit("")  # a flow, though it asks for nothing


class Pump:
    """Runs a flow; sleeps take no time and are recorded."""

    def __init__(self) -> None:
        self.effects: list[Effect] = []

    @property
    def sleeps(self) -> list[float]:
        return [effect.seconds for effect in self.effects if isinstance(effect, Sleep)]

    def run(self, flow: Flow[Any], reply: Callable[[Effect], Any] = lambda _: None) -> Any:
        value = None
        while True:
            try:
                effect = flow.send(value)
            except StopIteration as stop:
                return stop.value
            self.effects.append(effect)
            value = reply(effect)


def run_step(step: Step, request: Request | None = None) -> tuple[Any, Pump]:
    pump = Pump()
    return pump.run(step(request or Request("m", "Hi"))), pump


def notes(error: BaseException) -> str:
    return "\n".join(getattr(error, "__notes__", ()))
