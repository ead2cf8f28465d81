"""Recorded calls: what was asked of an LM, and every exchange that answered it.

A file of them is JSON lines, as ``lmgateway.record`` writes them, with the ``call`` beside::

    {"call": {"prompt": "Say hi.", "max_tokens": 8},
     "request": {"provider": "acme", "stream": false, "method": "POST", "path": "/x", "body": {}},
     "response": {"status": 200, "headers": {"content-type": "application/json"}, "json": {}}}

``error`` may name the class of error that a call ends in, ``kind`` another kind of call than
``complete``, and ``model`` the model that such a call asks. A call that took several exchanges has
them under ``exchanges``. A file ``*.http`` holds one response as ``curl -si`` prints it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from .._store.recordings import from_json, to_json
from .._store.serialization import Replay, describe_request
from ..errors import InputError
from ..types import JSON, Exchange, HTTPRequest, HTTPResponse, Kept
from .wire import Pieces

__all__ = ["DEFAULT_PROMPT", "KINDS", "RecordedCall", "read_calls", "request_to_json"]

KINDS = ("complete", "embed", "models", "rerank", "count")
"""The kinds of call that can be recorded."""

DEFAULT_PROMPT = "Say hello, and then count to three."


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """One call of an LM and what answered it.

    Attributes:
        name: For the test's id.
        call: Keywords of ``lm.complete``: ``prompt`` or ``messages``, and parameters.
        responses: Each response as JSON, the way recordings hold it.
        requests: Each request as it was recorded; empty where only responses are known.
        stream: Whether the answer was streamed.
        error: Name of the class of error the call ends in, if it does.
        kind: ``complete``, ``embed``, ``models``, ``rerank`` or ``count``.
        model: What a call of another kind than ``complete`` asked; "" for that of the contract.
    """

    name: str
    call: Mapping[str, JSON] = field(default_factory=lambda: {"prompt": DEFAULT_PROMPT})
    responses: tuple[Mapping[str, JSON], ...] = field(default=(), repr=False)
    requests: tuple[Mapping[str, JSON], ...] = field(default=(), repr=False)
    stream: bool = False
    error: str | None = None
    kind: str = "complete"
    model: str = ""

    def answers(self) -> list[Any]:
        """The recorded answers, in the form in which a transport or a worker gives them."""
        return [_reopen(from_json(response)) for response in self.responses]

    @property
    def is_error(self) -> bool:
        """Whether the call ends in an error."""
        status = self.responses[-1].get("status", 200) if self.responses else 200
        return self.error is not None or not 200 <= status <= 299

    @property
    def body(self) -> bytes:
        """The whole body of the last response."""
        return b"".join(body_of(self.answers()[-1])) if self.responses else b""


def body_of(answer: Any) -> list[bytes]:
    """The pieces of the body of an HTTP answer; none for any other answer."""
    if not isinstance(answer, HTTPResponse):
        return []
    if isinstance(answer.source, Pieces):
        return [piece for piece in answer.source.left if isinstance(piece, bytes)]
    return [answer.body]


def _reopen(answer: Any) -> Any:
    if isinstance(answer, HTTPResponse) and isinstance(answer.source, Replay):
        return replace(answer, source=Pieces(answer.source.chunks))
    return answer


# -- reading ------------------------------------------------------------------------------------


def read_calls(path: str | os.PathLike[str]) -> list[RecordedCall]:
    """Read the calls of a file of JSON lines or an ``*.http`` file, or of a folder of such.

    Raises:
        InputError: A file or a line of it cannot be read as a recorded call.
    """
    path = Path(path)
    if path.is_dir():
        files = sorted([*path.glob("*.jsonl"), *path.glob("*.http")])
        return [call for file in files for call in read_calls(file)]
    try:
        if path.suffix == ".http":
            return [_read_http(path)]
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    return [_read_line(line, path, n) for n, line in enumerate(lines, 1) if line.strip()]


def _read_line(line: str, path: Path, number: int) -> RecordedCall:
    try:
        entry = json.loads(line)
        exchanges = entry.get("exchanges") or [entry]
        requests = tuple(each["request"] for each in exchanges)
        responses = tuple(each["response"] for each in exchanges)
        for response in responses:
            from_json(response)
        return RecordedCall(
            entry.get("name") or f"{path.stem}-{number}",
            entry["call"] if "call" in entry else _guess(requests[-1]),
            responses,
            requests if "call" in entry else (),  # a guess is not what was asked
            bool(entry.get("stream") or requests[-1].get("stream")),
            entry.get("error"),
            entry.get("kind", "complete"),
            entry.get("model") or "",
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        raise InputError(
            f"line {number} of {path} is not a recorded call: record it again with "
            "lmgateway.testing.record_call"
        ) from None


def _guess(request: Mapping[str, JSON]) -> dict[str, JSON]:
    """A call that could have made a recorded request: it asks for as many choices."""
    body = request.get("body") or {}
    n = body.get("n") if isinstance(body, dict) else None
    return {"prompt": DEFAULT_PROMPT, **({"n": n} if isinstance(n, int) and n > 1 else {})}


def _read_http(path: Path) -> RecordedCall:
    head, _, body = path.read_bytes().replace(b"\r\n\r\n", b"\n\n", 1).partition(b"\n\n")
    try:
        first, *lines = head.decode("latin-1").splitlines()
        status = int(first.split()[1])
    except (ValueError, IndexError):
        raise InputError(f"{path} must begin with a status line, as curl -si prints it") from None
    pairs = (line.partition(":") for line in lines)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    stream = headers.get("content-type", "").startswith("text/event-stream")
    source = Replay([body]) if stream else None
    response = HTTPResponse(status, headers, b"" if stream else body, source)
    kept = {**to_json(response), "headers": headers}
    return RecordedCall(path.stem, responses=(kept,), stream=stream)


def request_to_json(exchange: Exchange, provider: str) -> dict[str, JSON]:
    """The request of an exchange as JSON, without host, headers and secrets."""
    asked: dict[str, JSON] = {"provider": provider, "sample": 0, "stream": exchange.stream}
    if not isinstance(exchange, HTTPRequest):
        return {**asked, "kept" if isinstance(exchange, Kept) else "blocking": exchange.key}
    return {**asked, **describe_request(exchange)}
