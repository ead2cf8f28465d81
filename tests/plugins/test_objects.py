"""What a plugin does to what it is given changes nothing of the user's and nothing of the LM's."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from lmgateway import LM, hookimpl
from lmgateway.testing import lm_from
from lmgateway.types import Emit, Info


class Meddling:
    """Does something to its request; whoever refuses it by a TypeError or so is right, too."""

    def __init__(self, api: int, meddle: Callable[[Any], Any]) -> None:
        self.api = api
        self.meddle = meddle
        self.seen: list[dict[str, Any]] = []

    @hookimpl
    def lmgateway_info(self) -> Info:
        words = frozenset({"messages", "tools", "system", "schema"})
        params = frozenset({"tools", "stop", "temperature", "metadata"})
        return Info(api=self.api, default_model="m", capabilities=words, params=params)

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        self.touch(request)
        return {"prompt": request.input, "choices": [{"text": '{"a": 1}'}]}

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        self.touch(request)
        yield Emit('{"a": 1}')
        return {"prompt": request.input, "choices": [{"text": '{"a": 1}'}]}

    def touch(self, request: Any) -> None:
        self.seen.append(copy.deepcopy(dict(request.params)))
        try:
            self.meddle(request)
        except (TypeError, AttributeError):
            return


MEDDLING: dict[str, Callable[[Any], Any]] = {
    "a part more": lambda r: r.messages[0]["content"].append({"type": "text", "text": "!"}),
    "a part changed": lambda r: r.messages[0]["content"][0].update(text="!"),
    "a role": lambda r: r.messages[0].update(role="x"),
    "a message more": lambda r: r.messages.append({"role": "user", "content": "!"}),
    "no messages": lambda r: r.messages.clear(),
    "arguments of a call": lambda r: r.messages[1]["tool_calls"][0]["function"].update(name="g"),
    "a call less": lambda r: r.messages[1]["tool_calls"].pop(),
    "a tool changed": lambda r: r.params["tools"][0]["function"].update(name="g"),
    "a tool less": lambda r: r.params["tools"].pop(),
    "a list of the LM's": lambda r: r.params["stop"].append("b"),
    "a dict of the LM's": lambda r: r.params["metadata"]["deep"].update(x=1),
    "a parameter more": lambda r: r.params.setdefault("temperature", 0.7),
    "a parameter set": lambda r: r.params.update(temperature=0.7),
    "a parameter less": lambda r: r.params.pop("stop"),
    "the schema": lambda r: r.schema["properties"].update(b={}),
}


def four_ways(lm: LM, **keywords: Any) -> list[Any]:
    async def awaited() -> Any:
        return await lm.acomplete(**keywords)

    async def astreamed() -> Any:
        async with lm.astream(**keywords) as stream:
            _ = [piece async for piece in stream]
        return stream.completion

    with lm.stream(**keywords) as stream:
        list(stream)
    return [
        lm.complete(**keywords),
        asyncio.run(awaited()),
        stream.completion,
        asyncio.run(astreamed()),
    ]


@pytest.mark.parametrize("api", [1, 2])
@pytest.mark.parametrize("meddling", MEDDLING)
def test_nothing_that_a_plugin_does_to_a_request_is_seen_elsewhere(api: int, meddling: str) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Hello"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "2"},
    ]
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    defaults = {"stop": ["a"], "metadata": {"deep": {}}}
    schema = {"type": "object", "properties": {"a": {}}}
    given = {"messages": messages, "tools": tools, "schema": schema}
    before = copy.deepcopy((given, defaults))
    plugin = Meddling(api, MEDDLING[meddling])
    lm = lm_from(plugin, cache=False, **defaults)
    answers = four_ways(lm, **given)
    assert (given, defaults) == before
    assert dict(lm.params) == before[1]
    assert [answer["prompt"] for answer in answers] == [before[0]["messages"]] * 4
    assert plugin.seen == [{**before[1], "tools": before[0]["tools"]}] * 4
