"""What an effect may not hold is told as the plugin's fault, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from support.service import World, says

from lmgateway import errors
from lmgateway._layers.cache import cache
from lmgateway.types import Blocking, Cleanup, Delta, Effect, Emit, Flow, HTTPRequest, Request, send


def post(**fields: Any) -> HTTPRequest:
    return HTTPRequest(**{"method": "POST", "base_url": None, "path": "/x", **fields})


WRONG: dict[str, Effect] = {
    "a method that is no text": post(method=1),
    "a path that is no text": post(path=b"/x"),
    "a base URL that is no text": post(base_url=1),
    "headers that are pairs": post(headers=[("a", "b")]),
    "a query that is a text": post(query="a=b"),
    "a query that is pairs": post(query=[("a", "b")]),
    "no query": post(query=None),
    "content that is a text": post(content="text"),
    "content that is a bytearray": post(content=bytearray(b"a")),
    "a form that is a text": post(form="a=b"),
    "a form that is pairs": post(form=[("a", "b")]),
    "json and content": post(json={}, content=b""),
    "json and form": post(json={}, form={}),
    "content and form": post(content=b"", form={}),
    "keep that is a number": post(keep=0),
    "keep that is None": post(keep=None),
    "vary that is a list": post(vary=["x"]),
    "a function that is none": Blocking("work"),  # type: ignore[arg-type]
    "a cancel that is none": Blocking(print, cancel="no"),  # type: ignore[arg-type]
    "a clean-up that is a text": Cleanup("DELETE /x"),  # type: ignore[arg-type]
    "a clean-up with a wrong field": Cleanup(post(keep="no")),
    "a clean-up of work": Cleanup(Blocking(print)),  # type: ignore[arg-type]
    "a text that is none": Emit(Delta(1)),  # type: ignore[arg-type]
    "a part that is a text": Emit(Delta(part="text")),  # type: ignore[arg-type]
    "a part without a type": Emit(Delta(part={"text": "a"})),  # type: ignore[typeddict-item]
    "another word for partial": Emit(Delta(part={"type": "text"}, partial="add")),  # type: ignore
    "an id that is no text": Emit(Delta(part={"type": "text"}, id=1)),  # type: ignore[arg-type]
}

SOUND: dict[str, Effect] = {
    "a query": post(query={"a": ["1", "2"], "b": None}),
    "content": post(content=b""),
    "a form": post(form={}),
    "what is not kept": post(keep=False),
    "a whole part": Emit(Delta(part={"type": "text", "text": "a"})),
    "a part that goes on": Emit(Delta(part={"type": "file"}, partial="append", id="a")),
    "nothing to clean up": Cleanup(None),
}


def ask(effect: Effect) -> World:
    def provider(request: Request) -> Flow[Any]:
        if isinstance(effect, HTTPRequest | Blocking):
            yield from send(effect)
        else:
            yield effect
        return {"choices": [{"text": "a"}]}

    world = World(cache(), provider=provider)
    world.service.answer = lambda _: says("a")
    world.ask(cache=False)
    return world


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_the_plugins_fault(name: str) -> None:
    with pytest.raises(errors.PluginContractError, match="with a wrong value in it"):
        ask(WRONG[name])


@pytest.mark.parametrize("name", SOUND)
def test_a_right_value_passes(name: str) -> None:
    ask(SOUND[name])
