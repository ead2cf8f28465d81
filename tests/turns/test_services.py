"""The strict services take what their own kind says, and refuse what the real ones refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from support.strict import SCRIPT, TOOLS, Chat, Claude
from support.strict.chat import KINDS
from support.strict.script import result_of, user_turn
from support.strict.server import RefusalError

THINKING = {"type": "enabled", "budget_tokens": 1024}


def chat_body(label: str, turn: int = 3) -> dict[str, Any]:
    """A loop in OpenAI's form, its first answer given back as it came."""
    body: dict[str, Any] = {"model": "m", "tools": TOOLS, "messages": [user_turn(turn)]}
    message = Chat(label).answer("/chat/completions", body).body["choices"][0]["message"]
    del message["annotations"], message["refusal"]
    results = [result_of(turn, call) for call in message["tool_calls"]]
    for result in results:
        result.pop("is_error", None)
    body["messages"] += [message, *results]
    return body


def claude_body(turn: int = 3, **more: Any) -> dict[str, Any]:
    """A loop in Anthropic's form, its first answer given back as it came."""
    tools = [{"name": each["function"]["name"], "input_schema": {}} for each in TOOLS]
    user = {"role": "user", "content": user_turn(turn)["content"]}
    body: dict[str, Any] = {"model": "m", "max_tokens": 2048, "tools": tools, "messages": [user]}
    body |= {"thinking": THINKING, **more}
    said = Claude().answer("/v1/messages", body).body["content"]
    ids = [block["id"] for block in said if block["type"] == "tool_use"]
    results = [{"type": "tool_result", "tool_use_id": each, "content": "1"} for each in ids]
    body["messages"] += [
        {"role": "assistant", "content": said},
        {"role": "user", "content": results},
    ]
    return body


def changed(body: dict[str, Any], change: Callable[[list[Any]], Any]) -> dict[str, Any]:
    body = copy.deepcopy(body)
    change(body["messages"])
    return body


@pytest.mark.parametrize("label", KINDS)
@pytest.mark.parametrize("turn", [k for k, steps in enumerate(SCRIPT) if len(steps) > 1])
def test_a_service_takes_back_what_it_said(label: str, turn: int) -> None:
    answer = Chat(label).answer("/chat/completions", chat_body(label, turn)).body
    assert answer["choices"][0]["message"]["role"] == "assistant"


@pytest.mark.parametrize("turn", [k for k, steps in enumerate(SCRIPT) if len(steps) > 1])
def test_claude_takes_back_what_it_said(turn: int) -> None:
    assert Claude().answer("/v1/messages", claude_body(turn)).body["content"]


CHAT = {
    "a key of ours": lambda m: m[1].update(state={}),
    "reasoning": lambda m: m[1].update(reasoning="hm"),
    "annotations": lambda m: m[1].update(annotations=[]),
    "tool_calls null": lambda m: m.append(
        {"role": "assistant", "content": "a", "tool_calls": None}
    ),
    "a key in a call": lambda m: m[1]["tool_calls"][0].update(parsed={}),
    "a key in a function": lambda m: m[1]["tool_calls"][0]["function"].update(strict=True),
    "arguments as JSON": lambda m: m[1]["tool_calls"][0]["function"].update(arguments={}),
    "a key in a result": lambda m: m[2].update(is_error=True),
    "a name in a result": lambda m: m[2].update(name="roll"),
    "a duplicate id": lambda m: m[1]["tool_calls"][1].update(id=m[1]["tool_calls"][0]["id"]),
    "ids of an earlier turn": lambda m: m.extend(copy.deepcopy(m)),
    "a result that is missing": lambda m: m.pop(),
    "a result twice": lambda m: m.append(m[-1]),
    "a result of nothing": lambda m: m[2].update(tool_call_id="call_9"),
    "a late result": lambda m: m.insert(2, {"role": "user", "content": "[turn 3] wait"}),
    "no content": lambda m: m.append({"role": "assistant", "content": None}),
    "an unknown part": lambda m: m[0].update(content=[{"type": "document"}]),
    "a foreign signature": lambda m: m[1]["tool_calls"][0].update(extra_content={"google": {}}),
    "foreign details": lambda m: m[1].update(reasoning_details=[{"type": "reasoning.text"}]),
}


@pytest.mark.parametrize("label", ["openai", "anyscale"])
@pytest.mark.parametrize("change", CHAT)
def test_a_service_of_openais_kind_refuses(label: str, change: str) -> None:
    with pytest.raises(RefusalError):
        Chat(label).answer("/chat/completions", changed(chat_body(label), CHAT[change]))


