"""A provider in the process, as ``lmgateway-local`` is one, for 0.1 and what came after it."""

from __future__ import annotations

from typing import Any

from lmgateway import hookimpl
from lmgateway.types import Blocking, Emit, Info, read, send


class Blocky:
    """Says how long the prompt is, from a thread."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(capabilities=frozenset({"messages"}), params=frozenset({"temperature"}))

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Any:
        said = yield from send(Blocking(lambda: {"said": say(request)}, key=key(request)))
        return {"prompt": request.input, "choices": [{"text": said["said"]}]}

    @hookimpl
    def lmgateway_stream(self, request: Any) -> Any:
        def push_all(push: Any) -> None:
            for letter in say(request):
                push(letter.encode())

        head = yield from send(Blocking(push_all, key=key(request), stream=True))
        text = ""
        while piece := (yield from read(head)):
            text += piece.decode()
            yield Emit(piece.decode())
        return {"prompt": request.input, "choices": [{"text": text}]}


def say(request: Any) -> str:
    return f"{len(request.prompt)} characters"


def key(request: Any) -> Any:
    return {"prompt": request.prompt, "stream": request.stream, "params": dict(request.params)}


def lm() -> Any:
    """An LM of it."""
    try:
        from lmgateway.testing import lm_from
    except ImportError:  # 0.1
        from lmgateway.registry import plugin_from

        from lmgateway import composition
        from lmgateway.lm import LM

        plugin = plugin_from(Blocky(), name="blocky", source="blocky")
        return LM(composition.specify("blocky", "m", {}, plugin))
    return lm_from(Blocky(), "blocky", model="m")
