"""Parquet: the rows of a file of columns."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import InputError, UnsupportedError, excerpt
from .rows import Raw

__all__ = ["read_parquet", "survey_parquet"]


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
