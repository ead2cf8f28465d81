"""Sources: raw rows, read from JSON, CSV, Parquet, a pipe or an iterable of Python."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

from .._base.values import shown
from ..errors import InputError
from .files import ending, find, open_bytes, open_stdin, readable
from .readers import (
    Check,
    check_header,
    read_lines,
    read_parquet,
    read_table,
    read_values,
    spans_lines,
    survey_parquet,
)
from .rows import Raw, fields_of

__all__ = ["Input", "RowSource", "check_rows", "open_source"]

Input: TypeAlias = "str | os.PathLike[str] | Iterable[Any]"
"""A file, ``"-"`` for stdin, or any iterable of prompts, message lists and dicts."""

BLOCK = 1 << 16
MOST_INPUTS = 16  # that a record holds: it stays within a page
FIRST = 100  # rows that are looked at before the first is asked
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class RowSource:
    """Where rows come from.

    Attributes:
        name: The absolute path; "-" for stdin, "" for an iterable.
        read: Begins to read the rows; a pipe or an iterator can be read only once.
        total: The number of rows; None if it is not known.
        digest: Of the content; None for a pipe or an iterable.
        size: Bytes of the content that the digest is of; None if rows cannot be added to it.
        begins_with: Whether so many bytes of the content, with rows after them, have this digest.
    """

    name: str
    read: Callable[[], Iterator[Raw]] = field(repr=False)
    total: int | None = None
    digest: str | None = None
    size: int | None = None
    begins_with: Callable[[int, str], bool] = field(default=lambda size, digest: False, repr=False)

    def history(self, recorded: Mapping[str, Any]) -> list[list[Any]] | None:
        """The size and the digest of what this source was from run to run, as it is now at last.

        None if it is another than was recorded: only rows after the last may be added to it, and
        taken from it again.
        """
        same = not recorded or recorded.get("input") == self.digest
        if self.size is None:  # rows cannot be told to have been added to it
            return [] if same else None
        now, known = [self.size, self.digest], _inputs(recorded)
        if same or now in known:
            return [*(each for each in known if each != now), now]
        longest = max(known, default=None)
        return None if longest is None or not self.begins_with(*longest) else [*known, now]


def _inputs(recorded: Mapping[str, Any]) -> list[list[Any]]:
    found = recorded.get("inputs")
    if not isinstance(found, list):
        return []
    return [
        each
        for each in found[-MOST_INPUTS:]
        if isinstance(each, list) and list(map(type, each)) == [int, str]
    ]


def open_source(
    given: Input,
    form: str | None = None,
    check: Check = lambda *names: None,
    labels: Collection[str] = (),
) -> RowSource:
    """The source for a path, "-" or an iterable.

    A file is read once from end to end here, for its digest and the number of its rows.

    Args:
        given: What the user gave.
        form: ``jsonl``, ``json``, ``csv``, ``tsv`` or ``parquet``, where the name does not say it.
        check: Is told the columns; of a pipe, when it is read.
        labels: Columns that are not for the model, but for the output.

    Raises:
        InputError: There is no such file, its form is not known, or it is not of that form.
        UnsupportedError: A library for its form is not installed.
    """
    if not isinstance(given, (str, os.PathLike)):
        if isinstance(given, (list, tuple)) and len(given) > 1:
            check(*fields_of(given[:FIRST]))
        total = len(given) if isinstance(given, Sized) else None
        return RowSource("", lambda: iter(given), total)
    if given == "-":
        kind = form or "jsonl"
        if kind not in FORMATS.values():
            raise _unknown(kind)
        if kind == "parquet":
            raise InputError("Parquet cannot be read from a pipe: give a file")
        return RowSource("-", lambda: _read_stdin(kind, check, labels))
    path, kind = find(given, "input", form, FORMATS)
    if not kind:
        raise _unknown(form or ending(path) or "its name")
    if kind == "parquet":
        total = survey_parquet(path, lambda names: check_header(names, str(path), check))
        return RowSource(str(path), lambda: read_parquet(path), total, _digest(path)[0])
    with readable(str(path)):
        return _survey(path, kind, check, labels)


def check_rows(given: object) -> None:
    """Raise InputError for what is one row, or no row, and no iterable of rows."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"a batch takes an iterable of rows, not one {type(given).__name__}")


