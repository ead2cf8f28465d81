"""What an answer holds beside its texts: read alike from a plain answer and from a stream, and
given back to the service as it came.

Each case of the table says what a service answers with, as a message and as the deltas of a
stream; what a user must find in the choice; and what must be sent when the turn is given back.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest
from pydantic import TypeAdapter
from support.exchanges import Pieces, run
from support.fault_server import FaultServer, close, reply

from lmgateway import LM, errors, get_lm
from lmgateway.types import HTTPResponse, Request, derived_id
from lmgateway.wire.openai import (
    CHAT,
    OPENAI,
    VLLM,
    Dialect,
    Service,
    chat_request,
    complete,
    completion_request,
    parse,
    stream,
    visible_messages,
)

HERE = Service("http://service.example/v1")
ASKED: dict[str, Any] = {"audio": {"format": "mp3", "voice": "alloy"}}
REQUEST = Request("m", prompt="hi", params=ASKED)
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
SIGNED = {**CALL, "extra_content": {"google": {"thought_signature": "SIG"}}}
URL = {"start_index": 0, "end_index": 2, "url": "https://e.example", "title": "T"}
ANNOTATION = {"type": "url_citation", "url_citation": URL}
CITED = {"url": "https://e.example", "title": "T", "start": 0, "end": 2}
FILED = {"type": "file_citation", "file_citation": {"file_id": "f1", "index": 3}}
PNG = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
LINK = {"type": "image_url", "image_url": {"url": "https://e.example/x.png"}, "index": 0}
SPOKEN = {"id": "audio_1", "data": "QUJDREVG", "transcript": "hello", "expires_at": 9}
ENCRYPTED = {"type": "reasoning.encrypted", "data": "ENC", "id": "r1", "index": 1}
THOUGHT = {"type": "reasoning.text", "text": "hmm", "signature": "SIG", "index": 0}

BLOCKS = [{"type": "thinking", "thinking": "hmm", "signature": "SIG"},
          {"type": "redacted_thinking", "data": "R"}]  # fmt: skip


def thinking(*texts: str, **more: Any) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [{"type": "text", "text": t} for t in texts], **more}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


# name: (message, deltas, what the choice holds, the message when it is sent again)
CASES: dict[str, tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any], Any]] = {
    "a text": (
        {"content": "a", "refusal": None, "tool_calls": [], "annotations": [], "audio": None},
        [{"role": "assistant", "content": ""}, {"content": "a"}],
        {"text": "a"},
        {"role": "assistant", "content": "a"},
    ),
    "a call": (
        {"content": None, "tool_calls": [CALL]},
        [{"role": "assistant", "content": None, "tool_calls": [{"index": 0, **CALL}]}],
        {"text": "", "tool_calls": [{**CALL, "parsed": {"a": 1}}]},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ),
    "reasoning alone is visible": (
        {"content": "a", "reasoning": "hm"},
        [{"reasoning": "h"}, {"reasoning": "m"}, {"content": "a"}],
        {"text": "a", "reasoning": "hm"},
        {"role": "assistant", "content": "a"},
    ),
    "reasoning_content": (
        {"content": "a", "reasoning_content": "hm"},
        [{"reasoning_content": "h", "content": None}, {"reasoning_content": "m"}, {"content": "a"}],
        {"text": "a", "reasoning": "hm"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
    ),
    "thinking_blocks": (
        {"content": "a", "reasoning_content": "hmm", "thinking_blocks": BLOCKS},
        [
            {"reasoning_content": "h", "thinking_blocks": [{"type": "thinking", "thinking": "h"}]},
            {"reasoning_content": "mm",
             "thinking_blocks": [{"type": "thinking", "thinking": "mm"}]},
            {"thinking_blocks": [{"type": "thinking", "thinking": "", "signature": "SIG"}]},
            {"thinking_blocks": [BLOCKS[1]]},
            {"content": "a"},
        ],
        {"text": "a", "reasoning": "hmm"},
        {"role": "assistant", "content": "a", "reasoning_content": "hmm",
         "thinking_blocks": BLOCKS},
    ),
    "reasoning_details": (
        {"content": "a", "reasoning": "hmm", "reasoning_details": [THOUGHT, ENCRYPTED]},
        [
            {"reasoning_details": [{"type": "reasoning.text", "text": "h", "index": 0}],
             "reasoning": "h"},
            {"reasoning_details": [{"type": "reasoning.text", "text": "mm", "index": 0}],
             "reasoning": "mm"},
            {"reasoning_details": [{"type": "reasoning.text", "signature": "SIG", "index": 0}]},
            {"reasoning_details": [{**ENCRYPTED, "data": "E"}]},
            {"reasoning_details": [{"type": "reasoning.encrypted", "data": "NC", "index": 1}]},
            {"content": "a"},
        ],
        {"text": "a", "reasoning": "hmm"},
        {"role": "assistant", "content": "a", "reasoning": "hmm",
         "reasoning_details": [THOUGHT, ENCRYPTED]},
    ),
    "reasoning_details with no other reasoning": (
        {"content": "a", "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
        [{"reasoning_details": [{"type": "reasoning.summary", "summary": "h"}]},
         {"reasoning_details": [{"type": "reasoning.summary", "summary": "m"}]}, {"content": "a"}],
        {"text": "a", "reasoning": "hm"},
        {"role": "assistant", "content": "a",
         "reasoning_details": [{"type": "reasoning.summary", "summary": "hm"}]},
    ),
    "extra_content of a call": (
        {"content": None, "tool_calls": [SIGNED]},
        [{"role": "assistant", "content": "", "tool_calls": [{"index": 0, **SIGNED}]}],
        {"text": "", "tool_calls": [{**CALL, "parsed": {"a": 1}}]},
        {"role": "assistant", "content": None, "tool_calls": [SIGNED]},
    ),
    "extra_content of the message": (
        {"content": "a", "extra_content": {"google": {"thought_signature": "SIG"}}},
        [{"content": "a"}, {"extra_content": {"google": {"thought_signature": "SIG"}}}],
        {"text": "a"},
        {"role": "assistant", "content": "a",
         "extra_content": {"google": {"thought_signature": "SIG"}}},
    ),
    "thinking in chunks": (
        {"content": [thinking("hm", closed=True), said("42")]},
        [{"role": "assistant", "content": ""}, {"content": [thinking("h")]},
         {"content": [thinking("m", closed=True)]}, {"content": [said("4")]}, {"content": "2"}],
        {"text": "42", "reasoning": "hm"},
        {"role": "assistant", "content": [thinking("hm", closed=True), said("42")]},
    ),
    "chunks in an order of their own": (
        {"content": [said("4"), {"type": "reference", "reference_ids": [1]}, said("2")]},
        [{"content": "4"}, {"content": [{"type": "reference", "reference_ids": [1]}]},
         {"content": [said("2")]}],
        {"text": "42", "parts": [
            said("4"),
            {"type": "custom", "kind": "openai.reference",
             "value": {"type": "reference", "reference_ids": [1]}},
            said("2"),
        ]},
        {"role": "assistant",
         "content": [said("4"), {"type": "reference", "reference_ids": [1]}, said("2")]},
    ),
    "citations": (
        {"content": "hi", "reasoning": "hm", "annotations": [ANNOTATION, FILED]},
        [{"reasoning": "hm"}, {"content": "hi"}, {"annotations": [ANNOTATION]},
         {"annotations": [FILED]}],
        {"text": "hi", "parts": [
            {"type": "reasoning", "text": "hm"},
            {**said("hi"), "citations": [CITED, {"extra": FILED}]},
        ]},
        {"role": "assistant", "content": "hi"},
    ),
    "audio": (
        {"content": None, "audio": SPOKEN},
        [{"role": "assistant", "content": None, "audio": {"id": "audio_1", "transcript": "hel"}},
         {"audio": {"data": "QUJD"}}, {"audio": {"data": "REVG", "transcript": "lo"}},
         {"audio": {"expires_at": 9}}],
        {"text": "", "parts": [
            {"type": "file", "media_type": "audio/mpeg", "data": "QUJDREVG", "transcript": "hello",
             "extra": {"id": "audio_1", "expires_at": 9}},
        ]},
        {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
    ),
    "audio whose pieces are padded": (
        {"content": None, "audio": {"id": "audio_1", "data": "QUI="}},
        [{"audio": {"id": "audio_1"}}, {"audio": {"data": "QQ=="}}, {"audio": {"data": "Qg=="}}],
        {"text": "", "parts": [{"type": "file", "media_type": "audio/mpeg", "data": "QUI=",
                                "extra": {"id": "audio_1"}}]},
        {"role": "assistant", "content": None, "audio": {"id": "audio_1"}},
    ),
    "images": (
        {"content": "", "images": [PNG, LINK]},
        [{"content": "", "images": [PNG]}, {"images": [LINK]}],
        {"text": "", "parts": [
            {"type": "file", "media_type": "image/png", "data": "AAAA"},
            {"type": "file", "media_type": "image/*", "url": "https://e.example/x.png"},
        ]},
        {"role": "assistant", "content": "", "images": [PNG, LINK]},
    ),
    "a custom tool": (
        {"content": None,
         "tool_calls": [{"id": "c1", "type": "custom", "custom": {"name": "f", "input": "x y"}}]},
        [{"tool_calls": [{"index": 0, "id": "c1", "type": "custom",
                          "custom": {"name": "f", "input": "x"}}]},
         {"tool_calls": [{"index": 0, "custom": {"input": " y"}}]}],
        {"text": "", "tool_calls": [
            {"id": "c1", "type": "custom", "custom": {"name": "f", "input": "x y"}}]},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "c1", "type": "custom", "custom": {"name": "f", "input": "x y"}}]},
    ),
    "a call without an id": (
        {"content": None, "tool_calls": [{"function": CALL["function"]}]},
        [{"tool_calls": [{"function": {"name": "f", "arguments": '{"a":'}}]},
         {"tool_calls": [{"function": {"arguments": " 1}"}}]}],
        {"text": "", "tool_calls": [
            {**CALL, "id": derived_id(REQUEST, 0, 0), "parsed": {"a": 1}}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{**CALL, "id": derived_id(REQUEST, 0, 0)}]},
    ),
    "a call in the form of 2023": (
        {"content": None, "function_call": CALL["function"]},
        [{"function_call": {"name": "f", "arguments": ""}},
         {"function_call": {"arguments": '{"a": 1}'}}],
        {"text": "", "tool_calls": [
            {**CALL, "id": derived_id(REQUEST, 0, 0), "parsed": {"a": 1}}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{**CALL, "id": derived_id(REQUEST, 0, 0)}]},
    ),
    "a tool of the host's own": (
        {"content": None, "tool_calls": [{**CALL, "type": "builtin_function"}]},
        [{"tool_calls": [{"index": 0, **CALL, "type": "builtin_function"}]}],
        {"text": "", "tool_calls": [{**CALL, "parsed": {"a": 1}}]},
        {"role": "assistant", "content": None,
         "tool_calls": [{**CALL, "type": "builtin_function"}]},
    ),
    "fields that nobody knows": (
        {"content": "a", "novel": {"x": 1}, "prefix": False},
        [{"content": "a", "prefix": False}, {"novel": {"x": 1}}],
        {"text": "a", "extra": {"novel": {"x": 1}, "prefix": False}},
        {"role": "assistant", "content": "a", "novel": {"x": 1}, "prefix": False},
    ),
    "nothing but a reason to end": ({"content": None}, [{"role": "assistant"}], {"text": ""},
                                    {"role": "assistant", "content": ""}),
}  # fmt: skip


def whole(message: Any) -> bytes:
    message = {"role": "assistant", **message}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return json.dumps({"id": "1", "model": "m", "choices": [choice], "created": 7}).encode()


def events(deltas: list[Any]) -> bytes:
    ends: list[tuple[Any, Any]] = [*((delta, None) for delta in deltas), ({}, "stop")]
    chunks = [
        {"id": "1", "model": "m", "created": 7,
         "choices": [{"index": 0, "delta": delta, "finish_reason": end}]}
        for delta, end in ends
    ]  # fmt: skip
    lines = [b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks]
    return b"".join([*lines, b"data: [DONE]\n\n"])


def play(deltas: list[Any], request: Request = REQUEST) -> Any:
    head = HTTPResponse(200, source=Pieces([events(deltas)]))
    return run(stream(request, chat_request(request, HERE), needs_done=True), head)


def sent_again(choice: dict[str, Any]) -> Any:
    """The turn on the wire, as the core hands it over once it is given back."""
    turn = {"role": "assistant", "content": choice["text"] or None}
    if not choice.get("tool_calls"):
        turn["content"] = choice["text"]
    for name in ("tool_calls", "reasoning", "state"):
        if name in choice:
            turn[name] = copy.deepcopy(choice[name])
    for call in turn.get("tool_calls", ()):
        call.pop("parsed", None)
    messages: Any = [{"role": "user", "content": "hi"}, json.loads(json.dumps(turn))]
    before = copy.deepcopy(messages)
    body = chat_request(Request("m", messages=messages), HERE).json
    assert messages == before
    return body["messages"][1]


@pytest.mark.parametrize("name", CASES)
def test_a_plain_answer_holds_all_and_is_given_back_as_it_came(name: str) -> None:
    message, _, expected, again = CASES[name]
    [choice] = parse(REQUEST, HTTPResponse(200, {}, whole(message)), CHAT)["choices"]
    assert {key: choice.get(key) for key in expected} == expected
    assert ("parts" in choice) == ("parts" in expected)
    assert sent_again(choice) == again


@pytest.mark.parametrize("name", CASES)
def test_a_stream_gives_the_same(name: str) -> None:
    message, deltas, _, again = CASES[name]
    plain = parse(REQUEST, HTTPResponse(200, {}, whole(message)), CHAT)
    streamed, shown = play(deltas)
    assert streamed == plain
    assert sent_again(streamed["choices"][0]) == again
    assert "".join(delta.text for delta in shown) == plain["choices"][0]["text"]
    thought = "".join(delta.reasoning for delta in shown)
    assert thought == plain["choices"][0].get("reasoning", "")
    assert [delta.finish_reason for delta in shown if delta.finish_reason] == ["stop"]
    assert shown[-1].finish_reason == "stop"


@pytest.mark.parametrize("name", CASES)
def test_a_stream_shows_the_parts_as_they_come(name: str) -> None:
    _, deltas, expected, _ = CASES[name]
    _, shown = play(deltas)
    parts = [delta.part for delta in shown if delta.part]
    kinds = {part["type"] for part in parts if part["type"] != "text"}
    assert kinds == {part["type"] for part in expected.get("parts", ())} - {"text", "reasoning"}
    assert all(delta.id for delta in shown if delta.partial)


@pytest.mark.parametrize("name", CASES)
def test_a_streamed_call_begins_with_its_index_its_id_and_its_name(name: str) -> None:
    _, deltas, expected, _ = CASES[name]
    _, shown = play(deltas)
    fragments = [call for delta in shown for call in delta.tool_calls]
    assert bool(fragments) == ("tool_calls" in expected)
    for number, fragment in enumerate(fragments):
        assert fragment["index"] == 0
        if number == 0:
            assert fragment["id"] == expected["tool_calls"][0]["id"]
            assert fragment.get("function", fragment.get("custom"))["name"] == "f"


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("before", [b"", b" \n", b"\xef\xbb\xbf"], ids=["at once", "space", "BOM"])
def test_a_host_that_answers_a_stream_whole_gives_the_same(name: str, before: bytes) -> None:
    message = CASES[name][0]
    plain = parse(REQUEST, HTTPResponse(200, {}, whole(message)), CHAT)
    body = before + whole(message)
    head = HTTPResponse(200, source=Pieces([body[:1], body[1:9], body[9:]]))
    answer, shown = run(stream(REQUEST, chat_request(REQUEST, HERE), needs_done=True), head)
    assert answer == plain
    assert "".join(delta.text for delta in shown) == plain["choices"][0]["text"]
    kinds = [delta.part["type"] for delta in shown if delta.part]
    assert set(kinds) - {"text"} == {
        part["type"]
        for part in plain["choices"][0].get("parts", ())
        if part["type"] in ("file", "custom")
    }
    assert [delta.finish_reason for delta in shown if delta.finish_reason] == ["stop"]
    assert shown[-1].finish_reason == "stop"
    numbers = [call["index"] for delta in shown for call in delta.tool_calls]
    assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize(
    "body, content_type, kind",
    [
        (b'{"error": {"code": 429, "message": "no"}}', "text/event-stream", errors.RateLimitError),
        (b"<html><title>no</title></html>", "text/event-stream", errors.ResponseFormatError),
        (b"", "text/event-stream", errors.StreamInterruptedError),
        (b"", "application/json", errors.ResponseFormatError),
    ],
)
def test_what_is_no_stream_is_the_error_that_it_is(
    body: bytes, content_type: str, kind: Any
) -> None:
    source = Pieces([body])
    head = HTTPResponse(200, {"content-type": content_type}, source=source)
    with pytest.raises(errors.LMGatewayError) as caught:
        run(stream(REQUEST, chat_request(REQUEST, HERE)), head)
    assert type(caught.value) is kind
    assert source.closed


def test_a_call_whose_name_comes_late_is_shown_from_its_name_on() -> None:
    pieces = [
        {"tool_calls": [{"index": 0, "id": "c1"}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"a"'}}]},
        {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ": 1"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
    ]
    answer, shown = play(pieces)
    fragments = [call for delta in shown for call in delta.tool_calls]
    assert fragments == [
        {"index": 0, "id": "c1", "function": {"name": "f", "arguments": '{"a": 1'}},
        {"index": 0, "function": {"arguments": "}"}},
    ]
    assert answer["choices"][0]["tool_calls"] == [{**CALL, "parsed": {"a": 1}}]


def test_calls_that_are_all_numbered_0_are_shown_with_places_of_their_own() -> None:
    pieces = [
        {"tool_calls": [{"index": 0, "id": name, "function": {"name": name, "arguments": "{}"}}]}
        for name in "ab"
    ]
    _, shown = play(pieces)
    assert [call["index"] for delta in shown for call in delta.tool_calls] == [0, 1]


def test_ids_that_a_service_does_not_give_differ_over_a_conversation_and_not_in_a_repeat() -> None:
    message = {"tool_calls": [{"function": {"name": "f", "arguments": ""}}] * 2}

    def ids(prompt: str) -> list[str]:
        response = HTTPResponse(200, {}, whole(message))
        [choice] = parse(Request("m", prompt=prompt), response, CHAT)["choices"]
        return [call["id"] for call in choice["tool_calls"]]

    assert ids("a") == ids("a")
    assert len({*ids("a"), *ids("b")}) == 4


ODD_BESIDE: dict[str, Any] = {
    "annotations": [5, {}, "x", {"type": "url_citation"}, {"type": 5}],
    "images": ["x", {"image_url": 5}, {"image_url": {"url": None}}],
    "audio": [5],
    "reasoning_details": [5, {"index": [1]}, {"text": 5}],
    "extra_content": 5,
    "novel": [[[{"a\ud83d": "b\ud83d"}]]],
}


@pytest.mark.parametrize("name", ODD_BESIDE)
def test_an_odd_field_beside_a_text_never_costs_the_answer(name: str) -> None:
    for odd in (ODD_BESIDE[name], 5, "x", True, {"a": 1}):
        message = {"content": "a", name: odd}
        plain = parse(REQUEST, HTTPResponse(200, {}, whole(message)), CHAT)
        streamed, _ = play([message])
        for answer in (plain, streamed):
            assert answer["choices"][0]["text"] == "a"
            json.dumps(answer, allow_nan=False, ensure_ascii=False).encode()


def test_a_state_of_another_form_is_left_out() -> None:
    turn = {"role": "assistant", "content": "a", "state": {"format": "x.y", "turn": {"secret": 1}}}
    [sent] = chat_request(Request("m", messages=[turn]), HERE).json["messages"]  # type: ignore[list-item]
    assert sent == {"role": "assistant", "content": "a"}


def test_what_the_user_gave_is_sent_as_it_is() -> None:
    given: Any = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, PNG, {"type": "novel"}]},
        {"role": "assistant", "content": None, "tool_calls": [SIGNED], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "1", "novel": 1},
    ]
    assert chat_request(Request("m", messages=given), HERE).json["messages"] == given


def calling(call_id: str, **more: Any) -> list[Any]:
    return [
        {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": call_id}], **more},
        {"role": "tool", "tool_call_id": call_id, "content": "1"},
    ]


def ids_sent(messages: Any, dialect: Dialect) -> list[str]:
    where = Service("http://service.example/v1", dialect=dialect)
    sent = chat_request(Request("m", messages=messages), where).json["messages"]
    return [turn.get("tool_call_id") or turn["tool_calls"][0]["id"] for turn in sent]


def test_ids_that_are_too_long_are_shortened_alike_in_the_call_and_its_answer() -> None:
    given = [*calling("x" * 64 + "1"), *calling("x" * 64 + "2"), *calling("short")]
    before = copy.deepcopy(given)
    first, answer, second, _, *others = ids_sent(given, OPENAI)
    assert first == answer != second
    assert (len(first), others) == (29, ["short", "short"])
    assert ids_sent(given, VLLM) == ids_sent(before, VLLM)
    assert ids_sent(given, VLLM)[0] == "x" * 64 + "1"
    assert given == before


def test_the_ids_of_a_kept_turn_stay_and_so_do_those_of_its_answers() -> None:
    turn = {"role": "assistant", "content": None, "tool_calls": [{**CALL, "id": "x" * 64}]}
    given = calling("x" * 64, state={"format": "openai.chat", "turn": turn})
    assert ids_sent(given, OPENAI) == ["x" * 64] * 2


def test_keys_of_the_librarys_own_reach_no_wire_and_no_template() -> None:
    given: Any = [
        {"role": "assistant", "content": "a", "reasoning": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "1", "is_error": True},
    ]
    sent = chat_request(Request("m", messages=given), HERE).json["messages"]
    assert (
        sent
        == visible_messages(given)
        == [
            {"role": "assistant", "content": "a"},
            {"role": "tool", "tool_call_id": "c1", "content": "1"},
        ]
    )


STREAM = {"Content-Type": "text/event-stream", "Connection": "close"}
WHOLE = {"Content-Type": "application/json", "Connection": "close"}


def loop(lm: LM, how: str, message: Any) -> Any:
    """Ask, append what was answered, ask again."""
    messages: list[Any] = [{"role": "user", "content": "hi"}]
    options: dict[str, Any] = {"messages": messages, "audio": ASKED["audio"]}
    if how == "plain":
        answer = lm.complete(**options)
    elif how == "streamed":
        with lm.stream(**options) as pieces:
            list(pieces)
        answer = pieces.completion
    elif how == "awaited":
        answer = asyncio.run(lm.acomplete(**options))
    else:
        answer = asyncio.run(_astreamed(lm, options))
    messages.append(json.loads(json.dumps(answer["choices"][0]["message"])))
    messages.append({"role": "user", "content": "and?"})
    return lm.complete(messages=messages)


async def _astreamed(lm: LM, options: dict[str, Any]) -> Any:
    async with lm.astream(**options) as pieces:
        async for _ in pieces:
            pass
    return pieces.completion


@pytest.mark.loopback
@pytest.mark.parametrize("how", ["plain", "streamed", "awaited", "streamed and awaited"])
@pytest.mark.parametrize("provider", ["openai", "anyscale"])
@pytest.mark.parametrize("name", ["reasoning_details", "extra_content of a call", "audio",
                                  "thinking in chunks", "citations", "images"])  # fmt: skip
def test_a_turn_goes_round_through_a_service(
    name: str, provider: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE", "off")
    message, deltas, _, again = CASES[name]
    first = (
        reply(events(deltas), headers=STREAM)
        if how.startswith("streamed")
        else reply(whole(message), headers=WHOLE)
    )
    last = reply(whole({"content": "ok"}), headers=WHOLE)
    with FaultServer([first, close()], [last, close()]) as server:
        options = {"dialect": "openai"} if provider == "openai" else {"use_chat_api": True}
        if provider == "anyscale":
            monkeypatch.setitem(ASKED, "audio", None)
        with get_lm(
            provider, model="m", api_base=server.url, api_key="k", retries=0, timeout=10, **options
        ) as lm:
            assert loop(lm, how, message)["choices"][0]["text"] == "ok"
        body = json.loads(server.requests[-1].body)
    assert body["messages"][1] == again


def test_the_sdk_takes_what_is_sent_again() -> None:
    kind = pytest.importorskip(
        "openai.types.chat.chat_completion_assistant_message_param",
        reason="needs the SDK: pip install openai",
    )
    adapter: TypeAdapter[Any] = TypeAdapter(kind.ChatCompletionAssistantMessageParam)
    for name in ("a text", "a call", "a custom tool", "audio", "citations", "a call without an id"):
        adapter.validate_python(CASES[name][3])


def test_the_sdk_takes_the_files_that_are_sent() -> None:
    kind = pytest.importorskip(
        "openai.types.chat.chat_completion_user_message_param",
        reason="needs the SDK: pip install openai",
    )
    adapter: TypeAdapter[Any] = TypeAdapter(kind.ChatCompletionUserMessageParam)
    for part, _ in FILES.values():
        body = chat_request(Request("m", messages=[{"role": "user", "content": [part]}]), HERE).json
        adapter.dump_python(adapter.validate_python(body["messages"][0]))


PDF = {"filename": "document.pdf", "file_data": "data:application/pdf;base64,AAAA"}
FILES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an image": ({"type": "file", "media_type": "image/png", "data": "AAAA"}, PNG),
    "an image behind a URL": (
        {"type": "file", "media_type": "image/*", "url": "https://e.example/x.png"},
        {"type": "image_url", "image_url": {"url": "https://e.example/x.png"}},
    ),
    "speech": (
        {"type": "file", "media_type": "audio/mpeg", "data": "AAAA", "transcript": "x"},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
    ),
    "a PDF": (
        {"type": "file", "media_type": "application/pdf", "data": "AAAA", "extra": {"x": 1}},
        {"type": "file", "file": PDF},
    ),
    "a PDF with a name": (
        {"type": "file", "media_type": "application/pdf", "data": "AAAA", "name": "a.pdf"},
        {"type": "file", "file": {**PDF, "filename": "a.pdf"}},
    ),
    "a file that the service has": (
        {"type": "file", "id": "f1"},
        {"type": "file", "file": {"file_id": "f1"}},
    ),
    "Claude's document": (
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf",
                                        "data": "AAAA"}, "title": "a.pdf"},
        {"type": "file", "file": {**PDF, "filename": "a.pdf"}},
    ),
    "Claude's document behind a URL": (
        {"type": "document", "source": {"type": "url", "url": "https://e.example/a.pdf"}},
        {"type": "file", "file": {**PDF, "file_data": "https://e.example/a.pdf"}},
    ),
    "Claude's document of text": (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}},
        {"type": "text", "text": "x"},
    ),
    "Claude's image": (
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        PNG,
    ),
    "OpenAI's file": ({"type": "file", "file": PDF}, {"type": "file", "file": PDF}),
    "OpenAI's image": (PNG, PNG),
}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_sent_in_openais_form(name: str) -> None:
    part, expected = FILES[name]
    given = [{"type": "text", "text": "a"}, part]
    before = copy.deepcopy(given)
    body = chat_request(Request("m", messages=[{"role": "user", "content": given}]), HERE).json
    assert body["messages"][0]["content"] == [{"type": "text", "text": "a"}, expected]
    assert given == before


@pytest.mark.parametrize(
    "part, problem",
    [
        ({"type": "file", "media_type": "image/png"}, r"messages\[0\]\.content\[0\].*without data"),
        ({"type": "file", "data": "AAAA"}, r"messages\[0\]\.content\[0\].*without a media_type"),
        ({"type": "file", "media_type": "audio/wav", "url": "https://x"}, "behind a URL"),
    ],
)
def test_a_file_that_says_too_little_is_refused_before_any_io(part: Any, problem: str) -> None:
    with pytest.raises(Exception, match=problem) as caught:
        chat_request(Request("m", messages=[{"role": "user", "content": [part]}]), HERE)
    assert type(caught.value).__name__ in ("InputError", "UnsupportedError")


@pytest.mark.parametrize(
    "build, param",
    [
        (lambda: chat_request(Request("m", "x", params={"top_k": 1}), HERE), "top_k"),
        (lambda: completion_request(Request("m", "x", schema={}), HERE, text="x"), "schema"),
        (lambda: completion_request(Request("m", "x", params={"tools": []}), HERE, text="x"),
         "tools"),
    ],
)  # fmt: skip
def test_a_refusal_names_its_parameter(build: Any, param: str) -> None:
    with pytest.raises(Exception, match=OPENAI.name) as caught:
        build()
    assert caught.value.param == param  # type: ignore[attr-defined]


def test_a_plain_answer_costs_no_parts_and_no_state() -> None:
    request = chat_request(REQUEST, HERE)
    answer, _ = run(complete(REQUEST, request), HTTPResponse(200, {}, whole({"content": "a"})))
    assert answer["choices"] == [{"text": "a", "index": 0, "finish_reason": "stop"}]
    assert answer["extra"] == {"created": 7}
