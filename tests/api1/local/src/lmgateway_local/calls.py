"""One call of llama.cpp, as a worker thread runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any

from lmgateway.errors import RequestTimeoutError
from lmgateway.types import HTTPResponse
from lmgateway.wire.openai import Assembly, Endpoint

from .engine import Engine, Spec, Take, load

__all__ = ["Call"]

Chunk = dict[str, Any]


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
    endpoint: Endpoint
    body: Chunk
    expires_at: float

    def key(self, *, streamed: bool) -> Chunk:
        """What the answer depends on."""
        return {
            "engine": "llama.cpp",
            "weights": self.spec.digest,
            "n_ctx": self.spec.n_ctx,
            "endpoint": self.endpoint,
            "body": self.body,
            "streamed": streamed,
        }

    def answer(self) -> HTTPResponse:
        """The whole answer, as llama.cpp's HTTP server would give it.

        It is put together from chunks, because only between chunks can llama.cpp be stopped.

        Raises:
            RequestTimeoutError: the time was up; whoever waited for it is gone.
        """
        assembly = Assembly(self.endpoint)
        usage = _Usage()
        failed: list[Chunk] = []

        def take(chunk: Chunk) -> bool:
            if monotonic() >= self.expires_at:
                raise RequestTimeoutError("the model did not finish its answer in time")
            if "error" in chunk:
                failed.append(chunk)
                return False
            usage.take_from(chunk)
            assembly.add(chunk)
            return True

        self._generate(take)
        if failed:
            return HTTPResponse(_status(failed[0]), body=json.dumps(failed[0]).encode())
        return HTTPResponse(
            200, body=json.dumps({**assembly.answer(), "usage": usage.total}).encode()
        )

    def stream(self, push: Callable[[bytes], bool]) -> None:
        """The answer as server-sent events, until nobody listens any more."""
        usage = _Usage()

        def take(chunk: Chunk) -> bool:
            usage.take_from(chunk)
            return chunk.get("choices") == [] or push(_event(chunk))

        self._generate(take)
        if usage.total:  # it comes with the end of the answer, so an error has none
            push(_event({"choices": [], "usage": usage.total}))
            push(b"data: [DONE]\n\n")

    def _generate(self, take: Take) -> None:
        engine = load(self.spec)
        self.hold(engine)
        streamed = {**self.body, "stream": True, "stream_options": {"include_usage": True}}
        engine.generate(self.endpoint, streamed, take)


class _Usage:
    """The tokens of all choices: llama.cpp counts those of each by itself."""

    __slots__ = ("total",)

    def __init__(self) -> None:
        self.total: Chunk = {}

    def take_from(self, chunk: Chunk) -> None:
        """Move what a chunk counts into the total."""
        chunk.pop("timings", None)
        usage = chunk.pop("usage", None)
        if usage is None:
            return
        if self.total:  # the prompt is the same one, so it counts once
            self.total["completion_tokens"] += usage["completion_tokens"]
            self.total["total_tokens"] += usage["completion_tokens"]
        else:
            self.total = usage


def _event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _status(failed: Chunk) -> int:
    code = failed["error"].get("code")
    return code if isinstance(code, int) and 400 <= code <= 599 else 500
