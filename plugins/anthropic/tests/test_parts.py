"""Nothing that the service says is lost: blocks, known or not, as parts, as state and as extra."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from support.exchanges import Pieces, run

from lmgateway import errors
from lmgateway.types import Delta, HTTPResponse, Request
from lmgateway_anthropic.parse import parse
from lmgateway_anthropic.stream import read_stream

ASKED = Request("m", "Hi")
USAGE = {"input_tokens": 3, "output_tokens": 5}
PAGE = {
    "type": "page_location",
    "cited_text": "so it is",
    "document_index": 0,
    "document_title": "A",
    "start_page_number": 1,
    "end_page_number": 2,
}
FOUND = {"type": "search_result_location", "cited_text": "c", "source": "https://a.example",
         "title": "B", "search_result_index": 0}  # fmt: skip
TEXT = {"type": "text", "text": "So it is."}
USE = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
SEARCH = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"url": "u"}]}
FAILED = {
    "type": "code_execution_tool_result",
    "tool_use_id": "srv_1",
    "content": {"type": "code_execution_tool_result_error", "error_code": "unavailable"},
}
CALLER = {"type": "code_execution_20260120", "tool_id": "srv_1"}

#: By name: the blocks, the parts that they make ("" for none beside the usual), and whether the
#: turn needs a state.
BLOCKS: dict[str, tuple[list[Any], Any, bool]] = {
    "a text": ([TEXT], None, False),
    "texts and calls": ([TEXT, TEXT, USE, {**USE, "id": "toolu_2"}], None, False),
    "unsigned thinking": ([{"type": "thinking", "thinking": "Hm."}, TEXT], None, False),
    "signed thinking": (
        [{"type": "thinking", "thinking": "Hm.", "signature": "s"}, TEXT], None, True,
    ),
    "thinking that is not shown": (
        [{"type": "thinking", "thinking": "", "signature": "s"}, TEXT], None, True,
    ),
    "redacted thinking": (
        [{"type": "redacted_thinking", "data": "R"}],
        [{"type": "custom", "kind": "anthropic.redacted_thinking",
          "value": {"type": "redacted_thinking", "data": "R"}}],
        True,
    ),
    "a thought after a text": (
        [TEXT, {"type": "thinking", "thinking": "Hm."}, USE],
        [TEXT, {"type": "reasoning", "text": "Hm."},
         {"type": "tool_call", "id": "toolu_1", "name": "f", "input": {"a": 1}}],
        False,
    ),
    "citations": (
        [{**TEXT, "citations": [PAGE, FOUND]}],
        [{**TEXT, "citations": [
            {"title": "A", "text": "so it is", "extra": PAGE},
            {"url": "https://a.example", "title": "B", "text": "c", "extra": FOUND},
        ]}],
        True,
    ),
    "a search": (
        [SEARCH, RESULT, TEXT],
        [
            {"type": "tool_call", "id": "srv_1", "name": "web_search", "input": {"query": "q"},
             "by": "service"},
            {"type": "tool_result", "id": "srv_1", "content": [{"url": "u"}], "by": "service",
             "extra": {"type": "web_search_tool_result"}},
            TEXT,
        ],
        True,
    ),
    "a tool of the service's that failed": (
        [FAILED],
        [{"type": "tool_result", "id": "srv_1", "content": FAILED["content"], "by": "service",
          "is_error": True, "extra": {"type": "code_execution_tool_result"}}],
        True,
    ),
    "a call by code": (
        [{**USE, "caller": CALLER}],
        [{"type": "tool_call", "id": "toolu_1", "name": "f", "input": {"a": 1},
          "extra": {"caller": CALLER}}],
        True,
    ),
    "a file of the container's": (
        [{"type": "container_upload", "file_id": "file_1"}],
        [{"type": "custom", "kind": "anthropic.container_upload",
          "value": {"type": "container_upload", "file_id": "file_1"}}],
        True,
    ),
    "a block of the future": (
        [{"type": "dance", "steps": [1, {"b": None}]}, TEXT],
        [{"type": "custom", "kind": "anthropic.dance",
          "value": {"type": "dance", "steps": [1, {"b": None}]}}, TEXT],
        True,
    ),
}  # fmt: skip


def message(blocks: list[Any], reason: str = "end_turn", **fields: Any) -> dict[str, Any]:
    said = {"type": "message", "content": blocks, "stop_reason": reason, "usage": USAGE}
    return {**said, **fields}


def whole(blocks: list[Any], reason: str = "end_turn", **fields: Any) -> Any:
    body = json.dumps(message(blocks, reason, **fields)).encode()
    return parse(ASKED, HTTPResponse(200, {}, body))


def deltas_of(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    begun, deltas = dict(block), []
    for field, kind, empty in (
        ("text", "text_delta", ""), ("thinking", "thinking_delta", ""),
        ("signature", "signature_delta", ""), ("data", None, ""),
    ):  # fmt: skip
        if kind and isinstance(block.get(field), str):
            begun[field] = empty
            deltas += [{"type": kind, field: block[field]}] if block[field] else []
    if "input" in block:
        begun["input"] = {}
        deltas.append({"type": "input_json_delta", "partial_json": json.dumps(block["input"])})
    if citations := begun.pop("citations", None):
        deltas += [{"type": "citations_delta", "citation": each} for each in citations]
    return begun, deltas


def events(blocks: list[Any], reason: str, **fields: Any) -> Iterator[Any]:
    begun = message([], None, **fields)  # type: ignore[arg-type]
    yield {"type": "message_start", "message": begun}
    for place, block in enumerate(blocks):
        start, deltas = deltas_of(block)
        yield {"type": "content_block_start", "index": place, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": place, "delta": delta}
        yield {"type": "content_block_stop", "index": place}
    yield {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": USAGE}
    yield {"type": "message_stop"}


def played(said: Any, headers: Any = None) -> tuple[Any, list[Delta]]:
    data = b"".join(f"data: {json.dumps(event)}\n\n".encode() for event in said)
    return run(read_stream(ASKED, HTTPResponse(200, headers or {}, source=Pieces([data]))))


@pytest.mark.parametrize("name", BLOCKS)
def test_a_block_is_a_part_and_plain_and_streamed_agree(name: str) -> None:
    blocks, parts, needs_state = BLOCKS[name]
    plain = whole(blocks)
    (choice,) = plain["choices"]
    assert choice.get("parts") == parts
    state = {"format": "anthropic.messages", "turn": blocks}
    assert choice.get("state") == (state if needs_state else None)
    streamed, pieces = played(events(blocks, "end_turn"))
    assert streamed == plain
    assert "".join(piece.text for piece in pieces) == choice["text"]
    shown = [piece.part for piece in pieces if piece.part and not piece.partial]
    kinds = ("tool_result", "custom")
    assert shown == [p for p in parts or () if p["type"] in kinds or p.get("by")]
    cited = [piece for piece in pieces if piece.partial == "append"]
    told = [citation for p in parts or () for citation in p.get("citations", ())]
    assert [piece.part["citations"][0] for piece in cited if piece.part] == told
    assert all(piece.id for piece in cited)


def test_a_whole_answer_to_a_stream_shows_its_parts_too() -> None:
    body = json.dumps(message([SEARCH, RESULT, TEXT])).encode()
    answer, pieces = run(read_stream(ASKED, HTTPResponse(200, {}, body)))
    assert answer == whole([SEARCH, RESULT, TEXT])
    assert [piece.part["type"] for piece in pieces if piece.part] == ["tool_call", "tool_result"]
    assert "".join(piece.text for piece in pieces) == "So it is."


def test_a_whole_answer_to_a_stream_shows_its_calls_as_a_stream_does() -> None:
    cites = {**TEXT, "citations": [FOUND]}
    said = json.dumps(message([cites, USE], "tool_use")).encode()
    head = HTTPResponse(200, source=Pieces([said]))
    _, pieces = run(read_stream(ASKED, head))
    ((call,),) = (piece.tool_calls for piece in pieces if piece.tool_calls)
    assert call == {"index": 0, "id": USE["id"], "type": "function", "function": call["function"]}
    (cited,) = (piece.part for piece in pieces if piece.part)
    assert cited["citations"] == whole([cites])["choices"][0]["parts"][0]["citations"]


def test_deltas_of_the_future_make_the_block_grow() -> None:
    block = {"type": "dance", "steps": [], "tempo": "al", "who": None}
    deltas = [
        {"type": "tempo_delta", "tempo": "legro"},
        {"type": "steps_delta", "steps": [1]},
        {"type": "steps_delta", "steps": [2]},
        {"type": "who_delta", "who": "x"},
    ]
    said = [
        {"type": "message_start", "message": message([])},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": each} for each in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": USAGE},
        {"type": "message_stop"},
    ]
    (part,) = played(said)[0]["choices"][0]["parts"]
    assert part["value"] == {"type": "dance", "steps": [1, 2], "tempo": "allegro", "who": "x"}


def test_calls_without_ids_have_some_of_their_own() -> None:
    blocks = [{name: value for name, value in USE.items() if name != "id"}, {**USE, "id": None}]
    (choice,) = whole(blocks)["choices"]
    ids = [call["id"] for call in choice["tool_calls"]]
    assert len({*ids, ""}) == 3
    streamed, pieces = played(events(blocks, "tool_use"))
    assert [call["id"] for call in streamed["choices"][0]["tool_calls"]] == ids
    assert [call["id"] for piece in pieces for call in piece.tool_calls if "id" in call] == ids
    other = parse(Request("m", "Ho"), HTTPResponse(200, {}, json.dumps(message(blocks)).encode()))
    assert [call["id"] for call in other["choices"][0]["tool_calls"]] != ids


def test_a_call_that_comes_in_one_piece_is_shown_with_its_arguments() -> None:
    said = [
        {"type": "message_start", "message": message([])},
        {"type": "content_block_start", "index": 0, "content_block": {**USE, "input": {"a": "ü"}}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    answer, pieces = played(said)
    shown = [call["function"]["arguments"] for piece in pieces for call in piece.tool_calls]
    (call,) = answer["choices"][0]["tool_calls"]
    assert "".join(shown) == call["function"]["arguments"] == '{"a": "ü"}'


# -- beside the blocks ---------------------------------------------------------------------------


def test_what_the_service_counts_is_kept_whole_where_it_is_more() -> None:
    usage = {
        **USAGE,
        "cache_creation_input_tokens": 10,
        "cache_read_input_tokens": 20,
        "cache_creation": {"ephemeral_5m_input_tokens": 4, "ephemeral_1h_input_tokens": 6},
        "server_tool_use": {"web_search_requests": 1},
        "output_tokens_details": {"thinking_tokens": 2},
        "service_tier": "priority",
        "speed": None,
    }
    answer = whole([TEXT], usage=usage)
    details = {name: value for name, value in usage.items() if value is not None}
    assert answer["usage"] == {
        "prompt_tokens": 33,
        "completion_tokens": 5,
        "total_tokens": 38,
        "cached_tokens": 20,
        "cache_write_tokens": 10,
        "reasoning_tokens": 2,
        "details": details,
    }
    assert answer["extra"] == {"service_tier": "priority"}


def test_other_fields_are_extra_in_a_stream_as_well() -> None:
    fields = {"container": {"id": "c", "expires_at": "soon"}, "context": 5, "stop_sequence": None}
    answer = whole([TEXT], **fields)
    assert answer["extra"] == {"container": {"id": "c", "expires_at": "soon"}, "context": 5}
    said = list(events([TEXT], "stop_sequence", **fields))
    said[-2]["delta"]["stop_sequence"] = "X"
    said[-2] |= {"context_management": {"applied_edits": []}, "id": "an event's"}
    streamed, _ = played(said)
    told = {"stop_sequence": "X", "context_management": {"applied_edits": []}}
    assert streamed["extra"] == {**answer["extra"], **told}
    assert streamed.get("id") == answer.get("id")
    assert streamed["choices"][0]["finish_reason"] == "stop"


LIMITS = {
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-tokens-limit": "1000",
}


def test_the_services_limits_are_told_with_answers_and_errors() -> None:
    expected = {"requests": {"limit": 50, "remaining": 49}, "tokens": {"limit": 1000}}
    body = json.dumps(message([TEXT])).encode()
    assert parse(ASKED, HTTPResponse(200, LIMITS, body))["rate_limit"] == expected
    assert played(events([TEXT], "end_turn"), LIMITS)[0]["rate_limit"] == expected
    with pytest.raises(errors.StreamInterruptedError) as caught:
        played(list(events([TEXT], "end_turn"))[:3], LIMITS)
    assert caught.value.rate_limit == expected
    assert caught.value.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    assert caught.value.completion is not None
    assert caught.value.completion["choices"][0]["text"] == "So it is."


def test_counts_and_names_that_make_no_sense_are_kept() -> None:
    odd = {**USAGE, "input_tokens": 1.5, "output_tokens_details": {"thinking_tokens": -1}}
    assert whole([TEXT], usage=odd)["usage"]["details"] == odd
    assert whole([TEXT], usage=[7], id=5)["extra"] == {"usage": [7], "id": 5}


@pytest.mark.parametrize("streamed", [False, True], ids=["plain", "stream"])
def test_a_refusal_tells_what_there_was(streamed: bool) -> None:
    with pytest.raises(errors.ContentFilteredError) as caught:
        played(events([TEXT], "refusal")) if streamed else whole([TEXT], "refusal")
    assert caught.value.usage == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    completion = caught.value.completion
    assert completion is not None
    assert completion["choices"][0]["text"] == "So it is."
    assert completion["choices"][0]["finish_reason"] == "content_filter"


def test_an_answer_that_does_not_say_why_it_ended_is_one_if_it_says_something() -> None:
    (choice,) = whole([TEXT], None)["choices"]  # type: ignore[arg-type]
    assert (choice["text"], choice["finish_reason"]) == ("So it is.", None)
    assert "finish_reason_raw" not in choice
