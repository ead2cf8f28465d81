"""Sources: raw rows, read from JSON lines, CSV, Parquet, a pipe or an iterable of Python."""

from __future__ import annotations

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import file_digest, sha256
from importlib import import_module
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, TypeAlias

from .._base.values import shown
from .._guard.paths import absolute
from ..errors import InputError, UnsupportedError, excerpt
from .rows import BadLine, Raw

__all__ = ["Input", "RowSource", "check_rows", "open_source"]

Input: TypeAlias = "str | os.PathLike[str] | Iterable[Any]"
"""A file, ``"-"`` for stdin, or any iterable of prompts, message lists and dicts."""

Check: TypeAlias = "Callable[[Sequence[str]], None]"
"""Is told the columns of a table, and raises InputError for one that may not be there."""

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
class RowSource:
    """Where rows come from.

    Attributes:
        name: The absolute path; "-" for stdin, "" for an iterable.
        read: Begins to read the rows; a pipe or an iterator can be read only once.
        total: The number of rows; None if it is not known.
        digest: Of the whole file; None for a pipe or an iterable.
    """

    name: str
    read: Callable[[], Iterator[Raw]] = field(repr=False)
    total: int | None = None
    digest: str | None = None


def open_source(
    given: Input, form: str | None = None, check: Check = lambda names: None
) -> RowSource:
    """The source for a path, "-" or an iterable.

    A file is read once from end to end here, for its digest and the number of its rows.

    Args:
        given: What the user gave.
        form: ``jsonl``, ``csv``, ``tsv`` or ``parquet``, where the name does not say it.
        check: Is told the columns of a table; of a pipe, when its first line is read.

    Raises:
        InputError: There is no such file, its form is not known, or it is not of that form.
        UnsupportedError: Parquet without pyarrow.
    """
    if not isinstance(given, (str, os.PathLike)):
        total = len(given) if isinstance(given, Sized) else None
        return RowSource("", lambda: iter(given), total)
    if given == "-":
        kind = _form("-", form or "jsonl")
        return RowSource("-", lambda: _read_stdin(kind, check))
    path = Path(absolute(given, "input"))
    if not os.path.isfile(path):
        raise InputError(f"there is no file {excerpt(str(path))}")
    kind = _form(path.suffix.lower(), form)
    if kind == "parquet":
        total = _survey_parquet(path, check)
        return RowSource(str(path), lambda: _read_parquet(path), total, _digest(path))
    if kind == "jsonl":
        counted, hashed = _survey(path)
        return RowSource(str(path), lambda: _read_lines(path.open("rb")), counted, hashed)
    total = sum(1 for _ in _open_table(path, kind, check))
    return RowSource(str(path), lambda: _open_table(path, kind, check), total, _digest(path))


def check_rows(given: object) -> None:
    """Raise InputError for what is one row, or no row, and no iterable of rows."""
    if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
        raise InputError(f"a batch takes an iterable of rows, not one {type(given).__name__}")


def _form(suffix: str, form: str | None) -> str:
    known = form or FORMATS.get(suffix, "")
    if known not in FORMATS.values():
        raise InputError(
            f"the form of the input is not known by {shown(form or suffix or 'its name')}: name a "
            "file .jsonl, .csv, .tsv or .parquet, or give format="
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


def _open_table(path: Path, kind: str, check: Check) -> Iterator[Raw]:
    file = path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    return _read_table(file, kind, str(path), check)


def _read_table(file: IO[str], kind: str, name: str, check: Check) -> Iterator[Raw]:
    with file:
        table = _cells(file, kind, name)
        _, header = next(table, (0, []))
        columns = _columns(header, name, check)
        for number, cells in table:
            if len(cells) > len(header) or any(cells[len(columns) :]):
                row: dict[Any, Any] = dict(zip(header, cells, strict=False))
                row[None] = cells[len(header) :]
                content = repr(row).encode("utf-8", "surrogatepass")
                yield BadLine(content, f"line {number} has more cells than the header")
            else:
                named = zip_longest(columns, cells[: len(columns)])
                yield {name: _cell(name, text) for name, text in named}


def _cells(file: IO[str], kind: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that are not blank, each with the number at which it ends."""
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    table = csv.reader(file, delimiter="\t" if kind == "tsv" else ",", strict=True)
    try:
        for cells in table:
            if cells:
                yield table.line_num, cells
    except csv.Error as error:
        problem = InputError(f"line {table.line_num} of {name} cannot be read as {kind}: {error}")
    else:
        return
    raise problem


def _columns(header: list[str], name: str, check: Check) -> list[str]:
    """The checked columns of a table; empty cells at the end of its header are no columns."""
    columns = list(header)
    while columns and not columns[-1]:
        columns.pop()
    return _checked(columns, name, check)


def _checked(columns: list[str], name: str, check: Check) -> list[str]:
    if not {"prompt", "messages", "body"} & set(columns):
        listed = ", ".join(f"{each!r:.80}" for each in columns[:20])
        raise InputError(
            f"{name}: a table needs a column prompt or messages, and has {listed or 'none'}"
        )
    if twice := [each for each, count in Counter(columns).items() if count > 1]:
        raise InputError(
            f"{name}: the column {twice[0]!r:.80} is there more than once: rename or remove one"
        )
    check(columns)
    return columns


def _cell(name: str, text: str | None) -> Any:
    """The value of a cell: a text for a prompt, else JSON if it is any; None if it is empty."""
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
        raise UnsupportedError(
            "Parquet needs pyarrow: pip install 'lmgateway-core[parquet]'"
        ) from None


@contextmanager
def _opened_parquet(path: Path) -> Iterator[Any]:
    parquet = _parquet()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, NotImplementedError) as error:  # as which Arrow says it
        raise InputError(f"{path} cannot be read as parquet: {excerpt(str(error))}") from None


def _survey_parquet(path: Path, check: Check) -> int:
    """Check the columns of a file, and count its rows."""
    with _opened_parquet(path) as file:
        columns, total = list(file.schema_arrow.names), int(file.metadata.num_rows)
    _checked(columns, str(path), check)
    return total


def _read_parquet(path: Path) -> Iterator[Raw]:
    with _opened_parquet(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield {name: _without_gaps(value) for name, value in row.items()}


def _without_gaps(value: Any) -> Any:
    """A value without the nulls in its structs, which have every field of their type."""
    if isinstance(value, dict):
        return {k: _without_gaps(v) for k, v in value.items() if v is not None}
    return [_without_gaps(each) for each in value] if isinstance(value, list) else value


def _read_stdin(kind: str, check: Check) -> Iterator[Raw]:
    if kind == "jsonl":
        return _read_lines(os.fdopen(sys.stdin.fileno(), "rb", closefd=False))
    text = os.fdopen(
        sys.stdin.fileno(),
        encoding="utf-8-sig",
        errors="surrogateescape",
        newline="",
        closefd=False,
    )
    return _read_table(text, kind, "stdin", check)
