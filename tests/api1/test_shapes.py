"""The ways in which a plugin of API 1 may be written: each works here as it did in 0.1."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pydantic import BaseModel
from support.fault_server import FaultServer, head, receive, send

from lmgateway import LM, hookimpl
from lmgateway import types as t
from lmgateway import usage as count_usage
from lmgateway.errors import (
    PluginContractError,
    PluginError,
    PluginVersionError,
    UnknownParameterError,
    UnsupportedError,
)
from lmgateway.testing import lm_from
from lmgateway.types import Delta, Emit, HTTPRequest, Info, read
from lmgateway.types import send as exchange

CALLING = ["complete", "acomplete", "stream", "astream"]


def ask(lm: LM, how: str, *args: Any, **keywords: Any) -> Any:
    """A completion, asked for in one of four ways."""
    keywords = {"cache": False, **keywords}
    if how == "complete":
        return lm.complete(*args, **keywords)
    if how == "acomplete":
        return asyncio.run(lm.acomplete(*args, **keywords))
    if how == "stream":
        with lm.stream(*args, **keywords) as stream:
            pieces = "".join(map(str, stream))
    else:

        async def read_all() -> Any:
            async with lm.astream(*args, **keywords) as stream:
                return "".join([str(each) async for each in stream]), stream

        pieces, stream = asyncio.run(read_all())
    assert pieces == stream.completion["choices"][0]["text"]
    return stream.completion


def said(request: Any, text: str = "hi", **more: Any) -> Any:
    return {"prompt": request.input, "choices": [{"text": text, **more}]}


# -- shapes ------------------------------------------------------------------------------------


class Settings(BaseModel):
    api_base: str = "https://acme.example"
    greeting: str = "hi"


class Bare:
    """One hook of one argument, and no Info."""

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        return said(request)


class Both(Bare):
    """A hook of two arguments."""

    @hookimpl
    def lmgateway_settings(self) -> Any:
        return Settings

    @hookimpl
    def lmgateway_complete(self, request: Any, settings: Settings) -> Any:
        return said(request, settings.greeting)


class Turned(Bare):
    """Its arguments in another order."""

    @hookimpl
    def lmgateway_settings(self) -> Any:
        return Settings

    @hookimpl
    def lmgateway_complete(self, settings: Settings, request: Any) -> Any:
        return said(request, settings.greeting)


class Flowing(Bare):
    """A generator, that asks nothing."""

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Iterator[Any]:
        yield from ()
        return said(request)


class Streaming(Bare):
    """Pieces as texts and as deltas."""

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Iterator[Any]:
        yield Emit("h")
        yield Emit(Delta("i", finish_reason="stop"))
        return said(request, finish_reason="stop")


class Silent(Bare):
    """An Info that says nothing."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info()


class One(Bare):
    """An Info that names the version."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=1, default_model="m")


class Worded(Bare):
    """Words of capabilities that nobody knows."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(capabilities=frozenset({"messages", "pdf", "acme.only"}))


class Unknowing(Bare):
    """Hooks that newer cores may know."""

    @hookimpl(optionalhook=True)
    def lmgateway_of_2030(self, request: Any) -> Any:
        raise NotImplementedError


SHAPES = [Bare, Both, Turned, Flowing, Streaming, Silent, One, Worded, Unknowing]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("how", CALLING)
def test_it_loads_and_answers(shape: type, how: str) -> None:
    if how.endswith("stream") and shape is not Streaming:
        with pytest.raises(UnsupportedError):
            ask(lm_from(shape(), model="m"), how, "Hello")
        return
    completion = ask(lm_from(shape(), model="m"), how, "Hello")
    assert completion["choices"][0]["text"] == "hi"
    assert completion["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert "warnings" not in completion


# -- what it is given --------------------------------------------------------------------------

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
OURS = {"parsed": {"a": 1}, "state": {"format": "a.b", "turn": 1}, "index": 0}
STATE = {"format": "a.b", "turn": {"x": 1}, "provider": "acme", "model": "m", "digest": "0"}
GIVEN = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Hello"}], "name": "Ann"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**CALL, **OURS, "extra_content": {"google": 1}}],
        "reasoning": "hm",
        "state": STATE,
        "own": {"of": "the user"},
    },
    {"role": "tool", "tool_call_id": "c1", "content": "no", "is_error": True},
    {"role": "user", "content": "So?"},
]
SEEN = [
    *GIVEN[:2],
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{**CALL, "extra_content": {"google": 1}}],
        "own": {"of": "the user"},
    },
    {"role": "tool", "tool_call_id": "c1", "content": "no"},
    GIVEN[4],
]


