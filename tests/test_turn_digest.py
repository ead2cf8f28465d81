"""The digest of a turn: kept by whoever writes the turn anew, lost by whoever edits it."""

from __future__ import annotations

import copy
import json
import sys
from collections import OrderedDict
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from lmgateway.types import Request, derived_id, parts_of, turn_digest

CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1, "y": "ü"}'}}
TURN: dict[str, Any] = {"role": "assistant", "content": "Höre 👋", "tool_calls": [CALL]}


def turn(**changes: Any) -> dict[str, Any]:
    return copy.deepcopy(TURN) | changes


def call(**changes: Any) -> dict[str, Any]:
    """The turn with its call's fields changed; ``name`` and ``arguments`` are the function's."""
    changed = copy.deepcopy(CALL)
    for name, value in changes.items():
        place: dict[str, Any] = changed if name in ("id", "type") else changed["function"]  # type: ignore[assignment]
        place[name] = value
    return turn(tool_calls=[changed])


def through_openai(turn: dict[str, Any]) -> dict[str, Any]:
    """As openai's ChatCompletionMessage.model_dump() writes a message that it has read."""
    empty = ("refusal", "annotations", "audio", "function_call", "tool_calls", "content")
    calls = [
        {"id": each["id"], "function": dict(sorted(each["function"].items())), "type": each["type"]}
        for each in turn["tool_calls"]
    ]
    return {**dict.fromkeys(empty), **turn, "tool_calls": calls}


HARMLESS = {
    "as it is": lambda: turn(),
    "through JSON": lambda: json.loads(json.dumps(TURN)),
    "through JSON in UTF-8, sorted": lambda: json.loads(
        json.dumps(TURN, ensure_ascii=False, sort_keys=True).encode()
    ),
    "openai's model_dump": lambda: through_openai(TURN),
    "keys in another order": lambda: dict(reversed(turn().items())),
    "other mappings": lambda: MappingProxyType(OrderedDict(turn(tool_calls=[OrderedDict(CALL)]))),
    "calls as a tuple": lambda: turn(tool_calls=(CALL,)),
    "a call without a type": lambda: turn(
        tool_calls=[{name: CALL[name] for name in ("id", "function")}]
    ),
    "content as a part": lambda: turn(content=[{"type": "text", "text": "Höre 👋"}]),
    "content as two parts": lambda: turn(
        content=[{"type": "text", "text": "Höre "}, {"type": "text", "text": "👋"}]
    ),
    "content as texts": lambda: turn(content=("Höre ", "👋")),
    "a part without a type": lambda: turn(content=[{"text": "Höre 👋", "type": None}]),
    "white space in the arguments": lambda: call(arguments=' {"x":1 ,\n"y":"\\u00fc"} '),
    "arguments in another order": lambda: call(arguments='{"y": "ü", "x": 1}'),
    "a whole number as a float": lambda: call(arguments='{"x": 1.0, "y": "ü"}'),
    "a whole number with an exponent": lambda: call(arguments='{"x": 1e0, "y": "ü"}'),
    "arguments as an object": lambda: call(arguments={"x": 1, "y": "ü"}),
    "a key that says nothing": lambda: turn(reasoning="hm", state={"format": "f", "turn": 1}),
    "the choice": lambda: {"text": "Höre 👋", "index": 0, "tool_calls": [{**CALL, "parsed": 1}]},
}


@pytest.mark.parametrize("made", HARMLESS.values(), ids=HARMLESS)
def test_written_anew(made: Any) -> None:
    assert turn_digest(made()) == turn_digest(TURN)


EDITS = {
    "another text": turn(content="Höre 👋."),
    "a space more": turn(content="Höre 👋 "),
    "no text": turn(content=None),
    "no call": turn(tool_calls=[]),
    "the call twice": turn(tool_calls=[CALL, CALL]),
    "another id": call(id="b"),
    "no id": call(id=None),
    "another name": call(name="g"),
    "another value": call(arguments='{"x": 2, "y": "ü"}'),
    "a float": call(arguments='{"x": 1.5, "y": "ü"}'),
    "true for 1": call(arguments='{"x": true, "y": "ü"}'),
    "a text for a number": call(arguments='{"x": "1", "y": "ü"}'),
    "null": call(arguments='{"x": null, "y": "ü"}'),
    "an argument less": call(arguments='{"x": 1}'),
    "an argument more": call(arguments='{"x": 1, "y": "ü", "z": null}'),
    "another umlaut": call(arguments='{"x": 1, "y": "u\\u0308"}'),
    "arguments that are no JSON": call(arguments='{"x": 1, "y": "ü"'),
    "a custom tool": turn(
        tool_calls=[{"id": "a", "custom": {"name": "f", "input": '{"x": 1, "y": "ü"}'}}]
    ),
}


@pytest.mark.parametrize("edited", EDITS.values(), ids=EDITS)
def test_edited(edited: dict[str, Any]) -> None:
    assert turn_digest(edited) != turn_digest(TURN)


