from __future__ import annotations

import asyncio
import contextvars
import json
import sys
import threading
import types
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from support.fault_server import (
    FaultServer,
    Step,
    chunk,
    close,
    head,
    receive,
    reply,
    send,
    signal,
    stall,
)

from lmgateway import LM, get_lm
from lmgateway._layers import retry
from lmgateway._records.usage import account, price, usage
from lmgateway.errors import LMGatewayError
from lmgateway.types import Completion
from lmgateway.wire.openai.usage import read_usage


def answered(model: str = "gpt-4o-mini", provider: str = "openai", **more: Any) -> Completion:
    completion: Completion = {
        "prompt": "q",
        "choices": [{"text": "a"}],
        "model": model,
        "provider": provider,
        "usage": {"prompt_tokens": 1000, "completion_tokens": 100},
    }
    completion.update(more)  # type: ignore[typeddict-item]
    return completion


@pytest.fixture
def no_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "genai_prices", None)


def test_a_block_sums_the_calls_inside_it() -> None:
    account(answered())
    with usage() as outer:
        account(answered())
        with usage() as inner:
            account(answered(cached=True))
        account(answered())
    account(answered())
    assert (outer.calls, outer.cached, outer.prompt_tokens, outer.completion_tokens) == (
        3,
        1,
        3000,
        300,
    )
    assert outer.total_tokens == 3300
    assert (inner.calls, inner.cached) == (1, 1)


def test_tasks_belong_to_the_block_they_are_made_in() -> None:
    async def call() -> None:
        account(answered())

    async def block(count: int) -> int:
        with usage() as used:
            await asyncio.gather(*(call() for _ in range(count)))
            return used.calls

    async def main() -> list[int]:
        return await asyncio.gather(block(3), block(5))

    assert asyncio.run(main()) == [3, 5]


def test_a_thread_belongs_to_it_in_a_copy_of_its_context() -> None:
    with usage() as used, ThreadPoolExecutor(4) as pool:
        for _ in range(50):
            pool.submit(contextvars.copy_context().run, account, answered())
    assert used.calls == 50


@pytest.mark.usefixtures("no_prices")
def test_without_the_price_list_the_cost_is_unknown() -> None:
    with usage() as used:
        account(answered())
        account(answered())
    assert used.cost is None
    assert used.known_cost == 0
    assert used.unpriced == {"openai/gpt-4o-mini": 2}
    assert str(used).endswith("cost unknown")


@pytest.mark.usefixtures("no_prices")
def test_what_was_cached_cost_nothing() -> None:
    with usage() as used:
        account(answered(cached=True))
    assert used.cost == 0


def test_no_calls_cost_nothing() -> None:
    with usage() as used:
        pass
    assert used.cost == 0


