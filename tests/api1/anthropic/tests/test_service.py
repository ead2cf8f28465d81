"""A real server that speaks the Messages API: llama.cpp's."""

from __future__ import annotations

import asyncio

import pytest
from support.llama_server import LlamaServer

from lmgateway import LM, errors, get_lm

pytestmark = pytest.mark.real


@pytest.fixture
def lm(llama_server: LlamaServer) -> LM:
    return get_lm(
        "anthropic",
        model=llama_server.model,
        api_base=llama_server.base_url.removesuffix("/v1"),
        api_key=llama_server.api_key,
        cache=False,
    )


def test_a_prompt_is_answered_alike_in_all_four_ways(lm: LM) -> None:
    asked = {"temperature": 0, "max_tokens": 8}
    plain = lm.complete("Name a colour.", **asked)
    stream = lm.stream("Name a colour.", **asked)
    shown = "".join(stream)

    async def gather() -> list[str]:
        whole = await lm.acall("Name a colour.", **asked)
        pieces = lm.astream("Name a colour.", **asked)
        return [*whole, "".join([piece async for piece in pieces])]

    text = plain["choices"][0]["text"]
    assert text
    assert [shown, *asyncio.run(gather())] == [text] * 3
    assert plain["choices"][0]["finish_reason"] == "length"
    assert plain["usage"]["completion_tokens"] == 8


def test_a_conversation_with_a_tools_result_is_taken(lm: LM) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}
    completion = lm.complete(
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "What is the capital of France?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "1", "content": "Paris"},
        ],
        tools=[{"type": "function", "function": {"name": "look_up"}}],
        stop=["."],
        max_tokens=8,
    )
    assert completion["usage"]["prompt_tokens"] > 20


def test_a_wrong_key_names_its_variable(llama_server: LlamaServer) -> None:
    base = llama_server.base_url.removesuffix("/v1")
    lm = get_lm("anthropic", model=llama_server.model, api_base=base, api_key="a-wrong-one")
    with pytest.raises(errors.AuthenticationError, match="ANTHROPIC_API_KEY"):
        lm("Hi")


def test_an_overflow_is_typed(lm: LM) -> None:
    with pytest.raises(errors.ContextLengthError):
        lm("word " * 9000)


def test_models_are_listed(lm: LM, llama_server: LlamaServer) -> None:
    assert llama_server.model in [card["id"] for card in lm.models()]
