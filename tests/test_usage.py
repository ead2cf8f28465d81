from __future__ import annotations

import asyncio
import contextvars
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest

from lmgateway._records.usage import account, price, usage
from lmgateway.types import Completion


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
