"""Tables: the results of a batch as CSV, as Parquet, or as a data frame of pandas."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from ...errors import UnsupportedError
from .results import COLUMNS, Results

__all__ = ["to_pandas", "write_csv", "write_parquet"]

AT_ONCE = 10_000  # rows of one group of a Parquet file
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")


def write_csv(results: Results, path: Path) -> int:
    """Write a table of comma-separated values; returns how many rows it has.

    A text that a spreadsheet would take for a formula gets an apostrophe before it: an answer of a
    model is not to be carried out. Parquet holds such texts as they are.
    """
    labels, rows = results.labels(), 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*COLUMNS, *map(_harmless, labels)])
        for record in results:
            cells = (record.get(name) for name in (*COLUMNS, *labels))
            writer.writerow([_harmless(cell) for cell in cells])
            rows += 1
    return rows


def _harmless(cell: Any) -> Any:
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str) and _FORMULA.match(cell) and not _NUMBER.fullmatch(cell):
        return "'" + cell
    return cell


def write_parquet(results: Results, path: Path) -> int:
    """Write a Parquet file, some thousand rows at a time; returns how many rows it has.

    Columns that were kept from the input are texts if not all of their values are of one kind.

    Raises UnsupportedError without pyarrow.
    """
    try:
        arrow, parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UnsupportedError(
            "a Parquet file needs pyarrow: pip install 'lmgateway-core[parquet]'"
        ) from None
    types = {str: arrow.string(), int: arrow.int64(), float: arrow.float64(), bool: arrow.bool_()}
    kinds = _kinds(results)
    schema = arrow.schema([(name, types[kind]) for name, kind in kinds.items()])
    rows = 0
    with parquet.ParquetWriter(str(path), schema) as writer:
        for columns in _groups(results, kinds):
            writer.write_table(arrow.table(columns, schema=schema))
            rows += len(columns["custom_id"])
    return rows


def to_pandas(path: str | os.PathLike[str]) -> Any:
    """The rows of an output as a ``pandas.DataFrame``, those in its file of errors included.

    It has the columns of ``lmgateway batch report --to csv``: ``custom_id``, ``answer``,
    ``finish_reason``, ``tool_calls`` and ``parsed`` (JSON), ``provider``, ``model``,
    ``prompt_tokens``, ``completion_tokens``, ``seconds``, ``cost`` (US dollars; missing where the
    price is not known), ``cached``, ``error_type``, ``error_status``, ``error_code``,
    ``error_message``, and the columns that were kept from the input. What is missing is ``NA``.

    Raises:
        InputError: There is no such file.
        ConfigError: The file is damaged.
        UnsupportedError: pandas is not installed.
    """
    try:
        pandas = import_module("pandas")
    except ImportError:
        raise UnsupportedError("to_pandas needs pandas: pip install pandas") from None
    results = Results(path)
    kinds = _kinds(results)
    names = {str: "string", int: "Int64", float: "Float64", bool: "boolean"}
    columns: dict[str, list[Any]] = {name: [] for name in kinds}
    for group in _groups(results, kinds):
        for name, values in group.items():
            columns[name] += values
    return pandas.DataFrame(
        {name: pandas.array(columns[name], dtype=names[kind]) for name, kind in kinds.items()}
    )


def _kinds(results: Results) -> dict[str, type]:
    """Each column, and the kind of its values; reads all rows once."""
    found: dict[str, type] = dict(COLUMNS)
    for record in results:
        for name in record.keys() - COLUMNS.keys():
            kind, known = type(record[name]), found.get(name)
            if record[name] is None:
                found.setdefault(name, type(None))
            elif known in (None, type(None)):
                found[name] = kind
            elif known is not kind:
                found[name] = float if {known, kind} == {int, float} else str
    return {name: str if kind is type(None) else kind for name, kind in found.items()}


def _groups(results: Results, kinds: dict[str, type]) -> Iterator[dict[str, list[Any]]]:
    """Some thousand rows at a time, as columns."""
    records = iter(results)
    first = True
    while (group := list(islice(records, AT_ONCE))) or first:
        first = False  # a table without rows has its columns all the same
        yield {
            name: [
                value if value is None else kind(value)
                for value in (record.get(name) for record in group)
            ]
            for name, kind in kinds.items()
        }
