"""A conversation of ten turns moves from provider to provider, and nobody refuses any of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.strict.conversation import (
    ASKING,
    BETWEEN,
    GIVING,
    Services,
    Transcript,
    converse,
)

import lmgateway
from lmgateway._store.sqlite import close_all

pytestmark = pytest.mark.loopback

#: Who answers each of the ten turns.
ORDERS = {
    "there and back": ["openai"] * 3 + ["anthropic"] * 3 + ["anyscale"] * 2 + ["openai"] * 2,
    "claude first": ["anthropic"] * 2 + ["anyscale"] * 2 + ["openai"] * 3 + ["anthropic"] * 3,
    "vllm first": ["anyscale"] * 4 + ["anthropic"] * 4 + ["openai"] * 2,
    "gemini": ["gemini"] * 2 + ["anthropic"] * 2 + ["gemini"] * 4 + ["openai"] * 2,
    "openrouter": ["openrouter"] * 4 + ["anthropic"] * 3 + ["anyscale"] + ["openrouter"] * 2,
    "deepseek": ["deepseek"] * 2 + ["openai"] * 2 + ["deepseek"] * 4 + ["anthropic"] * 2,
    "mistral": ["mistral"] * 4 + ["anthropic"] + ["mistral"] * 3 + ["openai"] * 2,
    "each turn another": [
        "openrouter", "anthropic", "deepseek", "gemini", "anyscale",
        "mistral", "anthropic", "openai", "openrouter", "gemini",
    ],
    "each another, from the middle": [
        "gemini", "openai", "mistral", "anthropic", "openrouter",
        "anthropic", "deepseek", "anyscale", "anthropic", "deepseek",
    ],
}  # fmt: skip
MOVES = ORDERS["there and back"]
MANY = ORDERS["each turn another"]


def hold(services: Services, order: list[str], *options: Any, **more: Any) -> Transcript:
    keywords = more.pop("keywords", {})
    lms = {label: services.lm(label, **keywords) for label in order}
    try:
        return converse([(label, lms[label]) for label in order], *options, **more)
    finally:
        for lm in lms.values():
            lm.close()


def assert_warned(told: Transcript) -> None:
    """Each completion warns of exactly what was left behind."""
    got = [sorted(got) for got, _ in told.warned]
    assert got == [sorted(due) for _, due in told.warned]


@pytest.mark.parametrize("order", ORDERS)
def test_it_moves_in_any_order(services: Services, order: str) -> None:
    assert_warned(hold(services, ORDERS[order]))


@pytest.mark.parametrize("give", GIVING)
@pytest.mark.parametrize("ask", ASKING)
def test_it_moves_however_it_is_asked_and_given_back(
    services: Services, ask: str, give: str
) -> None:
    assert_warned(hold(services, MANY, ASKING[ask], give=GIVING[give]))


@pytest.mark.parametrize("between", [each for each in BETWEEN if "sdk" not in each])
@pytest.mark.parametrize("give", GIVING)
def test_it_survives_what_programs_do_with_messages(
    services: Services, between: str, give: str
) -> None:
    assert_warned(hold(services, MANY, give=GIVING[give], between=BETWEEN[between]))


@pytest.mark.parametrize("between", [each for each in BETWEEN if "sdk" in each])
@pytest.mark.parametrize(
    "give, order",
    [
        pytest.param("by message", MOVES, id="there and back"),
        pytest.param("by message", MANY, id="each turn another"),
        pytest.param("by hand", MANY, id="by hand"),
    ],
)
def test_it_survives_openais_own_types(
    services: Services, order: list[str], give: str, between: str
) -> None:
    pytest.importorskip("openai", reason="needs the SDK: pip install openai")
    assert_warned(hold(services, order, give=GIVING[give], between=BETWEEN[between]))


def test_ways_of_asking_agree(services: Services) -> None:
    """Plain and streamed, blocking and awaited: one conversation, word for word."""
    plain, *others = (hold(services, MANY, ask).messages for ask in ASKING.values())
    for other in others:
        assert other == plain


def test_a_failed_tool_is_told_as_one_where_it_can_be(services: Services) -> None:
    hold(services, ["anthropic"] * 10)
    blocks = [
        block
        for message in services.claude.asked[-1]["messages"]
        for block in message["content"]
        if isinstance(block, dict) and block["type"] == "tool_result"
    ]
    failed = [block["content"] for block in blocks if block.get("is_error")]
    assert ["Atlantis" in str(content) for content in failed] == [True]
    assert len(blocks) > 5


# -- twice -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "ask, order",
    [
        pytest.param("plain", MOVES, id="there and back"),
        *(pytest.param(ask, MANY, id=f"each turn another, {ask}") for ask in ASKING),
    ],
)
def test_the_second_time_every_turn_is_a_cache_hit(
    services: Services,
    order: list[str],
    ask: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    first = hold(services, order, ASKING[ask], keywords={"cache": True})
    asked = services.requests
    again = hold(services, order, ASKING[ask], keywords={"cache": True})
    close_all()
    assert [each["cached"] for each in first.completions] == [False] * asked
    assert [each["cached"] for each in again.completions] == [True] * asked
    assert services.requests == asked
    assert again.messages == first.messages
    assert again.warned == first.warned
    assert_warned(again)


@pytest.mark.parametrize("ask", ASKING)
def test_calls_without_ids_get_some_that_are_the_same_in_a_repeat(
    services: Services, ask: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And that differ over the conversation, or the services would refuse it."""
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    services.chats["anyscale"].idless = services.chats["openai"].idless = True
    order = ["anyscale"] * 4 + ["anthropic"] + ["openai"] * 4 + ["anthropic"]
    told = [hold(services, order, ASKING[ask], keywords={"cache": True}) for _ in range(2)]
    close_all()
    ids = [c["id"] for m in told[0].messages for c in m.get("tool_calls") or ()]
    assert len(set(ids)) == len(ids) > 8
    assert told[0].messages == told[1].messages
    assert all(each["cached"] for each in told[1].completions)
    assert_warned(told[1])


@pytest.mark.parametrize("ask, give", [("plain", "by message"), ("astreamed", "by hand")])
def test_recordings_answer_the_whole_conversation(
    services: Services, ask: str, give: str, tmp_path: Path
) -> None:
    path = tmp_path / "conversation.jsonl"
    with lmgateway.record(path):
        first = hold(services, MANY, ASKING[ask], give=GIVING[give])
    services.reset()
    replayed = {"recordings": (str(path),), "cache": "only", "api_key": None}
    again = hold(services, MANY, ASKING[ask], give=GIVING[give], keywords=replayed)
    assert services.requests == 0
    assert all(each["cached"] for each in again.completions)
    assert again.messages == first.messages
    assert_warned(again)
