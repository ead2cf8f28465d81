"""How deep JSON may be nested: one number, wherever it comes from, however deep the caller is."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.fault_server import FaultServer, receive, send

import lmgateway
from lmgateway import InputError, LMGatewayError, PluginError, get_lm
from lmgateway._base.values import DEPTH, copied, flaw, is_deep, shown
from lmgateway._records.history import render

pytestmark = pytest.mark.loopback


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def at(used: int, act: Callable[[], Any]) -> Any:
    """What comes of it with so many frames of the stack in use."""

    def descend(left: int) -> Any:
        return descend(left - 1) if left > 0 else act()

    return descend(used - len(inspect.stack(0)))


# -- what a service says -------------------------------------------------------------------------


def openai(message: str, beside: str = "1", choice: str = "1") -> str:
    return (
        f'{{"id": "1", "odd": {beside}, "choices": [{{"index": 0, "logprobs": null, "odd": '
        f'{choice}, "message": {{"content": "said"{message}}}, "finish_reason": "stop"}}]}}'
    )


def call_of(arguments: str) -> str:
    call = {"id": "t", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return ', "tool_calls": [' + json.dumps(call) + "]"


def anthropic(block: str, beside: str = "1") -> str:
    return (
        f'{{"content": [{{"type": "text", "text": "said"}}{block}], "odd": {beside}, '
        '"stop_reason": "end_turn", "usage": {}}'
    )


PLACES: dict[str, tuple[str, Callable[[str], str]]] = {
    "arguments": ("openai", lambda deep: openai(call_of(f'{{"a": {deep}}}'))),
    "arguments of a text": ("openai", lambda deep: openai(call_of(json.dumps(deep)))),
    "arguments as an object": ("openai", lambda deep: openai(
        f', "tool_calls": [{{"function": {{"name": "f", "arguments": {{"a": {deep}}}}}}}]')),
    "a custom tool": ("openai", lambda deep: openai(
        f', "tool_calls": [{{"type": "custom", "id": "t", "custom": {deep}}}]')),
    "an odd field": ("openai", lambda deep: openai("", deep)),
    "an odd field of a choice": ("openai", lambda deep: openai("", "1", deep)),
    "input": ("anthropic", lambda deep: anthropic(
        f', {{"type": "tool_use", "id": "t", "name": "f", "input": {{"a": {deep}}}}}')),
    "a block of another kind": ("anthropic", lambda deep: anthropic(
        f', {{"type": "later", "more": {deep}}}')),
    "an odd field beside blocks": ("anthropic", lambda deep: anthropic("", deep)),
}  # fmt: skip
BESIDE = {name for name in PLACES if "odd" in name or "block" in name}


@pytest.fixture
def server() -> Iterator[Callable[[str], FaultServer]]:
    opened: list[FaultServer] = []

    def serve(body: str) -> FaultServer:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        opened.append(FaultServer([receive(), send(f"{head}\r\n\r\n{body}".encode())]).__enter__())
        return opened[-1]

    yield serve
    for each in opened:
        each.__exit__(None, None, None)


def ask_in_three_ways(lm: Any) -> Iterator[Callable[[], Any]]:
    yield lambda: lm.complete("Hi")
    yield lambda: asyncio.run(lm.acomplete("Hi"))

    def streamed() -> Any:
        with lm.stream("Hi") as pieces:
            list(pieces)
            return pieces.completion

    yield streamed


@pytest.mark.parametrize("depth", [DEPTH - 5, 300, 600, 985, 5000])
@pytest.mark.parametrize("place", PLACES)
def test_an_answer_that_is_deep_is_an_answer_or_typed(
    place: str, depth: int, server: Any, tmp_path: Path
) -> None:
    provider, write = PLACES[place]
    with (
        server(write(nested(depth))) as service,
        get_lm(
            provider,
            model="m",
            api_base=service.url,
            api_key="a-key-of-mine",
            retries=0,
            cache=False,
        ) as lm,
        lmgateway.record(tmp_path / "recorded.jsonl"),
    ):
        for ask in ask_in_three_ways(lm):
            outcomes = [outcome(lambda ask=ask, used=used: at(used, ask)) for used in (0, 900)]
            assert outcomes[0] == outcomes[1]
            if depth < DEPTH or (place in BESIDE and depth < 900):
                assert outcomes[0]["choices"][0]["text"] == "said"
        at(900, lambda: list(lm.history))
        assert render(lm.history)


def outcome(act: Callable[[], Any]) -> Any:
    """The completion, or the name of its typed error."""
    try:
        completion = act()
    except PluginError:
        raise
    except LMGatewayError as error:
        return type(error).__name__
    assert not is_deep(completion["choices"][0].get("tool_calls"))
    json.dumps(completion, ensure_ascii=False, allow_nan=False).encode()
    assert copy.deepcopy(completion) == completion
    assert pickle.loads(pickle.dumps(completion)) == completion
    return completion


# -- what a caller gives -------------------------------------------------------------------------

GIVEN: dict[str, Callable[[Any], dict[str, Any]]] = {
    "messages": lambda deep: {"messages": [{"role": "user", "content": "Hi", "a": deep}]},
    "a part": lambda deep: {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi",
                                                                        "a": deep}]}]},
    "tools": lambda deep: {"prompt": "Hi", "tools": [{"type": "function", "function": {
        "name": "f", "parameters": deep}}]},
    "schema": lambda deep: {"prompt": "Hi", "schema": {"anyOf": deep}},
    "extra_body": lambda deep: {"prompt": "Hi", "extra_body": {"a": deep}},
    "logit_bias": lambda deep: {"prompt": "Hi", "logit_bias": {"1": deep}},
    "metadata": lambda deep: {"prompt": "Hi", "metadata": {"a": deep}},
}  # fmt: skip


@pytest.mark.parametrize("used", [0, 900])
@pytest.mark.parametrize("name", GIVEN)
def test_what_is_asked_may_be_100_deep_and_no_deeper(name: str, used: int, server: Any) -> None:
    with (
        server(openai("").replace("said", "1")) as service,
        get_lm(
            "openai/m", api_base=service.url, api_key="a-key-of-mine", retries=0, cache=False
        ) as lm,
    ):
        keywords = GIVEN[name](json.loads(nested(DEPTH - 6)))
        at(used, lambda: lm.complete(**keywords))
        sent = len(service.requests)
        for depth in (DEPTH + 1, 500):
            keywords = GIVEN[name](json.loads(nested(depth)))
            with pytest.raises(InputError, match="100 deep"):
                at(used, lambda keywords=keywords: lm.complete(**keywords))
        assert len(service.requests) == sent


# -- how deep the caller is ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda lm: get_lm("echo")("Hi"), id="echo"),
        pytest.param(lambda lm: lm("Hi"), id="call"),
        pytest.param(lambda lm: list(lm.stream("Hi")), id="stream"),
        pytest.param(lambda lm: lm.models(), id="models"),
    ],
)
def test_a_stack_that_runs_out_is_nobodys_fault(
    act: Callable[[Any], Any],
    server: Callable[[str], FaultServer],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A finalizer that the collector runs there has no stack either, nor has pytest to tell of it.
    monkeypatch.setattr(sys, "unraisablehook", lambda _: None)
    lm = get_lm("openai/m", api_base=f"{server(openai('')).url}/v1", api_key="a-key-of-mine",
                cache=False, retries=2)  # fmt: skip
    errors: list[LMGatewayError] = []
    for used in range(900, sys.getrecursionlimit()):
        try:
            at(used, lambda: act(lm))
        except RecursionError:  # Python's own, before there is a call
            continue
        except LMGatewayError as error:
            errors.append(error)
    assert not any(error.retryable or "fault of the plugin" in str(error) for error in errors)
    assert any("stack ran out" in str(error) for error in errors)


# -- plain JSON ----------------------------------------------------------------------------------


@pytest.mark.parametrize("depth, fits", [(DEPTH, True), (DEPTH + 1, False), (5000, False)])
def test_the_depth_is_one_number(depth: int, fits: bool) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    assert (flaw(value, "x") is None) is fits
    assert is_deep(value) is not fits


def test_what_stands_within_itself_is_too_deep_and_copied_as_it_is() -> None:
    value: list[Any] = [1, {}]
    value[1]["again"] = value
    assert flaw(value, "x") == "x is nested more than 100 deep"
    assert is_deep(value)
    copy_of_it = copied(value)
    assert copy_of_it is not value
    assert copy_of_it[1]["again"] is copy_of_it


def test_a_copy_shares_nothing_that_can_be_changed() -> None:
    parsed = object()
    value = {"a": [1, {"b": [2]}], "c": (3,), "parsed": parsed}
    copy_of_it = copied(value)
    assert copy_of_it == value
    assert copy_of_it["parsed"] is parsed
    copy_of_it["a"][1]["b"].append(4)
    assert value["a"] == [1, {"b": [2]}]


class Unspeakable:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "value, expected",
    [
        (5, "5"),
        (10**5000, "something of the type int"),
        (Unspeakable(), "something of the type Unspeakable"),
        ("x" * 99, "'" + "x" * 79),
    ],
    ids=["short", "digits", "raising", "long"],
)
def test_any_value_can_be_shown(value: object, expected: str) -> None:
    assert shown(value) == expected


def test_a_list_3000_deep_can_be_shown() -> None:
    value: Any = 1
    for _ in range(3 * sys.getrecursionlimit()):
        value = [value]
    assert len(shown(value)) <= 80


@pytest.mark.parametrize(
    "value, place",
    [
        ({"a": [1, {"b": float("nan")}]}, r"x['a'][1]['b'] is nan"),
        ({"a": ["b", "\ud800"]}, r"x['a'][1] holds a lone surrogate at offset 0"),
        ({"a": {"\ud800": 1}}, r"x['a'] has a key that holds a lone surrogate"),
        ({"a": {True: 1}}, r"x['a'] has the key True"),
        ({"a": {10**400: 1}}, r"x['a'] has the key 1"),
        ({"a": {10**5000: 1}}, r"x['a'] has the key something of the type int"),
        ({"a": 10**400}, r"x['a'] is a whole number beyond 1.8e+308"),
        ([{1, 2}], r"x[0] is a set"),
    ],
)
def test_a_flaw_is_told_with_its_place(value: Any, place: str) -> None:
    problem = flaw(value, "x")
    assert problem is not None
    assert problem.startswith(place)
    assert problem.encode()
