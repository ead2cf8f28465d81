"""Engines: what DSPy calls in place of its own connection; each calls an LM of lmgateway."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Self, TypeAlias

from dspy import lm15
from dspy.clients.engines.base import validate_request

from .._call.pickling import portable_arguments
from ..errors import LMGatewayError
from ..lm import LM, get_lm, spec_of
from ..types import Completion
from .answers import StreamEvents, response
from .asking import CARRIED, conversation, one_text, parameters
from .failures import translated
from .formats import Asked
from .naming import label
from .parcels import unpacked

__all__ = ["AsyncEngine", "Engine", "Named"]


Named: TypeAlias = tuple[str | None, str | None]
"""The name and the model that get_lm was given."""


@dataclass(eq=False)
class _EngineBase:
    """What the blocking and the awaited engine share.

    Attributes:
        lm: The LM to call.
        named: The name and the model that get_lm was given, for loading it again.
        supports: What the model can do, where the provider cannot tell.
        limit: What the user calls the limit of an answer's tokens; the core gives a model its own
            name for it.
        refused: Response formats that the host turned out not to take.
        model: The one model string that requests must bear: it stands in DSPy's cache keys.
    """

    lm: LM
    named: Named
    supports: lm15.ModelSupport
    limit: str = "max_tokens"
    refused: set[str] = field(default_factory=set)
    model: str = field(init=False)

    def __post_init__(self) -> None:
        self.model = label(self.lm)

    def dump_state(self) -> dict[str, Any]:
        """What another process needs to make the same engine, as JSON and without secrets."""
        arguments = portable_arguments(spec_of(self.lm))[0]
        name, model = self.named
        return {
            "name": name,
            "model": model,
            "keywords": {each: v for each, v in arguments.items() if each not in CARRIED},
            "supports": asdict(self.supports),
            "limit": self.limit,
        }

    @classmethod
    def load_state(cls, state: dict[str, Any]) -> Self:
        """The engine that dump_state described. Its name is resolved in this process."""
        named = state["name"], state["model"]
        lm = get_lm(named[0], model=named[1], **state["keywords"])
        return cls(lm, named, lm15.ModelSupport(**state["supports"]), state["limit"])

    def _info(self) -> Any:
        return spec_of(self.lm).info

    @property
    def _streams(self) -> bool:
        return "lmgateway_stream" in spec_of(self.lm).plugin.hooks

    def _asked(self, request: lm15.Request) -> Asked:
        return Asked(self._arguments(request), self.refused)

    def _arguments(self, request: lm15.Request) -> dict[str, Any]:
        """The keywords for the LM. Raises an error of DSPy's for a request that cannot be sent."""
        validate_request(request)
        if request.model != self.model:
            raise lm15.UnsupportedModelError(
                f"this LM asks {self.model}, not {request.model}: lm.copy(model=...) makes one "
                "that asks another model"
            )
        info = self._info()
        # What DSPy carries is in every request, so that a default it dropped must not come back.
        params = {name: None for name in self.lm.params if name in CARRIED}
        params |= parameters(request)
        turns = unpacked(params)
        if self.limit != "max_tokens" and "max_tokens" in params:
            params[self.limit] = params.pop("max_tokens")
        wanted = params.get("response_format")
        if wanted and "response_format" not in info.params and wanted["type"] == "json_schema":
            params["schema"] = params.pop("response_format")["json_schema"]["schema"]
        messages = conversation(request, turns)
        if "messages" in info.capabilities:
            return {"messages": messages, **params}
        return {"prompt": one_text(messages), **params}


class Engine(_EngineBase):
    """What ``dspy.LM(engine=...)`` takes: one attempt, blocking."""

    @property
    def supports_function_calling(self) -> bool:
        """Whether tools are sent natively: as ``supports`` says, or else as the provider does."""
        stated = self.supports.function_calling
        return "tools" in self._info().params if stated is None else stated

    @property
    def supports_response_schema(self) -> bool:
        """Whether a schema is sent: as ``supports`` says, or else as the provider does."""
        stated = self.supports.response_schema
        return "response_format" in self._info().params if stated is None else stated

    @property
    def supports_reasoning(self) -> bool:
        """Whether the model reasons natively, which only ``supports`` can say."""
        return bool(self.supports.reasoning)

    @property
    def supported_params(self) -> frozenset[str]:
        """Names of the generation parameters that the provider sends."""
        sent = self._info().params
        return frozenset(sent).union(name for name in CARRIED if name in sent)

    def complete(self, request: lm15.Request) -> lm15.Response:
        """One answer. Raises errors of DSPy's own tree."""
        asked = self._asked(request)
        with translated():
            return response(self._complete(asked), self.lm.model, asked.adapted)

    def _complete(self, asked: Asked) -> Completion:
        while True:
            try:
                completion = self.lm.complete(**asked.keywords)
            except LMGatewayError as error:
                if not asked.loosened(error):
                    raise
            else:
                asked.answered()
                return completion

    def stream(self, request: lm15.Request) -> Iterator[Any]:
        """One answer as events; one whole piece from a provider that does not stream."""
        asked, events = self._asked(request), StreamEvents(self.lm.model)
        with translated():
            if not self._streams:
                yield from events.whole(self._complete(asked), asked.adapted)
                return
            while True:
                try:
                    with self.lm.stream(events=True, **asked.keywords) as stream:
                        for delta in stream:
                            yield from events.pieces(delta, asked.adapted)
                except LMGatewayError as error:
                    if events.begun or not asked.loosened(error):
                        raise
                else:
                    break
            asked.answered()
            assert stream.completion is not None
            yield from events.end(stream.completion, asked.adapted)

    def close(self) -> None:
        """Close the LM."""
        self.lm.close()


class AsyncEngine(_EngineBase):
    """What ``dspy.LM(async_engine=...)`` takes: the same, awaited."""

    async def complete(self, request: lm15.Request) -> lm15.Response:
        """As Engine.complete."""
        asked = self._asked(request)
        with translated():
            return response(await self._complete(asked), self.lm.model, asked.adapted)

    async def _complete(self, asked: Asked) -> Completion:
        while True:
            try:
                completion = await self.lm.acomplete(**asked.keywords)
            except LMGatewayError as error:
                if not asked.loosened(error):
                    raise
            else:
                asked.answered()
                return completion

    async def stream(self, request: lm15.Request) -> AsyncIterator[Any]:
        """As Engine.stream."""
        asked, events = self._asked(request), StreamEvents(self.lm.model)
        with translated():
            if not self._streams:
                for event in events.whole(await self._complete(asked), asked.adapted):
                    yield event
                return
            while True:
                try:
                    async with self.lm.astream(events=True, **asked.keywords) as stream:
                        async for delta in stream:
                            for event in events.pieces(delta, asked.adapted):
                                yield event
                except LMGatewayError as error:
                    if events.begun or not asked.loosened(error):
                        raise
                else:
                    break
            asked.answered()
            assert stream.completion is not None
            for last in events.end(stream.completion, asked.adapted):
                yield last

    async def aclose(self) -> None:
        """Close the LM."""
        await self.lm.aclose()
