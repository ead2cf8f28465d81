"""The texts of a file: lines, JSON, a column of a table; in their order, each with its row."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ..batch.files import find, open_bytes, readable
from ..batch.readers import read_cells, read_lines, read_parquet, read_values, spans_lines
from ..batch.rows import BadLine
from ..batch.sources import FORMATS as OF_ROWS
from ..errors import InputError

__all__ = ["FORMATS", "TextFile", "TextRow"]

FORMATS = {".txt": "txt", ".text": "txt", ".md": "txt", **OF_ROWS}


class TextRow(NamedTuple):
    """A row of a file.

    Attributes:
        number: Which it is, counted from 1.
        text: What is embedded; it need not be a text yet.
        id: What it is called; None without a column for that.
    """

    number: int
    text: Any
    id: Any


@dataclass(frozen=True, slots=True)
class TextFile:
    """A file of texts.

    Attributes:
        path: Where it is.
        kind: One of the values of FORMATS.
        column: The field or column with the text.
        id: The field or column with the name of a row; None if there is none.
    """

    path: Path
    kind: str
    column: str = "text"
    id: str | None = None

    @classmethod
    def open(cls, given: str, kind: str | None, column: str, id_: str | None) -> TextFile:
        """The file of a path.

        Raises:
            InputError: There is none, or its form is not known.
        """
        if given == "-":
            raise InputError("a pipe can be read only once: write it to a file, and give that")
        path, found = find(given, "the file of texts", kind, FORMATS)
        if not found:
            raise InputError(
                f"what is in {path.name} is not known by its name: give --format txt, jsonl, json, "
                "csv, tsv or parquet"
            )
        if found == "txt" and id_ is not None:
            raise InputError("--id names a column, and lines of a text have none")
        return cls(path, found, column, id_)

    def read(self) -> Iterator[TextRow]:
        """The rows.

        Raises:
            InputError: One is no row; its number is named.
            UnsupportedError: A library for the form is not installed.
        """
        with readable(str(self.path)):
            read = self._texts if self.kind == "txt" else self._fields
            for number, (text, name) in enumerate(read(), 1):
                yield TextRow(number, text, name)

    def _texts(self) -> Iterator[tuple[Any, Any]]:
        with io.TextIOWrapper(open_bytes(self.path), "utf-8-sig", newline=None) as lines:
            try:
                for line in lines:
                    yield line.removesuffix("\n"), None
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{self.path} is not UTF-8 (at byte {error.start} of a block): convert it first"
                ) from None

    def _fields(self) -> Iterator[tuple[Any, Any]]:
        rows: dict[str, Callable[[], Iterator[Any]]] = {
            "jsonl": self._json,
            "json": self._json,
            "parquet": lambda: read_parquet(self.path),
        }
        for number, row in enumerate(rows.get(self.kind, self._table)(), 1):
            if isinstance(row, BadLine):
                raise InputError(f"row {number} of {self.path}: {row.fault}")
            if isinstance(row, Mapping):
                yield self._field(row, self.column, number), self._id(row, number)
            elif self.id is not None:
                raise InputError(f"row {number} of {self.path} has no {self.id!r}: it is no object")
            else:
                yield row, None

    def _json(self) -> Iterator[Any]:
        with open_bytes(self.path) as file:
            spread = self.kind == "json" or spans_lines(file)
        file = open_bytes(self.path)
        if spread:
            yield from (row for row, _ in read_values(file, str(self.path)))
        else:
            yield from read_lines(file)

    def _table(self) -> Iterator[Any]:
        with io.TextIOWrapper(open_bytes(self.path), "utf-8-sig", newline="") as file:
            table = read_cells(file, self.kind, str(self.path))
            try:
                _, columns = next(table, (1, []))
                for number, cells in table:
                    if len(cells) > len(columns):
                        yield BadLine(b"", f"line {number} has more cells than the header")
                    else:
                        yield dict(zip(columns, cells, strict=False))
            except UnicodeDecodeError:
                raise InputError(f"{self.path} is not UTF-8: convert it first") from None

    def _id(self, row: Mapping[Any, Any], number: int) -> Any:
        return None if self.id is None else self._field(row, self.id, number)

    def _field(self, row: Mapping[Any, Any], name: str, number: int) -> Any:
        value = row.get(name)
        if value is None:
            listed = ", ".join(f"{each!r:.80}" for each in list(row)[:20])
            option = "--text" if name == self.column else "--id"
            raise InputError(
                f"row {number} of {self.path} has no {name!r}, but {listed or 'nothing'}: "
                f"{option} names the column"
            )
        return value
