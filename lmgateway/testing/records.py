"""The records of a recorded body: events, lines, frames, and the JSON in them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any

from ..types import JSON, HTTPResponse
from .calls import RecordedCall
from .sent import Path, leaves_of

__all__ = ["documents_of", "ends_of", "is_framed", "messages_in", "records_of", "says"]

_FOR_PEOPLE = re.compile(r"^(message|msg|error|error_?message|detail|description|title)$", re.I)


def documents_of(call: RecordedCall) -> list[JSON]:
    """The JSON of what answered a call last; of a stream, that of each record."""
    if not call.responses:
        return []
    last = call.answers()[-1]
    if not isinstance(last, HTTPResponse):
        return [last] if isinstance(last, (dict, list)) else _parsed([last])
    if not call.body:
        return []
    whole = _parsed([call.body])
    return whole or _parsed(map(_data_of, records_of(call.body)))


def _data_of(record: bytes) -> bytes:
    """The data of a server-sent event; any other record is its own."""
    lines = record.splitlines()
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    return b"\n".join(data) if data else record


def _parsed(texts: Iterable[Any]) -> list[JSON]:
    found = []
    for text in texts:
        try:
            document = json.loads(text)
        except (ValueError, TypeError):
            continue
        if isinstance(document, (dict, list)):
            found.append(document)
    return found


def records_of(body: bytes) -> list[bytes]:
    """The body cut into its records: AWS frames, server-sent events, lines; else as one."""
    ends = ends_of(body)
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def ends_of(body: bytes) -> list[int]:
    """The offsets at which the records of a body end."""
    if frames := _ends_of_frames(body):
        return frames
    plain = body.replace(b"\r\n", b"\n\n")  # of the same length
    mark = b"\n\n" if b"\n\n" in plain else b"\n"
    return sorted({*_after(plain, mark), len(body)}) if body else []


def is_framed(body: bytes) -> bool:
    """Whether a body is made of binary frames."""
    return bool(_ends_of_frames(body))


def _after(body: bytes, mark: bytes) -> Iterator[int]:
    start = 0
    while (found := body.find(mark, start)) >= 0:
        start = found + len(mark)
        while body[start : start + 1] == b"\n":
            start += 1
        yield start


def _ends_of_frames(body: bytes) -> list[int]:
    """Of frames that begin with their length in four bytes; empty if they are none."""
    sizes: list[int] = []
    start = 0
    while start < len(body):
        size = int.from_bytes(body[start : start + 4], "big")
        if not 16 <= size <= len(body) - start:
            return []
        sizes.append(size)
        start += size
    return list(accumulate(sizes))


# -- what an error says ----------------------------------------------------------------------------


def messages_in(document: JSON) -> list[str]:
    """The texts of a recorded error that are for people."""
    return [
        leaf
        for path, leaf in leaves_of(document)
        if isinstance(leaf, str) and len(leaf) > 3 and _FOR_PEOPLE.search(_name(path))
    ]


def says(error: BaseException, message: str) -> bool:
    """Whether the text of an error holds the beginning of a message."""
    return _plain(message)[:40] in _plain(str(error))


def _name(path: Path) -> str:
    """The name of the field that a scalar stands in, perhaps within a list."""
    return next((name for name in reversed(path) if name != "[]"), "")


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
