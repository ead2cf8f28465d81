"""Sources: the input as a stream of raw rows, from JSON lines, CSV, Parquet, a pipe or Python."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TypeAlias

from ..errors import InputError, UnsupportedError
from ..paths import absolute
from .rows import BadLine, Raw

__all__ = ["Input", "Source", "open_source"]

Input: TypeAlias = "str | os.PathLike[str] | Iterable[Any]"
"""A file, ``"-"`` for stdin, or any iterable of prompts, message lists and dicts."""

LARGEST_CELL = 2**27
_BOM = b"\xef\xbb\xbf"
FORMATS = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from.

    Attributes:
        name: The absolute path; "-" for stdin, "" for an iterable.
        read: Begins to read it; once only for a pipe or an iterator.
        total: How many rows it has, where that is known.
        digest: Of the whole file; None for what can be read but once.
    """

    name: str
    read: Callable[[], Iterator[Raw]] = field(repr=False)
    total: int | None = None
    digest: str | None = None


def open_source(given: Input, form: str | None = None) -> Source:
    """The source for a path, "-" or an iterable.

    A file is read once from end to end here, to know it again and to count its rows.

    Args:
        given: What the user gave.
        form: ``jsonl``, ``csv``, ``tsv`` or ``parquet``, where the name does not say it.

    Raises:
        InputError: There is no such file, or its form is not known.
        UnsupportedError: Parquet without pyarrow.
    """
    if not isinstance(given, (str, os.PathLike)):
        total = len(given) if isinstance(given, Sized) else None
        return Source("", lambda: iter(given), total)
    if given == "-":
        return Source("-", _STREAMS[_form("-", form or "jsonl")])
    path = Path(absolute(given))
    if not path.is_file():
        raise InputError(f"there is no file {path}")
    kind = _form(path.suffix.lower(), form)
    if kind == "parquet":
        total = _parquet().ParquetFile(path).metadata.num_rows
        return Source(str(path), lambda: _read_parquet(path), total, _digest(path))
    if kind == "jsonl":
        counted, hashed = _survey(path)
        return Source(str(path), lambda: _read_lines(path.open("rb")), counted, hashed)
    rows = _open_table(path, kind)
    next(iter(rows), None)  # a wrong header is told now
    total = sum(1 for _ in _open_table(path, kind))
    return Source(str(path), lambda: _open_table(path, kind), total, _digest(path))


def _form(suffix: str, form: str | None) -> str:
    known = form or FORMATS.get(suffix, "")
    if known not in FORMATS.values():
        raise InputError(
            f"the form of the input is not known by {form or suffix or 'its name'!r}: name a file "
            ".jsonl, .csv, .tsv or .parquet, or give format="
        )
    if suffix == "-" and known == "parquet":
        raise InputError("Parquet cannot be read from a pipe: give a file")
    return known


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _survey(path: Path) -> tuple[int, str]:
    """How many lines are not blank, and the digest of all, in one pass."""
    hashed, count = sha256(), 0
    with path.open("rb") as file:
        for line in file:
            hashed.update(line)
            count += not line.isspace()
    return count, hashed.hexdigest()


# -- JSON lines --------------------------------------------------------------------------------


def _read_lines(file: IO[bytes]) -> Iterator[Raw]:
    with file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(_BOM) if number == 1 else line
            if not line.isspace():
                yield _parse(line, number)


def _parse(line: bytes, number: int) -> Raw:
    try:
        value: Raw = json.loads(line)
    except UnicodeDecodeError as error:
        return BadLine(line, f"line {number} is not UTF-8 (at byte {error.start})")
    except ValueError as error:
        where = getattr(error, "colno", None)
        return BadLine(line, f"line {number} is not JSON" + (f" (column {where})" if where else ""))
    except RecursionError:
        return BadLine(line, f"line {number} is nested too deeply")
    return value


# -- tables ------------------------------------------------------------------------------------


def _open_table(path: Path, kind: str) -> Iterator[Raw]:
    return _read_table(path.open(encoding="utf-8-sig", errors="surrogateescape", newline=""), kind)


def _read_table(file: IO[str], kind: str) -> Iterator[Raw]:
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    with file:
        table = csv.DictReader(file, delimiter="\t" if kind == "tsv" else ",", strict=True)
        _check_columns(table.fieldnames or ())
        rows = iter(table)
        while True:
            try:
                row: dict[Any, Any] = next(rows)
            except StopIteration:
                return
            except csv.Error as error:
                raise InputError(
                    f"line {table.line_num} cannot be read as {kind}: {error}"
                ) from None
            if None in row:
                content = repr(row).encode("utf-8", "surrogatepass")
                yield BadLine(content, f"line {table.line_num} has more cells than the header")
            else:
                yield {name: _cell(name, text) for name, text in row.items()}


def _check_columns(names: Iterable[str]) -> None:
    if not {"prompt", "messages", "body"} & set(names):
        shown = ", ".join(map(repr, names))
        raise InputError(f"a table needs a column prompt or messages, and has {shown or 'none'}")


def _cell(name: str, text: str | None) -> Any:
    """A cell's value: a prompt is a text; anything else is JSON where it can be; "" is nothing."""
    if name in ("prompt", "custom_id", "system", "model") or text is None:
        return text or (text if name == "prompt" else None)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text or None


def _parquet() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise UnsupportedError("Parquet needs pyarrow: pip install 'lmgateway[parquet]'") from None


def _read_parquet(path: Path) -> Iterator[Raw]:
    with _parquet().ParquetFile(path) as file:
        _check_columns(file.schema_arrow.names)
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield {name: _without_gaps(value) for name, value in row.items()}


def _without_gaps(value: Any) -> Any:
    """A struct has every field of its type: what is null in it was not there."""
    if isinstance(value, dict):
        return {k: _without_gaps(v) for k, v in value.items() if v is not None}
    return [_without_gaps(each) for each in value] if isinstance(value, list) else value


def _stdin_text(kind: str) -> Iterator[Raw]:
    text = os.fdopen(
        sys.stdin.fileno(),
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
        closefd=False,
    )
    return _read_table(text, kind)


_STREAMS: dict[str, Callable[[], Iterator[Raw]]] = {
    "jsonl": lambda: _read_lines(os.fdopen(sys.stdin.fileno(), "rb", closefd=False)),
    "csv": lambda: _stdin_text("csv"),
    "tsv": lambda: _stdin_text("tsv"),
}