class Seeing:
    """Keeps what it is given."""

    def __init__(self, info: Info | None = None) -> None:
        self.seen: list[Any] = []
        self.info = info or Info(
            capabilities=frozenset({"messages", "images"}), params=frozenset({"tools"})
        )

    @hookimpl
    def lmgateway_info(self) -> Info:
        return self.info

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        self.seen.append(copy.deepcopy(request))
        return said(request)

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        self.seen.append(copy.deepcopy(request))
        yield Emit("hi")
        return said(request)


@pytest.mark.parametrize("how", CALLING)
def test_messages_reach_it_without_the_cores_own_keys(how: str) -> None:
    plugin, given = Seeing(), copy.deepcopy(GIVEN)
    ask(lm_from(plugin, model="m"), how, messages=given)
    assert [dict(message) for message in plugin.seen[0].messages] == SEEN
    assert given == GIVEN


PARTS = [
    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg=="}},
    {"type": "image_url", "image_url": {"url": "https://acme.example/a.png"}},
    {"type": "video_url", "video_url": {"url": "https://acme.example/a.mp4"}},
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part["type"])
@pytest.mark.parametrize("how", CALLING)
def test_words_that_came_later_are_not_asked_of_it(how: str, part: dict[str, Any]) -> None:
    """Audio and files, tools and their results: 0.1 had no words for them."""
    plugin = Seeing()
    messages = [{"role": "user", "content": [part]}]
    ask(lm_from(plugin, model="m"), how, messages=messages, tools=[{"type": "function"}])
    assert plugin.seen[0].messages[0]["content"] == [part]
    assert list(plugin.seen[0].params["tools"]) == [{"type": "function"}]


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize(
    "keywords, error",
    [
        pytest.param({"system": "Be brief."}, UnsupportedError, id="system"),
        pytest.param({"schema": {"type": "object"}}, UnsupportedError, id="schema"),
        pytest.param({"temperature": 0.5}, UnknownParameterError, id="a parameter"),
    ],
)
def test_words_of_0_1_are(how: str, keywords: dict[str, Any], error: type[Exception]) -> None:
    plugin = Seeing(Info(capabilities=frozenset({"images"})))
    with pytest.raises(error):
        ask(lm_from(plugin, model="m"), how, "Hello", **keywords)
    assert plugin.seen == []


def test_images_are_asked_of_it() -> None:
    plugin = Seeing(Info(capabilities=frozenset({"messages"})))
    with pytest.raises(UnsupportedError):
        lm_from(plugin, model="m").complete(messages=[{"role": "user", "content": [PARTS[2]]}])


class Changing(Seeing):
    """Changes whatever it is given."""

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        self.change(request)
        return said(request)

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        self.change(request)
        yield Emit("hi")
        return said(request)

    def change(self, request: Any) -> None:
        for act in (
            lambda: request.messages[0]["content"].append({"type": "text", "text": "!"}),
            lambda: request.messages[0].update(role="x"),
            lambda: request.messages.append("x"),
            lambda: request.params["tools"][0].clear(),
            lambda: request.params["tools"].append(1),
            lambda: request.params.update(added=1),
            lambda: request.params.setdefault("added", 1),
        ):
            with read_only():
                act()