def _unknown(what: str) -> InputError:
    return InputError(
        f"the form of the input is not known by {shown(what)}: name a "
        "file .jsonl, .json, .csv, .tsv or .parquet, or give format="
    )


def _survey(path: Path, kind: str, check: Check, labels: Collection[str]) -> RowSource:
    """A source of a file that is no Parquet; its columns are checked, and its rows counted."""
    name, size = str(path), None
    if kind == "jsonl":
        with open_bytes(path) as file:
            kind = "json" if spans_lines(file) else kind
    read: Callable[[], Iterator[Raw]]
    if kind == "json":
        read = lambda: (row for row, _ in read_values(open_bytes(path), name))  # noqa: E731
        check(*fields_of(islice(read(), FIRST)))
        total, end = 0, 0
        for total, (_, end) in enumerate(read_values(open_bytes(path), name), 1):  # noqa: B007
            pass  # only the last of both is wanted
        digest, size = _digest(path, end)
    elif kind == "jsonl":
        read = lambda: read_lines(open_bytes(path))  # noqa: E731
        check(*fields_of(islice(read(), FIRST)))
        total, digest, size = _count_lines(path)
    else:
        read = lambda: read_table(open_bytes(path), kind, name, check, labels)  # noqa: E731
        total = sum(1 for _ in read())
        digest, size = _digest(path)
    begins_with = partial(_begins_with, path, lines=kind != "json")
    return RowSource(name, read, total, digest, size, begins_with)


def _count_lines(path: Path) -> tuple[int, str, int]:
    """How many lines are not blank, and the digest and the size of all, in one pass."""
    hashed, count, size = sha256(), 0, 0
    with open_bytes(path) as file:
        for line in file:
            hashed.update(line)
            size += len(line)
            count += not line.isspace()
    return count, hashed.hexdigest(), size


def _digest(path: Path, size: int | None = None) -> tuple[str, int]:
    """The digest of the first bytes of a file, or of all, and how many they are."""
    hashed, done = sha256(), 0
    with open_bytes(path) as file:
        while block := file.read(BLOCK if size is None else min(BLOCK, size - done)):
            hashed.update(block)
            done += len(block)
    return hashed.hexdigest(), done


def _begins_with(path: Path, size: int, digest: str, *, lines: bool) -> bool:
    """Whether a file begins with what has this digest, and its last row does not go on behind."""
    hashed, done, last = sha256(), 0, b""
    with open_bytes(path) as file:
        while block := file.read(min(BLOCK, size - done)):
            hashed.update(block)
            done, last = done + len(block), block[-1:]
        ends = {b"", b"\n", b"\r"}
        whole = not lines or last in ends or file.read(1) in ends
    return whole and done == size and hashed.hexdigest() == digest


def _read_stdin(kind: str, check: Check, labels: Collection[str]) -> Iterator[Raw]:
    """The rows of stdin; it is opened, and looked at, when the first is wanted."""
    file = open_stdin()
    with readable("stdin"):
        if kind == "json":
            yield from (row for row, _ in read_values(file, "stdin"))
        elif kind == "jsonl":
            # As many rows as have come by now: to wait for more would hold up the first.
            come = file.peek()[:BLOCK].splitlines(keepends=True)[:FIRST]
            whole = b"".join(line for line in come if line.endswith(b"\n"))
            check(*fields_of(read_lines(io.BytesIO(whole))))
            yield from read_lines(file)
        else:
            yield from read_table(file, kind, "stdin", check, labels)
