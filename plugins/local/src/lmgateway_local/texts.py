"""Texts to embed, as a worker thread has llama.cpp embed them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event
from time import monotonic
from typing import Any

from lmgateway.errors import RequestTimeoutError
from lmgateway.types import HTTPResponse

from .engine import Engine, Spec, load

__all__ = ["Texts"]

_TOO_LONG = ("too large to process", "larger than the max context", "exceeds the available context")


@dataclass(frozen=True, slots=True)
class Texts:
    """What is to be embedded, with what, and until when.

    Attributes:
        spec: What to load.
        hold: Is told the engine, to keep it loaded beyond this call.
        texts: None is empty.
        expires_at: On ``time.monotonic()``'s clock.
        left: Set when nobody waits for the vectors any more.
    """

    spec: Spec
    hold: Callable[[Engine], None]
    texts: Sequence[str]
    expires_at: float
    left: Event = field(default_factory=Event, compare=False, repr=False)

    def key(self) -> dict[str, Any]:
        """What the vectors depend on."""
        return {
            "engine": "llama.cpp",
            "weights": self.spec.digest,
            "endpoint": "embeddings",
            "pooling": self.spec.pooling,
            "input": list(self.texts),
        }

    def answer(self) -> HTTPResponse:
        """All vectors, as llama.cpp's HTTP server would give them.

        Only between two calls can llama.cpp be stopped: each embeds as many texts as go at once.

        Raises:
            RequestTimeoutError: the time was up; whoever waited for it is gone.
        """
        engine = load(self.spec)
        self.hold(engine)
        data: list[dict[str, Any]] = []
        tokens = 0
        for start in range(0, len(self.texts), self.spec.n_parallel):
            if self.left.is_set() or monotonic() >= self.expires_at:
                raise RequestTimeoutError("the model did not embed all texts in time")
            came = engine.embed(self.texts[start : start + self.spec.n_parallel])
            if "error" in came:
                return _refusal(came["error"], self.spec.n_ctx)
            data += ({**each, "index": start + each["index"]} for each in came["data"])
            tokens += came["usage"]["prompt_tokens"]
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        body = {"data": data, "model": self.spec.name, "usage": usage}
        return HTTPResponse(200, body=json.dumps(body).encode())


def _refusal(error: dict[str, Any], n_ctx: int) -> HTTPResponse:
    code, message = error.get("code"), str(error.get("message"))
    status = code if isinstance(code, int) and 400 <= code <= 599 else 500
    if any(words in message for words in _TOO_LONG):
        # llama.cpp calls it a fault of the server, which would be asked again.
        status, error = 400, {
            "code": "context_length_exceeded",
            "message": f"a text is longer than n_ctx={n_ctx} tokens: give a larger n_ctx, or split "
            f"the text (llama.cpp: {message})",
        }  # fmt: skip
    return HTTPResponse(status, body=json.dumps({"error": error}).encode())
