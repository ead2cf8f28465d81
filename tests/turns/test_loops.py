"""One loop of tools, moved in its middle, edited, forged, or answered by a fallback."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from support.strict import TOOLS
from support.strict.conversation import ASKING, GIVING, STATEFUL, Services, warnings_of
from support.strict.script import result_of, user_turn

from lmgateway import LM, get_lm

pytestmark = pytest.mark.loopback

LABELS = ["openai", "anthropic", "anyscale", "gemini", "openrouter", "deepseek", "mistral"]
#: Claude thinks no more in a loop that another began: its turn has no thought to begin with.
NO_THINKING = ("thinking",)


def by_turns(labels: list[str], others: Iterable[str]) -> list[tuple[str, str, str]]:
    """All pairs, given back by message and by hand by turns: each label and each other in both."""
    pairs = [(a, b, n + m) for n, a in enumerate(labels) for m, b in enumerate(others)]
    return [(a, b, list(GIVING)[number % len(GIVING)]) for a, b, number in pairs]


def begin(lm: LM, ask: Any = ASKING["plain"], give: Any = GIVING["by message"]) -> list[Any]:
    """The user's turn, an answer with three calls, and their results."""
    messages = [user_turn(3)]
    choice = ask(lm, messages)["choices"][0]
    messages.append(give(choice))
    return messages + [result_of(3, call) for call in choice["tool_calls"]]


def assert_warns(completion: Any, *due: tuple[str, str], thinking: bool = False) -> None:
    told = warnings_of(completion)
    if thinking:
        [about] = [each for each in told if each[1] in NO_THINKING]
        assert about[0] in ("dropped", "adapted", "ignored")
        told.remove(about)
    assert sorted(told) == sorted(due)


@pytest.mark.parametrize(
    "first, then, give", [row for row in by_turns(LABELS, LABELS) if row[0] != row[1]]
)
def test_a_loop_goes_on_with_any_other(
    services: Services, first: str, then: str, give: str
) -> None:
    messages = begin(services.lm(first), give=GIVING[give])
    ask = ASKING["streamed" if give == "by hand" else "plain"]
    completion = ask(services.lm(then), messages)
    due = [("state", "messages[1]")] if first in STATEFUL else []
    assert_warns(completion, *due, thinking=then == "anthropic")


@pytest.mark.parametrize("label, ask, give", by_turns(LABELS, ASKING))
def test_a_loop_goes_on_where_it_began(services: Services, label: str, give: str, ask: str) -> None:
    lm = services.lm(label)
    messages = begin(lm, ASKING[ask], GIVING[give])
    completion = ASKING[ask](lm, messages)
    assert_warns(completion)
    assert completion["choices"][0]["text"].startswith("Two rolls")


def test_an_image_and_a_foreign_image_block_reach_each_service(services: Services) -> None:
    for label in ("openai", "anyscale", "anthropic"):
        services.lm(label).complete(messages=[user_turn(2)])
        asked = services.server.services[label].asked[-1]["messages"][0]["content"]
        data = user_turn(2)["content"][1]["image_url"]["url"].split(",")[1]
        assert data in json.dumps(asked)


# -- edited ------------------------------------------------------------------------------------


def _calls(message: dict[str, Any]) -> Any:
    return message["tool_calls"]


def _function(message: dict[str, Any]) -> Any:
    return message["tool_calls"][0]["function"]


EDITS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a text": lambda m: m.update(content="I was edited."),
    "an argument": lambda m: _function(m).update(arguments='{"sides": 20}'),
    "a type of an argument": lambda m: _function(m).update(arguments='{"sides": "6"}'),
    "an argument more": lambda m: _function(m).update(arguments='{"sides": 6, "n": null}'),
    "a name": lambda m: _function(m).update(name="now"),
    "the order of calls": lambda m: _calls(m).insert(0, _calls(m).pop()),
}
HARMLESS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no content": lambda m: m.update(content=None),
    "an empty content": lambda m: m.update(content=""),
    "arguments spaced": lambda m: _function(m).update(arguments='{ "sides" :6 }'),
    "a float that is whole": lambda m: _function(m).update(arguments='{"sides": 6.0}'),
    "keys in another order": lambda m: _calls(m)[2]["function"].update(
        arguments='{"days": 1, "city": "Bergen"}'
    ),
    "null fields": lambda m: m.update(refusal=None, audio=None, function_call=None, name=None),
    "a key of others": lambda m: m.update(annotations=None),
}