STATES = {
    "gemini": [
        lambda m: m[1]["tool_calls"][1].pop("extra_content"),
        lambda m: m[1]["tool_calls"][1].update(m[1]["tool_calls"][0], id="call_gemini_3_0_1"),
    ],
    "openrouter": [
        lambda m: m[1].pop("reasoning_details"),
        lambda m: m[1]["reasoning_details"].reverse(),
        lambda m: m[1]["reasoning_details"][0].update(text="other"),
        lambda m: m[1]["reasoning_details"].pop(),
    ],
    "deepseek": [
        lambda m: m[1].pop("reasoning_content"),
        lambda m: m[1].update(reasoning_content=""),
    ],
    "mistral": [
        lambda m: m[1].update(content="Hm."),
        lambda m: m[1]["content"].pop(0),
    ],
}


@pytest.mark.parametrize(
    "label, change", [(label, change) for label, changes in STATES.items() for change in changes]
)
def test_it_misses_what_it_added(label: str, change: Callable[[list[Any]], Any]) -> None:
    with pytest.raises(RefusalError):
        Chat(label).answer("/chat/completions", changed(chat_body(label), change))


def _swap(m: list[Any]) -> None:
    m[1]["content"][0], m[1]["content"][1] = m[1]["content"][1], m[1]["content"][0]


CLAUDE = {
    "a key of ours": lambda m: m[1].update(state={}),
    "tool_calls": lambda m: m[1].update(tool_calls=[]),
    "a key in a block": lambda m: m[1]["content"][-1].update(extra={}),
    "no signature": lambda m: m[1]["content"][0].pop("signature"),
    "an empty signature": lambda m: m[1]["content"][0].update(signature=""),
    "another thought": lambda m: m[1]["content"][0].update(thinking="other"),
    "no thinking": lambda m: m[1].update(content=m[1]["content"][2:]),
    "the redacted thinking only": lambda m: m[1]["content"].pop(0),
    "no redacted thinking": lambda m: m[1]["content"].pop(1),
    "thoughts in another order": _swap,
    "thinking after a call": lambda m: m[1]["content"].append(m[1]["content"].pop(0)),
    "altered redacted thinking": lambda m: m[1]["content"][1].update(data="x:y"),
    "an empty text": lambda m: m[1]["content"].insert(2, {"type": "text", "text": ""}),
    "an id of another form": lambda m: m[1]["content"][-1].update(id="functions.roll:0"),
    "a duplicate id": lambda m: m[1]["content"][-1].update(id=m[1]["content"][-2]["id"]),
    "arguments as text": lambda m: m[1]["content"][-1].update(input="{}"),
    "a result that is missing": lambda m: m[2]["content"].pop(),
    "a result of nothing": lambda m: m[2]["content"][0].update(tool_use_id="toolu_9"),
    "a late result": lambda m: m.insert(2, {"role": "user", "content": "[turn 3] wait"}),
    "a text before the results": lambda m: m[2]["content"].insert(
        0, {"type": "text", "text": "[turn 3]"}
    ),
    "a role": lambda m: m[0].update(role="system"),
    "an image of OpenAI's": lambda m: m[0].update(
        content=[{"type": "image_url", "image_url": {"url": "data:"}}]
    ),
    "a prefill": lambda m: m.append({"role": "assistant", "content": "So"}),
    "no content": lambda m: m.append({"role": "user", "content": []}),
}


@pytest.mark.parametrize("change", CLAUDE)
def test_claude_refuses(change: str) -> None:
    with pytest.raises(RefusalError):
        Claude().answer("/v1/messages", changed(claude_body(), CLAUDE[change]))


@pytest.mark.soak  # seconds for types that do not change
@pytest.mark.parametrize("label", KINDS)
def test_what_openais_kind_says_fits_the_sdks_types(label: str) -> None:
    types = pytest.importorskip("openai.types.chat", reason="needs the SDK: pip install openai")
    for turn in range(len(SCRIPT)):
        body = {"messages": [user_turn(turn)], "tools": TOOLS}
        if label != "mistral":  # whose content may be a list
            types.ChatCompletion.model_validate(Chat(label).answer("/chat/completions", body).body)
        streamed = Chat(label).answer("/chat/completions", {**body, "stream": True}).body
        for line in streamed.decode().split("\n\n")[:-2]:
            chunk = json.loads(line.removeprefix("data: "))
            if not any(isinstance(c["delta"].get("content"), list) for c in chunk["choices"]):
                types.ChatCompletionChunk.model_validate(chunk)


@pytest.mark.soak
def test_what_claude_says_fits_the_sdks_types() -> None:
    types = pytest.importorskip("anthropic.types", reason="needs the SDK: pip install anthropic")
    from pydantic import TypeAdapter

    events: TypeAdapter[Any] = TypeAdapter(types.RawMessageStreamEvent)
    for turn in range(len(SCRIPT)):
        body = {"messages": [user_turn(turn) if turn != 2 else user_turn(0)]}
        body |= {"tools": TOOLS, "thinking": THINKING}
        types.Message.model_validate(Claude().answer("/v1/messages", body).body, strict=True)
        streamed = Claude().answer("/v1/messages", {**body, "stream": True}).body
        for event in streamed.decode().split("\n\n")[:-1]:
            events.validate_python(json.loads(event.split("data: ", 1)[1]), strict=True)
