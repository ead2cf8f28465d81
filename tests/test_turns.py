"""A turn survives: what a plugin is given of a conversation, and what is made of its answer."""

from __future__ import annotations

import asyncio
import copy
import enum
import json
import pickle
from types import MappingProxyType
from typing import Any, ClassVar

import pytest

from lmgateway import LM, CallEvent, hookimpl, on_call, usage
from lmgateway._records.history import render
from lmgateway.errors import (
    ContentFilteredError,
    InputError,
    LMGatewayError,
    PluginContractError,
    ResponseFormatError,
    ServerError,
)
from lmgateway.testing import lm_from
from lmgateway.types import (
    Delta,
    Emit,
    Flow,
    HTTPRequest,
    Info,
    Request,
    parts_of,
    send,
    turn_digest,
)

from .support.turns import WAYS, Acme, containers, lm_of

GO = {"role": "user", "content": "go"}
BLOCKS = [
    {"type": "thinking", "thinking": "hm", "signature": "c2lnbmF0dXJlLW9mLXRoaW5raW5n"},
    {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
]
STATE = {"format": "acme.blocks", "turn": BLOCKS}
CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "2", "is_error": False}


def called(**more: Any) -> dict[str, Any]:
    """An answer that calls a tool, with its state."""
    choice = {
        "text": "", "index": 0, "finish_reason": "tool_calls", "reasoning": "hm",
        "tool_calls": [{**CALL, "index": 0, "extra_content": {"a": 1}, "parsed": {"x": 1}}],
        "state": STATE,
    }  # fmt: skip
    return {"choices": [choice | more], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}


DONE = {"choices": [{"text": "done", "finish_reason": "stop"}]}


def first(answer: Any) -> Any:
    return answer["choices"][0]


def conversation(choice: Any) -> list[Any]:
    return [GO, choice["message"], RESULT]


def by_hand(choice: Any) -> list[Any]:
    """As programs write it that do not know of ``message``."""
    turn = {"role": "assistant", "content": choice["text"], "tool_calls": choice["tool_calls"]}
    return [GO, turn, RESULT]


def states(acme: Acme) -> list[Any]:
    """The state of the second turn in what was asked last, which is the first in the plugin."""
    return [message.get("state") for message in acme.asked[-1].messages or ()]


