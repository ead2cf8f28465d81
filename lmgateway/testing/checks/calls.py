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
from ..doubles import (
    MARK,
    CallRun,
    answers_with,
    at,
    items_with,
    marked,
    only_document,
    put_after,
    streamed_with,
)
from ..grafts import calling, is_read, saying, streamed_calling
from ..sent import leaves_of
from .arrival import check_fragments, needs_body, shown_before
from .sights import needs

__all__ = ["CallChecks"]

_NO_FORM = (
    "its answers hold no turn of the form that it sends, so the kit can make none: record an "
    "answer that calls a tool, plain and streamed"
)
_NO_CALL = "no answer with one call of a tool is recorded: record one with tools=[...]"
_LOOK = "Look where calls of tools are read"


class CallChecks:
    """What the provider makes of an answer that calls two tools."""

    def test_calls_of_tools_are_read(self, bench: Bench, plain: RecordedCall) -> None:
        """Each call has its name, its arguments and an id of its own; the text stays too."""
        needs(bench, "messages", "tools")
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
        needs(bench, "messages", "tools")
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

    def test_a_second_call_is_read(self, bench: Bench, plain: RecordedCall) -> None:
        """A recorded call, twice in one answer, is two calls, each with its own arguments."""
        name, call_id, texts = _only_call(bench, plain)
        document = only_document(plain)
        places = [] if document is None else list(items_with(document, name))
        if len(places) != 1:
            pytest.skip("the recorded call stands in no list, or the answer names it several times")
        second = marked(at(document, places[0]), {**texts, call_id: call_id + MARK})
        answers = answers_with(plain, put_after(document, places[0], second))
        try:
            completion = bench.ask(plain.call, *answers).completion
        except LMGatewayError as error:
            pytest.fail(f"an answer with two calls of one tool is refused ({error}). {_LOOK}")
        functions = [each["function"] for each in _calls(completion)]
        assert [each["name"] for each in functions] == [name, name], (
            f"an answer calls {name!r} twice, and {functions!r:.160} is told: one call is lost, or "
            f"both are one. {_LOOK}"
        )
        told = [_texts_of(each["arguments"]) for each in functions]
        assert told == [set(texts), set(texts.values())], (
            f"two calls have the texts {told!r:.200} in their arguments, and the service gave "
            f"{texts!r:.160}: they are mixed up. {_LOOK}"
        )
        assert len(set(_ids(completion))) == 2, f"two calls have one id. {_LOOK}"

    def test_a_second_call_is_streamed(self, bench: Bench, streamed: RecordedCall) -> None:
        """A recorded call, twice in one stream under two numbers, is two calls."""
        needs_body(streamed)
        name, call_id, _ = _only_call(bench, streamed)
        run = CallRun.of(streamed, name)
        if run is None:
            pytest.skip("its recorded stream numbers no calls, or names them several times")
        answers = streamed_with(streamed, run.doubled({call_id: call_id + MARK}))
        try:
            result = bench.stream(streamed.call, *answers)
        except LMGatewayError as error:
            pytest.fail(f"a stream with two calls of one tool is refused ({error}). {_LOOK}")
        told = [each["function"] for each in _calls(result.completion)]
        assert told == told[:1] * 2, (
            f"a stream calls {name!r} twice with the same arguments, and {told!r:.200} is told: "
            f"the calls are mixed up, or one is lost. {_LOOK}"
        )
        check_fragments(result)

    def test_arguments_are_shown_as_they_come(self, bench: Bench, streamed: RecordedCall) -> None:
        """Arguments that come in several pieces are not held back until the last of them."""
        needs_body(streamed)
        name, _, _ = _only_call(bench, streamed)
        run = CallRun.of(streamed, name)
        if run is None or len(run.places) < 4:
            pytest.skip("its recorded stream brings no arguments in several records")
        records = [record for record, _ in run.records]
        shown = shown_before(bench, streamed, records, last=run.places[-1])
        fragments = [each for piece in shown for each in piece.tool_calls]
        assert any((each.get("function") or {}).get("arguments") for each in fragments), (
            "the arguments of a call are held back until the last of them has come: whoever shows "
            f"a call as it is written shows nothing. {_LOOK}"
        )


def _only_call(bench: Bench, answered: RecordedCall) -> tuple[str, str, dict[str, str]]:
    """Of the only call of a recorded answer: its name, its id, and other texts for its arguments.

    A call whose answer lists several choices or calls is skipped.
    """
    needs(bench, "messages", "tools")
    if answered.kind != "complete" or not answered.responses:
        pytest.skip("no answer is recorded")
    completion = bench.replay(answered).completion
    calls = _calls(completion)
    if len(completion["choices"]) != 1 or len(calls) != 1:
        pytest.skip(_NO_CALL)
    function = calls[0]["function"]
    texts = {text: text + MARK for text in _texts_of(function["arguments"])}
    return function["name"], calls[0]["id"], texts


def _texts_of(arguments: str) -> set[str]:
    """The texts in the arguments of a call; none if they are no JSON."""
    try:
        given = json.loads(arguments or "{}")
    except ValueError:
        return set()
    return {leaf for _, leaf in leaves_of(given) if isinstance(leaf, str) and leaf}


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
    return [call["id"] for call in _calls(completion)]


def _calls(completion: Completion) -> list[Any]:
    return list(completion["choices"][0].get("tool_calls") or ())
