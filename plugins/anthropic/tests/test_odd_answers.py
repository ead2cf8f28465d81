"""Every field of answers and events with values that it should not have; halves, stalls, depth."""

from __future__ import annotations

import copy
import time
from typing import Any

import pytest
from support.exchanges import Pieces, run
from support.odd import ODD, assert_sound, each_field_odd, outcome, spell

from lmgateway import errors
from lmgateway.types import HTTPResponse, Request
from lmgateway_anthropic.build import prepare
from lmgateway_anthropic.parse import parse
from lmgateway_anthropic.settings import Settings
from lmgateway_anthropic.stream import read_stream

ASKED = Request("m", "Hi")
SETTINGS = Settings(api_key="a-key")  # type: ignore[arg-type]
USAGE = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5,
         "output_tokens_details": {"thinking_tokens": 1}}  # fmt: skip
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "Hm.", "signature": "s"},
        {"type": "text", "text": "a", "citations": None},
        {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"word": "ä"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}
#: What the completion says, and what turns an answer into an error.
HEART = {"content", "stop_reason", "type", "error"}


def block(place: int, kind: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    begin = {"type": "content_block_start", "index": place, "content_block": kind}
    grown = [{"type": "content_block_delta", "index": place, "delta": each} for each in deltas]
    return [begin, *grown, {"type": "content_block_stop", "index": place}]


START = {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
END = {"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None},
       "usage": {"output_tokens": 9}}  # fmt: skip
EVENTS = [
    START,
    {"type": "ping"},
    *block(0, {"type": "thinking", "thinking": ""},
           {"type": "thinking_delta", "thinking": "Hm."},
           {"type": "signature_delta", "signature": "s"}),
    *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"}),
    *block(2, {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {}},
           {"type": "input_json_delta", "partial_json": '{"word"'},
           {"type": "input_json_delta", "partial_json": ': "ä"}'}),
    END,
    {"type": "message_stop"},
]  # fmt: skip


def whole(document: Any) -> Any:
    return parse(ASKED, HTTPResponse(200, {}, spell(document)))


def play(events: list[Any], *after: Any) -> Any:
    data = b"".join(b"data: " + spell(event) + b"\n\n" for event in events)
    return run(read_stream(ASKED, HTTPResponse(200, {}, source=Pieces([data, *after]))))


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_an_answer_with_an_odd_field_is_right_or_typed(odd: Any) -> None:
    good = whole(MESSAGE)
    for path, document in each_field_odd(MESSAGE, odd):
        completion, error = outcome(lambda told=document: whole(told))
        assert error is None or path[0] in HEART, f"the answer was lost over {path}: {error}"
        if error is None:
            assert_sound(completion)
            assert path[0] in HEART or completion["choices"] == good["choices"]


def is_heart(events: list[Any], path: tuple[Any, ...]) -> bool:
    """Whether a field of an event says what the answer is, or which event it is."""
    return path[1] in ("type", "error", "index", "content_block", "delta") or path[1:] == (
        "message",
    )


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_a_stream_with_an_odd_field_is_right_or_typed(odd: Any) -> None:
    good, _ = play(EVENTS)
    assert good["choices"] == whole(MESSAGE)["choices"]
    for path, events in each_field_odd(EVENTS, odd):
        if len(path) == 1:
            continue
        played, error = outcome(lambda told=events: play(told))
        assert error is None or is_heart(EVENTS, path), f"lost over {path}: {error}"
        if error is None:
            completion, deltas = played
            assert_sound(completion)
            copy.deepcopy(deltas)
            assert "".join(delta.text for delta in deltas) == completion["choices"][0]["text"]
            assert is_heart(EVENTS, path) or completion["choices"] == good["choices"]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("place", ["message_start", "message_delta"])
def test_odd_usage_is_left_out(place: str, odd: Any) -> None:
    events = copy.deepcopy(EVENTS)
    for event in events:
        if event["type"] == place:
            event.get("message", event)["usage"] = odd
    completion, _ = play(events)
    assert all(type(count) is int and count >= 0 for count in completion.get("usage", {}).values())
    if place == "message_delta" and odd not in (None, {}):  # the start's count is not the answer's
        assert "completion_tokens" not in completion.get("usage", {})


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
@pytest.mark.parametrize("field", ["type", "message"])
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_an_odd_error_is_an_error_of_the_service(field: str, odd: Any, streamed: bool) -> None:
    said = {"type": "error", "error": {"type": "api_error", "message": "boom", field: odd}}
    with pytest.raises(errors.ServerError) as caught:
        play([START, said]) if streamed else whole(said)
    assert str(caught.value).encode()


def test_an_error_event_whose_data_is_no_json_is_an_error_of_the_service() -> None:
    head = HTTPResponse(200, {}, source=Pieces([b"event: error\ndata: overloaded\n\n"]))
    with pytest.raises(errors.ServerError, match="overloaded"):
        run(read_stream(ASKED, head))


# -- numbers, depth ------------------------------------------------------------------------------

DEEP = "[" * 450 + "]" * 450
INPUTS = {
    "NaN": '{"a": NaN}',
    "without end": '{"a": 1e999}',
    "450 deep": f'{{"a": {DEEP}}}',
    "2000 deep": '{"a": ' + "[" * 2000 + "]" * 2000 + "}",
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
def test_the_input_of_a_tool_that_json_cannot_carry_is_typed(name: str, streamed: bool) -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    delta = {"type": "input_json_delta", "partial_json": INPUTS[name]}
    body = spell({**MESSAGE, "content": [call]}).replace(
        b'"input": {}', b'"input": ' + INPUTS[name].encode()
    )
    events = [START, *block(0, call, delta), END, {"type": "message_stop"}]
    response = HTTPResponse(200, {}, body)
    _, error = outcome(lambda: play(events) if streamed else parse(ASKED, response))
    assert type(error) is errors.ResponseFormatError
    assert not error.retryable or not streamed  # a whole body that is too deep may be damage


ARGUMENTS = ['{"a": NaN}', "{", "[]", '{"a": 1e999}', f'{{"a": {DEEP}}}', "[" * 5000, "9" * 5000]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=lambda text: text[:12])
def test_a_turns_arguments_that_are_no_object_are_sent_as_a_text_in_one(arguments: str) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    turns: Any = [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [call]}]
    request, warnings = prepare(Request("m", messages=turns), SETTINGS)
    (use,) = request.json["messages"][1]["content"]
    assert use["input"] == {"arguments": arguments}
    assert [(each["kind"], each["name"]) for each in warnings] == [
        ("adapted", "messages[1].tool_calls[0]")
    ]


# -- half a character ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "parts, expected",
    [
        (["a\ud83d", "\ude42"], "a🙂"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ud83d"], "a\ufffd"),
        (["\ude42b"], "\ufffdb"),
    ],
)
@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_half_a_character_waits_for_its_other_half(
    kind: str, parts: list[str], expected: str
) -> None:
    deltas = [{"type": f"{kind}_delta", kind: part} for part in parts]
    ending = [{**END, "delta": {"stop_reason": "max_tokens"}}, {"type": "message_stop"}]
    shown_as = "text" if kind == "text" else "reasoning"
    completion, pieces = play(
        [START, *block(0, {"type": kind, kind: ""}, *deltas), *block(1, {"type": "text"}), *ending]
    )
    assert completion["choices"][0][shown_as] == expected
    assert "".join(getattr(piece, shown_as) for piece in pieces) == expected


def test_halves_of_two_blocks_are_two_and_stand_where_they_were() -> None:
    first = block(0, {"type": "text"}, {"type": "text_delta", "text": "a\ud83d"})
    second = block(1, {"type": "text"}, {"type": "text_delta", "text": "\ude42b"})
    completion, pieces = play([START, *first, *second, END, {"type": "message_stop"}])
    assert completion["choices"][0]["text"] == "a\ufffd\ufffdb"
    assert "".join(piece.text for piece in pieces) == "a\ufffd\ufffdb"


def test_half_a_character_in_a_whole_answer_is_replaced() -> None:
    call = {"type": "tool_use", "id": "t\ud83d", "name": "f", "input": {"a": "\ud83d"}}
    completion = whole({**MESSAGE, "content": [{"type": "text", "text": "a\ud83d b"}, call]})
    assert completion["choices"][0]["text"] == "a\ufffd b"
    assert completion["choices"][0]["tool_calls"][0]["parsed"] == {"a": "\ufffd"}
    assert_sound(completion)


# -- the ends of a stream ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said, partial", [([START], None), (EVENTS[:8], "a")], ids=["before", "after"]
)
def test_a_stall_is_a_timeout_and_an_interruption(said: list[Any], partial: str | None) -> None:
    late = errors.RequestTimeoutError("too slow")
    late.retryable = True
    with pytest.raises(errors.StreamStalledError, match="too slow") as caught:
        play(said, late)
    assert isinstance(caught.value, errors.RequestTimeoutError)
    assert (caught.value.partial, caught.value.retryable) == (partial, partial is None)