SAME = {
    "no text": (turn(content=None), turn(content=""), turn(content=[])),
    "no calls": (turn(tool_calls=[]), turn(tool_calls=None), {"content": "Höre 👋"}),
    "no arguments": (
        *(call(arguments=each) for each in ("", " ", "{}", "{ }", None, {})),
    ),
    "minus zero": (call(arguments="[-0.0]"), call(arguments="[0]")),
    "large numbers": (call(arguments="[1e22]"), call(arguments="[10000000000000000000000]")),
    "a refusal": (
        {"content": None, "refusal": "no"}, {"content": "no"}, {"text": "", "refusal": "no"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("turns", SAME.values(), ids=SAME)
def test_the_same(turns: tuple[dict[str, Any], ...]) -> None:
    assert len(set(map(turn_digest, turns))) == 1


DIFFERENT = {
    "beyond floats": ("[1e400]", "[1e500]", "[Infinity]", "[-1e400]", '["1e400"]'),
    "no numbers": ("[NaN]", "[Infinity]", "[-Infinity]", "[null]"),
    "whole numbers beyond 2**53": ("[9007199254740993]", "[9007199254740994]"),
    "numbers of 5,000 digits": ("[1" + "0" * 5000 + "]", "[1" + "0" * 4999 + "1]"),
    "a text, and what is no JSON": ('"abc"', "abc"),
    "null, and nothing": ("null", "", "false", "0"),
    "deep": ("[" * 300 + "1" + "]" * 300, "[" * 300 + "2" + "]" * 300),
    "half of a pair": (r'"\ud83d"', r'"\ud83e"'),
}


@pytest.mark.parametrize("texts", DIFFERENT.values(), ids=DIFFERENT)
def test_different(texts: tuple[str, ...]) -> None:
    assert len({turn_digest(call(arguments=text)) for text in texts}) == len(texts)


def circle() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def tower(height: int) -> Any:
    value: Any = 1
    for _ in range(height):
        value = [value]
    return value


ODD = {
    "nothing": {},
    "numbers everywhere": {"content": 5, "tool_calls": 5, "refusal": 5},
    "texts everywhere": {"content": "", "tool_calls": "abc", "refusal": b"x"},
    "calls that are none": turn(tool_calls=[None, 1, "a", [], {}, {"function": None}]),
    "parts that are none": turn(content=[None, 1, [], {}, {"type": "text", "text": 5}]),
    "content as an object": turn(content={"text": "a"}),
    "half of a pair": turn(content="\ud800"),
    "bytes": call(id=b"a", name=b"f", arguments=b"{}"),
    "a set": call(arguments={1, 2}),
    "keys of two types": call(id={1: 1, "a": 1}, arguments={1: 1, "a": 1, None: 2}),
    "keys that are no keys": call(arguments={(1, 2): 3}),
    "a circle": call(arguments=circle()),
    "a tower": call(arguments=tower(5000), id=tower(500)),
    "infinity": call(arguments={"x": float("inf")}),
    "a huge number": call(arguments={"x": 10**5000}, id=10**5000),
    "a deep text": call(arguments="[" * 100_000),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_odd_turn_has_a_digest_too(odd: dict[str, Any]) -> None:
    assert len(turn_digest(odd)) == 64
    assert derived_id(Request("m", messages=[{"role": "user"}, odd]), 0, 0)  # type: ignore[list-item,typeddict-item]


@pytest.mark.parametrize("height", [90, 101, 300, 2000])
def test_the_stack_decides_nothing(height: int) -> None:
    """A digest is the same wherever it is made, however deep the caller stands."""
    given = call(arguments="[" * height + "1.0" + "]" * height)

    def sunken(frames: int) -> str:
        return sunken(frames - 1) if frames else turn_digest(given)

    frame, stood = sys._getframe(), 0
    while frame is not None:
        frame, stood = frame.f_back, stood + 1  # type: ignore[assignment]
    free = sys.getrecursionlimit() - stood
    assert {sunken(free - left) for left in (60, 120, 250)} == {turn_digest(given)}


def ids(*messages: dict[str, Any]) -> str:
    return derived_id(Request("m", messages=list(messages)), 0, 0)  # type: ignore[arg-type]


class TestDerivedIds:
    ASKED: ClassVar[dict[str, Any]] = {"role": "user", "content": "go"}

    def test_the_same_in_a_repeat_and_another_for_each_place(self) -> None:
        request = Request("m", "go")
        made = [derived_id(request, index, place) for index in (0, 1) for place in (0, 1)]
        assert len(set(made)) == 4
        assert made[0] == derived_id(Request("other", "go"), 0, 0)

    def test_another_in_each_turn(self) -> None:
        result = {"role": "tool", "tool_call_id": "a", "content": "2"}
        asked = [self.ASKED, TURN, result, TURN, result]
        assert len({ids(*asked[:n]) for n in range(1, 6)}) == 5

    @pytest.mark.parametrize("made", list(HARMLESS.values())[:-1], ids=list(HARMLESS)[:-1])
    def test_the_same_where_a_turn_was_written_anew(self, made: Any) -> None:
        assert ids(self.ASKED, made()) == ids(self.ASKED, TURN)

    @pytest.mark.parametrize("edited", EDITS.values(), ids=EDITS)
    def test_another_where_it_was_edited(self, edited: Any) -> None:
        assert ids(self.ASKED, edited) != ids(self.ASKED, TURN)

    def test_what_is_no_text_counts(self) -> None:
        def asked(url: str) -> dict[str, Any]:
            return {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}

        assert ids(asked("a")) != ids(asked("b"))


def test_parts_of_a_choice() -> None:
    custom = {"id": "b", "type": "custom", "custom": {"name": "g", "input": '{"raw": 1}'}}
    broken = {"id": "c", "function": {"name": "h", "arguments": "{"}}
    choice = {
        "text": "hi",
        "reasoning": "hm",
        "refusal": "no",
        "tool_calls": [{**CALL, "parsed": {"x": 1}}, custom, broken],
    }
    assert parts_of(choice) == [
        {"type": "reasoning", "text": "hm"},
        {"type": "text", "text": "hi"},
        {"type": "tool_call", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_call", "id": "b", "name": "g", "input": '{"raw": 1}'},
        {"type": "tool_call", "id": "c", "name": "h", "input": "{"},
        {"type": "refusal", "text": "no"},
    ]
    given = [{"type": "text", "text": "given"}]
    assert parts_of({**choice, "parts": given}) is given
