"""The actor for pipelines of Ray, which is an ordinary class and needs no Ray."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any

import pytest

from lmgateway import LM, errors, hookimpl
from lmgateway.batch import aprocess_batch, row_runner
from lmgateway.batch.ray import Answerer
from lmgateway.batch.row_runner import RetryPolicy
from lmgateway.testing import ScriptedLM, lm_from
from lmgateway.types import Answer, Flow, Request, Wait


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_runner, "RETRY_POLICY", RetryPolicy(backoff=0.02, longest_backoff=0.1))


def batch(*prompts: str) -> dict[str, Any]:
    return {"prompt": list(prompts)}


class Waiting:
    """A provider that keeps the call with the prompt "wait", and has no key for "bad"."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        if request.prompt == "wait":
            self.begun.set()
            yield Wait(Future())
        if request.prompt == "bad":
            raise errors.AuthenticationError("no", status=401)
        return {"prompt": "", "choices": [{"text": "x"}]}


def lm_of(provider: Waiting) -> LM:
    return lm_from(provider, "waiting", model="m")


def test_a_batch_that_is_cancelled_leaves_the_others_alone() -> None:
    async def main() -> list[str]:
        provider = Waiting()
        answerer = Answerer(lm_of(provider))
        cancelled = asyncio.ensure_future(answerer(batch("a", "wait", "b")))
        await provider.begun.wait()
        cancelled.cancel()
        await asyncio.gather(cancelled, return_exceptions=True)
        answers: list[str] = (await asyncio.wait_for(answerer(batch("c", "d")), 10))["answer"]
        return answers

    assert asyncio.run(main()) == ["x", "x"]


def test_after_a_wrong_key_every_batch_is_told_so() -> None:
    async def main() -> None:
        answerer = Answerer(ScriptedLM(lambda request: errors.AuthenticationError("no")))
        for _ in range(2):
            with pytest.raises(errors.AuthenticationError):
                await answerer(batch("a", "b"))

    asyncio.run(main())


def test_rows_from_a_list_that_stop_wait_for_no_call_in_flight() -> None:
    async def main() -> None:
        lm = lm_of(Waiting())
        with pytest.raises(errors.AuthenticationError):
            await asyncio.wait_for(aprocess_batch(["wait", "bad"], lm), 10)

    asyncio.run(main())
