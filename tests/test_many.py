from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import lmgateway
from lmgateway import errors, get_lm, hookimpl
from lmgateway.testing import ScriptedLM, lm_from
from lmgateway.types import Answer, Flow, Request, Sleep

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


@each_way
def test_a_wrong_input_takes_its_place_among_the_errors(run: Run) -> None:
    inputs: list[Any] = ["a", None, {"prompt": None}, {"nope": 1}, "b"]
    outcomes = run(get_lm("echo"), inputs, return_exceptions=True)
    shown = [
        outcome["choices"][0]["text"] if isinstance(outcome, dict) else type(outcome)
        for outcome in outcomes
    ]
    wrong = [errors.InputError, errors.InputError, errors.UnknownParameterError]
    assert shown == ["a", *wrong, "b"]
    with pytest.raises(errors.InputError, match=r"inputs\[1\]"):
        run(get_lm("echo"), inputs)


def refuse_from(number: int, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system starts so many of a batch's threads, and no more."""
    start, begun = threading.Thread.start, count()

    def refusing(thread: threading.Thread) -> None:
        if thread.name.startswith("lmgateway-batch") and next(begun) >= number:
            raise error
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refusing)


NONE_LEFT = RuntimeError("can't start new thread")


def test_fewer_threads_than_wanted_do_it_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_from(2, NONE_LEFT, monkeypatch)
    answers = get_lm("echo").batch([str(number) for number in range(20)])
    assert [answer["choices"][0]["text"] for answer in answers] == list(map(str, range(20)))


def test_without_any_thread_the_batch_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_from(0, NONE_LEFT, monkeypatch)
    with pytest.raises(errors.LMGatewayError, match="gives no thread"):
        get_lm("echo").batch(["a"])


def test_ctrl_c_while_threads_start_begins_no_further_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    interrupted = threading.Event()

    class Slow:
        @hookimpl
        def lmgateway_complete(self, request: Request) -> Any:
            asked.append(request.input)  # type: ignore[arg-type]
            interrupted.wait(10)
            return {"choices": [{"text": "x"}]}

    lm = lm_from(Slow(), "slow", model="m")
    refuse_from(3, KeyboardInterrupt(), monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        lm.batch(["p"] * 50)
    interrupted.set()
    for thread in threading.enumerate():
        if thread.name.startswith("lmgateway-batch"):
            thread.join(10)
    assert len(asked) <= 3


class Counting:
    """A provider that knows how many calls are inside it, and keeps each there for a moment."""

    def __init__(self) -> None:
        self.inside = self.most = 0
        self.lock = threading.Lock()

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
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
    lm = lm_from(provider, "counting", model="m")
    run(lm, ["p"] * 200, concurrency=5)
    assert 1 < provider.most <= 5


@each_way
def test_usage_counts_the_whole_batch(run: Run) -> None:
    with lmgateway.usage() as used:
        run(get_lm("echo"), ["one two"] * 10)
    assert (used.calls, used.prompt_tokens) == (10, 20)


@pytest.mark.parametrize("usage", [None, {"total_tokens": None}, {"prompt_tokens": "3"}])
def test_odd_usage_stands_in_nobodys_way(usage: Any) -> None:
    class Odd:
        @hookimpl
        def lmgateway_complete(self) -> Any:
            return {"choices": [{"text": "x"}], "usage": usage}

    lm = lm_from(Odd(), "odd", model="m")
    with lmgateway.usage() as used:
        assert len(lm.batch(["a"] * 5, progress=True)) == 5
    assert (used.calls, used.total_tokens) == (5, 0)


def test_progress_shows_a_bar(capsys: pytest.CaptureFixture[str]) -> None:
    get_lm("echo").batch(["a"] * 5, progress=True)
    assert "5/5" in capsys.readouterr().out
