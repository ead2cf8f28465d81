"""Recorded answers in which something stands twice: a choice, a call of a tool, each with its own.

No format is known here. What is doubled is found by what the provider itself reads in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ..types import JSON, HTTPResponse
from .calls import RecordedCall
from .records import documents_of, is_framed, records_of
from .sent import leaves_of
from .wire import Pieces

__all__ = [
    "MARK", "CallRun", "Place", "answers_with", "at", "choices_in", "items_with", "marked",
    "only_document", "put_after", "read_records", "streamed_with", "write_record",
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


def choices_in(document: Any, text: str) -> str | None:
    """The field at the top of an answer that lists its choices: one, which holds the text."""
    if not isinstance(document, dict):
        return None
    for name, each in document.items():
        if isinstance(each, list) and len(each) == 1 and isinstance(each[0], dict):
            said = any(text == leaf for _, leaf in leaves_of(each))
            if said and name in ("choices", "candidates", "generations"):
                return str(name)
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


# -- a call within a stream ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CallRun:
    """The records of a stream that bring one call of a tool, under a number of its own.

    Attributes:
        records: All records of the stream, with their JSON.
        places: Which of them are of the call.
        number: Where the number of the call stands in them.
    """

    records: list[tuple[bytes, JSON]]
    places: list[int]
    number: Place

    @classmethod
    def of(cls, streamed: RecordedCall, name: str) -> CallRun | None:
        """The run of the only call of that name; None if the stream numbers no calls."""
        records = read_records(streamed)
        named = [
            place
            for place, (_, document) in enumerate(records)
            if document is not None and any(leaf == name for _, leaf in leaves_of(document))
        ]
        if len(named) != 1:
            return None
        number = _number_of(records[named[0]][1], name)
        if number is None:
            return None
        own = _get(records[named[0]][1], number)
        places = [
            place
            for place, (_, document) in enumerate(records)
            if place >= named[0] and _get(document, number) == own
        ]
        return cls(records, places, number)

    def doubled(self, texts: Mapping[str, str]) -> list[bytes]:
        """The records, and those of the call once more under the next free number."""
        numbers = [_get(document, self.number) for _, document in self.records]
        free = 1 + max(each for each in numbers if isinstance(each, int))
        made = [record for record, _ in self.records]
        copies = []
        for place in self.places:
            record, document = self.records[place]
            copy: Any = _renamed(document, texts)
            at(copy, self.number[:-1])[self.number[-1]] = free
            copies.append(write_record(record, copy))
        end = self.places[-1] + 1
        return [*made[:end], *copies, *made[end:]]


def _number_of(document: JSON, name: str) -> Place | None:
    """Where the number of a call stands: the innermost ``index`` around its name."""
    place = _path_to(document, name)
    for end in range(len(place or ()), -1, -1):
        around = at(document, (place or ())[:end])
        if isinstance(around, dict) and type(around.get("index")) is int:
            is_choice = bool({"choices", "candidates"} & set((place or ())[max(0, end - 2) : end]))
            return None if is_choice else (*(place or ())[:end], "index")
    return None


def _path_to(tree: JSON, text: str) -> Place | None:
    inside: Any = tree.items() if isinstance(tree, dict) else ()
    if isinstance(tree, list):
        inside = enumerate(tree)
    for name, each in inside:
        found = () if each == text else _path_to(each, text)
        if found is not None:
            return (name, *found)
    return None


def _get(tree: Any, place: Place) -> JSON:
    for name in place:
        try:
            tree = tree[name]
        except (LookupError, TypeError):
            return None
    return tree


def _renamed(tree: JSON, texts: Mapping[str, str]) -> JSON:
    if isinstance(tree, dict):
        return {name: _renamed(each, texts) for name, each in tree.items()}
    if isinstance(tree, list):
        return [_renamed(each, texts) for each in tree]
    return texts.get(tree, tree) if isinstance(tree, str) else tree
