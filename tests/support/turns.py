"""A provider of API 1 or 2 that says what it is told to, and notes what it was asked."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from lmgateway import LM, hookimpl
from lmgateway.testing import lm_from
from lmgateway.types import Delta, Emit, Flow, Info, Request

__all__ = ["WAYS", "Acme", "lm_of"]

CAPABILITIES = frozenset(
    {"messages", "system", "schema", "tools", "images", "audio", "files", "reasoning", "prefill"}
)
PARAMS = frozenset({"stop", "tools", "temperature", "n", "max_tokens", "extra_body"})


class Acme:
    """Answers with one script after another; each is an Answer, an error, or a function."""

    def __init__(self, *says: Any, api: int = 2, portable: tuple[str, ...] = ()) -> None:
        self.says = list(says)
        self.info = Info(
            api=api,
            capabilities=CAPABILITIES if api > 1 else CAPABILITIES & {"messages", "schema"},
            params=PARAMS,
            default_model="acme-1",
            portable=frozenset(portable),
        )
        self.asked: list[Request] = []

    @hookimpl
    def lmgateway_info(self) -> Info:
        return self.info

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Any:
        self.asked.append(request)
        says = self.says.pop(0) if len(self.says) > 1 else self.says[0]
        if isinstance(says, Exception):
            raise says
        return says(request) if callable(says) else says

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Any]:
        answer = self.lmgateway_complete(request)
        for place, choice in enumerate(answer["choices"]):
            if choice.get("text"):
                yield Emit(Delta(choice["text"], place))
        return answer


def lm_of(acme: Acme, name: str = "acme", **keywords: Any) -> LM:
    return lm_from(acme, name, **keywords)


def _plain(lm: LM, **asked: Any) -> Any:
    return lm.complete(**asked)


def _awaited(lm: LM, **asked: Any) -> Any:
    return asyncio.run(lm.acomplete(**asked))


def _streamed(lm: LM, **asked: Any) -> Any:
    with lm.stream(**asked) as stream:
        for _ in stream:
            pass
        return stream.completion


def _astreamed(lm: LM, **asked: Any) -> Any:
    async def main() -> Any:
        async with lm.astream(**asked) as stream:
            async for _ in stream:
                pass
            return stream.completion

    return asyncio.run(main())


WAYS: dict[str, Callable[..., Any]] = {
    "plain": _plain,
    "awaited": _awaited,
    "streamed": _streamed,
    "streamed, awaited": _astreamed,
}


def containers(value: Any) -> Iterator[int]:
    """The ids of all dicts and lists in a value, its own included."""
    if isinstance(value, (dict, list)):
        yield id(value)
        for each in value.values() if isinstance(value, dict) else value:
            yield from containers(each)
