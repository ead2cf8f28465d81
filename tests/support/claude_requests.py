"""Requests of every kind, for the tests that hold what is sent against something else."""

from __future__ import annotations

from typing import Any

from lmgateway._base.values import TypeSchema
from lmgateway.types import Request

CC = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
PNG = "data:image/png;base64,iVBORw0KGgo="
PDF = "data:application/pdf;base64,JVBERi0="
USER: Any = {"role": "user", "content": "Hi"}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
FUNCTION = {"name": "f", "description": "F.", "parameters": {"type": "object", "properties": {}}}
TOOLS: Any = [{"type": "function", "function": FUNCTION}]
OBJECT = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}}

CITED = {
    "type": "web_search_result_location", "url": "https://a.example/b", "title": "B",
    "encrypted_index": "I==", "cited_text": "so it is",
}  # fmt: skip
OWN: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "redacted_thinking", "data": "R"},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": [
        {"type": "web_search_result", "url": "https://a.example/b", "title": "B",
         "encrypted_content": "E", "page_age": None}]},
    {"type": "text", "text": "It is so.", "citations": [CITED]},
    {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
]  # fmt: skip


def asked(*messages: Any, model: str = "claude-opus-4-8", **keys: Any) -> Request:
    fields = {name: keys.pop(name) for name in ("system", "schema", "stream") if name in keys}
    return Request(model, messages=list(messages) or [USER], params=keys, **fields)


def user(*parts: Any, **keys: Any) -> Any:
    return {"role": "user", "content": list(parts), **keys}


def text(said: str = "a", **keys: Any) -> Any:
    return {"type": "text", "text": said, **keys}


def result(content: Any = "r", call_id: str = "c1", **keys: Any) -> Any:
    return {"role": "tool", "tool_call_id": call_id, "content": content, **keys}


def image(**keys: Any) -> Any:
    return {"type": "image_url", "image_url": {"url": PNG}, **keys}


CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}

