"""Answers as lines: OpenAI's batch form, which jq and pandas read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import LMGatewayError
from ..types import Choice, Completion

__all__ = ["OPENING", "SUCCESS", "answer_row", "error_row", "is_success", "line", "read_id"]

OPENING = b'{"custom_id": "'
SUCCESS = b'"error": null}\n'
_scan = json.JSONDecoder().raw_decode


def line(row: Mapping[str, Any]) -> bytes:
    """A row of the output as its line."""
    return _encode(row).encode() + b"\n"


def read_id(text: bytes) -> str | None:
    """The ``custom_id`` of a line that we wrote; None of any other line."""
    if not (text.startswith(OPENING) and text.endswith(b"}\n")):
        return None
    try:
        name, _ = _scan(text.decode("ascii"), len(OPENING) - 1)
    except ValueError:
        return None
    return name if isinstance(name, str) else None


def is_success(text: bytes) -> bool:
    """Whether a line that we wrote holds an answer."""
    return text.endswith(SUCCESS)


def answer_row(name: str, completion: Completion) -> dict[str, Any]:
    """The row of an answer. ``error`` comes last: see ``is_success``."""
    response = {
        "status_code": 200,
        "request_id": completion.get("request_id"),
        "body": _body(completion),
    }
    return {"custom_id": name, "response": response, "error": None}


def error_row(name: str, error: LMGatewayError) -> dict[str, Any]:
    """The row of a failure: the error's class, and what it says."""
    return {
        "custom_id": name,
        "response": None,
        "error": {
            "type": type(error).__name__,
            "code": getattr(error, "code", None),
            "status_code": getattr(error, "status", None) or None,
            "message": str(error),
        },
    }


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
    for name in ("provider", "cached", "fallback_from"):
        if value := completion.get(name):
            body[name] = value
    return body


def _choice(place: int, choice: Choice, *, legacy: bool) -> dict[str, Any]:
    row: dict[str, Any] = {"index": choice.get("index", place)}
    if legacy:
        row["text"] = choice["text"]
    else:
        extras = ("tool_calls", "refusal", "reasoning")
        said = {name: value for name, value in choice.items() if name in extras}
        row["message"] = {"role": "assistant", "content": choice["text"], **said}
    row["finish_reason"] = choice.get("finish_reason")
    if choice.get("logprobs") is not None:
        row["logprobs"] = {"content": choice["logprobs"]}
    if "parsed" in choice:
        row["parsed"] = choice["parsed"]
    return row


def _plain(value: Any) -> Any:
    """What a schema made of an answer: a pydantic model, say."""
    dump = getattr(value, "model_dump", None)
    return dump(mode="json") if dump is not None else str(value)


_encode = json.JSONEncoder(default=_plain).encode  # made once: that is most of json.dumps
