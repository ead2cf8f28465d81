"""JSON rows: those of JSON lines, of an array, and of objects one after another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import IO

from ..errors import InputError
from .rows import BadLine, Raw
from .values import BOM, BrokenError, Values

__all__ = ["read_lines", "read_values", "spans_lines"]


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