def test_a_stall_that_the_core_tells_is_told_once() -> None:
    stalled = errors.StreamStalledError("no more came")
    with pytest.raises(errors.StreamStalledError) as caught:
        play(EVENTS[:8], stalled)
    assert (caught.value.message, caught.value.partial) == ("no more came", "a")
    assert not caught.value.retryable


def test_a_block_that_begins_twice_is_no_answer() -> None:
    with pytest.raises(errors.ResponseFormatError, match="twice"):
        play([START, *block(0, {"type": "text"}), *block(0, {"type": "text"})])


def test_many_blocks_and_pieces_take_linear_time() -> None:
    began = time.monotonic()
    blocks = [each for n in range(10_000) for each in block(
        n, {"type": "text"}, *[{"type": "text_delta", "text": "a\ud83d"}] * 3)]  # fmt: skip
    completion, _ = play([START, *blocks, END, {"type": "message_stop"}])
    assert len(completion["choices"][0]["text"]) == 60_000
    assert time.monotonic() - began < 30


def test_a_stream_without_its_end_mark_is_whole_if_it_told_why_it_ends() -> None:
    completion, _ = play(EVENTS[:-1])
    assert completion == play(EVENTS)[0]
    with pytest.raises(errors.StreamInterruptedError):
        play(EVENTS[:-2])
