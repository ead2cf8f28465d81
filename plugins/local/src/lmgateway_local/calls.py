"""One call of llama.cpp, as a worker thread runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any

from lmgateway.errors import RequestTimeoutError
from lmgateway.types import HTTPResponse
from lmgateway.wire.openai import Assembly, Endpoint

from .engine import Engine, Spec, Take, load
from .tools import AsCall

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
        spelled: The functions that the answer may call by spelling a call as JSON; see ``tools``.
        left: Set when nobody waits for the answer any more.
    """

    spec: Spec
    hold: Callable[[Engine], None]
    endpoint: Endpoint
    body: Chunk
    expires_at: float
    spelled: frozenset[str] = frozenset()
    left: Event = field(default_factory=Event, compare=False, repr=False)

    def key(self, *, streamed: bool) -> Chunk:
        """What the answer depends on."""
        return {
            "engine": "llama.cpp",
            "weights": self.spec.digest,
            "n_ctx": self.spec.n_ctx,
            "endpoint": self.endpoint,
            "body": self.body,
            "streamed": streamed,
            **({"spelled": sorted(self.spelled)} if self.spelled else {}),
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
            if self.left.is_set() or monotonic() >= self.expires_at:
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
            if chunk.get("choices") == []:  # a comment asks whether anybody still listens
                return push(b":\n\n") if self.spelled else True
            return push(_event(chunk))

        self._generate(take)
        if usage.total:  # it comes with the end of the answer, so an error has none
            push(_event({"choices": [], "usage": usage.total}))
            push(b"data: [DONE]\n\n")

    def _generate(self, take: Take) -> None:
        engine = load(self.spec)
        self.hold(engine)
        streamed = {**self.body, "stream": True, "stream_options": {"include_usage": True}}
        if self.spelled:
            as_call = AsCall(self.spelled)
            engine.generate(
                self.endpoint,
                streamed,
                lambda chunk: take(as_call.turned(chunk)),
            )
        elif "tools" in self.body:
            engine.generate(self.endpoint, streamed, lambda chunk: take(_without_ids(chunk)))
        else:
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


def _without_ids(chunk: Chunk) -> Chunk:
    """The chunk without llama.cpp's ids of calls, which are random: a repeat has the same ones."""
    for choice in chunk.get("choices") or ():
        for call in (choice.get("delta") or {}).get("tool_calls") or ():
            call.pop("id", None)
    return chunk


def _event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _status(failed: Chunk) -> int:
    code = failed["error"].get("code")
    return code if isinstance(code, int) and 400 <= code <= 599 else 500
