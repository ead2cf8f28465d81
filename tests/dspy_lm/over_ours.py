"""A plugin of pytest's that runs DSPy's own tests over this library: see ``make dspy-tests``.

Where such a test makes a ``dspy.LM`` that asks over chat, it gets an ``lmgateway.dspy.LM``; where
it makes a ``DummyLM``, that one's answers go through lmgateway. What a test puts in the place of
LiteLLM's functions is asked in both.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from functools import partial
from typing import Any

import dspy
import litellm
from dspy.clients import base_lm, lm
from dspy.clients.engines import dummy_engine
from dspy.utils import dummies

from lmgateway import hookimpl
from lmgateway.dspy import LM
from lmgateway.dspy.engine import AsyncEngine, Engine
from lmgateway.dspy.parcels import odd_turns, unpacked, with_turns
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, Delta, Emit, Info
from lmgateway.wire import openai as wire

STOCK, DUMMY = lm.LM, dummy_engine.DummyEngine
REAL = {name: getattr(litellm, name) for name in ("completion", "acompletion")}
CAPABILITIES = wire.CAPABILITIES


class LiteLLM:
    """A provider that asks whatever stands in LiteLLM's place at the time."""

    def __init__(self, provider: str) -> None:
        self.provider = provider

    @hookimpl
    def lmgateway_info(self) -> Info:
        """All that chat completions have."""
        params = wire.OPENAI.params | wire.VLLM.params
        return Info(api=2, capabilities=CAPABILITIES, params=params, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        """One call of LiteLLM's, blocking or awaited, as the test replaced the one or the other."""
        raw = yield Blocking(partial(self._ask, request))
        return wire.normalize(request, plain(raw), {}, wire.CHAT)

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        """The chunks of a call, once they are all there."""
        assembly = wire.Assembly(wire.CHAT, request)
        chunks = yield Blocking(partial(self._ask, request, stream=True))
        for chunk in chunks:
            for piece in assembly.add(plain(chunk)):
                yield Emit(piece)
        return wire.normalize(request, assembly.answer(), {}, wire.CHAT)

    def _ask(self, request: Any, **more: Any) -> Any:
        keywords = {"model": f"{self.provider}/{request.model}", "messages": request.messages}
        keywords |= {**request.params, **more}
        if more or litellm.completion is REAL["completion"]:
            return asyncio.run(listed(litellm.acompletion(**keywords)))
        return litellm.completion(**keywords)


async def listed(asked: Any) -> Any:
    """What LiteLLM gives, a stream as a list."""
    given = await asked
    return [each async for each in given] if hasattr(given, "__aiter__") else given


def plain(raw: Any) -> dict[str, Any]:
    """A response or a chunk as JSON."""
    given: dict[str, Any] = raw.model_dump() if hasattr(raw, "model_dump") else dict(raw)
    return given


class Over(LM):
    """``dspy.LM`` as DSPy's tests make it, over lmgateway."""

    def __new__(cls, model: str = "", model_type: str = "chat", **keywords: Any) -> Any:
        """One of DSPy's own where it asks over another API, or with an engine of its own."""
        if model_type != "chat" or "engine" in keywords or not isinstance(model, str):
            return STOCK(model, model_type, **keywords)
        return super().__new__(cls)

    def __init__(self, model: str, model_type: str = "chat", **keywords: Any) -> None:
        provider, _, name = model.rpartition("/")
        made = lm_from(LiteLLM(provider or "openai"), provider or "openai", model=name)
        super().__init__(made, **{k: v for k, v in keywords.items() if v is not None})


class Answering:
    """A provider that answers as a DummyLM is told to."""

    def __init__(self, dummy: Any) -> None:
        self.dummy = dummy

    @hookimpl
    def lmgateway_info(self) -> Info:
        """All that chat completions have."""
        return Info(2, CAPABILITIES, wire.OPENAI.params | wire.VLLM.params, "dummy")

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        """The next answer."""
        said = self.dummy._complete_messages(request.messages)
        thought = said.message.parts_of(dspy.lm15.ThinkingPart)
        choice = {"text": said.message.parts[-1].text, "index": 0, "finish_reason": "stop"}
        if thought:
            choice["reasoning"] = thought[0].text
        usage = dict.fromkeys(("prompt_tokens", "completion_tokens", "total_tokens"), 0)
        return {"prompt": request.input, "choices": [choice], "usage": usage, "model": "dummy"}

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Iterator[Any]:
        """The next answer, in one piece."""
        given = self.lmgateway_complete(request)
        yield Emit(Delta(given["choices"][0]["text"]))
        return given


class OverDummy(DUMMY):  # type: ignore[misc]
    """The engine of a DummyLM, over lmgateway."""

    complete_legacy = None

    def __init__(self, owner: Any) -> None:
        super().__init__(owner)
        made = lm_from(Answering(self), "dummy", model="dummy")
        self.over = Engine(made, ("dummy", None), dspy.lm15.ModelSupport())
        self.over.model = "dummy"

    def complete(self, request: Any) -> Any:
        """An answer that has been through lmgateway."""
        return self.over.complete(request)

    def stream(self, request: Any) -> Any:
        """Its pieces."""
        return self.over.stream(request)


class OverDummyAsync:
    """The same, awaited."""

    def __init__(self, sync: OverDummy) -> None:
        self.over = AsyncEngine(sync.over.lm, sync.over.named, sync.over.supports)
        self.over.model = "dummy"
        self.complete, self.stream = self.over.complete, self.over.stream


def sendable(self: Any, messages: Any, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A call as lmgateway.dspy.LM hands it to DSPy."""
    keywords = LM._with_one_limit(self, keywords)
    return LM._packed(self, messages, keywords) if odd_turns(messages) else (messages, keywords)


def call(self: Any, prompt: Any = None, *, messages: Any = None, **keywords: Any) -> Any:
    """As lmgateway.dspy.LM is called; a DummyLM takes messages as its prompt, too."""
    if isinstance(prompt, list):
        prompt, messages = None, prompt
    messages, keywords = sendable(self, messages, keywords)
    return base_lm.BaseLM.__call__(self, prompt, messages=messages, **keywords)


async def acall(self: Any, prompt: Any = None, *, messages: Any = None, **keywords: Any) -> Any:
    """As it is awaited."""
    messages, keywords = sendable(self, messages, keywords)
    return await base_lm.BaseLM.acall(self, prompt, messages=messages, **keywords)


def update_history(self: Any, entry: dict[str, Any]) -> None:
    """As it remembers."""
    kwargs = dict(entry.get("kwargs") or {})
    if turns := unpacked(kwargs):
        entry = {**entry, "messages": with_turns(entry["messages"], turns), "kwargs": kwargs}
    base_lm.BaseLM.update_history(self, entry)


dspy.LM = Over
dummy_engine.DummyEngine, dummy_engine.AsyncDummyEngine = OverDummy, OverDummyAsync
dummies.DummyLM.__call__, dummies.DummyLM.acall = call, acall
dummies.DummyLM.update_history = update_history
