"""The bench on which a provider is tried: a real LM of it, with a Wire in place of the network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from .._call import flow as flows
from .._call.hook import run_hook
from .._call.spec import Spec
from .._drive.cancel import Deadline
from .._drive.loops import run
from .._layers.context import Attempt, Call
from .._plugins.contract import Plugin
from ..lm import LM, spec_of
from ..types import Blocking, Completion, Delta, Flow, HTTPRequest, Info, Kept, Request
from .calls import DEFAULT_PROMPT, RecordedCall, request_to_json
from .sent import Sent, tree_of
from .wire import Wire

__all__ = ["DEFAULT_CALL", "Bench", "BenchResult"]

DEFAULT_CALL: Mapping[str, Any] = {"prompt": DEFAULT_PROMPT}


@dataclass(frozen=True, slots=True)
class BenchResult:
    """What one call gave.

    Attributes:
        completion: The answer.
        pieces: What was emitted on the way.
        wire: The exchanges that were asked for.
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
        calls: The recorded calls.
    """

    plugin: Plugin
    model: str
    settings: Mapping[str, Any]
    canaries: tuple[str, ...]
    calls: tuple[RecordedCall, ...] = field(default=(), repr=False)
    _specs: list[Spec] = field(default_factory=list, init=False, repr=False)

    def lm(self, wire: Wire, **keywords: Any) -> LM:
        """An LM that sends every exchange to the wire. It does not retry and does not cache."""
        if not self._specs:
            asked = {"retries": 0, "cache": False, "timeout": 60.0, **self.settings}
            self._specs.append(Spec.of_object(self.plugin, self.model, asked))
        spec = self._specs[0].vary(keywords).with_layers(wire.layer)
        return LM(spec, connections=wire)

    def other(self) -> Bench:
        """The same, with another model."""
        return replace(self, model=f"{self.model}-b")

    @property
    def info(self) -> Info:
        """What the plugin says of this model."""
        return spec_of(self.lm(Wire())).info

    # -- the four ways to call ------------------------------------------------------------------

    def ask(self, call: Mapping[str, Any], *answers: Any, unfolds: bool = False) -> BenchResult:
        """Make a blocking call and wait for the whole answer."""
        wire = Wire(*answers, unfolds=unfolds)
        return BenchResult(self.lm(wire).complete(**call), [], wire)

    def aask(self, call: Mapping[str, Any], *answers: Any) -> BenchResult:
        """Make an awaited call and wait for the whole answer."""
        wire = Wire(*answers)
        return BenchResult(asyncio.run(self.lm(wire).acomplete(**call)), [], wire)

    def stream(self, call: Mapping[str, Any], *answers: Any, unfolds: bool = False) -> BenchResult:
        """Make a blocking call and read its stream."""
        wire = Wire(*answers, unfolds=unfolds)
        stream = self.lm(wire).stream(events=True, **call)
        pieces = list(stream)
        assert stream.completion is not None
        return BenchResult(stream.completion, pieces, wire)

    def astream(self, call: Mapping[str, Any], *answers: Any) -> BenchResult:
        """Make an awaited call and read its stream."""
        wire = Wire(*answers)

        async def gather() -> BenchResult:
            stream = self.lm(wire).astream(events=True, **call)
            pieces = [piece async for piece in stream]
            assert stream.completion is not None
            return BenchResult(stream.completion, pieces, wire)

        return asyncio.run(gather())

    def replay(self, recorded: RecordedCall, *, awaited: bool = False) -> BenchResult:
        """Make a recorded call again, with the recorded answers."""
        if recorded.kind != "complete":
            return self._replay_other(recorded, awaited=awaited)
        ways: dict[tuple[bool, bool], Callable[..., BenchResult]] = {
            (False, False): self.ask,
            (False, True): self.aask,
            (True, False): self.stream,
            (True, True): self.astream,
        }
        return ways[recorded.stream, awaited](recorded.call, *recorded.answers())

    def _replay_other(self, recorded: RecordedCall, *, awaited: bool) -> BenchResult:
        wire = Wire(*recorded.answers())
        lm = (replace(self, model=recorded.model) if recorded.model else self).lm(wire)
        ask = getattr(lm, f"a{recorded.kind}" if awaited else recorded.kind)
        returned = ask(**recorded.call)
        if awaited:
            returned = _awaited(returned)
        return BenchResult(returned, [], wire)

    def sent(self, call: Mapping[str, Any], *, stream: bool = False) -> Sent:
        """What is sent for a call, whatever the answer.

        A flow of several exchanges goes on with the recorded answers, as far as they lead.

        Raises:
            LMGatewayError: The call was refused before anything was sent.
        """
        wire = Wire(*self._script(stream=stream))
        try:
            if stream:
                for _ in self.lm(wire).stream(**call):
                    pass
            else:
                self.lm(wire).complete(**call)
        except Exception:  # also that there is no answer
            if not wire.asked:
                raise
        return Sent(tuple(tree_of(exchange) for exchange in wire.asked))

    def _script(self, *, stream: bool) -> list[Any]:
        """The answers of a recorded call that took several exchanges."""
        for call in self.calls:
            alike = call.stream is stream and call.kind == "complete" and not call.is_error
            if alike and len(call.responses) > 1:
                return call.answers()
        return []

    # -- the plugin without the core--------------------------------------------------------------

    def hook(self, call: Mapping[str, Any], *, stream: bool = False) -> tuple[Any, LM]:
        """What the plugin's hook returns for a call: a flow, or an Answer."""
        lm = self.lm(Wire())
        spec, request, made = _prepare(lm, call, stream=stream)
        return flows.hook_of(spec, made.kind)(request=request), lm

    def raw(self, recorded: RecordedCall, *answers: Any) -> Any:
        """What the plugin returns for a recorded call, before the core checks it.

        Args:
            recorded: The call.
            *answers: In place of those that were recorded.
        """
        wire = Wire(*(answers or recorded.answers()))
        spec, request, call = _prepare(self.lm(wire), recorded.call, stream=recorded.stream)
        attempt = Attempt(call, request)
        try:
            return run(
                run_hook(flows.hook_of(spec, call.kind), attempt, (wire.layer,)),
                wire,
                Deadline(60.0),
            )
        finally:
            attempt.exit()

    def first(self, call: Mapping[str, Any], *, stream: bool = False) -> Any:
        """The first exchange of a call, as JSON; the texts of the answer if there is no exchange.

        None if it runs a function without a ``key``, which would say what is asked. All exchanges
        of a call whose recording has several.
        """
        if self._script(stream=stream):
            return {"exchanges": list(self.sent(call, stream=stream).exchanges)}
        flow, lm = self.hook(call, stream=stream)
        if isinstance(flow, dict):
            return {"answer": [choice["text"] for choice in flow["choices"]]}
        effect = _first_exchange(flow)
        if isinstance(effect, Blocking) and effect.key is None:
            return None
        if isinstance(effect, HTTPRequest):
            return tree_of(effect)  # bytes and forms in full: a text is looked for in them
        if effect is not None:
            return request_to_json(effect, lm.provider)
        result = self.stream(call) if stream else self.ask(call)
        return {"answer": [choice["text"] for choice in result.completion["choices"]]}

    def asks(self, *, stream: bool = False) -> str:
        """The kind of its first exchange: ``HTTP``, ``Blocking``, ``kept`` or ``nothing``."""
        flow, _ = self.hook(DEFAULT_CALL, stream=stream)
        effect = None if isinstance(flow, dict) else _first_exchange(flow)
        if effect is None:
            return "nothing"
        if isinstance(effect, Kept):
            effect.flow.close()
            return "kept"
        return "HTTP" if isinstance(effect, HTTPRequest) else "Blocking"


def _awaited(coroutine: Any) -> Any:
    async def wait() -> Any:
        return await coroutine

    return asyncio.run(wait())


def _prepare(lm: LM, call: Mapping[str, Any], *, stream: bool) -> tuple[Spec, Request, Call]:
    keywords = dict(call)
    given = [keywords.pop(name, None) for name in ("prompt", "messages", "schema")]
    spec = spec_of(lm).vary(keywords)
    request, made = flows.prepare(spec, *given, stream=stream)
    return spec, request if made.fit is None else made.fit.applied(request), made


def _first_exchange(flow: Flow[Any]) -> HTTPRequest | Blocking | Kept | None:
    try:
        for effect in flow:
            if isinstance(effect, HTTPRequest | Blocking | Kept):
                return effect
        return None
    finally:
        flow.close()
