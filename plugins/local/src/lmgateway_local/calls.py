"""One call of llama.cpp, as a worker thread runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from lmgateway.errors import RequestTimeoutError
from lmgateway.types import HTTPResponse

from .engine import Engine, Spec, Take, load

__all__ = ["Call"]

Chunk = dict[str, Any]

DONE = b"data: [DONE]\n\n"


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be computed, with what, and until when.

    Attributes:
        spec: What to load.
        hold: Is told the engine, to keep it loaded beyond this call.
        endpoint: ``chat/completions`` or ``completions``.
        body: The request's body for that endpoint.
        expires_at: On ``time.monotonic()``'s clock.
    """

    spec: Spec
    hold: Callable[[Engine], None]
    endpoint: str
    body: Chunk
    expires_at: float

    def key(self) -> Chunk:
        """What the answer depends on."""
        return {
            "engine": "llama.cpp",
            "weights": self.spec.digest,
            "n_ctx": self.spec.n_ctx,
            "endpoint": self.endpoint,
            "body": self.body,
        }

    def answer(self) -> HTTPResponse:
        """The whole answer, in OpenAI's shape.

        It is put together from chunks, because only between chunks can llama.cpp be stopped.

        Raises:
            RequestTimeoutError: the time was up; whoever waited for it is gone.
        """
        answer = _Answer(self.endpoint)

        def take(chunk: Chunk) -> bool:
            if monotonic() >= self.expires_at:
                raise RequestTimeoutError("the model did not finish its answer in time")
            return answer.add(chunk)

        self._generate(take)
        return answer.response()

    def stream(self, push: Callable[[bytes], bool]) -> None:
        """The answer as server-sent events, until nobody listens any more."""
        usage = _Usage()

        def take(chunk: Chunk) -> bool:
            usage.take_from(chunk)
            return push(_event(chunk)) if chunk.get("choices") != [] else True

        self._generate(take)
        if usage.total:
            push(_event({"choices": [], "usage": usage.total}))
            push(DONE)

    def _generate(self, take: Take) -> None:
        engine = load(self.spec)
        self.hold(engine)
        streamed = {**self.body, "stream": True, "stream_options": {"include_usage": True}}
        engine.generate(self.endpoint, streamed, take)


def _event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


class _Usage:
    """The tokens of all choices: llama.cpp counts each by itself."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total: Chunk = {}

    def take_from(self, chunk: Chunk) -> None:
        """Move what a chunk counts into the total."""
        usage = chunk.pop("usage", None)
        chunk.pop("timings", None)
        if usage is None:
            return
        if self.total:  # the prompt is the same one, so it counts once
            self.total["completion_tokens"] += usage["completion_tokens"]
            self.total["total_tokens"] += usage["completion_tokens"]
        else:
            self.total = usage


class _Answer:
    """Chunks on their way to become one body."""

    __slots__ = ("_choices", "_error", "_frame", "_is_chat", "_usage")

    def __init__(self, endpoint: str) -> None:
        self._is_chat = endpoint == "chat/completions"
        self._choices: dict[int, Chunk] = {}
        self._error: Chunk | None = None
        self._frame: Chunk = {}
        self._usage = _Usage()

    def add(self, chunk: Chunk) -> bool:
        """Take in a chunk; False when none can follow it."""
        if "error" in chunk:
            self._error = chunk
            return False
        self._usage.take_from(chunk)
        pieces = chunk.pop("choices")
        self._frame = chunk
        for piece in pieces:
            self._append(piece)
        return True

    def _append(self, piece: Chunk) -> None:
        text = piece.get("delta", {}) if self._is_chat else {"text": piece["text"]}
        choice = self._choices.setdefault(
            piece["index"], {"index": piece["index"], "text": {}, "logprobs": None}
        )
        for name, value in text.items():
            if isinstance(value, str) and name != "role":
                choice["text"][name] = choice["text"].get(name, "") + value
        if logprobs := piece.get("logprobs"):
            choice["logprobs"] = choice["logprobs"] or {"content": []}
            choice["logprobs"]["content"] += logprobs["content"]
        choice["finish_reason"] = piece["finish_reason"]

    def response(self) -> HTTPResponse:
        """The answer as an HTTP host would give it."""
        if self._error is not None:
            return HTTPResponse(_status(self._error), body=json.dumps(self._error).encode())
        choices = []
        for _, choice in sorted(self._choices.items()):
            text = choice.pop("text")
            if self._is_chat:
                choice["message"] = {"role": "assistant", "content": "", **text}
            else:
                choice["text"] = text.get("text", "")
            choices.append(choice)
        body = {**self._frame, "choices": choices, "usage": self._usage.total}
        return HTTPResponse(200, body=json.dumps(body).encode())


def _status(error: Chunk) -> int:
    code = error["error"].get("code")
    return code if isinstance(code, int) and 400 <= code <= 599 else 500
