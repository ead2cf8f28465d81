"""Outputs: vectors as numpy's array, as JSON lines, or as Parquet."""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..errors import InputError, UnsupportedError

__all__ = ["ENDINGS", "Embedded", "check_output", "write_rows"]

ENDINGS = (".npy", ".jsonl", ".parquet")
_ROWS = 1024  # of Parquet that are in memory at once


class Embedded(NamedTuple):
    """A row of an output: its place or its id, its text, and its vector."""

    id: Any
    text: Any
    vector: array[float]


def check_output(path: Path) -> None:
    """Refuse what cannot be written, before anything is paid for.

    Raises:
        InputError: No form is known by this ending, or there is no such folder.
        UnsupportedError: pyarrow is not installed.
    """
    if path.suffix not in ENDINGS:
        raise InputError(f"--to names a file that ends in {', '.join(ENDINGS)}, not {path.name!r}")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent}: make it, or write to another file")
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{path} is there and is no regular file: write to another")
    if path.suffix == ".parquet":
        _arrow()


def _arrow() -> tuple[Any, Any]:
    try:
        return import_module("pyarrow"), import_module("pyarrow.parquet")
    except ImportError:
        raise UnsupportedError(
            "Parquet needs pyarrow: pip install 'lmgateway-core[parquet]', or write to .npy or "
            ".jsonl"
        ) from None


def write_rows(
    output: Path, rows: Iterator[Embedded], name: str, id_type: str, dimensions: int
) -> Path:
    """Write rows to a new file beside the output; where it is.

    Args:
        output: Says the form by its ending.
        rows: In their order.
        name: Of the column that tells rows apart.
        id_type: ``int`` or ``str``, of which its values are.
        dimensions: Of each vector.
    """
    number, made = tempfile.mkstemp(prefix=output.name + ".", suffix=".tmp", dir=output.parent)
    try:
        with os.fdopen(number, "wb") as file:
            if output.suffix == ".parquet":
                _write_parquet(file, rows, name, id_type, dimensions)
            else:
                for row in rows:
                    file.write(_line(row, name))
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(made, 0o666 & ~mask)
    except BaseException:
        with suppress(OSError):
            os.unlink(made)
        raise
    return Path(made)


def _line(row: Embedded, name: str) -> bytes:
    # Nine digits tell any two floats of 32 bits apart; repr would give up to seventeen.
    floats = ",".join(map("%.9g".__mod__, row.vector))
    head = json.dumps({name: row.id, "text": row.text}, ensure_ascii=False)
    return f'{head[:-1]}, "embedding": [{floats}]}}\n'.encode("utf-8", "surrogatepass")


def _write_parquet(
    file: IO[bytes], rows: Iterator[Embedded], name: str, id_type: str, dimensions: int
) -> None:
    arrow, parquet = _arrow()
    kind = arrow.int64() if id_type == "int" else arrow.string()
    schema = arrow.schema([
        (name, kind),
        ("text", arrow.string()),
        ("embedding", arrow.list_(arrow.float32(), dimensions)),
    ])  # fmt: skip
    with parquet.ParquetWriter(file, schema) as writer:
        while some := list(islice(rows, _ROWS)):
            floats = array("f")
            for row in some:
                floats.extend(row.vector)
            flat = _flat(arrow, floats)
            columns = [
                arrow.array([_id(row.id, id_type) for row in some], kind),
                arrow.array([_shown(row.text) for row in some], arrow.string()),
                arrow.FixedSizeListArray.from_arrays(flat, dimensions),
            ]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _flat(arrow: Any, floats: array[float]) -> Any:
    return arrow.Array.from_buffers(
        arrow.float32(), len(floats), [None, arrow.py_buffer(memoryview(floats).cast("B"))]
    )


def _id(value: Any, id_type: str) -> Any:
    return value if id_type == "int" or isinstance(value, str) else json.dumps(value)


def _shown(text: Any) -> str:
    """A text, or the parts of which one consists as JSON."""
    return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)