@pytest.mark.parametrize("label, edit, give", by_turns(list(STATEFUL), EDITS))
def test_an_edited_turn_is_sent_as_edited_without_its_state(
    services: Services, label: str, give: str, edit: str
) -> None:
    lm = services.lm(label)
    if label != "anthropic":
        services.chats[label].lenient = True
    messages = copy.deepcopy(begin(lm, give=GIVING[give]))
    EDITS[edit](messages[1])
    before = copy.deepcopy(messages)
    completion = lm.complete(messages=messages, tools=TOOLS)
    assert messages == before
    assert_warns(completion, ("state", "messages[1]"), thinking=label == "anthropic")
    sent = json.dumps(services.server.services[label].asked[-1]["messages"][1])
    for held in ("signature", "redacted", "reasoning_details", "reasoning_content", '"thinking"'):
        assert held not in sent
    if edit == "a text":
        assert "I was edited." in sent


@pytest.mark.parametrize("label, harmless, give", by_turns(list(STATEFUL), HARMLESS))
def test_a_turn_that_is_written_anew_keeps_its_state(
    services: Services, label: str, give: str, harmless: str
) -> None:
    lm = services.lm(label)
    messages = copy.deepcopy(begin(lm, give=GIVING[give]))
    HARMLESS[harmless](messages[1])
    assert_warns(lm.complete(messages=messages, tools=TOOLS))


# -- foreign and forged ------------------------------------------------------------------------


@pytest.mark.parametrize("label", [*LABELS])
@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"provider": "elsewhere"}, id="of another provider"),
        pytest.param({"digest": "0" * 64}, id="of another turn"),
        pytest.param({"format": "elsewhere.turns", "provider": "elsewhere"}, id="of no format"),
    ],
)
def test_a_state_that_is_not_its_own_is_taken_out(
    services: Services, label: str, change: dict[str, Any]
) -> None:
    state = {"format": "a.b", "turn": {"secret": "xyzzy"}, "provider": label, "model": "m"}
    turn = {"role": "assistant", "content": "Hi.", "state": {**state, "digest": "1", **change}}
    messages = [{"role": "user", "content": "Hello"}, turn, user_turn(0)]
    lm = services.lm(label)
    completion = lm.complete(messages=messages)
    assert_warns(completion, ("state", "messages[1]"))
    assert "xyzzy" not in json.dumps(services.server.services[label].asked)


def test_the_messages_state_wins_over_the_calls(services: Services) -> None:
    """Both carry it; a program that keeps the first call of another turn loses nothing."""
    lm = services.lm("anthropic")
    messages = copy.deepcopy(begin(lm))
    forged = {"format": "a.b", "turn": [], "provider": "x", "model": "m", "digest": "0"}
    messages[1]["tool_calls"][0]["state"] = forged
    assert_warns(lm.complete(messages=messages, tools=TOOLS))


