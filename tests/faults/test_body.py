"""The rows of answers that cannot be read, or can and hold something odd."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from faults.play import (
    DONE,
    NATIVE,
    PLAIN,
    PROMPT,
    STREAMS,
    TEXT,
    Case,
    Mode,
    answer,
    choice,
    event,
    events,
    lm_at,
    params,
    play,
    row,
    streamed,
    whole,
)
from support.fault_server import FaultServer, receive, send
from transports.checking import Authority

from lmgateway.errors import ContentFilteredError, ResponseFormatError, StreamInterruptedError

pytestmark = pytest.mark.loopback


def unreadable(what: str, body: bytes) -> Case:
    """No JSON: worth one more try."""
    script = [receive(), send(whole(body))]
    return Case("invalid JSON or empty", script, ResponseFormatError, what, 1,
                mentions=("request id req-77",))  # fmt: skip


def field(what: str, document: Any, mention: str) -> Case:
    """JSON, and a field of it is not as it must be."""
    return Case("a missing, empty or wrongly typed field", [receive(), send(whole(document))],
                ResponseFormatError, what, mentions=(mention, "req-77"))  # fmt: skip


def number(what: str, text: str, name: str = "content") -> Case:
    """A number that JSON does not have, at the heart of the answer."""
    document = answer(choices=[{**choice(), name: 23} if name == "index" else choice(23)])
    body = json.dumps(document).replace(": 23", f": {text}")
    script = [receive(), send(whole(body.encode()))]
    return Case("NaN, Infinity", script, ResponseFormatError, what, mentions=(name, "req-77"))


def good(row: str, what: str, document: Any, judge: Callable[[Any], bool]) -> Case:
    """An answer."""
    return Case(row, [receive(), send(whole(document))], judge, what)


def first(completion: Any) -> Any:
    return completion["choices"][0]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
FILTERED = answer(choices=[choice(TEXT, "content_filter")])
NULL = "content: null"
CHOICES = "choices: fewer than n, or out of order"
CASES = [
    *(unreadable(*each) for each in [
        ("half", json.dumps(answer()).encode()[:-9]),
        ("a page", b"<html>welcome</html>"),
        ("text", b"yes"),
        ("latin-1", '{"choices": "\u00e9"}'.encode("latin-1")),
        ("nested 100,000 deep", b"[" * 100_000),
        ("two documents", b"{} {}"),
        ("a NUL", b"\0"),
    ]),
    *(field(*each) for each in [
        ("null", None, "the body"),
        ("a list", [], "the body"),
        ("a number", 1, "the body"),
        ("nothing in it", {}, "choices"),
        ("no choices", answer(choices=[]), "choices"),
        ("choices null", answer(choices=None), "choices"),
        ("choices an object", answer(choices={}), "choices"),
        ("a choice null", answer(choices=[None]), "choices[0]"),
        ("no message", answer(choices=[{"index": 0}]), "choices[0].message"),
        ("content a number", answer(choices=[choice(5)]), "content"),
        ("content missing", answer(choices=[{"index": 0, "message": {}}]), "content"),
        ("finish_reason a number", answer(choices=[choice(TEXT, 5)]), "finish_reason"),
        ("tool_calls a text", answer(choices=[choice(tool_calls="f")]), "tool_calls"),
        ("the other endpoint's", answer(choices=[{"index": 0, "text": TEXT}]), "message"),
    ]),
    good(NULL, "alone, ended for a reason", answer(choices=[choice(None)]),
         lambda completion: first(completion)["text"] == ""
         and [each["kind"] for each in completion["warnings"]] == ["empty"]),
    Case(NULL, [receive(), send(whole(answer(choices=[choice(None, None)])))], ResponseFormatError,
         "alone, and nobody said why", mentions=("content",)),
    good(NULL, "beside a tool call", answer(choices=[choice(None, tool_calls=[CALL])]),
         lambda completion: first(completion)["text"] == "" and bool(
             first(completion)["tool_calls"])),
    good(NULL, "beside a refusal", answer(choices=[choice(None, refusal="no")]),
         lambda completion: (first(completion)["text"], first(completion)["refusal"])
         == ("", "no")),
    Case(CHOICES, [receive(), send(whole(answer("a", "b")))], ResponseFormatError, "fewer",
         mentions=("2 of the 3",), options={"n": 3}),
    Case(CHOICES, [receive(), send(whole({**answer("a", "b"),
                                          "choices": answer("a", "b")["choices"][::-1]}))],
         lambda completion: [each["text"] for each in completion["choices"]] == ["a", "b"],
         "out of order", options={"n": 2}),
    Case(CHOICES, [receive(), send(streamed(*events()))], ResponseFormatError, "fewer in a stream",
         0, STREAMS, options={"n": 3}),
    *(number(*each) for each in [
        ("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity"),
        ("1e999", "1e999"), ("NaN as an index", "NaN", "index"),
    ]),
    good("finish_reason", "length is an answer", answer(choices=[choice(TEXT, "length")]),
         lambda completion: first(completion)["finish_reason"] == "length"),
    Case("finish_reason", [receive(), send(whole(FILTERED))], ContentFilteredError,
         "content_filter"),
    Case("finish_reason", [receive(), send(streamed(event(TEXT, "content_filter"), DONE))],
         ContentFilteredError, "content_filter in a stream", 0, STREAMS),
]  # fmt: skip

IN_STREAM = [
    Case("invalid JSON or empty", [receive(), send(streamed(b"data: {\n\n", DONE))],
         ResponseFormatError, "in a stream", 1, STREAMS),
    Case("invalid JSON or empty", [receive(), send(streamed(event("ab"), b"data: {\n\n", DONE))],
         ResponseFormatError, "in a stream, after a piece", 0, STREAMS,
         more=lambda error: error.partial == "ab"),
    Case("invalid JSON or empty", [receive(), send(streamed(DONE))], ResponseFormatError,
         "a mark and nothing else", 0, STREAMS, mentions=("choices",)),
    Case("invalid JSON or empty", [receive(), send(streamed(b"\xff\xfe\0\x01"))],
         StreamInterruptedError, "bytes in a stream", 2, STREAMS),
    Case("NaN, Infinity", [receive(), send(streamed(b'data: {"choices": NaN}\n\n', DONE))],
         ResponseFormatError, "in a stream", 0, STREAMS),
]  # fmt: skip


@pytest.mark.parametrize("case, mode", params("Body", [*CASES, *IN_STREAM], NATIVE))
def test_body(case: Case, mode: Mode, authority: Authority) -> None:
    play(case, mode, authority)


BESIDE = {
    "usage a list": answer(usage=[1]),
    "tokens a text": answer(usage={"total_tokens": "2"}),
    "tokens NaN": answer(usage={"total_tokens": float("nan")}),
    "tokens without end": answer(usage={"total_tokens": float("inf")}),
    "model a number": answer(model=7),
    "id an object": answer(id={"a": [1]}),
    "NaN where nobody looks": answer(unread=float("nan")),
    "300 deep where nobody looks": answer(unread=json.loads("[" * 300 + "]" * 300)),
}


@pytest.mark.parametrize("what", BESIDE)
@pytest.mark.parametrize("mode", NATIVE, ids=lambda mode: mode.name)
def test_no_answer_is_lost_over_what_stands_beside_it(what: str, mode: Mode) -> None:
    with FaultServer([receive(), send(whole(BESIDE[what]))]) as server, \
            lm_at(server.url, mode) as lm:  # fmt: skip
        completion = mode.ask(lm, PROMPT)
    assert first(completion)["text"] == TEXT
    assert completion.get("model", "m") in ("m", "m-1")
    json.dumps(completion, allow_nan=False)


@row("Body", CHOICES, PLAIN)
def test_an_index_twice_is_no_answer(mode: Mode) -> None:
    twice = answer("a", "b")
    twice["choices"][1]["index"] = 0
    with (
        FaultServer([receive(), send(whole(twice))]) as server,
        lm_at(server.url, mode, n=2) as lm,
        pytest.raises(ResponseFormatError, match="index"),
    ):
        mode.ask(lm, PROMPT)
    assert len(server.requests) == 1
