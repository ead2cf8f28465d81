"""Recorded answers in which something stands twice: a choice, a call of a tool, each with its own.

No format is known here. What is doubled is found by what the provider itself reads in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any, TypeAlias

from ..types import JSON, HTTPResponse
from .calls import RecordedCall
from .records import documents_of, is_framed, records_of
from .sent import leaves_of
from .wire import Pieces

__all__ = [
    "MARK", "Place", "answers_with", "at", "choices_in", "items_with", "marked", "only_document",
    "put_after", "read_records", "streamed_with", "write_record",
]  # fmt: skip

MARK = "-of-the-kit"
"""What is written behind the texts of what is doubled."""

Place: TypeAlias = tuple[str | int, ...]
"""Names of fields and places in lists, from the outside in."""


def items_with(tree: JSON, text: str, path: Place = ()) -> Iterator[Place]:
    """The innermost items of lists, objects all, that hold a text as one of their scalars."""
    inside: Any = tree.items() if isinstance(tree, dict) else ()
    if isinstance(tree, list):
        inside = enumerate(tree)
    found = False
    for name, each in inside:
        for place in items_with(each, text, (*path, name)):
            found = True
            yield place
    if found or not path or not isinstance(path[-1], int) or not isinstance(tree, dict):
        return
    if any(leaf == text for _, leaf in leaves_of(tree)):
        yield path


def choices_in(document: JSON, text: str) -> str | None:
    """The field at the top of an answer that lists its choices: one, which holds the text."""
    if not isinstance(document, dict):
        return None
    for name, each in document.items():
        if isinstance(each, list) and len(each) == 1 and isinstance(each[0], dict):
            said = any(text == leaf for _, leaf in leaves_of(each))
            if said and name in ("choices", "candidates", "generations"):
                return name
    return None


def at(tree: JSON, place: Place) -> Any:
    """What stands at a place."""
    for name in place:
        tree = tree[name]
    return tree


def put_after(tree: JSON, place: Place, item: JSON) -> JSON:
    """A copy of a tree with one more item in a list, after that at a place."""
    made = deepcopy(tree)
    at(made, place[:-1]).insert(int(place[-1]) + 1, item)
    return made


def marked(tree: JSON, texts: Mapping[str, str]) -> JSON:
    """A copy of a tree with other texts, also where they stand in a text of JSON, and new ids."""
    if isinstance(tree, dict):
        made = {name: marked(each, texts) for name, each in tree.items()}
        index = made.get("index")
        return made if type(index) is not int else {**made, "index": index + 1}
    if isinstance(tree, list):
        return [marked(each, texts) for each in tree]
    if not isinstance(tree, str):
        return tree
    if tree in texts:
        return texts[tree]
    for old, new in texts.items():
        if tree[:1] == "{":
            tree = tree.replace(json.dumps(old), json.dumps(new))
    return tree


def answers_with(recorded: RecordedCall, document: JSON) -> list[Any]:
    """The recorded answers, with another document in the last."""
    *before, last = recorded.answers()
    if isinstance(last, HTTPResponse):
        body = json.dumps(document).encode()
        return [*before, HTTPResponse(last.status, last.headers, body)]
    return [*before, document]


def streamed_with(recorded: RecordedCall, records: Sequence[bytes]) -> list[Any]:
    """The recorded answers, with other records in the stream of the last."""
    *before, last = recorded.answers()
    return [*before, replace(last, source=Pieces(records))]


def read_records(recorded: RecordedCall) -> list[tuple[bytes, JSON]]:
    """Each record of a recorded stream with its JSON; None for one that is none.

    Empty if the stream is of binary frames.
    """
    return [] if is_framed(recorded.body) else [(r, _json(r)) for r in records_of(recorded.body)]


def _json(record: bytes) -> JSON:
    try:
        return json.loads(record[record.index(b"{") :])
    except ValueError:
        return None


def write_record(record: bytes, document: JSON) -> bytes:
    """A record like another, with other JSON in it."""
    end = record[len(record.rstrip()) :]
    return record[: record.index(b"{")] + json.dumps(document).encode() + end


def only_document(recorded: RecordedCall) -> JSON:
    """The JSON of a recorded plain answer; None if it is none."""
    documents = documents_of(recorded)
    return documents[0] if len(documents) == 1 else None
