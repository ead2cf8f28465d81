from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import lmgateway
from lmgateway import LM, errors, get_lm, hookimpl
from lmgateway.composition import specify
from lmgateway.registry import plugin_from
from lmgateway.testing import ScriptedLM
from lmgateway.types import Completion, Flow, Request, Sleep

Run = Callable[..., list[Any]]


def threads(lm: Any, inputs: Any, **keywords: Any) -> list[Any]:
    return list(lm.batch(inputs, **keywords))


def tasks(lm: Any, inputs: Any, **keywords: Any) -> list[Any]:
    return list(asyncio.run(lm.abatch(inputs, **keywords)))


def inside_a_loop(lm: Any, inputs: Any, **keywords: Any) -> list[Any]:
    async def main() -> list[Any]:
        return list(lm.batch(inputs, **keywords))

    return asyncio.run(main())


each_way = pytest.mark.parametrize("run", [threads, tasks, inside_a_loop])


def texts(completions: list[Any]) -> list[str]:
    return [completion["choices"][0]["text"] for completion in completions]


@each_way
def test_answers_come_in_the_order_of_the_inputs(run: Run) -> None:
    prompts = [f"p{n}" for n in range(200)]
    assert texts(run(get_lm("echo"), prompts, concurrency=7)) == prompts


@each_way
def test_inputs_are_prompts_messages_or_keywords(run: Run) -> None:
    inputs = ["a", [{"role": "user", "content": "b"}], {"prompt": "c d", "max_tokens": 1}]
    assert texts(run(get_lm("echo"), inputs, max_tokens=9)) == ["a", "b", "c"]


@each_way
def test_no_inputs_are_no_answers(run: Run) -> None:
    assert run(get_lm("echo"), []) == []


@each_way
def test_an_iterator_is_read_as_needed(run: Run) -> None:
    assert texts(run(get_lm("echo"), (str(n) for n in range(50)), concurrency=3)) == [
        str(n) for n in range(50)
    ]


def failing(request: Request) -> Any:
    if request.prompt == "bad":
        return errors.InvalidRequestError("no", status=400)
    return request.prompt or ""


@each_way
def test_the_first_error_is_raised(run: Run) -> None:
    with pytest.raises(errors.InvalidRequestError):
        run(ScriptedLM(failing), ["a", "bad", "c"])


@each_way
def test_errors_take_their_place_when_they_are_wanted(run: Run) -> None:
    good, bad, also = run(ScriptedLM(failing), ["a", "bad", "c"], return_exceptions=True)
    assert texts([good, also]) == ["a", "c"]
    assert isinstance(bad, errors.InvalidRequestError)


@each_way
def test_after_an_error_no_further_call_begins(run: Run) -> None:
    lm = ScriptedLM(failing)
    with pytest.raises(errors.InvalidRequestError):
        run(lm, ["bad", *["a"] * 1000], concurrency=1)
    assert len(lm.requests) == 1


@each_way
def test_an_error_of_the_callers_own_iterator_is_raised(run: Run) -> None:
    def broken() -> Iterator[str]:
        yield "a"
        raise OSError("the file is gone")

    with pytest.raises(OSError, match="the file is gone"):
        run(get_lm("echo"), broken())


@each_way
@pytest.mark.parametrize(
    "inputs, keywords",
    [
        pytest.param("one", {}, id="a str"),
        pytest.param([3], {}, id="a number"),
        pytest.param(["a"], {"concurrency": 0}, id="concurrency 0"),
        pytest.param(["a"], {"temprature": 0}, id="an unknown keyword"),
    ],
)
def test_bad_input_is_refused(run: Run, inputs: Any, keywords: dict[str, Any]) -> None:
    with pytest.raises(errors.InputError):
        run(get_lm("echo"), inputs, **keywords)


class Counting:
    """A provider that knows how many calls are inside it, and keeps each there for a moment."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.lock = threading.Lock()

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Completion]:
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        yield Sleep(0.001)
        with self.lock:
            self.inside -= 1
        return {"prompt": "", "choices": [{"text": "x"}]}


@pytest.mark.parametrize("run", [threads, tasks])
def test_what_is_in_flight_is_bounded(run: Run) -> None:
    provider = Counting()
    lm = LM(specify("counting", "m", {}, plugin_from(provider, name="counting")))
    run(lm, ["p"] * 200, concurrency=5)
    assert provider.most == 5


@each_way
def test_usage_counts_the_whole_batch(run: Run) -> None:
    with lmgateway.usage() as used:
        run(get_lm("echo"), ["one two"] * 10)
    assert (used.calls, used.prompt_tokens) == (10, 20)


def test_progress_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    get_lm("echo").batch(["a"] * 5, progress=True)
    assert "5/5" in capsys.readouterr().out
