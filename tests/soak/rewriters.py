"""What people do to a file of rows between two runs, with the tools that they have for it.

Each takes the whole file and gives it back with the same rows, written its own way.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

__all__ = ["REWRITERS", "rows_of"]

_BLANK: Any = re.compile(r"[\s\ufeff]*")


def rows_of(text: str) -> list[Any]:
    """The rows of a file; half a row at its end is left out, as jq leaves it out."""
    decode, rows = json.JSONDecoder().raw_decode, []
    at = _BLANK.match(text).end()
    while at < len(text):
        try:
            row, at = decode(text, at)
        except ValueError:
            break
        rows.append(row)
        at = _BLANK.match(text, at).end()
    return rows


def _lines(rows: list[Any], end: str = "\n", **given: Any) -> str:
    return "".join(json.dumps(row, **given) + end for row in rows)


def _sorted(rows: list[Any]) -> list[Any]:
    return sorted(rows, key=lambda row: str(row["custom_id"]))


REWRITERS: dict[str, Callable[[list[Any]], str]] = {
    "jq -c": lambda rows: _lines(rows, ensure_ascii=False, separators=(",", ":")),
    "jq -S": lambda rows: _lines(rows, indent=2, sort_keys=True),
    "pandas": lambda rows: _lines(rows, separators=(",", ":")).replace("/", "\\/"),
    "CRLF": lambda rows: _lines(rows, end="\r\n"),
    "indent": lambda rows: _lines(rows, indent=4),
    "sort": lambda rows: _lines(_sorted(rows)),
    "BOM": lambda rows: "\ufeff" + _lines(rows),
    "no last end": lambda rows: _lines(rows).rstrip("\n"),
    "jq -j": lambda rows: _lines(rows, end=""),
}
