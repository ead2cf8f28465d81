"""The official SDK's client reads answers as the plugin does: field by field, both ways."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest
from support.claude_messages import MESSAGES, as_body, as_stream
from support.exchanges import Pieces, run

from lmgateway.types import Delta, HTTPResponse, Request
from lmgateway_anthropic.parse import parse
from lmgateway_anthropic.stream import read_stream

anthropic = pytest.importorskip("anthropic", reason="needs the SDK: pip install anthropic")
httpx2 = pytest.importorskip("httpx2", reason="the SDK's own HTTP client")

HEADERS = {"request-id": "req_1"}
ASKED: dict[str, Any] = {
    "model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}],
}  # fmt: skip
WAYS = ["plain", "streamed"]
SHOWN = ("text", "reasoning", "tool_call")  # as pieces of their own
each_message = pytest.mark.parametrize("name", MESSAGES)
each_way = pytest.mark.parametrize("way", WAYS)


@cache
def by_sdk(name: str, way: str) -> tuple[Any, str]:
    """The message as the SDK's client reads it, and the request's id."""
    whole = MESSAGES[name]

    def answer(request: Any) -> Any:
        if way == "plain":
            headers = {**HEADERS, "content-type": "application/json"}
            return httpx2.Response(200, headers=headers, content=as_body(whole))
        headers = {**HEADERS, "content-type": "text/event-stream"}
        return httpx2.Response(200, headers=headers, content=as_stream(whole))

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with anthropic.Anthropic(api_key="k", http_client=http, max_retries=0) as client:
        if way == "plain":
            message = client.messages.create(**ASKED)
            return message, message._request_id
        with client.messages.stream(**ASKED) as stream:
            return stream.get_final_message(), stream.request_id


@cache
def by_plugin(name: str, way: str) -> tuple[Any, list[Delta]]:
    """The answer as the plugin reads it, and the pieces that it gave."""
    whole, request = MESSAGES[name], Request("m", "Hi", stream=way == "streamed")
    if way == "plain":
        return parse(request, HTTPResponse(200, HEADERS, as_body(whole))), []
    head = HTTPResponse(200, HEADERS, source=Pieces([as_stream(whole)]))
    return run(read_stream(request, head))


def said(value: Any) -> Any:
    """What a model of the SDK's says, without what it says nothing of."""
    if isinstance(value, list):
        return [*map(said, value)]
    if isinstance(value, Mapping):
        return {name: said(each) for name, each in value.items() if each is not None}
    return said(value.model_dump(warnings=False)) if hasattr(value, "model_dump") else value


def of(message: Any, kind: str) -> list[Any]:
    return [block for block in message.content if block.type == kind]


@each_message
@each_way
def test_both_read_the_same(name: str, way: str) -> None:
    (message, request_id), (answer, _) = by_sdk(name, way), by_plugin(name, way)
    (choice,) = answer["choices"]
    assert choice["text"] == "".join(block.text for block in of(message, "text"))
    thought = "".join(block.thinking for block in of(message, "thinking"))
    assert choice.get("reasoning", "") == thought
    assert [
        (call["id"], call["function"]["name"], call["parsed"])
        for call in choice.get("tool_calls", ())
    ] == [(block.id, block.name, block.input) for block in of(message, "tool_use")]
    assert choice["finish_reason_raw"] == message.stop_reason
    assert answer.get("extra", {}).get("stop_sequence") == message.stop_sequence
    assert (answer["id"], answer["model"]) == (message.id, message.model)
    assert answer["request_id"] == request_id == "req_1"


@each_message
@each_way
def test_both_read_the_same_usage(name: str, way: str) -> None:
    (message, _), (answer, _) = by_sdk(name, way), by_plugin(name, way)
    counted, usage = message.usage, answer["usage"]
    read, written = counted.cache_read_input_tokens, counted.cache_creation_input_tokens
    assert usage["prompt_tokens"] == counted.input_tokens + read + written
    assert usage["completion_tokens"] == counted.output_tokens
    assert usage["cached_tokens"] == read
    assert usage["cache_write_tokens"] == written
    if counted.output_tokens_details is not None:  # the SDK's stream leaves them out
        assert usage["reasoning_tokens"] == counted.output_tokens_details.thinking_tokens
    assert usage["details"]["cache_creation"] == said(counted.cache_creation)
    assert usage["details"]["server_tool_use"] == said(counted.server_tool_use)
    assert usage["details"]["inference_geo"] == counted.inference_geo
    assert answer["extra"]["service_tier"] == counted.service_tier


@each_message
@each_way
def test_both_read_the_same_blocks(name: str, way: str) -> None:
    """What is more than text, thoughts and calls is in the parts, and whole in the state."""
    (message, _), (answer, _) = by_sdk(name, way), by_plugin(name, way)
    choice, blocks = answer["choices"][0], said(message.content)
    if "state" in choice:
        assert said(choice["state"]["turn"]) == blocks
    else:
        assert {block["type"] for block in blocks} <= {"text", "tool_use"}
    for part, block in zip(choice.get("parts", ()), blocks, strict="parts" in choice):
        match part["type"]:
            case "text":
                cited = [said(each["extra"]) for each in part.get("citations", ())]
                assert (part["text"], cited) == (block["text"], block.get("citations", []))
            case "reasoning":
                assert part["text"] == block["thinking"]
            case "tool_call":
                assert (part["id"], part["name"]) == (block["id"], block["name"])
                assert said(part["input"]) == block["input"]
            case "tool_result":
                assert part["id"] == block["tool_use_id"]
                assert said(part["content"]) == block["content"]
            case "custom":
                assert part["kind"] == f"anthropic.{block['type']}"
                assert said(part["value"]) == block
            case kind:
                raise AssertionError(kind)


@each_message
def test_the_pieces_are_what_the_whole_is(name: str) -> None:
    answer, pieces = by_plugin(name, "streamed")
    plain, _ = by_plugin(name, "plain")
    assert answer["choices"] == plain["choices"]
    (choice,) = answer["choices"]
    assert "".join(piece.text for piece in pieces) == choice["text"]
    assert "".join(piece.reasoning for piece in pieces) == choice.get("reasoning", "")
    shown = [piece.part for piece in pieces if piece.part and piece.partial is None]
    beside = [part for part in choice.get("parts", ()) if part["type"] not in SHOWN]
    assert [part for part in shown if part["type"] not in SHOWN] == beside
