"""Rows of the output: OpenAI's batch form, as lines of JSON, which jq and pandas read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import ne
from typing import Any, cast

from .._drive.gather import Reply
from ..errors import LMGatewayError
from ..types import Choice, Completion

__all__ = ["output_line", "output_row", "read_row", "row_of", "timed"]

_SECONDS = "batch.seconds"  # no key of a completion
_ROW = {"custom_id", "response", "error"}
_decode = json.JSONDecoder().decode


def output_line(name: str, reply: Reply, kept: Mapping[str, Any] | None = None) -> bytes:
    """The line of the output for what became of the row with this ``custom_id``.

    Args:
        name: The ``custom_id``.
        reply: What became of the row.
        kept: Columns of the input that stand beside it.
    """
    return _encode(output_row(name, reply, kept)).encode() + b"\n"


def output_row(name: str, reply: Reply, kept: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The row of the output; as for ``output_line``."""
    if isinstance(reply, LMGatewayError):
        return {"custom_id": name, **(kept or {}), "response": None, "error": _error(reply)}
    response: dict[str, Any] = {
        "status_code": 200,
        "request_id": reply.get("request_id"),
        "body": _body(reply),
    }
    if (seconds := reply.get(_SECONDS)) is not None:
        response["seconds"] = seconds
    return {"custom_id": name, **(kept or {}), "response": response, "error": None}


def timed(completion: Completion, seconds: float) -> Completion:
    """The completion, of which the row of the output will tell how many seconds it took."""
    return cast(Completion, {**completion, _SECONDS: round(seconds, 6)})


def _error(error: LMGatewayError) -> dict[str, Any]:
    return {
        "type": type(error).__name__,
        "code": getattr(error, "code", None),
        "status_code": getattr(error, "status", None) or None,
        "message": str(error),
    }


def read_row(text: bytes) -> tuple[str, str | None] | None:
    """The ``custom_id`` of a line, and the class of its error; that is None for an answer.

    None for a line that is no JSON, or no row.
    """
    try:
        return row_of(_decode(text.decode()))
    except (ValueError, RecursionError):
        return None


def row_of(row: Any) -> tuple[str, str | None] | None:
    """The ``custom_id`` of a row of an output, and the class of its error; None if it is no row.

    Tools leave fields out and add others, so any object with a ``custom_id`` is a row. But it is
    none where a name of ours is one letter off, or where it holds both an answer and an error:
    that is damage.
    """
    if not isinstance(row, dict) or (name := _id(row.get("custom_id"))) is None:
        return None
    response, error = (_given(row.get(each)) for each in ("response", "error"))
    if row.keys() != _ROW and _has_odd_name(row, *_ROW):
        return None
    if error is None:
        return None if response is not None and _is_damaged(response) else (name, None)
    if response is not None:
        return None
    if not isinstance(error, dict):
        return name, "error"
    if _has_odd_name(error, "type", "message"):
        return None
    kind = error.get("type")
    return name, kind if isinstance(kind, str) else "error"


def _given(value: Any) -> Any:
    """A field, or None for what tools write in the place of null: NaN, false, an empty text."""
    return value if value and value == value else None


def _id(name: object) -> str | None:
    """A ``custom_id`` as text; pandas makes numbers of those that look so."""
    if isinstance(name, str):
        return name
    if isinstance(name, float) and name.is_integer():
        name = int(name)
    return str(name) if isinstance(name, int) and not isinstance(name, bool) else None


def _is_damaged(response: Any) -> bool:
    """Whether an answer is not what was written: no choice, another status, or an odd name."""
    if not isinstance(response, dict):
        return False
    if response.get("status_code", 200) != 200 or _has_odd_name(response, "status_code", "body"):
        return True
    body = response.get("body")
    if not isinstance(body, dict):
        return False
    if _has_odd_name(body, "choices"):
        return True
    choices = body.get("choices")
    return isinstance(choices, list) and any(map(_is_odd_choice, choices))


def _is_odd_choice(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    message = choice.get("message")
    if isinstance(message, dict):
        return _has_odd_name(message, "content")
    return _has_odd_name(choice, "message") or _has_odd_name(choice, "text")


def _has_odd_name(found: Mapping[str, Any], *names: str) -> bool:
    """Whether one of these names is missing, and one that differs in one letter is there."""
    for name in names:
        if name in found:
            continue
        for each in found:
            if len(each) == len(name) and sum(map(ne, each, name)) == 1:
                return True
    return False


def _body(completion: Completion) -> dict[str, Any]:
    legacy = completion.get("endpoint") == "completions"
    body: dict[str, Any] = {"id": completion["id"]} if "id" in completion else {}
    body["object"] = "text_completion" if legacy else "chat.completion"
    body["model"] = completion.get("model", "")
    body["choices"] = [
        _choice(place, choice, legacy=legacy) for place, choice in enumerate(completion["choices"])
    ]
    if usage := completion.get("usage"):
        body["usage"] = dict(usage)
    for name in ("provider", "cached", "fallback_from", "warnings", "extra"):
        if value := completion.get(name):
            body[name] = value
    return body


def _choice(place: int, choice: Choice, *, legacy: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"index": choice.get("index", place)}
    if legacy:
        row["text"] = choice["text"]
    else:
        refused = {"refusal": choice["refusal"]} if "refusal" in choice else {}
        row["message"] = {**choice["message"], "content": choice["text"], **refused}
    row["finish_reason"] = choice.get("finish_reason")
    if choice.get("logprobs") is not None:
        row["logprobs"] = {"content": choice["logprobs"]}
    for name in ("finish_reason_raw", "parts", "extra", "parsed"):
        if name in choice:
            row[name] = choice[name]
    return row


def _plain(value: Any) -> Any:
    """The JSON for what a schema made of an answer, for example a pydantic model."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else str(value)


_encode = json.JSONEncoder(default=_plain).encode  # made once: that is most of json.dumps
