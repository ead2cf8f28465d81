"""Checks of choices: each of several arrives, in its place; an answer without any is none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ...errors import InputError, LMGatewayError, PluginError, UnsupportedError
from ..bench import Bench, BenchResult
from ..calls import RecordedCall
from ..doubles import (
    MARK,
    answers_with,
    choices_in,
    marked,
    only_document,
    read_records,
    streamed_with,
    write_record,
)
from ..wire import NoAnswerError
from .arrival import needs_body

__all__ = ["ChoiceChecks"]

_NO_LIST = "its recorded answer holds no list of one choice, so the kit can make no second one"


class ChoiceChecks:
    """What the provider makes of several choices, and of none."""

    def test_each_choice_is_read(self, bench: Bench, plain: RecordedCall) -> None:
        """With ``n=2`` both choices of an answer arrive, each in its place."""
        _needs_n(bench)
        text = _text(bench, plain)
        document = only_document(plain)
        name = choices_in(document, text)
        if name is None:
            pytest.skip(_NO_LIST)
        (one,) = document[name]
        both = [one, marked(one, {text: text + MARK})]
        orders = [both, both[::-1]] if "index" in one else [both]
        for order in orders:
            result = _ask(bench, plain, answers_with(plain, {**document, name: order}))
            _check(result, [text, text + MARK])

    def test_each_choice_is_streamed(self, bench: Bench, streamed: RecordedCall) -> None:
        """With ``n=2`` the pieces of two choices are kept apart by their index."""
        _needs_n(bench)
        needs_body(streamed)
        text = _text(bench, streamed)
        pieces = {each.text for each in bench.replay(streamed).pieces if each.text}
        records: list[bytes] = []
        doubled = 0
        for record, document in read_records(streamed):
            records.append(record)
            name = _choice_with_index(document)
            if name is None:
                continue
            (one,) = document[name]
            texts = {each: f"{each}{MARK}" for each in pieces}
            records.append(write_record(record, {**document, name: [marked(one, texts)]}))
            doubled += 1
        if doubled < 2:
            pytest.skip("its recorded stream numbers no choices")
        result = _ask(bench, streamed, streamed_with(streamed, records))
        told = [choice["text"].replace(MARK, "") for choice in result.completion["choices"]]
        assert told == [text, text], (
            f"of two choices of a stream {text!r:.60}, the texts are {told!r:.200}: they are mixed "
            "up, or one is lost. Look where the index of a choice is read"
        )
        for place, choice in enumerate(result.completion["choices"]):
            shown = "".join(each.text for each in result.pieces if each.index == place)
            own = MARK in choice["text"]
            assert own is bool(place), "the choices of a stream are told in another order"
            assert shown == choice["text"], (
                f"the pieces of choice {place} make {shown!r:.120}, and its text is "
                f"{choice['text']!r:.120}. Give Delta its index"
            )

    def test_an_answer_without_choices_is_no_answer(
        self, bench: Bench, plain: RecordedCall
    ) -> None:
        """A list of choices that is empty is a typed error, never an answer without a word."""
        text = _text(bench, plain)
        document = only_document(plain)
        name = choices_in(document, text)
        if name is None:
            pytest.skip("its recorded answer holds no list of choices")
        rest = {each: document[each] for each in document if each != name}
        bodies = [{**rest, name: []}, rest]
        if name == "candidates":  # as Google's models say that they did not take a prompt
            bodies.append({**rest, "promptFeedback": {"blockReason": "SAFETY"}})
        for body in bodies:
            try:
                result = bench.ask(plain.call, *answers_with(plain, body))
            except PluginError as error:
                pytest.fail(f"an answer without {name} breaks the plugin: {error}")
            except LMGatewayError:
                continue
            ends = [choice.get("finish_reason") for choice in result.completion["choices"]]
            if "promptFeedback" in body and "stop" not in ends:
                continue  # told as one that was filtered
            pytest.fail(
                f"an answer without {name} was taken for {result.completion['choices']!r:.160}: "
                "the user does not learn that there is none. Raise ResponseFormatError"
            )


def _needs_n(bench: Bench) -> None:
    if "n" not in bench.info.params:
        pytest.skip("its Info.params names no n")


def _text(bench: Bench, answered: RecordedCall) -> str:
    """The text of a recorded answer of one choice, without calls of tools."""
    if answered.kind != "complete" or not answered.responses:
        pytest.skip("no answer is recorded")
    choices = bench.replay(answered).completion["choices"]
    if len(choices) != 1 or not choices[0]["text"] or choices[0].get("tool_calls"):
        pytest.skip("its recorded answer is no single text")
    return choices[0]["text"]


def _choice_with_index(document: Any) -> str | None:
    if not isinstance(document, Mapping):
        return None
    for name in ("choices", "candidates", "generations"):
        each = document.get(name)
        if isinstance(each, list) and len(each) == 1 and isinstance(each[0], dict):
            return name if "index" in each[0] else None
    return None


def _ask(bench: Bench, answered: RecordedCall, answers: list[Any]) -> BenchResult:
    ask = bench.stream if answered.stream else bench.ask
    try:
        return ask({**answered.call, "n": 2}, *answers)
    except (InputError, UnsupportedError, NoAnswerError) as error:
        pytest.skip(f"it does not ask for two choices at once: {error}")
    except LMGatewayError as error:
        pytest.fail(
            f"an answer of two choices is refused ({error}): the user has paid for both. Look "
            "where choices are read"
        )


def _check(result: BenchResult, texts: list[str]) -> None:
    told = [choice["text"] for choice in result.completion["choices"]]
    assert told == texts, (
        f"the service gives the choices {texts!r:.160}, and {told!r:.160} are told: one is lost, "
        "or they are not in the order of their index. Look where choices are read"
    )