class TestMessage:
    @pytest.mark.parametrize("api", [1, 2])
    def test_of_a_text(self, api: int) -> None:
        choice = first(lm_of(Acme(DONE, api=api)).complete("go"))
        assert choice["message"] == {"role": "assistant", "content": "done"}
        assert choice.keys() == {"text", "finish_reason", "message"}

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_of_calls(self, way: Any) -> None:
        choice = first(way(lm_of(Acme(called())), prompt="go"))
        state = {**STATE, "provider": "acme", "model": "acme-1"}
        state["digest"] = turn_digest(choice["message"])
        assert choice["message"] == {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL],
            "reasoning": "hm",
            "state": state,
        }
        (call,) = choice["tool_calls"]
        assert call["state"] == state
        assert call["parsed"] == {"x": 1}
        assert "state" not in choice
        assert json.loads(json.dumps(choice)) == choice

    def test_without_state_nothing_is_added(self) -> None:
        choice = first(lm_of(Acme(called(state=None))).complete("go"))
        assert "state" not in choice["message"]
        assert all("state" not in call for call in choice["tool_calls"])

    def test_a_text_with_state(self) -> None:
        answer = {"choices": [{"text": "hi", "state": STATE}]}
        choice = first(lm_of(Acme(answer)).complete("go"))
        assert choice.keys() == {"text", "message"}
        assert choice["message"]["state"]["turn"] == BLOCKS

    def test_of_a_refusal(self) -> None:
        answer = {"choices": [{"text": "", "refusal": "I will not.", "finish_reason": "stop"}]}
        completion = lm_of(Acme(answer)).complete("go")
        assert first(completion)["message"] == {"role": "assistant", "content": "I will not."}
        assert "warnings" not in completion

    def test_of_a_custom_tool(self) -> None:
        custom = {"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}, "more": 1}
        choice = first(lm_of(Acme(called(tool_calls=[custom]))).complete("go"))
        del custom["more"]
        assert choice["message"]["tool_calls"] == [custom]

    def test_an_edit_of_one_leaves_the_other(self) -> None:
        choice = first(lm_of(Acme(called())).complete("go"))
        rest = {name: value for name, value in choice.items() if name != "message"}
        shared = set(containers(choice["message"])) & set(containers(rest))
        assert shared <= set(containers(choice["message"]["state"]["turn"]))

    @pytest.mark.parametrize(
        "calls", [5, "abc", {}, [None, 5], [{}], [{"function": None}]], ids=str
    )
    def test_odd_calls_of_api_1_cost_nothing(self, calls: Any) -> None:
        choice = first(lm_of(Acme(called(tool_calls=calls, state=None), api=1)).complete("go"))
        assert choice["message"]["role"] == "assistant"


class TestParts:
    PARTS = (
        {"type": "reasoning", "text": "hm", "extra": {"signature": "x"}},
        {"type": "text", "text": "Look: ", "citations": [{"url": "https://example.com"}]},
        {"type": "tool_call", "id": "s", "name": "search", "input": {}, "by": "service"},
        {"type": "tool_result", "id": "s", "content": "found"},
        {"type": "file", "media_type": "image/png", "data": "aGk="},
        {"type": "text", "text": "there"},
        {"type": "tool_call", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_call", "id": "b", "name": "g", "input": "{"},
        {"type": "refusal", "text": "no"},
        {"type": "hologram"},
    )

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    @pytest.mark.parametrize("text", [{}, {"text": ""}, {"text": None}], ids=str)
    def test_the_fields_are_made_of_them(self, way: Any, text: dict[str, Any]) -> None:
        answer = {"choices": [{**text, "parts": list(self.PARTS), "finish_reason": "tool_calls"}]}
        choice = first(way(lm_of(Acme(answer)), prompt="go"))
        assert parts_of(choice) == list(self.PARTS)
        assert choice["text"] == "Look: there"
        assert choice["reasoning"] == "hm"
        assert choice["refusal"] == "no"
        assert choice["tool_calls"] == [
            {**CALL, "parsed": {"x": 1}},
            {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}},
        ]
        assert [call["id"] for call in choice["message"]["tool_calls"]] == ["a", "b"]

    def test_calls_that_the_plugin_gave_too_stay_as_they_are(self) -> None:
        calls = [{**CALL, "function": {"name": "f", "arguments": '{ "x":1}'}}]
        parts = [{"type": "tool_call", "id": "a", "name": "f", "input": {"x": 1}}]
        answer = {"choices": [{"text": "", "parts": parts, "tool_calls": calls}]}
        assert first(lm_of(Acme(answer)).complete("go"))["tool_calls"] == calls

    @pytest.mark.parametrize("odd", [5, {"a": 1}, [5, None, {}, {"type": "text"}]], ids=str)
    def test_what_is_no_part_is_kept_as_a_custom_one(self, odd: Any) -> None:
        choice = first(lm_of(Acme({"choices": [{"text": "hi", "parts": odd}]})).complete("go"))
        assert {part["type"] for part in choice["parts"]} == {"custom"}
        assert choice["text"] == "hi"

    @pytest.mark.parametrize("parts", [None, "abc", 5], ids=str)
    def test_without_text_and_parts_there_is_no_answer(self, parts: Any) -> None:
        with pytest.raises(PluginContractError, match="text"):
            lm_of(Acme({"choices": [{"parts": parts}]})).complete("go")


class TestIds:
    BARE: ClassVar[Any] = {"type": "function", "function": {"name": "f", "arguments": "{}"}}

    @pytest.mark.parametrize("api", [1, 2])
    def test_those_that_nobody_gave_are_derived(self, api: int) -> None:
        answer = {"choices": [{"text": "", "tool_calls": [self.BARE, {**self.BARE, "id": ""}]}]}
        lm = lm_of(Acme(answer, api=api))
        one, again, other = (first(lm.complete(prompt)) for prompt in ("go", "go", "on"))
        ids = [[call["id"] for call in choice["tool_calls"]] for choice in (one, again, other)]
        assert ids[0] == ids[1] == [call["id"] for call in one["message"]["tool_calls"]]
        assert len({*ids[0], *ids[2]}) == 4

    def test_in_parts_as_well(self) -> None:
        parts = [
            {"type": "tool_call", "name": "f", "input": {}, "by": by} for by in ("", "service")
        ]
        choice = first(lm_of(Acme({"choices": [{"text": "", "parts": parts}]})).complete("go"))
        assert choice["parts"][0]["id"] == choice["tool_calls"][0]["id"]


USED = {"prompt_tokens": 5, "completion_tokens": 7}
OURS = ("reasoning", "is_error", "state")
LOOPS = {"by message": conversation, "by hand": by_hand}
WRITTEN = {
    "as it is": lambda messages: messages,
    "through JSON": lambda messages: json.loads(json.dumps(messages)),
    "as tuples": lambda messages: tuple(
        {**each, "tool_calls": tuple(each["tool_calls"])} if "tool_calls" in each else each
        for each in messages
    ),
    "with None for what is missing": lambda messages: [
        dict.fromkeys((*OURS, "content", "name", "tool_calls", "audio", "refusal")) | each
        for each in messages[1:]
    ],
    "read-only": lambda messages: [MappingProxyType(each) for each in messages],
}


@pytest.mark.parametrize("written", WRITTEN.values(), ids=WRITTEN)
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_turn_goes_back_whole(way: Any, loop: Any, written: Any) -> None:
    acme = Acme(called(), DONE)
    lm = lm_of(acme)
    choice = first(way(lm, prompt="go"))
    completion = way(lm, messages=written(loop(choice)))
    assert first(completion)["text"] == "done"
    assert "warnings" not in completion
    (turn,) = [each for each in acme.asked[-1].messages or () if each["role"] == "assistant"]
    assert turn["state"] == choice["message"]["state"]
    foreign = {} if loop is conversation else {"extra_content": {"a": 1}}  # not ours: it passes
    assert turn["tool_calls"] == [{**CALL, **foreign}]
    assert not {"audio", "name", "refusal"} & turn.keys()


EDITS = {
    "the text": lambda turn: turn.update(content="other"),
    "an argument": lambda turn: turn["tool_calls"][0]["function"].update(arguments='{"x": 2}'),
    "the name": lambda turn: turn["tool_calls"][0]["function"].update(name="g"),
    "the id": lambda turn: turn["tool_calls"][0].update(id="b"),
    "a call more": lambda turn: turn["tool_calls"].append(CALL),
}


@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edited_turn_goes_without_its_state(edit: Any, loop: Any) -> None:
    acme = Acme(called(), DONE)
    lm = lm_of(acme)
    messages = copy.deepcopy(loop(first(lm.complete("go"))))
    edit(messages[1])
    completion = lm.complete(messages=messages)
    assert states(acme) == [None, None, None]
    (warning,) = completion["warnings"]
    assert (warning["kind"], warning["name"]) == ("state", "messages[1]")
    assert "edited" in warning["detail"]


@pytest.mark.parametrize("api", [1, 2])
@pytest.mark.parametrize("loop", LOOPS.values(), ids=LOOPS)
def test_another_provider_is_sent_the_visible_turn(loop: Any, api: int) -> None:
    messages = loop(first(lm_of(Acme(called())).complete("go")))
    other = Acme(DONE, api=api)
    completion = lm_of(other, "other").complete(messages=messages)
    turn: Any = (other.asked[0].messages or ())[1]
    keys = {"id", "type", "function", "extra_content"}
    assert "state" not in turn
    assert turn["tool_calls"][0].keys() <= keys
    assert completion["warnings"] == [
        {
            "kind": "state",
            "name": "messages[1]",
            "detail": "the turn was sent without its state, which is acme's (acme.blocks) and "
            "means nothing to other",
        }
    ]
    if api == 1:
        assert not {"reasoning", "is_error", "state"} & set().union(*other.asked[0].messages or ())


def test_another_provider_of_the_same_format_is_given_the_state() -> None:
    choice = first(lm_of(Acme(called())).complete("go"))
    other = Acme(DONE, portable=("acme.blocks",))
    completion = lm_of(other, "other").complete(messages=conversation(choice))
    assert states(other)[1] == choice["message"]["state"]
    assert "warnings" not in completion


def test_the_state_of_the_message_wins() -> None:
    acme = Acme(called(), DONE)
    lm = lm_of(acme)
    choice = first(lm.complete("go"))
    turn = {**choice["message"], "tool_calls": choice["tool_calls"]}
    turn["tool_calls"][0]["state"] = {**turn["state"], "turn": ["of the call"]}
    lm.complete(messages=[GO, turn, RESULT])
    assert states(acme)[1]["turn"] == BLOCKS


DIGEST = turn_digest({"content": "hi"})
CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)
FOREIGN = {
    "a text": "abc", "an empty text": "", "a number": 5, "zero": 0, "false": False, "a list": [1],
    "nothing in it": {}, "an object": object(), "a set": {1}, "bytes": b"x",
    "infinity": float("inf"),
    "without a format": {"turn": 1, "provider": "acme", "digest": DIGEST},
    "without a turn": {"format": "f", "provider": "acme", "digest": DIGEST},
    "without a provider": {"format": "f", "turn": 1, "digest": DIGEST},
    "without a digest": {"format": "f", "turn": 1, "provider": "acme"},
    "a wrong digest": {"format": "f", "turn": 1, "provider": "acme", "digest": "0" * 64},
    "a provider that is none": {"format": "f", "turn": 1, "provider": ["acme"], "digest": DIGEST},
    "a turn that is no JSON": {"format": "f", "turn": {1}, "provider": "acme", "digest": DIGEST},
    "a turn within itself": {"format": "f", "turn": CIRCLE, "provider": "acme", "digest": DIGEST},
    "a turn of NaN": {"format": "f", "turn": float("nan"), "provider": "acme", "digest": DIGEST},
}  # fmt: skip


@pytest.mark.parametrize("state", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("api", [1, 2])
def test_whatever_stands_under_state_is_taken_out_and_told(state: Any, api: int) -> None:
    acme = Acme(DONE, api=api)
    turn = {"role": "assistant", "content": "hi", "state": state}
    call = {**CALL, "state": state}
    calls = {"role": "assistant", "content": "hi", "tool_calls": [call]}
    completion = lm_of(acme).complete(messages=[turn, calls, GO])
    assert states(acme) == [None, None, None]
    assert [each["name"] for each in completion["warnings"]] == ["messages[0]", "messages[1]"]


def test_a_state_belongs_to_the_assistant() -> None:
    acme = Acme(DONE)
    state = {**STATE, "provider": "acme", "digest": turn_digest(GO)}
    assert lm_of(acme).complete(messages=[{**GO, "state": state}])["warnings"]
    assert states(acme) == [None]


def test_every_provider_is_judged_anew() -> None:
    """The one that made the state fails, and the fallback does not know its format."""
    down = ServerError("busy", status=503)
    acme = Acme(called(), down)
    lm = lm_of(acme, retries=0, fallbacks=["echo"])
    choice = first(lm.complete("go"))
    completion = lm.complete(messages=conversation(choice))
    assert states(acme)[1] == choice["message"]["state"]
    assert completion["provider"] == "echo"
    assert [each["name"] for each in completion["warnings"]] == ["messages[1]"]


@pytest.mark.parametrize(
    "key, value", [("is_error", 1), ("is_error", "no"), ("reasoning", 5), ("reasoning", [])]
)
def test_other_keys_of_ours_are_checked_before_any_io(key: str, value: Any) -> None:
    acme = Acme(DONE)
    with pytest.raises(InputError, match=key):
        lm_of(acme).complete(messages=[{**GO, key: value}])
    assert not acme.asked


# -- what a plugin does to what it was given -----------------------------------------------------


def spoil(value: Any) -> None:
    """Change every container in it."""
    if isinstance(value, dict):
        for each in list(value.values()):
            spoil(each)
        value["spoilt"] = True
    elif isinstance(value, (list, tuple)):
        for each in value:
            spoil(each)
        if isinstance(value, list):
            value.append("spoilt")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("api", [1, 2])
def test_a_plugin_spoils_only_its_own(way: Any, api: int) -> None:
    failed = False

    def spoilt(request: Any) -> Any:
        nonlocal failed
        seen.append(copy.deepcopy((request.messages, request.params, request.schema)))
        for given in (request.messages, request.params, request.schema):
            spoil(given)
        if not failed:
            failed = True
            error = ServerError("busy", status=503)
            error.retry_after = 0.0
            raise error
        return {"choices": [{"text": "1"}], "prompt": request.input}

    seen: list[Any] = []
    lm = lm_of(Acme(spoilt, api=api), stop=["a"], extra_body={"deep": {"list": [1]}})
    choice = first(lm_of(Acme(called())).complete("go"))
    parts = [{"type": "text", "text": "hi"}]
    messages = [{"role": "user", "content": parts}, *conversation(choice)]
    tools = ({"type": "function", "function": {"name": "f"}},)
    asked = {"messages": messages, "tools": tools, "schema": {"type": "integer"}}
    before, params = copy.deepcopy(asked), copy.deepcopy(lm.params)
    for _ in range(2):
        completion = way(lm, **asked)
        assert asked == before
        assert lm.params == params
        assert completion["prompt"] == before["messages"]
        entry = lm.history[-1]
        assert entry["prompt"] == before["messages"]
        assert entry["params"]["stop"] == ["a"]
    assert len(seen) == 3
    assert seen[0] == seen[1] == seen[2]


# -- side fields -------------------------------------------------------------------------------


class Word(str, enum.Enum):  # noqa: UP042 - as SDKs have it, and its str() is "Word.STOP"
    """A word of an answer."""

    STOP = "stop"
    TEXT = "text"


ODD = (None, True, 5, -1, 1.5, float("nan"), "text", b"bytes", [], [1], {}, {"a": {1}}, object(),
       [object()], {1: 2}, {"requests": {"reset": 10**400}}, Word.TEXT)  # fmt: skip
FIELDS = ("usage", "warnings", "rate_limit", "extra", "id", "model", "request_id", "endpoint",
          "provider", "cached", "fallback_from", "created", "service_tier")  # fmt: skip
OF_CHOICES = ("index", "finish_reason", "finish_reason_raw", "logprobs", "reasoning", "refusal",
              "state", "extra", "message", "parsed", "annotations")  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: f"{odd!r:.12}")
@pytest.mark.parametrize("name", [*FIELDS, *(f"choice.{name}" for name in OF_CHOICES)])
def test_an_odd_side_field_never_costs_the_answer(name: str, odd: Any) -> None:
    answer: dict[str, Any] = {"choices": [{"text": "hi"}]}
    of_choice = name.startswith("choice.")
    (answer["choices"][0] if of_choice else answer)[name.removeprefix("choice.")] = odd
    completion = lm_of(Acme(answer)).complete("go")
    assert first(completion)["text"] == "hi"
    assert first(completion)["message"]["content"] == "hi"
    assert json.loads(json.dumps(completion, allow_nan=False)) == completion
    assert isinstance(completion["model"], str)
    assert first(completion).get("finish_reason") in (None, "other")


def test_words_and_numbers_of_an_sdk_are_read() -> None:
    class Text(str):
        pass

    class Number:
        def tolist(self) -> int:
            return 3

    usage = MappingProxyType({"prompt_tokens": 5, "completion_tokens": Number()})
    choice = {"text": Text("hi"), "finish_reason": Word.STOP, "refusal": Text("no")}
    completion = lm_of(Acme({"choices": [choice], "usage": usage})).complete("go")
    told = first(completion)
    assert (told["text"], told["finish_reason"], told["refusal"]) == ("hi", "stop", "no")
    assert {type(told[name]) for name in ("text", "finish_reason", "refusal")} == {str}
    counts: Any = completion["usage"]
    assert (counts["prompt_tokens"], counts["completion_tokens"]) == (5, 3)


def test_no_word_for_the_end_is_none() -> None:
    answer = {"choices": [{"text": "hi", "finish_reason": ""}]}
    assert first(lm_of(Acme(answer)).complete("go"))["finish_reason"] is None


@pytest.mark.parametrize("given, told", [(5, "5"), (0, "0"), ("x", "x"), ([1], None), (1.5, None)])
def test_an_id_of_a_call_is_a_text(given: Any, told: str | None) -> None:
    part = {"type": "tool_call", "id": given, "name": "f", "input": {}}
    for answer in ({"text": "", "tool_calls": [{**CALL, "id": given}]}, {"parts": [part]}):
        kept = copy.deepcopy(answer)
        choice = first(lm_of(Acme({"choices": [answer]})).complete("go"))
        (call,) = choice["message"]["tool_calls"]
        assert call["id"] == told or (told is None and call["id"].startswith("call_"))
        assert answer == kept


def test_usage_is_read_as_far_as_it_makes_sense() -> None:
    usage = {"prompt_tokens": 5.0, "completion_tokens": 1.5, "total_tokens": -1, "cost": 0.25}
    read: Any = lm_of(Acme({**DONE, "usage": usage})).complete("go")["usage"]
    assert read == {"prompt_tokens": 5, "cost": 0.25, "details": usage}


def test_what_has_no_place_goes_to_extra() -> None:
    choice = {"text": "hi", "annotations": [1], "refusal": 5, "extra": {"a": 1}}
    completion = lm_of(Acme({"choices": [choice], "created": 1, "usage": "much"})).complete("go")
    assert completion["extra"] == {"created": 1, "usage": "much"}
    assert first(completion)["extra"] == {"annotations": [1], "refusal": 5, "a": 1}


def test_what_json_cannot_hold_becomes_a_text() -> None:
    extra = {"set": {1}, "nan": float("nan"), 5: (1, 2), "bytes": b"x"}
    completion: Any = lm_of(Acme({**DONE, "extra": extra})).complete("go")
    assert completion["extra"] == {"set": [1], "nan": "nan", "5": [1, 2], "bytes": "b'x'"}


def test_a_word_for_the_end_that_nobody_knows() -> None:
    answer = {"choices": [{"text": "hi", "finish_reason": "eos"}]}
    choice = first(lm_of(Acme(answer)).complete("go"))
    assert (choice["finish_reason"], choice["finish_reason_raw"]) == ("other", "eos")
    old = first(lm_of(Acme(answer, api=1)).complete("go"))
    assert old["finish_reason"] == "eos"


@pytest.mark.parametrize(
    "calls", [5, "abc", {}, {"a": 1}, [5], [{"id": "a"}], [{"function": {"name": 5}}]], ids=str
)
def test_a_call_that_is_none_breaks_the_contract(calls: Any) -> None:
    lm = lm_of(Acme(called(tool_calls=calls)))
    if calls == {}:
        assert "tool_calls" not in first(lm.complete("go"))
        return
    with pytest.raises(PluginContractError, match="tool_calls") as caught:
        lm.complete("go")
    completion: Any = caught.value.completion
    assert first(completion)["message"] == {"role": "assistant", "content": ""}


def test_an_answer_of_api_1_stays_as_it_is() -> None:
    choice = {"text": "hi", "finish_reason": "eos", "mine": (1, 2), "state": 5}
    answer = {"choices": [choice], "usage": {"prompt_tokens": 1.5}, "mine": {1}, "warnings": "x"}
    completion = lm_of(Acme(answer, api=1)).complete("go")
    given = {name: completion[name] for name in ("usage", "mine", "warnings")}  # type: ignore[literal-required]
    assert given == {"usage": {"prompt_tokens": 1.5}, "mine": {1}, "warnings": "x"}
    assert {**choice, "message": {"role": "assistant", "content": "hi"}} == first(completion)


@pytest.mark.parametrize("parts", [[{"type": "text", "text": "other"}], ["a"], [], 5], ids=str)
def test_parts_of_api_1_are_the_plugins_own(parts: Any) -> None:
    choice = first(lm_of(Acme({"choices": [{"text": "hi", "parts": parts}]}, api=1)).complete("go"))
    assert (choice["text"], choice["parts"]) == ("hi", parts)
    assert choice["message"] == {"role": "assistant", "content": "hi"}
    with pytest.raises(PluginContractError, match="text"):
        lm_of(Acme({"choices": [{"text": None, "parts": parts}]}, api=1)).complete("go")


OF_API_1 = {
    "usage": {"usage": "much"}, "a number": {"usage": 5}, "model": {"model": 5, "usage": USED},
    "endpoint": {"endpoint": 5}, "id": {"id": [1], "request_id": {}},
    "refusal": {"choices": [{"text": "", "refusal": 5}]},
    "calls": {"choices": [{"text": "", "tool_calls": [5, {"id": 5, "function": {"name": b"x"}}]}]},
}  # fmt: skip


@pytest.mark.parametrize("odd", OF_API_1.values(), ids=OF_API_1)
def test_what_is_odd_in_api_1_is_told_remembered_and_given_back(
    odd: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    lm = lm_of(Acme({**DONE, **odd}, api=1))
    with on_call(lambda event: None), usage():
        choice = first(lm.complete("go"))
    assert render(lm.history)
    lm.complete(messages=[GO, choice["message"], GO])


# -- answers that say nothing, that failed, and that were filtered -------------------------------


@pytest.mark.parametrize("api", [1, 2])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_an_empty_answer_is_one_and_says_so(way: Any, api: int) -> None:
    answer = {"choices": [{"text": "", "finish_reason": "length", "reasoning": "hm"}]}
    completion = way(lm_of(Acme(answer, api=api)), prompt="go")
    assert first(completion)["text"] == ""
    (warning,) = completion["warnings"]
    assert (warning["kind"], warning["name"]) == ("empty", "choices[0]")
    assert "length" in warning["detail"]


def test_the_plugins_own_warnings_come_after_the_cores() -> None:
    told = {"kind": "ignored", "name": "seed", "detail": "..."}
    empty = {"choices": [{"text": "", "finish_reason": "stop"}], "warnings": [told]}
    kinds = [each["kind"] for each in lm_of(Acme(empty)).complete("go")["warnings"]]
    assert kinds == ["empty", "ignored"]


def test_what_the_plugin_has_told_is_not_told_twice() -> None:
    told = {"kind": "empty", "name": "choices[0]", "detail": "It says nothing."}
    empty = {"choices": [{"text": "", "finish_reason": "stop"}], "warnings": [told]}
    assert lm_of(Acme(empty)).complete("go")["warnings"] == [told]


@pytest.mark.parametrize(
    "more",
    [{"refusal": "no"}, {"tool_calls": [CALL]}, {"parts": [{"type": "file", "url": "x"}]}],
    ids=["refusal", "call", "file"],
)
def test_what_says_something_else_is_not_empty(more: dict[str, Any]) -> None:
    answer = {"choices": [{"text": "", "finish_reason": "stop", **more}]}
    assert "warnings" not in lm_of(Acme(answer)).complete("go")


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    "reasons, error",
    [
        (["error"], ServerError),
        (["content_filter"], ContentFilteredError),
        (["content_filter", "content_filter"], ContentFilteredError),
        (["content_filter", "error"], ServerError),
    ],
    ids=str,
)
def test_without_a_good_choice_it_is_an_error(
    reasons: list[str], error: type[LMGatewayError], way: Any
) -> None:
    choices = [{"text": "Par", "finish_reason": reason} for reason in reasons]
    limits = {"requests": {"remaining": 3}}
    answer = {"choices": choices, "usage": USED, "rate_limit": limits}
    with pytest.raises(error) as caught:
        way(lm_of(Acme(answer), retries=0), prompt="go", n=len(choices))
    assert caught.value.partial == "Par"
    assert caught.value.usage == USED
    assert caught.value.rate_limit == limits
    completion: Any = caught.value.completion
    assert [each["text"] for each in completion["choices"]] == ["Par"] * len(reasons)
    assert completion["provider"] == "acme"
    assert completion["prompt"] == ""  # an error may be printed


@pytest.mark.parametrize("reason", ["error", "content_filter"])
@pytest.mark.parametrize("schema", [None, {"type": "integer"}], ids=["", "schema"])
def test_beside_a_good_choice_a_bad_one_says_what_it_is(reason: str, schema: Any) -> None:
    choices = [{"text": "12", "finish_reason": "stop"}, {"text": "1x", "finish_reason": reason}]
    lm = lm_of(Acme({"choices": choices}))
    completion = lm.complete("go", n=2, schema=schema)
    assert [each["finish_reason"] for each in completion["choices"]] == ["stop", reason]
    if schema:
        assert [each["parsed"] for each in completion["choices"]] == [12, None]


def test_a_failed_answer_of_a_stream_is_retried_only_before_a_piece() -> None:
    bad = {"choices": [{"text": "", "finish_reason": "error"}]}
    acme = Acme(bad, DONE)
    lm: LM = lm_of(acme)
    assert "".join(lm.stream("go")) == "done"
    acme.says = [{"choices": [{"text": "Par", "finish_reason": "error"}]}, DONE]
    with pytest.raises(ServerError):
        list(lm.stream("go"))


def test_fewer_choices_than_asked_for_are_left_on_the_error() -> None:
    with pytest.raises(ResponseFormatError) as caught:
        lm_of(Acme({**DONE, "usage": USED})).complete("go", n=2)
    completion: Any = caught.value.completion
    assert first(completion)["message"]["content"] == "done"
    assert caught.value.usage == USED


@pytest.mark.parametrize(
    "left", [5, {}, {"choices": 5}, {"choices": [5]}, {"choices": [{}]}], ids=str
)
def test_an_odd_completion_on_a_plugins_error(left: Any) -> None:
    error = ContentFilteredError("no", status=200)
    error.completion = left
    error.usage = left
    with pytest.raises(ContentFilteredError) as caught:
        lm_of(Acme(error)).complete("go")
    completion = caught.value.completion
    assert completion is None or first(completion)["message"]["content"] == ""


# -- schema ------------------------------------------------------------------------------------


class TestSchema:
    SCHEMA: ClassVar[Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_a_tool_call_is_an_answer(self, way: Any) -> None:
        choice = first(way(lm_of(Acme(called())), prompt="go", schema=self.SCHEMA))
        assert choice["parsed"] is None
        assert choice["tool_calls"]

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_a_refusal_is_told(self, way: Any) -> None:
        refused = {"text": "", "refusal": "I will not.", "finish_reason": "stop"}
        with pytest.raises(ContentFilteredError, match="I will not") as caught:
            way(lm_of(Acme({"choices": [refused]})), prompt="go", schema=self.SCHEMA)
        completion: Any = caught.value.completion
        assert first(completion)["refusal"] == "I will not."
        assert not caught.value.retryable

    @pytest.mark.parametrize("turned", [1, -1])
    @pytest.mark.parametrize("api", [1, 2])
    def test_a_refusal_beside_what_was_filtered(self, api: int, turned: int) -> None:
        choices = [{"text": "", "refusal": "no"}, {"text": "", "finish_reason": "content_filter"}]
        lm = lm_of(Acme({"choices": choices[::turned]}, api=api))
        with pytest.raises(ContentFilteredError, match="refused to answer: no"):
            lm.complete("go", n=2, schema=self.SCHEMA)

    @pytest.mark.parametrize("reason", ["error", "content_filter"])
    def test_with_no_good_choice_api_1_is_read_as_ever(self, reason: str) -> None:
        lm = lm_of(Acme({"choices": [{"text": "", "finish_reason": reason}]}, api=1))
        with pytest.raises(ResponseFormatError):
            lm.complete("go", schema=self.SCHEMA)

    def test_a_refusal_beside_an_answer(self) -> None:
        choices = [{"text": "", "refusal": "no"}, {"text": '{"a": 1}'}]
        completion = lm_of(Acme({"choices": choices})).complete("go", n=2, schema=self.SCHEMA)
        assert [each["parsed"] for each in completion["choices"]] == [None, {"a": 1}]

    @pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
    def test_a_cut_answer_is_told(self, way: Any) -> None:
        cut = {"text": '{"a": ', "finish_reason": "length"}
        answer = {"choices": [cut], "usage": USED, "request_id": "req-1"}
        with pytest.raises(ResponseFormatError, match=r"length.*max_tokens") as caught:
            way(lm_of(Acme(answer)), prompt="go", schema=self.SCHEMA)
        error = caught.value
        assert error.text == error.partial == '{"a": '
        assert error.usage == USED
        assert error.request_id == "req-1"
        completion: Any = error.completion
        assert first(completion)["text"] == '{"a": '
        assert "parsed" not in first(completion)


# -- where a state must not be seen ------------------------------------------------------------

SEALED = "c2lnbmF0dXJlLW9mLXRoaW5raW5n"


def test_no_text_of_ours_shows_a_state(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    lm = lm_of(Acme(called(), DONE))
    lm.complete(messages=conversation(first(lm.complete("go"))))
    lm.inspect_history(2)
    shown = [capsys.readouterr().out, caplog.text, repr(lm), repr(lm.history)]
    assert SEALED not in "".join(shown)
    kept: Any = lm.history[-1]["prompt"][1]
    assert kept["state"]["turn"] == BLOCKS


def test_no_repr_shows_a_state() -> None:
    acme = Acme(called(), DONE)
    lm = lm_of(acme)
    lm.complete(messages=conversation(first(lm.complete("go"))))
    assert SEALED not in repr(acme.asked)
    stream = lm.stream(messages=[GO])
    list(stream)
    assert SEALED not in repr(stream)


class Wire:
    """Sends the turns, those with a state in the service's own form, as a provider does."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, capabilities=frozenset({"messages", "tools"}), default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Any]:
        turns = [
            {"role": turn["role"], "content": state["turn"]}
            if (state := turn.get("state")) is not None
            else {"role": turn["role"], "content": turn.get("content"), "all": dict(turn)}
            for turn in request.messages or ()
        ]
        body = {"messages": turns, "as_text": json.dumps(turns)}
        response = yield from send(HTTPRequest("POST", "https://acme.test", "/x", json=body))
        return json.loads(response.body)


def test_preview_masks_what_came_out_of_a_state() -> None:
    choice = first(lm_of(Acme(called())).complete("go"))
    described = lm_from(Wire(), "acme").preview(messages=conversation(choice))
    assert SEALED not in json.dumps(described)
    _, turn, result = described["json"]["messages"]
    thinking, call = turn["content"]
    assert thinking == {"type": "thinking", "thinking": "hm", "signature": "***"}
    assert call == BLOCKS[1]
    assert result["content"] == "2"
    with_none = lm_from(Wire(), "acme").preview(messages=[GO])
    assert with_none["json"]["messages"][0]["content"] == "go"


# -- what is billed ----------------------------------------------------------------------------


def busy(used: dict[str, int] | None) -> ServerError:
    error = ServerError("busy", status=503)
    error.retry_after = 0.0
    error.usage = used
    return error


def misfit(answer: dict[str, Any]) -> dict[str, Any]:
    return {**answer, "usage": USED}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_every_attempt_that_the_service_counted_counts(way: Any) -> None:
    acme = Acme(busy(USED), busy(None), misfit(DONE))
    with usage() as used:
        way(lm_of(acme), prompt="go")
    assert (used.calls, used.failed) == (2, 1)
    assert (used.prompt_tokens, used.completion_tokens) == (10, 14)
    assert used.unpriced == {"acme/acme-1": 2}


FAILED = {
    "a misfit": ({"choices": [{"text": "x"}]}, ResponseFormatError),
    "a cut": ({"choices": [{"text": "{", "finish_reason": "length"}]}, ResponseFormatError),
    "a refusal": ({"choices": [{"text": "", "refusal": "no"}]}, ContentFilteredError),
    "filtered": (
        {"choices": [{"text": "x", "finish_reason": "content_filter"}]}, ContentFilteredError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("answer, error", FAILED.values(), ids=FAILED)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_failed_call_is_counted_remembered_and_told(way: Any, answer: Any, error: Any) -> None:
    lm = lm_of(Acme(misfit(answer)))
    events: list[CallEvent] = []
    with usage() as used, on_call(events.append), pytest.raises(error) as caught:
        way(lm, prompt="go", schema={"type": "object"})
    assert (used.calls, used.failed, used.total_tokens) == (1, 1, 12)
    entry = lm.history[-1]
    assert entry["error"]
    assert entry["completion"] == caught.value.completion
    assert "[error]" in render([entry])
    assert events[0].usage == USED
    assert events[0].outcome == "error"
    assert pickle.loads(pickle.dumps(caught.value)).completion == caught.value.completion


def test_what_stands_on_a_plugins_error_is_read_as_an_answer_is() -> None:
    error = busy({"prompt_tokens": 5.0, "completion_tokens": "x"})  # type: ignore[dict-item]
    error.retryable, error.partial, error.rate_limit = False, 5, {"tokens": 1}  # type: ignore[assignment, dict-item]
    with usage() as used, pytest.raises(ServerError) as caught:
        lm_of(Acme(error)).complete("go")
    told: Any = caught.value.usage
    assert (told["prompt_tokens"], "completion_tokens" in told) == (5, False)
    assert (caught.value.partial, caught.value.rate_limit) == (None, None)
    assert (used.calls, used.prompt_tokens) == (1, 5)


def test_a_plugins_usage_that_is_none_is_not_counted() -> None:
    error = busy(None)
    error.usage = "much"  # type: ignore[assignment]
    error.retryable = False
    with usage() as used, pytest.raises(ServerError):
        lm_of(Acme(error)).complete("go")
    assert used.calls == 0


# -- streams -----------------------------------------------------------------------------------


class Shows:
    """Streams an image in previews."""

    def __init__(self) -> None:
        preview = {"type": "file", "media_type": "image/png", "data": "YQ=="}
        self.deltas: list[Any] = [
            "so: ",
            Delta(part={**preview}, partial="replace", id="i"),  # type: ignore[typeddict-item]
            Delta(part={"type": "text", "text": ""}, partial="append", id="t"),
            Delta("there", reasoning="hm", finish_reason="stop"),
        ]

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Any:
        return DONE

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Any]:
        for delta in self.deltas:
            yield Emit(delta)
        return {"choices": [{"text": "so: there"}]}


def test_a_stream_shows_parts_as_events_and_texts_as_pieces() -> None:
    shows = Shows()
    lm = lm_from(shows)
    assert list(lm.stream("go")) == ["so: ", "there"]
    assert list(lm.stream("go", events=True)) == [Delta("so: "), *shows.deltas[1:]]

    async def main() -> tuple[list[Any], list[Any]]:
        texts = [piece async for piece in lm.astream("go")]
        return texts, [piece async for piece in lm.astream("go", events=True)]

    assert asyncio.run(main()) == (["so: ", "there"], [Delta("so: "), *shows.deltas[1:]])


@pytest.mark.parametrize("state", [{"x"}, {"y": float("nan")}, b"x", "\ud800", {1: 2, "a": 1}])
def test_a_state_that_is_no_json_is_left_out_and_told(state: Any) -> None:
    odd = {"format": "acme.blocks", "turn": state}
    completion = lm_of(Acme(called(state=odd))).complete("go")
    if state == {1: 2, "a": 1}:  # JSON can carry it
        assert "warnings" not in completion
        return
    assert "state" not in first(completion)["message"]
    assert "extra" not in first(completion)
    assert [each["kind"] for each in completion["warnings"]] == ["state"]


@pytest.mark.parametrize("depth", [98, 100])
def test_what_was_made_of_deep_arguments_is_no_reason_to_refuse_a_turn(depth: int) -> None:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    call = {**CALL, "function": {"name": "f", "arguments": json.dumps(value)}, "parsed": value}
    state = {"format": "acme.blocks", "turn": [{"content": [{"input": value}]}]}
    lm = lm_of(Acme(called(tool_calls=[call], state=state), DONE))
    choice = first(lm.complete("go"))
    bare = {"role": "assistant", "tool_calls": choice["tool_calls"]}  # without what is None
    for messages in (conversation(choice), by_hand(choice), [GO, bare, RESULT]):
        assert "warnings" not in lm.complete(messages=messages)
