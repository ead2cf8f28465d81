"""What comes back: blocks, stop reasons, errors, and the events of a stream."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.exchanges import Pieces, run

from lmgateway import errors
from lmgateway.types import HTTPResponse, Request
from lmgateway_anthropic.parse import parse
from lmgateway_anthropic.stream import read_stream

ASKED = Request("m", "Hi")
USAGE = {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 5}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "look_up", "input": {"word": "ä"}}


def whole(*content: Any, reason: str = "end_turn", **fields: Any) -> HTTPResponse:
    message = {"type": "message", "content": list(content), "stop_reason": reason, "usage": USAGE}
    return HTTPResponse(200, {}, json.dumps({**message, **fields}).encode())


def events(*payloads: dict[str, Any]) -> HTTPResponse:
    text = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in payloads)
    return HTTPResponse(200, {}, source=Pieces([text.encode()]))


START = {"type": "message_start", "message": {"type": "message", "content": [], "usage": USAGE}}
STOP = {"type": "message_stop"}


def ended(reason: str = "end_turn") -> dict[str, Any]:
    delta = {"stop_reason": reason}
    return {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 9}}


def block(place: int, kind: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    begin = {"type": "content_block_start", "index": place, "content_block": kind}
    grown = [{"type": "content_block_delta", "index": place, "delta": each} for each in deltas]
    return [begin, *grown, {"type": "content_block_stop", "index": place}]


@pytest.mark.parametrize(
    "reason, expected",
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("pause_turn", "pause"),
        ("one_of_the_future", "other"),
    ],
)
def test_a_stop_reason_is_a_finish_reason(reason: str, expected: str) -> None:
    answer = parse(ASKED, whole({"type": "text", "text": "a"}, reason=reason))
    assert answer["choices"][0]["finish_reason"] == expected
    assert answer["choices"][0]["finish_reason_raw"] == reason


def test_a_turn_of_text_that_paused_can_be_the_last_that_is_sent() -> None:
    block = {"type": "text", "text": "I search."}
    (choice,) = parse(ASKED, whole(block, reason="pause_turn"))["choices"]
    assert choice["state"] == {"format": "anthropic.messages", "turn": [block]}
    (choice,) = parse(ASKED, whole(reason="pause_turn"))["choices"]
    assert "state" not in choice


def test_blocks_become_text_reasoning_and_tool_calls() -> None:
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    answer = parse(ASKED, whole(thought, {"type": "text", "text": "a"}, TOOL, reason="tool_use"))
    (choice,) = answer["choices"]
    assert (choice["text"], choice["reasoning"]) == ("a", "Hm.")
    assert choice["tool_calls"] == [
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "look_up", "arguments": '{"word": "ä"}'},
            "parsed": {"word": "ä"},
        }
    ]


def test_cached_tokens_are_the_prompts_as_well() -> None:
    assert parse(ASKED, whole({"type": "text", "text": "a"}))["usage"] == {
        "prompt_tokens": 7,
        "completion_tokens": 5,
        "total_tokens": 12,
        "cached_tokens": 4,
    }


def test_a_refusal_is_typed() -> None:
    details = {"type": "refusal", "explanation": "it would not do"}
    with pytest.raises(errors.ContentFilteredError, match="it would not do") as caught:
        parse(ASKED, whole(reason="refusal", stop_details=details))
    assert not caught.value.retryable


def test_an_empty_answer_that_says_why_it_ended_is_an_answer() -> None:
    (choice,) = parse(ASKED, whole())["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("", "stop")


def test_an_empty_answer_that_does_not_is_none() -> None:
    with pytest.raises(errors.ResponseFormatError, match="missing"):
        parse(ASKED, whole(stop_reason=None))


def test_a_stream_of_thinking_text_and_tools_is_put_together() -> None:
    head = events(
        START,
        {"type": "ping"},
        *block(
            0,
            {"type": "thinking", "thinking": ""},
            {"type": "thinking_delta", "thinking": "H"},
            {"type": "thinking_delta", "thinking": "m."},
            {"type": "signature_delta", "signature": "s"},
        ),
        *block(1, {"type": "text", "text": ""}, {"type": "text_delta", "text": "a"}),
        *block(
            2,
            {**TOOL, "input": {}},
            {"type": "input_json_delta", "partial_json": '{"word"'},
            {"type": "input_json_delta", "partial_json": ': "ä"}'},
        ),
        {"type": "one_of_the_future"},
        ended("tool_use"),
        STOP,
    )
    completion, pieces = run(read_stream(ASKED, head))
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    plain = whole(thought, {"type": "text", "text": "a"}, TOOL, reason="tool_use")
    assert completion["choices"] == parse(ASKED, plain)["choices"]
    assert completion["usage"]["completion_tokens"] == 9
    calls = [call for piece in pieces for call in piece.tool_calls]
    assert [call["index"] for call in calls] == [0, 0, 0]
    assert "".join(call["function"]["arguments"] for call in calls) == '{"word": "ä"}'


def test_arguments_cut_off_are_kept_as_text() -> None:
    cut = {"type": "input_json_delta", "partial_json": '{"wo'}
    head = events(START, *block(0, {**TOOL, "input": {}}, cut), ended("max_tokens"), STOP)
    completion, _ = run(read_stream(ASKED, head))
    assert completion["choices"][0]["tool_calls"][0]["function"]["arguments"] == '{"wo'


@pytest.mark.parametrize(
    "kind, expected",
    [
        ("overloaded_error", errors.ServerError),
        ("api_error", errors.ServerError),
        ("rate_limit_error", errors.RateLimitError),
        ("billing_error", errors.QuotaExceededError),
        ("invalid_request_error", errors.InvalidRequestError),
    ],
)
def test_an_error_in_a_stream_is_its_kind(kind: str, expected: type[Exception]) -> None:
    error = {"type": "error", "error": {"type": kind, "message": "Sorry"}}
    with pytest.raises(expected, match="Sorry"):
        run(read_stream(ASKED, events(START, error)))


@pytest.mark.parametrize(
    "status, kind, expected",
    [
        (400, "invalid_request_error", errors.InvalidRequestError),
        (401, "authentication_error", errors.AuthenticationError),
        (402, "billing_error", errors.QuotaExceededError),
        (403, "permission_error", errors.PermissionDeniedError),
        (404, "not_found_error", errors.NotFoundError),
        (413, "request_too_large", errors.ContextLengthError),
        (429, "rate_limit_error", errors.RateLimitError),
        (529, "overloaded_error", errors.ServerError),
    ],
)
def test_the_shape_of_its_errors_is_read(status: int, kind: str, expected: type[Exception]) -> None:
    body = {"type": "error", "error": {"type": kind, "message": "Sorry"}, "request_id": "req_1"}
    response = HTTPResponse(status, {"request-id": "req_1"}, json.dumps(body).encode())
    with pytest.raises(errors.APIError, match="Sorry") as caught:
        parse(ASKED, response)
    assert type(caught.value) is expected
    assert (caught.value.code, caught.value.request_id) == (kind, "req_1")


@pytest.mark.parametrize("way", ["plain", "streamed", "inside"])
def test_the_id_of_a_request_is_read_from_the_error_too(way: str) -> None:
    payload = {"type": "error", "error": {"type": "billing_error", "message": "m"}}
    payload["request_id"] = "req_7"  # type: ignore[assignment]
    body = HTTPResponse(402, {}, json.dumps(payload).encode())
    head = events(START, payload) if way == "inside" else body
    read = parse if way == "plain" else lambda asked, head: run(read_stream(asked, head))
    with pytest.raises(errors.APIError) as caught:
        read(ASKED, head)
    assert caught.value.request_id == "req_7"


def test_tokens_written_are_summed_where_only_their_lifetimes_are_told() -> None:
    usage = {"input_tokens": 3, "output_tokens": 1, "cache_creation": {
        "ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6}}  # fmt: skip
    counted = parse(ASKED, whole({"type": "text", "text": "a"}, usage=usage))["usage"]
    assert (counted["prompt_tokens"], counted["cache_write_tokens"]) == (13, 10)
    assert counted["details"]["cache_creation"] == usage["cache_creation"]
