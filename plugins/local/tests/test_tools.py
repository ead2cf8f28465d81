"""Tools: forced calls of a real model, results given back, and what a model cannot do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.llama_server import INSTALL, is_installed

from lmgateway import get_lm
from lmgateway.errors import InputError, UnsupportedError
from lmgateway.lm import LM
from lmgateway_local import tools
from lmgateway_local.weights import Weights

needs_model = [
    pytest.mark.real,
    pytest.mark.skipif(not is_installed(), reason=f"needs a model: {INSTALL}"),
]

CITY = {"type": "string", "enum": ["Oslo", "Rome"]}
WEATHER = {
    "name": "weather",
    "description": "The weather of a city",
    "parameters": {"type": "object", "properties": {"city": CITY}, "required": ["city"]},
}
CLOCK = {
    "name": "clock",
    "parameters": {
        "type": "object",
        "properties": {"zone": {"$ref": "#/$defs/Zone"}},
        "required": ["zone"],
        "$defs": {"Zone": {"enum": ["UTC", "CET"]}},
    },
}
TOOLS = [{"type": "function", "function": each} for each in (WEATHER, CLOCK)]
NAMED = {"type": "function", "function": {"name": "clock"}}
ASKED: list[Any] = [{"role": "user", "content": "What is the weather in Oslo?"}]


@pytest.fixture(scope="module")
def lm() -> Iterator[LM]:
    with get_lm("local", temperature=0, max_tokens=60, cache=False) as lm:
        yield lm


class TestAModelIsMadeToCall:
    pytestmark = needs_model

    def test_and_the_call_is_the_same_in_all_four_ways(self, lm: LM) -> None:
        asked: dict[str, Any] = {"messages": ASKED, "tools": TOOLS, "tool_choice": "required"}
        plain = lm.complete(**asked)
        (answer,) = plain["choices"]
        assert (answer["text"], answer["finish_reason"]) == ("", "tool_calls")
        (call,) = answer["tool_calls"]
        assert call["function"]["name"] == "weather"
        assert call["parsed"] in ({"city": "Oslo"}, {"city": "Rome"})
        with lm.stream(**asked) as stream:
            assert list(stream) == []

        async def gather() -> list[Any]:
            pieces = lm.astream(**asked)
            _ = [piece async for piece in pieces]
            return [await lm.acomplete(**asked), pieces.completion]

        others = [stream.completion, *asyncio.run(gather())]
        assert [other["choices"] for other in others] == [plain["choices"]] * 3
        assert [other["usage"]["total_tokens"] for other in others] == (
            [plain["usage"]["total_tokens"]] * 3
        )

    def test_and_of_the_function_that_is_named(self, lm: LM) -> None:
        (choice,) = lm.complete(messages=ASKED, tools=TOOLS, tool_choice=NAMED)["choices"]
        (call,) = choice["tool_calls"]
        assert call["function"]["name"] == "clock"
        assert call["parsed"] in ({"zone": "UTC"}, {"zone": "CET"})

    def test_and_goes_on_with_the_result(self, lm: LM) -> None:
        (choice,) = lm.complete(messages=ASKED, tools=TOOLS, tool_choice="required")["choices"]
        result = {
            "role": "tool",
            "tool_call_id": choice["tool_calls"][0]["id"],
            "content": "sunny",
        }
        messages = [*ASKED, choice["message"], result]
        for keywords in ({}, {"tools": TOOLS, "tool_choice": "none"}):
            (answer,) = lm.complete(messages=messages, max_tokens=8, **keywords)["choices"]
            assert answer["text"]
            assert "tool_calls" not in answer

    def test_and_a_call_that_was_cut_off_is_a_text_that_says_so(self, lm: LM) -> None:
        asked: dict[str, Any] = {"messages": ASKED, "tools": TOOLS, "tool_choice": "required"}
        (choice,) = lm.complete(**asked, max_tokens=4)["choices"]
        assert choice["finish_reason"] == "length"
        assert choice["text"].startswith("{")
        with lm.stream(**asked, max_tokens=4) as stream:
            assert "".join(stream) == choice["text"]

    def test_and_several_calls_where_they_are_asked_for(self, lm: LM) -> None:
        asked: dict[str, Any] = {"messages": ASKED, "tools": TOOLS, "tool_choice": "required"}
        (choice,) = lm.complete(**asked, parallel_tool_calls=True, max_tokens=400)["choices"]
        assert choice["finish_reason"] == "tool_calls"
        ids = [call["id"] for call in choice["tool_calls"]]
        assert len(set(ids)) == len(ids)

    def test_or_answers_in_words_if_it_need_not(self, lm: LM) -> None:
        (choice,) = lm.complete(messages=ASKED, tools=TOOLS, max_tokens=20)["choices"]
        assert choice["text"] or choice["tool_calls"]


# -- what llama.cpp is given ---------------------------------------------------------------------


def body(**more: Any) -> dict[str, Any]:
    return {"messages": ASKED, "tools": TOOLS, **more}


def test_functions_may_each_have_a_definition_of_the_same_name() -> None:
    functions = [
        {"name": name, "parameters": {"$ref": "#/$defs/Z", "$defs": {"Z": {"enum": [name]}}}}
        for name in ("a", "b")
    ]
    given = [{"type": "function", "function": each} for each in functions]
    sent, _ = tools.prepare(body(tools=given, tool_choice="required"), lambda: False)
    definitions = sent["response_format"]["json_schema"]["schema"]["$defs"]
    for place, name in enumerate(("a", "b")):
        found = definitions[str(place)]
        assert found["$ref"] == f"#/$defs/{place}/$defs/Z"
        assert found["$defs"] == {"Z": {"enum": [name]}}


def test_a_model_that_knows_tools_chooses_by_itself() -> None:
    asked = body(tool_choice="auto", parallel_tool_calls=True)
    assert tools.prepare(asked, lambda: True) == (asked, frozenset())


def test_a_model_that_knows_tools_is_told_of_them_by_its_template_when_it_must_call() -> None:
    sent, spelled = tools.prepare(body(tool_choice="required"), lambda: True)
    assert spelled == {"weather", "clock"}
    assert sent["chat_template_kwargs"] == {"tools": TOOLS}
    assert sent["messages"] == ASKED
    assert "tools" not in sent


def test_what_is_about_no_tools_stays_as_it_is() -> None:
    asked = {"messages": ASKED, "max_tokens": 3}
    sent, spelled = tools.prepare(asked, lambda: pytest.fail("nobody needs to know"))
    assert (sent is asked, spelled) == (True, frozenset())


def test_a_conversation_is_put_into_words_for_a_model_that_knows_no_tools() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
    custom = {"id": "2", "type": "custom", "custom": {"name": "g", "input": "all"}}
    turns = [
        *ASKED,
        {"role": "assistant", "content": "Well.", "tool_calls": [call, custom]},
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "sunny"}]},
    ]
    sent, _ = tools.prepare({"messages": turns}, lambda: False)
    written = '{"name": "f", "arguments": {"a": 1}}'
    other = '{"name": "g", "arguments": "all"}'
    assert sent["messages"][1:] == [
        {"role": "assistant", "content": f"Well.\n{written}\n{other}"},
        {"role": "user", "content": "The result: sunny"},
    ]
    assert tools.prepare({"messages": turns}, lambda: True) == ({"messages": turns}, frozenset())


@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "Be brief."}]])
def test_the_functions_are_told_in_the_system_text(system: list[Any]) -> None:
    asked = body(messages=[*system, *ASKED], tool_choice=NAMED)
    first, *rest = tools.prepare(asked, lambda: False)[0]["messages"]
    assert rest == ASKED
    assert "clock" in first["content"]
    assert "weather" not in first["content"]
    assert first["content"].startswith("Be brief." if system else "Call")


@pytest.mark.parametrize(
    "wrong, error, problem",
    [
        ({"tools": [{"type": "web_search"}]}, InputError, r"tools\[0\]"),
        ({"tools": [{"function": {"name": "f", "parameters": True}}]}, InputError, "parameters"),
        ({"tool_choice": "often"}, InputError, "tool_choice must be"),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, InputError, "'g'"),
        ({"tools": None, "tool_choice": "auto"}, InputError, "need tools"),
        ({"logprobs": True}, UnsupportedError, "logprobs"),
    ],
)
def test_what_makes_no_sense_is_refused(
    wrong: dict[str, Any], error: type[Exception], problem: str
) -> None:
    with pytest.raises(error, match=problem):
        tools.prepare(body(**wrong), lambda: True)


# -- whether a model knows tools -----------------------------------------------------------------


def text(key: str, value: str) -> bytes:
    """A key and its value as they stand in a GGUF file."""
    name, said = key.encode(), value.encode()
    size = len(name).to_bytes(8, "little")
    return size + name + b"\x08\0\0\0" + len(said).to_bytes(8, "little") + said


@pytest.mark.parametrize(
    "metadata, expected",
    [
        ([], False),
        ([text("tokenizer.chat_template", "{{ messages }}"), b"tools"], False),
        ([text("tokenizer.chat_template", "{% if tools %}")], True),
        (
            [text("tokenizer.chat_template", "x"), text("tokenizer.chat_template.tool_use", "y")],
            True,
        ),
        ([b"tokenizer.chat_template"], False),
    ],
    ids=["no template", "none in it", "in it", "one of its own", "cut off"],
)
def test_a_model_knows_tools_if_its_template_does(
    metadata: list[bytes], expected: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + b"".join(metadata))
    assert Weights(path, "a").knows_tools() is expected


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


def test_a_call_is_the_last_chunk_of_its_choice_and_the_usage_passes() -> None:
    as_call = tools.AsCall(frozenset({"f"}))
    spelled = json.dumps({"name": "f", "arguments": {"a": "ä"}})
    assert as_call.turned(chunk({"content": spelled[:9]})) == {"choices": []}
    assert as_call.turned(chunk({"content": spelled}, index=1)) == {"choices": []}
    assert as_call.turned(chunk({"content": spelled[9:]})) == {"choices": []}
    (choice,) = as_call.turned(chunk({}, "stop"))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    function = choice["delta"]["tool_calls"][0]["function"]
    assert (function["name"], json.loads(function["arguments"])) == ("f", {"a": "ä"})
    usage = {"choices": [], "usage": {"total_tokens": 1}}
    assert as_call.turned(usage) == usage


@pytest.mark.parametrize(
    "pieces, reason, shown",
    [
        (["It ", "is {"], "stop", ["It ", "is {", ""]),
        ([" ", "{", "}"], "stop", ["", "", "", " {}"]),
        (['{"name": "g"}'], "stop", ["", '{"name": "g"}']),
        (['{"name": "f"'], "length", ["", '{"name": "f"']),
        (["[1, 2]"], "stop", ["", "[1, 2]"]),
        ([], "stop", [""]),
    ],
    ids=["words", "another JSON", "no function of ours", "cut off", "a list", "nothing"],
)
def test_what_spells_no_call_is_a_text(pieces: list[str], reason: str, shown: list[str]) -> None:
    as_call = tools.AsCall(frozenset({"f"}))
    chunks = [*(chunk({"content": piece}) for piece in pieces), chunk({}, reason)]
    turned = [as_call.turned(each)["choices"] for each in chunks]
    texts = [choices[0]["delta"].get("content", "") if choices else "" for choices in turned]
    assert texts == shown
    assert turned[-1][0]["finish_reason"] == reason
