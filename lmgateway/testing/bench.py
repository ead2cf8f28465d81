"""The bench a provider is tried on: a real LM of it, with a Wire where the network would be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._call import flow as flows
from .._call import spec as specs
from .._call.exchange import exchange
from .._drive.cancel import Deadline
from .._drive.loops import run
from .._layers.call import Attempt, Call
from .._plugins.registry import Plugin
from ..lm import LM
from ..types import (
    Blocking,
    Completion,
    Delta,
    Flow,
    HTTPRequest,
    Request,
)
from .calls import DEFAULT_PROMPT, RecordedCall, request_to_json
from .wire import Wire

__all__ = ["DEFAULT_CALL", "Bench", "Outcome"]

DEFAULT_CALL: Mapping[str, Any] = {"prompt": DEFAULT_PROMPT}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one call.

    Attributes:
        completion: The answer.
        pieces: What was emitted on the way.
        wire: What was asked.
    """

    completion: Completion
    pieces: list[Delta]
    wire: Wire


@dataclass(frozen=True, slots=True)
class Bench:
    """One provider with its settings.

    Attributes:
        plugin: The loaded plugin.
        model: The model to ask for.
        settings: Keywords of get_lm, canaries in place of secrets.
        canaries: Those secrets.
    """

    plugin: Plugin
    model: str
    settings: Mapping[str, Any]
    canaries: tuple[str, ...]
    _specs: list[specs.Spec] = field(default_factory=list, init=False, repr=False)

    def lm(self, wire: Wire, **keywords: Any) -> LM:
        """An LM whose every exchange goes to the wire; it asks once, and caches nothing."""
        if not self._specs:
            asked = {"retries": 0, "cache": False, "timeout": 60.0, **self.settings}
            spec = specs.specify(self.plugin.name, self.model, asked, self.plugin)
            self._specs.append(spec)
        spec = specs.varied(self._specs[0], keywords)
        lm = LM(replace(spec, layers=(*spec.layers, wire.layer)))
        object.__setattr__(lm, "_connections", wire)
        return lm

    # -- the four ways to ask -------------------------------------------------------------------

    def ask(self, call: Mapping[str, Any], *answers: Any) -> Outcome:
        """Blocking, at once."""
        wire = Wire(*answers)
        return Outcome(self.lm(wire).complete(**call), [], wire)

    def aask(self, call: Mapping[str, Any], *answers: Any) -> Outcome:
        """Awaited, at once."""
        wire = Wire(*answers)
        return Outcome(asyncio.run(self.lm(wire).acomplete(**call)), [], wire)

    def stream(self, call: Mapping[str, Any], *answers: Any) -> Outcome:
        """Blocking, piece by piece."""
        wire = Wire(*answers)
        stream = self.lm(wire).stream(events=True, **call)
        pieces = list(stream)
        assert stream.completion is not None
        return Outcome(stream.completion, pieces, wire)

    def astream(self, call: Mapping[str, Any], *answers: Any) -> Outcome:
        """Awaited, piece by piece."""
        wire = Wire(*answers)

        async def gather() -> Outcome:
            stream = self.lm(wire).astream(events=True, **call)
            pieces = [piece async for piece in stream]
            assert stream.completion is not None
            return Outcome(stream.completion, pieces, wire)

        return asyncio.run(gather())

    def replay(self, recorded: RecordedCall, *, awaited: bool = False) -> Outcome:
        """Ask as the recorded call did, and be answered as it was."""
        ways: dict[tuple[bool, bool], Callable[..., Outcome]] = {
            (False, False): self.ask,
            (False, True): self.aask,
            (True, False): self.stream,
            (True, True): self.astream,
        }
        return ways[recorded.stream, awaited](recorded.call, *recorded.answers())

    # -- behind the core's back -----------------------------------------------------------------

    def hook(self, call: Mapping[str, Any], *, stream: bool = False) -> tuple[Any, LM]:
        """What the plugin's hook itself gives for a call: a flow, or a Completion."""
        lm = self.lm(Wire())
        spec, request, made = _prepare(lm, call, stream=stream)
        return flows.hook_of(spec, made.kind)(request=request), lm

    def raw(self, recorded: RecordedCall) -> Any:
        """What the plugin returns for a recorded call, before the core looks at it."""
        wire = Wire(*recorded.answers())
        spec, request, call = _prepare(self.lm(wire), recorded.call, stream=recorded.stream)
        attempt = Attempt(call, request)
        try:
            return run(
                exchange(flows.hook_of(spec, call.kind), attempt, (wire.layer,)),
                wire,
                Deadline(60.0),
            )
        finally:
            attempt.exit()

    def first(self, call: Mapping[str, Any], *, stream: bool = False) -> Any:
        """The first thing a call asks for, as JSON; the answer's texts if it asks for nothing.

        None if it runs a function of which no key says what is asked.
        """
        flow, lm = self.hook(call, stream=stream)
        if isinstance(flow, dict):
            return {"answer": [choice["text"] for choice in flow["choices"]]}
        effect = _first_exchange(flow)
        if isinstance(effect, Blocking) and effect.key is None:
            return None
        if effect is not None:
            asked = request_to_json(effect, lm.provider)
            if isinstance(effect, HTTPRequest):
                asked["headers"] = dict(effect.headers)
            return asked
        outcome = self.stream(call) if stream else self.ask(call)
        return {"answer": [choice["text"] for choice in outcome.completion["choices"]]}

    def asks(self, *, stream: bool = False) -> str:
        """What the default call asks for first: ``HTTP``, ``Blocking``, or ``nothing``."""
        flow, _ = self.hook(DEFAULT_CALL, stream=stream)
        effect = None if isinstance(flow, dict) else _first_exchange(flow)
        if effect is None:
            return "nothing"
        return "HTTP" if isinstance(effect, HTTPRequest) else "Blocking"


def _prepare(lm: LM, call: Mapping[str, Any], *, stream: bool) -> tuple[specs.Spec, Request, Call]:
    keywords = dict(call)
    given = [keywords.pop(name, None) for name in ("prompt", "messages", "schema")]
    spec = specs.varied(lm._spec, keywords)
    return spec, *flows.prepare(spec, *given, stream=stream)


def _first_exchange(flow: Flow[Any]) -> HTTPRequest | Blocking | None:
    try:
        for effect in flow:
            if isinstance(effect, HTTPRequest | Blocking):
                return effect
        return None
    finally:
        flow.close()