@pytest.mark.parametrize("error", [LookupError("unlisted"), ValueError("a negative count")])
def test_what_the_price_list_refuses_is_unknown(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    fake = types.SimpleNamespace(Usage=lambda **counts: counts, calc_price=refuse)
    monkeypatch.setitem(sys.modules, "genai_prices", fake)
    assert price(answered()) is None


@pytest.mark.parametrize(
    "completion, dollars",
    [
        pytest.param(answered(), Decimal("0.00021"), id="listed"),
        pytest.param(answered("no-such-model"), None, id="an unknown model"),
        pytest.param(answered(provider="anyscale"), None, id="the same model elsewhere"),
        pytest.param(
            answered(usage={"prompt_tokens": -1, "completion_tokens": 1}), None, id="no count"
        ),
        pytest.param(answered(usage={}), None, id="no tokens told"),
        pytest.param(
            answered(usage={"prompt_tokens": 1000, "completion_tokens": 100, "cached_tokens": 10}),
            Decimal("0.00020925"),
            id="with tokens from the service's cache",
        ),
        pytest.param(
            {
                "embeddings": [[0.5]],
                "provider": "openai",
                "model": "text-embedding-3-small",
                "usage": {"prompt_tokens": 1000, "total_tokens": 1000},
            },
            Decimal("0.00002"),
            id="of embeddings, which write nothing",
        ),
    ],
)
def test_the_price_is_that_of_this_model_of_this_provider(
    completion: Completion, dollars: Decimal | None
) -> None:
    pytest.importorskip("genai_prices")
    assert price(completion) == dollars


# -- what has a price of its own -----------------------------------------------------------------

READ = {"prompt_tokens": 1000, "completion_tokens": 100}
WRITTEN = {"prompt_tokens": 12_307, "completion_tokens": 550, "cache_write_tokens": 12_304}
CLAUDE = ("anthropic", "claude-3-7-sonnet-20250219")
AUDIO = ("openai", "gpt-audio")
HEARD = {"prompt_tokens_details": {"audio_tokens": 10}}
SPOKEN = {"completion_tokens_details": {"audio_tokens": 10}}


def kept(minutes: int, hour: int) -> dict[str, Any]:
    creation = {"ephemeral_5m_input_tokens": minutes, "ephemeral_1h_input_tokens": hour}
    return {**WRITTEN, "details": {"cache_creation": creation}}


def within(details: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**READ, **more, "details": details}


#: Who answered, its usage, and dollars; what it says is at the list's prices for a million.
PRICED: dict[str, tuple[tuple[str, str], dict[str, Any], str | None]] = {
    "cache writes": (CLAUDE, WRITTEN, "0.054399"),
    "cache writes for five minutes": (CLAUDE, kept(12_304, 0), "0.054399"),
    "cache writes for an hour": (CLAUDE, kept(0, 12_304), "0.082083"),
    "cache writes of both lifetimes": (CLAUDE, kept(304, 12_000), "0.081399"),
    "more of them than were written": (CLAUDE, kept(1, 12_304), None),
    "cache writes that are not listed": (("openai", "gpt-4o-mini"), WRITTEN, None),
    "searches of the service's own": (
        CLAUDE, within({"server_tool_use": {"web_search_requests": 2}}), "0.0245"),
    "a tool of the service's that is not listed": (
        CLAUDE, within({"server_tool_use": {"runs": 1}}), None),
    "elsewhere": (CLAUDE, within({"inference_geo": "us"}), None),
    "anywhere": (CLAUDE, within({"inference_geo": "global"}), "0.0045"),
    "a speed that is not listed": (CLAUDE, within({"speed": "fast"}), None),
    "a tier beside the tokens": (CLAUDE, within({"service_tier": "priority"}), None),
    "heard": (AUDIO, {**READ, "audio_tokens": 10}, "0.003795"),
    "heard, as the service says": (AUDIO, within(HEARD, audio_tokens=10), "0.003795"),
    "spoken": (AUDIO, within(SPOKEN, audio_tokens=10), "0.00404"),
    "nobody says whether heard or spoken": (AUDIO, within({"a": 1}, audio_tokens=10), None),
    "heard by a model without such a price": (
        ("openai", "gpt-4o-audio-preview"), within(HEARD, audio_tokens=10), None),
    "seen": (("openai", "gpt-4o-mini"), {**READ, "image_tokens": 10}, "0.00021"),
    "thought beside what was written": (
        ("xai", "grok-4.3"), {**READ, "reasoning_tokens": 9, "total_tokens": 1109}, "0.0015225"),
    "a total with more in it": (("xai", "grok-4.3"), {**READ, "total_tokens": 1109}, None),
    "more thought than written": (CLAUDE, {**READ, "reasoning_tokens": 101}, None),
    "a long prompt": (
        ("google", "gemini-2.5-pro"), {**READ, "prompt_tokens": 300_000}, "0.7515"),
    "stated": (("nobody", "m"), {"cost": 0.0012}, "0.0012"),
    "stated as nothing": (("nobody", "m"), {**READ, "cost": 0}, "0"),
    "stated in a way that makes no sense": (CLAUDE, {**READ, "cost": float("nan")}, "0.0045"),
    "stated without the user's own key": (
        ("openrouter", "m"),
        {"cost": 0.001, "details": {
            "is_byok": True, "cost_details": {"upstream_inference_cost": 0.01}}}, "0.011"),
    "stated without what that key pays": (
        ("openrouter", "m"), {"cost": 0.001, "details": {"is_byok": True}}, None),
    "a host that calls itself after another": (("my-openai-proxy", "gpt-4o-mini"), READ, None),
    "a model that is not paid by tokens": (("openai", "whisper-1"), READ, None),
}  # fmt: skip


@pytest.mark.parametrize("who, used, dollars", PRICED.values(), ids=PRICED)
def test_what_was_used_has_its_own_price_or_none(
    who: tuple[str, str], used: dict[str, Any], dollars: str | None
) -> None:
    pytest.importorskip("genai_prices")
    found = price({"provider": who[0], "model": who[1], "usage": used})
    assert found == (None if dollars is None else Decimal(dollars))


@pytest.mark.parametrize(
    "tier, dollars",
    [("default", "0.00225"), ("flex", "0.001125"), ("priority", "0.0045"), ("batch", "0.001125"),
     ("scale", None), (5, None), ("", "0.00225")],
)  # fmt: skip
def test_a_tier_has_its_own_price_or_none(tier: Any, dollars: str | None) -> None:
    pytest.importorskip("genai_prices")
    found = price(answered("gpt-5", usage=READ, extra={"service_tier": tier}))
    assert found == (None if dollars is None else Decimal(dollars))


@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "cached_tokens"])
@pytest.mark.parametrize("count", [True, -1, 1.5, "3", [], 2**60], ids=repr)
def test_a_count_that_makes_no_sense_has_no_price(name: str, count: Any) -> None:
    answer = answered(usage={**READ, name: count})
    assert price(answer) is None
    with usage() as used:
        account(answer)
    assert (used.cost, used.total_tokens) in {(None, 1100), (None, 100), (None, 1000)} or (
        count == 2**60
    )


@pytest.mark.parametrize(
    "odd", [{}, {"usage": 5}, {"usage": READ}, {"usage": READ, "model": 5, "provider": None},
            answered(usage=READ, extra={"service_tier": ["x"]}),
            {**answered(usage=within({"cache_creation": 5})), "model": "x"}],
)  # fmt: skip
def test_what_says_too_little_has_no_price(odd: Any) -> None:
    assert price(odd) is None


