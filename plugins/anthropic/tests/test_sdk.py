"""The official SDK's types agree: with what was recorded, and with what is sent."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, TypeAdapter
from support.claude_requests import REQUESTS

from lmgateway.testing import RecordedCall, read_calls
from lmgateway.testing.samples import sample_values
from lmgateway.types import Request
from lmgateway.wire.sse import Decoder
from lmgateway_anthropic.build import PARAMS, build
from lmgateway_anthropic.settings import Settings

types = pytest.importorskip("anthropic.types", reason="needs the SDK: pip install anthropic")

CALLS = read_calls(Path(__file__).parent / "recordings")
ANSWERED = [pytest.param(call, id=call.name) for call in CALLS if not call.is_error]
SETTINGS = Settings(api_key=SecretStr("a-made-up-key"))


SAMPLING = ("temperature", "top_p", "top_k")


@cache
def adapter_of(kind: str) -> TypeAdapter[Any]:
    params = __import__("anthropic.types.message_create_params", fromlist=["message_create_params"])
    return TypeAdapter(getattr(params, f"MessageCreateParams{kind}"))


def valid(request: Request) -> None:
    """The SDK's types read what is sent, and nothing of it is unknown to them."""
    adapter = adapter_of("Streaming" if request.stream else "NonStreaming")
    sent = dict(build(request, SETTINGS).json)
    for name in SAMPLING:  # of version 2023-06-01
        sent.pop(name, None)
    dumped = adapter.dump_python(adapter.validate_python(sent), exclude_unset=True)
    assert json.loads(json.dumps(dumped, default=list)) == sent


@pytest.mark.parametrize("name", REQUESTS)
def test_what_is_sent_is_what_the_sdks_types_know(name: str) -> None:
    valid(REQUESTS[name])


@pytest.mark.parametrize("call", ANSWERED)
def test_recorded_answers_are_what_the_sdk_reads(call: RecordedCall) -> None:
    if call.kind == "models":
        for card in json.loads(call.body)["data"]:
            types.ModelInfo.model_validate_json(json.dumps(card), strict=True)
    elif not call.stream:
        types.Message.model_validate_json(call.body, strict=True)
    else:
        adapter: TypeAdapter[Any] = TypeAdapter(types.RawMessageStreamEvent)
        for event in Decoder().feed(call.body):
            if event.event != "ping":  # which the SDK passes over
                adapter.validate_json(event.data, strict=True)


@pytest.mark.parametrize("name", sorted(PARAMS - {"extra_body", "metadata", "thinking"}))
def test_a_parameter_fits_the_sdks_type(name: str) -> None:
    values = {"service_tier": "auto", "parallel_tool_calls": False}
    params = {name: values.get(name, sample_values(name, {})[0])}
    if name in ("tool_choice", "parallel_tool_calls"):
        params["tools"] = sample_values("tools", {})[0]
    valid(Request("m", "Hi", params=params, stream=name == "stop"))


@pytest.mark.parametrize(
    "thinking", [{"type": "enabled", "budget_tokens": 2048}, {"type": "disabled"}]
)
def test_thinking_and_metadata_fit(thinking: dict[str, Any]) -> None:
    valid(Request("m", "Hi", params={"thinking": thinking, "metadata": {"user_id": "u"}}))


def test_a_whole_conversation_fits() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    schema = {"type": "object", "properties": {}, "additionalProperties": False}
    valid(
        Request(
            "m",
            messages=[
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [{"type": "text", "text": "Look."}, picture]},
                {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "a"}]},
            ],
            schema=schema,
        )
    )


def test_a_turn_of_the_services_own_and_files_fit() -> None:
    turn = [
        {"type": "thinking", "thinking": "", "signature": "s"},
        {"type": "redacted_thinking", "data": "R"},
        {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
        {
            "type": "web_search_tool_result",
            "tool_use_id": "srv_1",
            "content": [
                {
                    "type": "web_search_result",
                    "url": "https://a.example",
                    "title": "A",
                    "encrypted_content": "E",
                }
            ],
        },
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    ]
    parts = [
        {"type": "file", "media_type": "application/pdf", "data": "JVBERi0=", "name": "a.pdf"},
        {"type": "file", "media_type": "text/plain", "data": "YQ==", "name": "a.txt"},
        {"type": "file", "media_type": "image/png", "id": "file_1"},
        {"type": "input_file", "file_url": "https://a.example/a.pdf"},
    ]
    state = {"format": "anthropic.messages", "turn": turn}
    messages: list[Any] = [
        {"role": "user", "content": parts},
        {"role": "assistant", "state": state},
        {"role": "tool", "tool_call_id": "toolu_1", "content": "r", "is_error": True},
    ]
    valid(Request("m", messages=messages, params={"thinking": {"type": "adaptive"}}))
