"""Results: the rows of an output as flat records, read one at a time, however many there are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..._guard.paths import absolute
from ..._records.usage import price
from ...errors import InputError
from ..job import read_job
from ..journal import Line, Rows, permitted

__all__ = ["COLUMNS", "Results"]

#: The fields of a record, and what each holds; a table has a column for each.
COLUMNS: dict[str, type] = {
    "custom_id": str,
    "answer": str,
    "finish_reason": str,
    "tool_calls": str,
    "parsed": str,
    "provider": str,
    "model": str,
    "prompt_tokens": int,
    "completion_tokens": int,
    "seconds": float,
    "cost": float,
    "cached": bool,
    "error_type": str,
    "error_status": int,
    "error_code": str,
    "error_message": str,
}
_OURS = {"custom_id", "response", "error"}
LARGEST = 2**63 - 1


class Results:
    """The rows of an output, and those of its file of errors; iterated, each is a flat record.

    A record has the fields of COLUMNS, None where there is nothing to say, and what else a row
    holds, such as columns of the input that were kept: a text, a number or a truth as it is,
    anything else as JSON.

    Args:
        output: The file of answers.

    Attributes:
        path: The same, absolute.
        files: The files that hold rows.
        job: What is recorded of the job; empty if the file beside the output is not there.

    Raises:
        InputError: There is no such file.
    """

    def __init__(self, output: str | os.PathLike[str]) -> None:
        self.path = Path(absolute(output, "output"))
        if not self.path.is_file():
            raise InputError(f"there is no file {self.path}: give the output of a batch")
        self.job: Mapping[str, Any] = {}
        with suppress(InputError):
            self.job = read_job(self.path)
        self.files = [self.path]
        if errors := self.job.get("errors"):
            path = self.path.parent / errors
            self.files += [path] if path.is_file() else []

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for path in self.files:
            with permitted(path, "read"):
                file = path.open("rb")
            with file:
                for line in Rows(file, str(path)):
                    yield self._record(json.loads(line.text), line)

    def labels(self) -> list[str]:
        """The fields that rows hold beside those of COLUMNS; reads all rows once."""
        found: dict[str, None] = {}
        for record in self:
            found.update(dict.fromkeys(record.keys() - COLUMNS.keys()))
        return sorted(found)

    def _record(self, row: Mapping[str, Any], line: Line) -> dict[str, Any]:
        record: dict[str, Any] = dict.fromkeys(COLUMNS)
        record["custom_id"], record["error_type"] = _text(line.id), _text(line.error)
        response, error = row.get("response"), row.get("error")
        if isinstance(response, dict):
            record["seconds"] = _number(response.get("seconds"))
            body = response.get("body")
            self._read_body(body if isinstance(body, dict) else {}, record)
        elif isinstance(error, dict):
            record["error_status"] = _count(error.get("status_code"))
            record["error_code"] = _text(error.get("code"))
            record["error_message"] = _text(error.get("message"))
        elif line.error is not None:
            record["error_message"] = _text(error)
        for key in row.keys() - _OURS:
            # A label of the same name as a field of ours does not hide it.
            record[f"label_{key}" if key in COLUMNS else str(_text(key))] = _scalar(row[key])
        return record

    def _read_body(self, body: Mapping[str, Any], record: dict[str, Any]) -> None:
        choices = body.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else {}
        if isinstance(choice, dict):
            message = choice.get("message")
            said: Mapping[str, Any] = message if isinstance(message, dict) else choice
            record["answer"] = _text(said.get("content", said.get("text")))
            record["finish_reason"] = _text(choice.get("finish_reason"))
            record["tool_calls"] = _text(said.get("tool_calls"))
            record["parsed"] = _text(choice.get("parsed"))
        record["provider"], record["model"] = _text(body.get("provider")), _text(body.get("model"))
        record["cached"] = bool(body.get("cached"))
        usage = body.get("usage")
        if isinstance(usage, dict):
            record["prompt_tokens"] = _count(usage.get("prompt_tokens"))
            record["completion_tokens"] = _count(usage.get("completion_tokens"))
        paid = 0 if record["cached"] else price(body)
        record["cost"] = None if paid is None else float(paid)


def _text(value: Any) -> str | None:
    """A text that every table can hold; what is no text, as JSON."""
    if value is None:
        return None
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text.encode("utf-8", "replace").decode()  # half a surrogate pair cannot be written


def _scalar(value: Any) -> Any:
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int):
        return value if abs(value) <= LARGEST else float(value)
    return _text(value)


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if 0 <= value <= 1e18 else None  # NaN is none either