class read_only:  # noqa: N801
    """Read-only is as good as a copy."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: Any, tb: Any) -> bool:
        return kind is not None and issubclass(kind, (TypeError, AttributeError))


@pytest.mark.parametrize("how", CALLING)
def test_what_it_changes_is_its_own(how: str) -> None:
    plugin = Changing()
    tools, messages = [{"type": "function"}], [{"role": "user", "content": [{"type": "text"}]}]
    messages[0]["content"][0]["text"] = "Hello"  # type: ignore[index]
    before = copy.deepcopy((tools, messages))
    lm = lm_from(plugin, model="m", tools=tools)
    first = ask(lm, how, messages=messages)
    again = ask(lm, how, messages=messages, tools=tools)
    assert (tools, messages) == before
    assert dict(lm.params) == {"tools": before[0]}
    assert [first["prompt"], again["prompt"]] == [before[1], before[1]]


# -- what it returns ---------------------------------------------------------------------------

ODD_USAGE = [
    {"prompt_tokens": 3.0, "completion_tokens": 2},
    {"prompt_tokens": None, "completion_tokens": "two"},
    {"acme_units": [1, 2]},
    {},
    None,
    [],
    "much",
]


class Returning(Bare):
    def __init__(self, answer: Callable[[Any], Any]) -> None:
        self.answer = answer

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        return self.answer(request)

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        yield Emit("hi")
        return self.answer(request)


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("usage", ODD_USAGE, ids=repr)
def test_odd_usage_costs_no_answer(how: str, usage: Any) -> None:
    plugin = Returning(lambda request: {**said(request), "usage": usage})
    lm = lm_from(plugin, model="m")
    with count_usage() as counted:
        completion = ask(lm, how, "Hello")
    assert completion["choices"][0]["text"] == "hi"
    json.dumps(completion)
    assert counted.calls == 1
    assert counted.completion_tokens in (0, 2)
    assert len(lm.history) == 1


@pytest.mark.parametrize("how", CALLING)
def test_calls_without_parts_or_state_make_a_message(how: str) -> None:
    plugin = Returning(lambda request: said(request, tool_calls=[copy.deepcopy(CALL)]))
    [choice] = ask(lm_from(plugin, model="m"), how, "Hello")["choices"]
    assert choice["message"]["tool_calls"] == [CALL]
    assert choice["message"]["content"] == "hi"
    assert "state" not in choice["message"]
    [text, call] = t.parts_of(choice)
    assert (text["text"], call["name"], call["input"]) == ("hi", "f", {"a": 1})


# -- streams -----------------------------------------------------------------------------------


class Sourced(Bare):
    """Reads pieces where there is a source, and a body where there is none."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.had_source: list[bool] = []

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        asked = HTTPRequest("POST", self.base, "/say", json={}, stream=True)
        response = yield from exchange(asked)
        self.had_source.append(response.source is not None)
        text = response.body.decode()
        if response.source is not None:
            while piece := (yield from read(response)):
                text += piece.decode()
        yield Emit(text)
        return said(request, text)


@pytest.mark.loopback
@pytest.mark.parametrize("how", ["stream", "astream"])
@pytest.mark.parametrize(
    "kind, source",
    [
        pytest.param("text/event-stream", True, id="events"),
        pytest.param("text/event-stream; charset=utf-8", True, id="events with a charset"),
        pytest.param("application/json", False, id="json"),
        pytest.param("application/x-ndjson", False, id="ndjson"),
        pytest.param("application/vnd.amazon.eventstream", False, id="frames"),
        pytest.param("text/plain", False, id="text"),
    ],
)
def test_it_is_given_a_source_for_an_event_stream_alone(how: str, kind: str, source: bool) -> None:
    body = b'{"a": 1}\n{"b": 2}\n'
    answer = send(head(200, [("Content-Type", kind)], length=len(body)), body)
    with FaultServer([receive(), answer]) as server:
        plugin = Sourced(server.url)
        completion = ask(lm_from(plugin, model="m"), how, "Hello")
    assert plugin.had_source == [source]
    assert completion["choices"][0]["text"] == body.decode()


# -- versions and names ------------------------------------------------------------------------


def of_version(api: int, **hooks: Any) -> Any:
    class Versioned(Bare):
        @hookimpl
        def lmgateway_info(self) -> Info:
            return Info(api=api)

    for name, hook in hooks.items():
        setattr(Versioned, name, hook)
    return Versioned()


@pytest.mark.parametrize("api", [1, 2])
def test_all_versions_up_to_the_cores_load(api: int) -> None:
    assert lm_from(of_version(api), model="m")("Hello") == ["hi"]


@pytest.mark.parametrize("hooks", [{}, {"lmgateway_of_2030": hookimpl(lambda self: None)}])
def test_a_newer_version_is_refused_with_what_to_do(hooks: dict[str, Any]) -> None:
    with pytest.raises(PluginVersionError, match=r"version 3 .*pip install -U lmgateway-core"):
        lm_from(of_version(3, **hooks), model="m")


@pytest.mark.parametrize("api", [1, 2])
@pytest.mark.parametrize(
    "name", ["lmgateway_compleat", "lmgateway_embedd", "lmgateway_models_", "lmgateway_of_2030"]
)
def test_a_misspelt_hook_is_found(api: int, name: str) -> None:
    with pytest.raises(PluginContractError, match=name):
        lm_from(of_version(api, **{name: hookimpl(lambda self: None)}), model="m")


@pytest.mark.parametrize("api", [1, 2])
def test_an_optional_hook_may_be_one_that_nobody_knows(api: int) -> None:
    hook = hookimpl(optionalhook=True)(lambda self: None)
    assert lm_from(of_version(api, lmgateway_of_2030=hook), model="m")("Hello") == ["hi"]


@pytest.mark.parametrize("api", [True, "2", None, 1.0, ()], ids=repr)
def test_what_is_no_version_is_told(api: Any) -> None:
    with pytest.raises(PluginError):
        lm_from(of_version(api), model="m")
