"""Readers: the rows of each form of input."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from itertools import zip_longest
from math import isfinite
from pathlib import Path
from typing import IO, Any, TypeAlias

from ..errors import InputError, UnsupportedError, excerpt
from .rows import BadLine, Raw
from .values import BOM, BrokenError, Values

__all__ = [
    "Check",
    "check_header",
    "read_cells",
    "read_lines",
    "read_parquet",
    "read_table",
    "read_values",
    "spans_lines",
    "survey_parquet",
]

Check: TypeAlias = "Callable[..., None]"
"""Is told the columns of a table; of other rows, what ``fields_of`` tells of the first ones.
Raises InputError for a column that may not be there.
"""

LARGEST_CELL = 2**27


# -- JSON --------------------------------------------------------------------------------------


def read_lines(file: IO[bytes]) -> Iterator[Raw]:
    """The rows of JSON lines; the file is closed at the end."""
    with file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(BOM) if number == 1 else line
            if not line.isspace():
                yield _parse(line, number)


def _parse(line: bytes, number: int) -> Raw:
    """The row of a line."""
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


def read_values(file: IO[bytes], name: str) -> Iterator[tuple[Raw, int]]:
    """The rows of an array, or of values one after another, each with the offset of its end.

    Raises InputError, with the line, where the file is no JSON.
    """
    with file:
        values = Values(file)
        try:
            if values.peek() == "[" and _is_list_of_rows(values):
                yield from _items(values)
            else:
                while values.peek():
                    yield _row(values)
        except BrokenError as broken:
            problem = f"line {broken.line} of {name} cannot be read as json: {broken.fault}"
        else:
            return
    raise InputError(problem)


def _items(values: Values) -> Iterator[tuple[Raw, int]]:
    values.pass_over()
    while values.peek() != "]":
        yield _row(values)
        if values.peek() == ",":
            values.pass_over()
        elif values.peek() != "]":
            raise values.broken("a comma or a ] is missing")
    values.pass_over()
    if values.peek():
        raise values.broken("the list has ended before")


def _row(values: Values) -> tuple[Raw, int]:
    value = values.take()
    try:
        value.text.decode()
    except UnicodeDecodeError:
        return BadLine(value.text, f"the row at line {value.line} is not UTF-8"), value.end
    return value.value, value.end


def spans_lines(file: IO[bytes]) -> bool:
    """Whether a file of this beginning is JSON of several lines, and not a row on each line."""
    values = Values(file)
    if values.peek() == "[":
        first = values.first_item()
        return values.ends_line() or (isinstance(first, dict) and not _is_message(first))
    if values.peek() != "{" or not values.ends_line():
        return False
    try:
        values.take()
    except BrokenError:
        return False
    return True


def _is_list_of_rows(values: Values) -> bool:
    return not _is_message(values.first_item())  # else it is one row, a conversation


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and "role" in value


# -- tables of text ----------------------------------------------------------------------------


def read_table(
    file: IO[bytes], kind: str, name: str, check: Check, labels: Collection[str]
) -> Iterator[Raw]:
    """The rows of a table of text; the file is closed at the end.

    Args:
        file: The table, in UTF-8.
        kind: ``csv`` or ``tsv``.
        name: What to call it in messages.
        check: Is told the columns.
        labels: Columns that are not for the model, but for the output.

    Raises InputError, with the line, for a header or a quote that is not right.
    """
    with io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as text:
        table = read_cells(text, kind, name)
        line, header = next(table, (1, []))
        columns = list(header)
        while columns and not columns[-1]:  # empty cells at the end are no columns
            columns.pop()
        check_header(columns, f"line {line} of {name}", check)
        for number, cells in table:
            if len(cells) > len(header) or any(cells[len(columns) :]):
                yield _bad(header, cells, f"line {number} has more cells than the header")
            elif labels and not _is_text(cells):  # else who asks finds out where
                yield _bad(header, cells, f"line {number} is not UTF-8")
            else:
                named = zip_longest(columns, cells[: len(columns)])
                yield {
                    name: _label(text) if name in labels else _cell(name, text)
                    for name, text in named
                }


def _bad(header: Sequence[str], cells: list[str], fault: str) -> BadLine:
    row: dict[Any, Any] = dict(zip(header, cells, strict=False))
    row[None] = cells[len(header) :]
    return BadLine(repr(row).encode("utf-8", "surrogatepass"), fault)


def _is_text(cells: list[str]) -> bool:
    """Whether there is no half character, as which other encodings than UTF-8 were read."""
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return False
    return True


def read_cells(file: IO[str], kind: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table that are not blank, each with the number at which it ends."""
    csv.field_size_limit(max(csv.field_size_limit(), LARGEST_CELL))
    table = csv.reader(file, delimiter="\t" if kind == "tsv" else ",", strict=True)
    begins = 1
    try:
        for cells in table:
            begins = table.line_num + 1
            if cells:
                yield table.line_num, cells
    except csv.Error as error:
        since = f", in the row that begins at line {begins}" if begins < table.line_num else ""
        problem = InputError(
            f"line {table.line_num} of {name} cannot be read as {kind}: {error}{since}"
        )
    else:
        return
    raise problem


def check_header(columns: Sequence[str], name: str, check: Check) -> None:
    """Raise InputError for columns that are no table of rows."""
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


def _cell(name: str, text: str | None) -> Any:
    """The value of a cell: a text for a prompt, else JSON if it is any; None if it is empty."""
    if name in ("prompt", "custom_id", "system", "model") or text is None:
        return text or (text if name == "prompt" else None)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text or None


def _label(text: str | None) -> Any:
    """A cell for the output: a number or a truth value if that is written so, else a text."""
    value = _cell("", text)
    if isinstance(value, (int, float)) and isfinite(value) and json.dumps(value) == text:
        return value
    return text or None


# -- Parquet -----------------------------------------------------------------------------------


def _library() -> Any:
    try:
        return import_module("pyarrow.parquet")
    except ImportError:
        raise UnsupportedError(
            "Parquet needs pyarrow: pip install 'lmgateway-core[parquet]'"
        ) from None


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    parquet = _library()
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except (OSError, ValueError, NotImplementedError) as error:  # as which Arrow says it
        raise InputError(f"{path} cannot be read as parquet: {excerpt(str(error))}") from None


def survey_parquet(path: Path, check: Callable[[list[str]], None]) -> int:
    """Check the columns of a file, and count its rows."""
    with _opened(path) as file:
        columns, total = list(file.schema_arrow.names), int(file.metadata.num_rows)
    check(columns)
    return total


def read_parquet(path: Path) -> Iterator[Raw]:
    """The rows of a file, a few hundred at a time in memory."""
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                yield {name: _without_gaps(value) for name, value in row.items()}


def _without_gaps(value: Any) -> Any:
    """A value without the nulls in its structs, which have every field of their type."""
    if isinstance(value, dict):
        return {k: _without_gaps(v) for k, v in value.items() if v is not None}
    return [_without_gaps(each) for each in value] if isinstance(value, list) else value
