"""Answers that call tools, made of a recorded answer and of what the provider itself sends.

Most services write a turn of the model's in a request as they write it in an answer. So the kit has
the provider build such a turn, and puts it into a recorded answer where the recorded turn stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..errors import LMGatewayError
from ..types import JSON, HTTPResponse
from .bench import Bench
from .calls import RecordedCall
from .conversations import CALLS, RESULTS, TEXTS, TOOLS, tool_turns, turns
from .records import documents_of, records_of
from .sent import leaves_of, share_of
from .wire import Pieces

__all__ = ["calling", "is_read", "saying", "streamed_calling"]

_ROLES = frozenset({"assistant", "model", "chatbot", "bot", "ai"})


def saying(bench: Bench, plain: RecordedCall) -> list[Any] | None:
    """The recorded answers, with another text in the last; None if the forms do not match."""
    return _grafted(plain, _built(bench, turns("user", "assistant", "user")))


def calling(bench: Bench, plain: RecordedCall) -> list[Any] | None:
    """The recorded answers, with two calls of tools in the last; None if the forms do not match."""
    return _grafted(plain, _built(bench, tool_turns()))


def streamed_calling(
    bench: Bench, streamed: RecordedCall, *, calls: bool = True
) -> list[Any] | None:
    """The recorded stream, with calls, or a text, in one of the records that hold a turn.

    None unless several records hold a turn of the form that is sent.
    """
    history = tool_turns() if calls else turns("user", "assistant", "user")
    turn = _built(bench, history)
    records = records_of(streamed.body)
    marked = [place for place, record in enumerate(records) if _holds(record, turn)]
    if turn is None or len(marked) < 2 or marked[0] == len(records) - 1:
        return None
    made = _with_turn(records[marked[0]], turn)
    if made is None:
        return None
    *before, head = streamed.answers()
    kept = [b"" if place in marked[1:-1] else each for place, each in enumerate(records)]
    kept[marked[0]] = made
    return [*before, replace(head, source=Pieces([each for each in kept if each]))]


def is_read(bench: Bench, call: RecordedCall, answers: list[Any]) -> bool:
    """Whether the text that ``saying`` puts into an answer is read there."""
    ask = bench.stream if call.stream else bench.ask
    try:
        completion = ask(call.call, *answers).completion
    except LMGatewayError:
        return False
    return "quillwort" in completion["choices"][0]["text"]


def _built(bench: Bench, history: list[dict[str, Any]]) -> dict[str, JSON] | None:
    """The turn of the model's as the provider sends it: an object with a role."""
    tools = {"tools": TOOLS} if "tools" in bench.info.params else {}
    try:
        sent = bench.sent({"messages": history, **tools})
    except Exception:
        return None  # another check says so
    word = "quillwort"
    tree = sent.main(word)
    turn = share_of(tree, word, [TEXTS[0], TEXTS[2], *RESULTS, "bistort"])
    known = isinstance(turn, dict) and str(turn.get("role", "")).lower() in _ROLES
    if len(history) > 3:
        leaves = [str(leaf) for _, leaf in leaves_of(turn) if word not in str(leaf)]
        if not all(any(call[3][0] in leaf for leaf in leaves) for call in CALLS):
            return None  # they are elsewhere, or written into the text
    return dict(turn) if known and isinstance(turn, dict) else None


def _grafted(plain: RecordedCall, turn: dict[str, JSON] | None) -> list[Any] | None:
    documents = documents_of(plain)
    if turn is None or len(documents) != 1:
        return None
    places = list(_places(documents[0], turn))
    if len(places) != 1:
        return None
    body = _put(documents[0], places[0], turn)
    *before, last = plain.answers()
    if isinstance(last, HTTPResponse):
        return [*before, HTTPResponse(last.status, last.headers, json.dumps(body).encode())]
    return [*before, body]


def _places(tree: JSON, turn: Mapping[str, JSON], path: tuple[Any, ...] = ()) -> Iterator[Any]:
    """Where an answer holds a turn of this form: the same role, and what else every turn has."""
    if isinstance(tree, dict):
        needed = {name for name in turn if name in _content_keys(turn)} | {"role"}
        if tree.get("role") == turn["role"] and needed <= tree.keys() and "delta" not in path:
            yield path
            return
        for name, each in tree.items():
            yield from _places(each, turn, (*path, name))
    elif isinstance(tree, list):
        for place, each in enumerate(tree):
            yield from _places(each, turn, (*path, place))


def _content_keys(turn: Mapping[str, JSON]) -> set[str]:
    """The fields of a turn that hold its text."""
    return {name for name, each in turn.items() if TEXTS[1] in json.dumps(each)}


def _put(tree: JSON, path: tuple[Any, ...], turn: Mapping[str, JSON]) -> JSON:
    if not path:
        return {**tree, **turn}
    name, *rest = path
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    copy[name] = _put(tree[name], tuple(rest), turn)
    return copy


def _document(record: bytes) -> tuple[bytes, JSON] | None:
    """What goes before the JSON of a record, and that JSON."""
    start = record.find(b"{")
    if start < 0:
        return None
    try:
        return record[:start], json.loads(record[start:])
    except ValueError:
        return None


def _holds(record: bytes, turn: Mapping[str, JSON] | None) -> bool:
    found = _document(record)
    if turn is None or found is None:
        return False
    places = list(_places(found[1], turn))
    return len(places) == 1 and any(leaf for _, leaf in leaves_of(found[1]) if leaf)


def _with_turn(record: bytes, turn: Mapping[str, JSON]) -> bytes | None:
    found = _document(record)
    if found is None:
        return None
    before, document = found
    (path,) = _places(document, turn)
    end = record[len(record.rstrip()) :]
    return before + json.dumps(_put(document, path, turn)).encode() + end
