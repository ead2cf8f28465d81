"""Rows of the output: OpenAI's batch form, as lines of JSON, which jq and pandas read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from .._drive.gather import Reply
from ..errors import LMGatewayError
from ..types import Choice, Completion

__all__ = ["output_line", "output_row", "read_row", "timed"]

_SECONDS = "batch.seconds"  # no key of a completion
_ROW = {"custom_id", "response", "error"}
_decode = json.JSONDecoder().decode


def output_line(name: str, reply: Reply) -> bytes:
    """The line of the output for what became of the row with this ``custom_id``."""
    return _encode(output_row(name, reply)).encode() + b"\n"


def output_row(name: str, reply: Reply) -> dict[str, Any]:
    """The row of the output for what became of the row with this ``custom_id``."""
    if isinstance(reply, LMGatewayError):
        return {"custom_id": name, "response": None, "error": _error(reply)}
    response: dict[str, Any] = {
        "status_code": 200,
        "request_id": reply.get("request_id"),
        "body": _body(reply),
    }
    if (seconds := reply.get(_SECONDS)) is not None:
        response["seconds"] = seconds
    return {"custom_id": name, "response": response, "error": None}


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

    None for a line that is not whole or is no row. Damage makes a line one of these, unless it
    changed a character within a text into another, which JSON cannot notice.
    """
    if not text.endswith(b"\n"):
        return None
    try:
        row = _decode(text.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or row.keys() != _ROW or not isinstance(row["custom_id"], str):
        return None
    response, error = row["response"], row["error"]
    if error is None:
        return (row["custom_id"], None) if _is_answer(response) else None
    if response is None and isinstance(error, dict) and _is_text(error, "type", "message"):
        return row["custom_id"], error["type"]
    return None


def _is_answer(response: Any) -> bool:
    """Whether the response holds an answer that can be read."""
    if not isinstance(response, dict) or response.get("status_code") != 200:
        return False
    body = response.get("body")
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list):
        return False
    for choice in choices:
        said = choice.get("message", choice) if isinstance(choice, dict) else None
        if not isinstance(said, dict) or not (_is_text(said, "content") or _is_text(said, "text")):
            return False
    return bool(choices)


def _is_text(value: Mapping[str, Any], *names: str) -> bool:
    return all(isinstance(value.get(name), str) for name in names)


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
