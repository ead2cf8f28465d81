"""Checks of answers: the exact shape, the same for sync and async, and never silently empty."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import groupby
from typing import Any

import pytest

from ...errors import APIError, LMGatewayError, ResponseFormatError
from ...types import Completion, HTTPResponse
from ..bench import DEFAULT_CALL, Bench
from ..calls import RecordedCall, request_to_json
from ..conversations import turns
from ..sent import leaves_of
from ..shape import flaws_of

__all__ = ["AnswerChecks", "essence"]

_OF_REQUESTS = (
    *("method", "path", "query", "headers", "body", "content", "form", "blocking", "kept"),
    "stream",
)

_BROKEN = {
    "empty": b"",
    "white-space": b" \n",
    "no-json": b"<html>It works!</html>",
    "null": b"null",
    "a-list": b"[]",
    "an-empty-object": b"{}",
    "no-number": b'{"choices": NaN}',
}


class AnswerChecks:
    """What the provider makes of a recorded answer."""

    def test_an_answer_is_recorded_of_each_kind(
        self, bench: Bench, calls: list[RecordedCall]
    ) -> None:
        """Without recordings there is nothing to check a provider with."""
        kinds = {False} | ({True} if "lmgateway_stream" in bench.plugin.hooks else set())
        needed = {stream for stream in kinds if bench.asks(stream=stream) != "nothing"}
        have = {call.stream for call in calls if not call.is_error}
        missing = ["streamed" if stream else "plain" for stream in sorted(needed - have)]
        assert not missing, (
            f"no {' and no '.join(missing)} answer is recorded: make one with "
            "lmgateway.testing.record_call and name its file in `recordings`"
        )
        if needed == {False, True}:
            plain, streamed = (
                [call.call for call in calls if call.requests and call.stream is stream]
                for stream in (False, True)
            )
            assert any(call in plain for call in streamed), (
                "no call is recorded both plain and streamed: record_call(..., temperature=0) once "
                "without and once with stream=True"
            )

    def test_an_answer_has_the_exact_shape(self, bench: Bench, answered: RecordedCall) -> None:
        """Every field is known and of its type; the prompt is the user's; there are n choices."""
        result = bench.raw(answered)
        given = answered.call.get("prompt", answered.call.get("messages"))
        found = flaws_of(result, given, answered.call.get("n") or 1)
        assert not found, "; ".join(found)

    def test_sync_equals_async(self, bench: Bench, answered: RecordedCall) -> None:
        """A blocking and an awaited call give the same answer."""
        blocking, awaited = bench.replay(answered), bench.replay(answered, awaited=True)
        assert awaited.completion == blocking.completion, "the awaited answer is another one"
        assert awaited.pieces == blocking.pieces, "the awaited pieces are others"

    def test_two_answers_share_nothing(self, bench: Bench, answered: RecordedCall) -> None:
        """A program may change an answer; the next answer must not show it."""
        first = bench.raw(answered)
        text = first["choices"][0].get("text")
        first["choices"][0]["text"] = "(changed)"
        first["choices"].append({"text": "one more"})
        again = bench.raw(answered)
        assert (len(again["choices"]), again["choices"][0].get("text")) == (
            len(first["choices"]) - 1,
            text,
        ), "the second answer shows a change made to the first"

    def test_the_recorded_request_is_built(self, bench: Bench, asked: RecordedCall) -> None:
        """The provider sends today what was recorded: the same path and body, byte for byte."""
        result = bench.replay(asked)
        built = [request_to_json(each, "") for each in result.wire.asked]
        for one, other in zip(built, asked.requests, strict=True):
            if other.get("keep") is False:
                continue  # a token or a poll, of which the body was not recorded
            for name in _OF_REQUESTS:
                assert one.get(name) == other.get(name), f"its {name} is not the recorded one"

    @pytest.mark.parametrize("body", list(_BROKEN))
    def test_a_broken_answer_is_refused(self, bench: Bench, body: str) -> None:
        """A 2xx that is no completion is a ResponseFormatError, never an empty answer."""
        self._refuses(bench, _BROKEN[body])
        if "messages" in bench.info.capabilities:  # which may go to another endpoint
            self._refuses(bench, _BROKEN[body], {"messages": turns("user")})

    def test_an_answer_cut_short_is_refused(self, bench: Bench, plain: RecordedCall) -> None:
        """Half of a recorded answer."""
        if not plain.body:
            pytest.skip("its answers are no HTTP")
        self._refuses(bench, plain.body[: len(plain.body) // 2], plain.call)

    def _refuses(self, bench: Bench, body: bytes, call: Mapping[str, Any] = DEFAULT_CALL) -> None:
        if bench.asks() == "nothing":
            pytest.skip("it asks for nothing")
        if bench.asks() == "Blocking" and not _answers_as_http(bench):
            pytest.skip("what its Blocking returns is no answer of HTTP")
        headers = {"content-type": "application/json"}
        try:
            result = bench.ask(call, HTTPResponse(200, headers, body))
        except ResponseFormatError:
            return
        except LMGatewayError as error:
            if isinstance(error, APIError) and bench.asks() == "Blocking":
                return
            pytest.fail(f"this is no ResponseFormatError but {type(error).__name__}: {error}")
        pytest.fail(f"the body {body[:60]!r} was taken for the answer {result.completion!r:.200}")


def _answers_as_http(bench: Bench) -> bool:
    """Whether what a recorded Blocking returned is an answer as HTTP knows it."""
    answers = [call.answers()[-1] for call in bench.calls if call.responses]
    return any(isinstance(answer, HTTPResponse) and answer.source is None for answer in answers)


def essence(completion: Completion) -> list[dict[str, Any]]:
    """What two answers to one question have in common: not ids, times, logprobs or signatures."""
    return [_essence(dict(choice)) for choice in completion["choices"]]


def _essence(choice: dict[str, Any]) -> dict[str, Any]:
    message = choice.get("message") or {}
    state = message.get("state")
    kept = {name: choice.get(name) for name in ("text", "reasoning", "refusal", "finish_reason")}
    functions = [call.get("function") or {} for call in choice.get("tool_calls") or ()]
    return {
        **kept,
        "tool_calls": [(each.get("name"), _parsed(each.get("arguments"))) for each in functions],
        "parts": [key for key, _ in groupby(map(_kind_of, choice.get("parts") or ()))],
        "state": None if state is None else (state["format"], _fields(state["turn"])),
    }


def _kind_of(part: Mapping[str, Any]) -> list[Any]:
    return [part.get(name) for name in ("type", "name", "input", "media_type", "kind", "by")]


def _parsed(text: Any) -> Any:
    try:
        return json.loads(text or "{}")
    except (TypeError, ValueError):
        return text


def _fields(turn: Any) -> list[str]:
    """What a turn's state is made of: the names of its fields that hold something."""
    held = {path[-1] for path, leaf in leaves_of(turn) if leaf and path}
    return sorted(held - {"[]"})