@pytest.mark.parametrize("label", ["anthropic", "gemini", "openrouter"])
@pytest.mark.parametrize("shown", ["repr", "transcript", "preview"])
def test_a_signature_is_shown_nowhere(
    services: Services, label: str, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message itself has it."""
    lm = services.lm(label)
    messages = begin(lm)
    lm.complete(messages=messages, tools=TOOLS)
    turn = json.dumps(messages[1]["state"]["turn"])
    signature = max(turn.split('"'), key=len)
    assert len(signature) >= 64
    text = {
        "repr": lambda: repr(lm) + repr(lm.history),
        "transcript": lambda: str(lm.inspect_history(9)) + capsys.readouterr().out,
        "preview": lambda: str(lm.preview(messages=messages, tools=TOOLS)),
    }[shown]()
    assert signature not in text


# -- fallbacks ---------------------------------------------------------------------------------


@pytest.fixture
def bases(services: Services, monkeypatch: pytest.MonkeyPatch) -> Services:
    """Where each provider is, for fallbacks, which are asked by their names."""
    for label in LABELS:
        monkeypatch.setenv(f"{label.upper()}_API_BASE", services.server.base(label))
        monkeypatch.setenv(f"{label.upper()}_API_KEY", "a-made-up-key")
    return services


PAIRS = [
    ("anthropic", "openai"),
    ("anthropic", "openrouter"),
    ("openrouter", "anthropic"),
    ("deepseek", "anyscale"),
    ("anyscale", "anthropic"),
    ("mistral", "deepseek"),
]


@pytest.mark.parametrize("ask", ASKING)
@pytest.mark.parametrize("first, then", PAIRS)
def test_a_fallback_gets_a_judgement_of_its_own(
    bases: Services, first: str, then: str, ask: str
) -> None:
    """In the middle of a loop, and back again when the first one answers."""
    bases.claude.thinks = True  # without being told to: the other one knows no such parameter
    options: dict[str, Any] = {"retries": 0, "timeout": 20, "cache": False, "model": "m"}
    with get_lm(first, fallbacks=[f"{then}/m"], **options) as lm:
        messages = begin(lm, ASKING[ask])
        bases.server.services[first].down = True
        completion = ASKING[ask](lm, messages)
        assert completion["provider"] == then
        assert_warns(completion, *([("state", "messages[1]")] if first in STATEFUL else []))
        messages.append(completion["choices"][0]["message"])
        bases.server.services[first].down = False
        completion = ASKING[ask](lm, [*messages, user_turn(0)])
        assert completion["provider"] == first
        place = f"messages[{len(messages) - 1}]"
        assert_warns(completion, *([("state", place)] if then in STATEFUL else []))


# -- ids ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("then", LABELS)
@pytest.mark.parametrize(
    "ids",
    [
        pytest.param(["functions.roll:0", "functions.roll:1"], id="with dots"),
        pytest.param(["a b/c", "a-b-c"], id="alike once mended"),
        pytest.param(["ü", "é"], id="of other letters"),
        pytest.param(["x" * 64 + "1", "x" * 64 + "2"], id="longer than 64"),
        pytest.param(["chatcmpl-tool-" + "a" * 32, "chatcmpl-tool-" + "b" * 32], id="of vLLM"),
    ],
)
def test_ids_of_any_shape_reach_a_service_in_its_own(
    services: Services, then: str, ids: list[str]
) -> None:
    calls = [
        {"id": id_, "type": "function", "function": {"name": "now", "arguments": ""}} for id_ in ids
    ]
    answers = [{"role": "tool", "tool_call_id": id_, "content": f"for {id_}"} for id_ in ids]
    turn = {"role": "assistant", "content": None, "tool_calls": calls}
    messages = [user_turn(3), turn, *reversed(answers)]
    lm = services.lm(then, **({"thinking": None} if then == "anthropic" else {}))
    assert_warns(lm.complete(messages=messages, tools=TOOLS))
    sent = services.server.services[then].asked[-1]["messages"]
    asked, answered = _ids(sent)
    assert [answered[each] for each in asked] == [f"for {id_}" for id_ in ids]


def _ids(messages: list[Any]) -> tuple[list[str], dict[str, str]]:
    """The ids of calls in their order, and by id the result."""
    asked = [call["id"] for message in messages for call in message.get("tool_calls") or ()]
    answered = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    blocks = [
        block for message in messages for block in message["content"] or () if type(block) is dict
    ]
    asked += [block["id"] for block in blocks if block["type"] == "tool_use"]
    answered |= {
        block["tool_use_id"]: block["content"] for block in blocks if block["type"] == "tool_result"
    }
    return asked, answered


# -- the text endpoint -------------------------------------------------------------------------


@pytest.mark.parametrize("ask", ["plain", "awaited"])
@pytest.mark.parametrize("label", ["openai", "anthropic", "deepseek"])
def test_a_conversation_goes_on_over_the_text_endpoint(
    services: Services, label: str, ask: str
) -> None:
    first = services.lm(label).complete(messages=[user_turn(0)])["choices"][0]
    messages = [user_turn(0), first["message"], {"role": "user", "content": "Go on."}]
    lm = services.lm("anyscale", use_chat_api=False, template="chatml")
    completion = (
        lm.complete(messages=messages)
        if ask == "plain"
        else __import__("asyncio").run(lm.acomplete(messages=messages))
    )
    assert_warns(completion, *([("state", "messages[1]")] if label in STATEFUL else []))
    [asked] = services.chats["anyscale"].asked
    assert first["text"] in asked["prompt"]
    message = completion["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "And so on."}