def test_what_was_spoken_is_told_apart_from_what_was_heard() -> None:
    raw = {**READ, "completion_tokens_details": {"audio_tokens": 10}}
    assert read_usage(raw)["details"] == raw
    assert "details" not in read_usage({**READ, "prompt_tokens_details": {"audio_tokens": 10}})


def test_a_cost_is_read_in_both_forms() -> None:
    assert read_usage({"cost": 0.5})["cost"] == 0.5
    assert read_usage({"cost": {"total_cost": 0.5}})["cost"] == 0.5
    assert "cost" not in read_usage({"cost": {"total_cost": True}})


# -- calls that fail, are tried again, or are left -----------------------------------------------

COUNTED = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
BODY = json.dumps({
    "choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}],
    "model": "gpt-4o-mini", "usage": COUNTED,
}).encode()  # fmt: skip
GOOD = [reply(BODY, 200, {"Content-Type": "application/json"})]
OPEN = head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})


def piece(**more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": "hi"}}
    return chunk(b"data: " + json.dumps({"choices": [choice], **more}).encode() + b"\n\n")


def refusal(status: int) -> list[Step]:
    body = b'{"error": {"message": "busy"}}'
    return [reply(body, status, {"Content-Type": "application/json"})]


def asked(lm: LM) -> None:
    lm.complete("q")


def awaited(lm: LM) -> None:
    asyncio.run(_complete(lm))


async def _complete(lm: LM) -> None:
    await lm.acomplete("q")


def streamed(lm: LM) -> None:
    list(lm.stream("q"))


def left(lm: LM) -> None:
    with lm.stream("q") as pieces:
        next(pieces)


def left_awaiting(lm: LM) -> None:
    async def leave() -> None:
        async with lm.astream("q") as pieces:
            await anext(pieces)

    asyncio.run(leave())


def given_up(lm: LM) -> None:
    async def give_up() -> None:
        task = asyncio.ensure_future(_complete(lm))
        await asyncio.to_thread(ASKED.wait, 10)
        task.cancel()
        await asyncio.wait([task])

    asyncio.run(give_up())


ASKED = threading.Event()
PLAIN = (asked, awaited)
KNOWN, FREE, UNKNOWN = Decimal("0.00021"), Decimal(0), None
#: Scripts of the service; who calls; what it costs; calls, failed ones, tokens.
FATES: dict[str, tuple[list[Any], tuple[Any, ...], Decimal | None, tuple[int, int, int]]] = {
    "answered": ([GOOD], PLAIN, KNOWN, (1, 0, 1100)),
    "refused, and answered": ([refusal(500), GOOD], PLAIN, KNOWN, (1, 0, 1100)),
    "refused": ([refusal(401)], PLAIN, FREE, (0, 0, 0)),
    "refused in a stream's place": ([refusal(429)] * 2, (streamed,), FREE, (0, 0, 0)),
    "refused in a body": (
        [[reply(b'{"error": {"code": 429}}', 200)]] * 2, PLAIN, FREE, (0, 0, 0)),
    "answered with what cannot be read": (
        [[reply(b"<html>", 200)]], PLAIN, UNKNOWN, (2, 2, 0)),
    "not answered in time": ([[receive(), stall()]], PLAIN, UNKNOWN, (1, 1, 0)),
    "given up": ([[receive(), signal(ASKED), stall()]], (given_up,), UNKNOWN, (1, 1, 0)),
    "left": ([[receive(), send(OPEN, piece()), stall()]], (left, left_awaiting), UNKNOWN,
             (1, 1, 0)),
    "broken off": ([[receive(), send(OPEN, piece()), close()]], (streamed,), UNKNOWN, (1, 1, 0)),
    "broken off with a count": (
        [[receive(), send(OPEN, piece(usage=COUNTED)), close()]], (streamed,), UNKNOWN,
        (1, 1, 1100)),
    "broken off with a cost": (
        [[receive(), send(OPEN, piece(usage={**COUNTED, "cost": 0.00021})), close()]],
        (streamed,), KNOWN, (1, 1, 1100)),
}  # fmt: skip
ROWS = [(name, call) for name, fate in FATES.items() for call in fate[1]]


@pytest.mark.loopback
@pytest.mark.parametrize("name, call", ROWS, ids=[f"{n}-{c.__name__}" for n, c in ROWS])
def test_an_attempt_costs_what_is_known_of_it(
    name: str, call: Callable[[LM], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("genai_prices")
    monkeypatch.setattr(retry, "FIRST_BACKOFF", 0.0)
    scripts, _, cost, counts = FATES[name]
    timeout = 0.3 if name == "not answered in time" else 30
    ASKED.clear()
    with (
        FaultServer(*scripts) as server,
        get_lm(
            "openai/gpt-4o-mini",
            api_base=server.url,
            api_key="a-key-of-mine",
            retries=1,
            timeout=timeout,
        ) as lm,
        usage() as used,
        suppress(LMGatewayError),
    ):
        call(lm)
    assert (used.cost, used.calls, used.failed, used.total_tokens) == (cost, *counts)
