"""Checks of calls of tools in answers, which the kit makes of a recorded answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ...errors import LMGatewayError
from ...types import Completion
from ..bench import Bench
from ..calls import RecordedCall
from ..conversations import CALLS
from ..grafts import calling, is_read, saying, streamed_calling
from .arrival import check_fragments, needs_body

__all__ = ["CallChecks"]

_NO_FORM = (
    "its answers hold no turn of the form that it sends, so the kit can make none: record an "
    "answer that calls a tool, plain and streamed"
)
_LOOK = "Look where calls of tools are read"


class CallChecks:
    """What the provider makes of an answer that calls two tools."""

    def test_calls_of_tools_are_read(self, bench: Bench, plain: RecordedCall) -> None:
        """Each call has its name, its arguments and an id of its own; the text stays too."""
        _needs_tools(bench)
        said = saying(bench, plain)
        if said is None or not is_read(bench, plain, said):
            pytest.skip(_NO_FORM)
        first, again = (_ask(bench, plain, calling(bench, plain)) for _ in range(2))
        _check_calls(first)
        assert "quillwort" in first["choices"][0]["text"], (
            f"the text beside calls of tools is lost. {_LOOK}"
        )
        assert _ids(first) == _ids(again), (
            "the same answer read twice has other ids of calls: neither cache nor recordings know "
            "the next turn again. Use the service's ids, or types.derived_id"
        )

    def test_calls_of_tools_are_streamed(self, bench: Bench, streamed: RecordedCall) -> None:
        """Streamed, the same calls come once each, in pieces that make them."""
        _needs_tools(bench)
        needs_body(streamed)
        said = streamed_calling(bench, streamed, calls=False)
        if said is None or not is_read(bench, streamed, said):
            pytest.skip(_NO_FORM)
        answers = streamed_calling(bench, streamed)
        if answers is None:
            pytest.skip(_NO_FORM)
        result = bench.stream(streamed.call, *answers)
        _check_calls(result.completion)
        check_fragments(result)

    def test_ids_that_are_made_differ(self, bench: Bench, answered: RecordedCall) -> None:
        """An id that the service did not give is another one in another turn."""
        if not answered.responses:
            pytest.skip("no answer is recorded")
        said = answered.body.decode("utf-8", "replace")
        made = [each for each in _ids(bench.replay(answered).completion) if each not in said]
        if not made or not answered.body:
            pytest.skip("it makes no ids of calls: the service gives them, or calls nothing")
        call = {name: each for name, each in answered.call.items() if name != "messages"}
        call = {**call, "prompt": "And which is it now, quillwort?"}
        ask = bench.stream if answered.stream else bench.ask
        again = _ids(ask(call, *answered.answers()).completion)
        assert not set(made) & set(again), (
            f"calls of two turns have one id ({made[0]!r}): in a conversation the result of one "
            "answers the other. Make ids by types.derived_id"
        )


def _needs_tools(bench: Bench) -> None:
    if not {"messages", "tools"} <= bench.info.capabilities:
        pytest.skip("its Info.capabilities names no tools")


def _ask(bench: Bench, plain: RecordedCall, answers: list[Any] | None) -> Completion:
    if answers is None:
        pytest.skip(_NO_FORM)
    try:
        return bench.ask(plain.call, *answers).completion
    except LMGatewayError as error:
        pytest.skip(f"it does not read such a turn in an answer ({error}): record one")


def _check_calls(completion: Completion) -> None:
    choice = completion["choices"][0]
    calls = choice.get("tool_calls") or []
    if not calls:
        kept = json.dumps({**completion, "prompt": None}, default=repr)
        if "tansy" in kept:
            pytest.skip("it does not read calls in the form in which it sends them: record one")
        pytest.fail(f"an answer that calls two tools is read as one that calls none. {_LOOK}")
    functions = [call["function"] for call in calls]
    names = [function["name"] for function in functions]
    assert names == [call[1] for call in CALLS], (
        f"the answer calls {[call[1] for call in CALLS]}, and {names} are told. {_LOOK}"
    )
    told = [json.loads(function["arguments"] or "{}") for function in functions]
    given = [json.loads(call[2]) for call in CALLS]
    assert told == given, f"the arguments of calls are read as {told}, not as {given}. {_LOOK}"
    assert len(set(_ids(completion))) == len(calls), (
        f"two calls have one id: the result of one answers the other. {_LOOK}"
    )


def _ids(completion: Completion) -> list[str]:
    return [call["id"] for call in completion["choices"][0].get("tool_calls") or ()]