REQUESTS: dict[str, Request] = {
    "a prompt": Request("m", "Hi", system="Be brief."),
    "a stream": Request("m", "Hi", stream=True),
    "stop": asked(stop="END"),
    "metadata": asked(metadata={"user_id": "u"}),
    "a tier": asked(service_tier="standard_only"),
    "everything marked at once": asked(cache_control=CC),
    "a marked system part": asked(
        {"role": "system", "content": [text("a", cache_control=HOUR), text("b")]}, USER
    ),
    "a marked system turn": asked({"role": "system", "content": "a", "cache_control": CC}, USER),
    "a marked system turn beside a text": asked(
        {"role": "developer", "content": "a", "cache_control": CC}, USER, system="Be brief."
    ),
    "a marked text": asked(user(text(cache_control=HOUR))),
    "a marked text, in OpenAI's words": asked(
        user(text(prompt_cache_breakpoint={"mode": "explicit", "ttl": "30m"}), text("b"))
    ),
    "a marked turn": asked({**USER, "cache_control": CC}),
    "a marked turn of parts": asked(user(text(), image(), cache_control=HOUR)),
    "a marked turn of the assistant's": asked(
        USER, {"role": "assistant", "content": "a", "cache_control": CC}, USER
    ),
    "a marked turn of its own": asked(
        USER,
        {"role": "assistant", "cache_control": CC,
         "state": {"format": "anthropic.messages", "turn": OWN}},
        result(call_id="toolu_1"),
    ),
    "a marked call": asked(
        USER, {"role": "assistant", "tool_calls": [{**CALL, "cache_control": CC}]}, result(),
        tools=TOOLS,
    ),
    "a marked result": asked(USER, CALLS, result(cache_control=HOUR), tools=TOOLS),
    "a marked part of a result": asked(
        USER, CALLS, result([text(cache_control=CC), image()], is_error=True), tools=TOOLS
    ),
    "a marked image": asked(user(image(cache_control=CC))),
    "a marked file": asked(
        user({"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}, "cache_control": CC})
    ),
    "a marked tool": asked(tools=[{**TOOLS[0], "cache_control": CC}]),
    "a marked function": asked(
        tools=[{"type": "function", "function": {**FUNCTION, "cache_control": HOUR}}]
    ),
    "a tool of the API's own": asked(
        tools=[{"type": "web_search_20250305", "name": "web_search", "max_uses": 2,
                "cache_control": CC}]
    ),
    "a tool with more than OpenAI's has": asked(
        tools=[{"type": "function", "defer_loading": True,
                "function": {**FUNCTION, "input_examples": [{"a": 1}]}}]
    ),
    "a strict tool": asked(
        tools=[{"type": "function", "function": {**FUNCTION, "strict": True,
                                                 "parameters": OBJECT}}]
    ),
    "a tool without parameters": asked(tools=[{"type": "function", "function": {"name": "f"}}]),
    "one tool at a time": asked(tools=TOOLS, tool_choice="required", parallel_tool_calls=False),
    "a chosen tool": asked(
        tools=TOOLS, tool_choice={"type": "function", "function": {"name": "f"}}
    ),
    "no tool": asked(tools=TOOLS, tool_choice="none"),
    "images": asked(
        user(
            image(),
            {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}},
            {"type": "image_url", "image_url": "https://a.example/b.png"},
            {"type": "input_image", "file_id": "file_1"},
            {"type": "file", "media_type": "image/png", "id": "file_1"},
            {"type": "image_url", "image_url": {"url": PNG.replace("png", "jpg")}},
        )
    ),
    "documents": asked(
        user(
            {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}},
            {"type": "file", "media_type": "text/plain", "data": "YQ==", "name": "a.txt",
             "citations": {"enabled": True}, "context": "Old."},
            {"type": "input_file", "file_url": "https://a.example/a.pdf"},
            {"type": "file", "file": {"file_id": "file_1", "citations": {"enabled": True}}},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain",
                                            "data": "a"}, "title": "A"},
        )
    ),
    "search results": asked(
        user({"type": "search_result", "source": "s", "title": "t", "content": [text()],
              "citations": {"enabled": True}, "cache_control": CC}),
        CALLS,
        result([{"type": "search_result", "source": "s", "title": "t", "content": [text()]}]),
        tools=TOOLS,
    ),
    "a turn of its own": asked(
        USER,
        {"role": "assistant", "state": {"format": "anthropic.messages", "turn": OWN}},
        result(call_id="toolu_1", is_error=True),
        thinking={"type": "adaptive", "display": "omitted"},
    ),
    "a turn that paused": asked(
        USER, {"role": "assistant", "state": {"format": "anthropic.messages", "turn": OWN[2:4]}}
    ),
    "thoughts of another model's": asked(
        USER, {"role": "assistant", "content": "a", "reasoning": "hm"}, USER
    ),
    "signed thoughts of another gateway's": asked(
        USER, {"role": "assistant", "content": "a", "thinking_blocks": OWN[:2]}, USER
    ),
    "a late system turn": asked(USER, {"role": "system", "content": "New rule."}),
    "a late system turn with a mark": asked(
        USER, {"role": "system", "content": [text(cache_control=CC)]},
        {"role": "assistant", "content": "ok"}, USER,
    ),
    "late system turns in odd places": asked(
        USER, {"role": "assistant", "content": "a"}, {"role": "system", "content": "One."},
        {"role": "developer", "content": "Two."}, USER,
    ),
    "a beginning": asked(
        USER, {"role": "assistant", "content": "So"}, model="claude-sonnet-4-5"
    ),
    "a schema": asked(schema=OBJECT),
    "a schema of a type": asked(
        schema=TypeSchema({**OBJECT, "title": "A", "$defs": {"B": OBJECT}}), reasoning_effort="low"
    ),
    "any object": asked(schema={"type": "object"}, system="Be brief."),
    **{
        f"{effort} effort of {model}": asked(model=model, reasoning_effort=effort)
        for effort, models in {
            "none": ("claude-sonnet-4-5", "claude-opus-4-8", "claude-sonnet-5"),
            "minimal": ("claude-3-7-sonnet-20250219",),
            "low": ("claude-opus-4-5", "claude-fable-5", "m"),
            "high": ("claude-haiku-4-5-20251001", "claude-opus-4-6", "claude-opus-5-5"),
            "max": ("claude-sonnet-4-6", "claude-haiku-5-5"),
        }.items()
        for model in models
    },
    "thinking": asked(
        thinking={"type": "enabled", "budget_tokens": 2048}, model="claude-sonnet-4-5"
    ),
    "more by extra_body": asked(
        extra_body={"cache_control": HOUR, "inference_geo": "us", "speed": "standard",
                    "output_config": {"effort": "low"}, "container": "c"}, schema=OBJECT,
    ),
}  # fmt: skip
