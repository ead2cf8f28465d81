"""ScriptedLM: the tests of a program use it in place of a real LM."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from threading import Lock
from typing import Any, TypeAlias, cast

from .._base.forks import renew_lock
from .._call.spec import Spec
from .._plugins.contract import plugin_from
from ..errors import LMGatewayError
from ..hookspecs import hookimpl
from ..lm import LM, spec_of
from ..types import Answer, Emit, Flow, Info, Request

__all__ = ["ScriptedLM"]

Scripted: TypeAlias = str | Mapping[str, Any] | BaseException
"""A text, a whole Answer (or what differs from a plain one), or an error to raise."""

Script: TypeAlias = Iterable[Scripted] | Callable[[Request], Scripted]


_ALL = frozenset({
    "messages", "system", "schema", "tools", "images", "audio", "files", "reasoning", "prefill",
})  # fmt: skip


class _Everything(frozenset[str]):
    """A set that contains every name: a scripted LM takes any parameter, and any state."""

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str)


class _Script:
    """A plugin that answers from a script and keeps the requests."""

    def __init__(self, script: Script) -> None:
        self._next = script if callable(script) else _in_turn(script)
        self._ids = count(1)
        self._lock = Lock()
        renew_lock(self)
        self.requests: list[Request] = []

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(
            api=2,
            capabilities=_ALL,
            params=_Everything(),
            default_model="scripted",
            portable=_Everything(),
        )

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            scripted = self._next(request)
            number = next(self._ids)
        if isinstance(scripted, BaseException):
            raise scripted
        said: dict[str, Any] = {"text": scripted} if isinstance(scripted, str) else dict(scripted)
        if "choices" not in said:
            text = said.pop("text", "")
            some = range(request.params.get("n") or 1)
            said["choices"] = [{"text": text, "index": i, "finish_reason": "stop"} for i in some]
        answer: Any = {"prompt": request.input, "id": f"scripted-{number}", "usage": {}, **said}
        return cast(Answer, answer)

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Answer]:
        answer = self.lmgateway_complete(request)
        for piece in re.findall(r"\s*\S+\s*|\s+", answer["choices"][0]["text"]):
            yield Emit(piece)
        return answer


def _in_turn(answers: Iterable[Scripted]) -> Callable[[Request], Scripted]:
    if isinstance(answers, str):
        answers = [answers]
    waiting = iter(answers)

    def answer(request: Request) -> Scripted:
        for each in waiting:
            return each
        raise LMGatewayError(
            f"the script has no answer left for {str(request.input)[:80]!r}: "
            "give ScriptedLM more answers, or a function"
        )

    return answer


class ScriptedLM(LM):
    """An LM that answers from a script, with no provider behind it.

    ::

        lm = ScriptedLM(["Paris.", RateLimitError("slow down", status=429)])
        lm("What is the capital of France?")     # ["Paris."]
        lm.requests[0].prompt

    Everything around the provider is real: checks, layers, streams, history.

    Args:
        script: Answers in turn, or a function from the Request to an answer. An answer is a
            text, an Answer or part of one, or an error to raise.
        **keywords: As for get_lm.
    """

    _script: _Script

    def __init__(self, script: Script, *, model: str = "scripted", **keywords: Any) -> None:
        double = _Script(script)
        plugin = plugin_from(double, name="scripted", described="ScriptedLM")
        # No cache unless it is asked for: every call takes the next answer of the script.
        keywords = {"cache": False, **keywords}
        super().__init__(Spec.of_object(plugin, model, keywords))
        object.__setattr__(self, "_script", double)

    @property
    def requests(self) -> list[Request]:
        """The requests that the provider got, in order."""
        return list(self._script.requests)

    def copy(self, **changes: Any) -> Any:
        """An LM with some keywords changed. It continues with the same script."""
        changes.pop("name", None)
        twin = LM.__new__(type(self))
        LM.__init__(twin, spec_of(self).with_(changes))
        object.__setattr__(twin, "_script", self._script)
        return twin
