"""Answers of Anthropic's API with every kind of block, whole and as the events of a stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["MESSAGES", "as_body", "as_stream", "events_of"]

USAGE = {
    "input_tokens": 3, "output_tokens": 9, "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 7, "service_tier": "standard", "inference_geo": "us",
    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 3},
    "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
    "output_tokens_details": {"thinking_tokens": 4},
}  # fmt: skip
CITATIONS: list[dict[str, Any]] = [
    {"type": "char_location", "cited_text": "a", "document_index": 0, "document_title": "A",
     "start_char_index": 0, "end_char_index": 1, "file_id": None},
    {"type": "page_location", "cited_text": "b", "document_index": 0, "document_title": None,
     "start_page_number": 1, "end_page_number": 2, "file_id": "file_1"},
    {"type": "content_block_location", "cited_text": "c", "document_index": 1,
     "document_title": "C", "start_block_index": 0, "end_block_index": 1, "file_id": None},
    {"type": "web_search_result_location", "cited_text": "d", "url": "https://a.example/d",
     "title": "D", "encrypted_index": "I=="},
    {"type": "search_result_location", "cited_text": "e", "source": "https://a.example/e",
     "title": None, "search_result_index": 0, "start_block_index": 0, "end_block_index": 1},
]  # fmt: skip


def result_of(kind: str, content: Any) -> dict[str, Any]:
    return {"type": kind, "tool_use_id": "srvtoolu_1", "content": content}


def ran(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "server_tool_use", "id": "srvtoolu_1", "name": name, "input": given}


CODE = {"stdout": "1", "stderr": "", "return_code": 0, "content": []}
TEXT = {"type": "text", "text": "Grüße, Welt. 😀"}
BLOCKS: dict[str, list[dict[str, Any]]] = {
    "a text": [TEXT],
    "nothing": [],
    "texts": [TEXT, {"type": "text", "text": "And more."}],
    "cited": [{**TEXT, "citations": CITATIONS}, {"type": "text", "text": "b"}],
    "thinking": [
        {"type": "thinking", "thinking": "Hm, ä.", "signature": "SIG=="},
        {"type": "redacted_thinking", "data": "RED=="},
        TEXT,
    ],
    "thinking that is omitted": [{"type": "thinking", "thinking": "", "signature": "S"}, TEXT],
    "calls": [
        TEXT,
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"word": "ä", "n": [1, 2.5]}},
        {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}},
    ],
    "a call from code": [
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1},
         "caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}},
    ],
    "a search": [
        ran("web_search", {"query": "q"}),
        result_of("web_search_tool_result", [
            {"type": "web_search_result", "url": "https://a.example", "title": "A",
             "encrypted_content": "E==", "page_age": "a day"}]),
        {**TEXT, "citations": CITATIONS[3:4]},
    ],
    "a search that failed": [
        ran("web_search", {"query": "q"}),
        result_of("web_search_tool_result", {
            "type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}),
    ],
    "a page": [
        ran("web_fetch", {"url": "https://a.example"}),
        result_of("web_fetch_tool_result", {
            "type": "web_fetch_result", "url": "https://a.example", "retrieved_at": None,
            "content": {"type": "document", "title": "A", "citations": None, "source": {
                "type": "text", "media_type": "text/plain", "data": "a"}}}),
    ],
    "code": [
        ran("code_execution", {"code": "1"}),
        result_of("code_execution_tool_result", {"type": "code_execution_result", **CODE}),
        ran("bash_code_execution", {"command": "ls"}),
        result_of("bash_code_execution_tool_result", {
            "type": "bash_code_execution_result", **CODE}),
        ran("text_editor_code_execution", {"command": "view"}),
        result_of("text_editor_code_execution_tool_result", {
            "type": "text_editor_code_execution_tool_result_error",
            "error_code": "file_not_found", "error_message": None}),
        {"type": "container_upload", "file_id": "file_1"},
    ],
    "a search for tools": [
        ran("tool_search_tool_regex", {"pattern": "f"}),
        result_of("tool_search_tool_result", {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "f"}]}),
    ],
    "a block of the future": [{"type": "hologram", "light": [1, 2]}, TEXT],
}  # fmt: skip
REASONS = {
    "nothing": "end_turn", "calls": "tool_use", "a call from code": "tool_use",
    "a search that failed": "pause_turn", "texts": "max_tokens", "cited": "stop_sequence",
    "a page": "model_context_window_exceeded",
}  # fmt: skip


def message(name: str) -> dict[str, Any]:
    reason = REASONS.get(name, "end_turn")
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-opus-4-8",
        "content": BLOCKS[name], "stop_reason": reason, "usage": USAGE,
        "stop_sequence": "END" if reason == "stop_sequence" else None,
    }  # fmt: skip


MESSAGES = {name: message(name) for name in BLOCKS}


def events_of(whole: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The events that the API sends for a message."""
    begun = {**whole, "content": [], "stop_reason": None, "stop_sequence": None}
    yield {"type": "message_start", "message": {**begun, "usage": {**USAGE, "output_tokens": 1}}}
    yield {"type": "ping"}
    for place, block in enumerate(whole["content"]):
        first, deltas = _opened(block)
        yield {"type": "content_block_start", "index": place, "content_block": first}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": place, "delta": delta}
        yield {"type": "content_block_stop", "index": place}
    ended = {"stop_reason": whole["stop_reason"], "stop_sequence": whole["stop_sequence"]}
    cumulative = ("output_tokens", "server_tool_use", "output_tokens_details")
    usage = {name: USAGE[name] for name in cumulative}
    yield {"type": "message_delta", "delta": ended, "usage": usage}
    yield {"type": "message_stop"}


def _opened(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins, and what it grows by."""
    match block["type"]:
        case "text":
            text = block["text"]
            cited = [{"type": "citations_delta", "citation": c} for c in block.get("citations", ())]
            pieces = [{"type": "text_delta", "text": each} for each in (text[:3], text[3:])]
            return {"type": "text", "text": ""}, [*cited, *pieces]
        case "thinking":
            thought = {"type": "thinking_delta", "thinking": block["thinking"]}
            signed = {"type": "signature_delta", "signature": block["signature"]}
            first = {"type": "thinking", "thinking": "", "signature": ""}
            return first, [thought, signed] if block["thinking"] else [signed]
        case "tool_use" | "server_tool_use":
            text = json.dumps(block["input"])
            pieces = ["", text[:4], text[4:]]
            return {**block, "input": {}}, [
                {"type": "input_json_delta", "partial_json": piece} for piece in pieces
            ]
    return block, []


def as_body(whole: dict[str, Any]) -> bytes:
    return json.dumps(whole).encode()


def as_stream(whole: dict[str, Any]) -> bytes:
    lines = (f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in events_of(whole))
    return "".join(lines).encode()
