"""Checks of inputs: odd texts arrive as they are, and nobody's objects are changed."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from functools import partial
from typing import Any

import pytest

from ...errors import PluginError
from ..bench import DEFAULT_CALL, Bench
from ..calls import RecordedCall
from ..conversations import IMAGES, TEXTS, content_with, tool_turns, turns
from ..sent import Sent, dumped, leaves_of, tree_of
from ..wire import Wire
from .sights import REFUSALS, needs, tools_for

__all__ = ["InputChecks"]

_TEXTS = {
    "empty": "",
    "white-space": " \n\t ",
    "unicode": "Straße \u202eabc\u202c e\u0301 \U0001f469\u200d\U0001f4bb \u0000 \ufeff\u2028",
    "quoted": '"{\'a\': \\"b\\"}" </s><|im_end|> {{ x }} {% y %} %s $z &amp; \\n',
    "long": "So long a text is a heliotrope. " * 2000,
}
_DAY = 86_400.0


class InputChecks:
    """What the provider makes of inputs that nobody thinks of."""

    @pytest.mark.parametrize("text", list(_TEXTS))
    @pytest.mark.parametrize("place", ["prompt", "messages", "parts", "result"])
    def test_an_odd_text_is_sent_or_refused(self, bench: Bench, text: str, place: str) -> None:
        """It arrives unchanged, or a typed error says why not; it never breaks the plugin."""
        given = _TEXTS[text]
        call = _call_with(bench, given, place)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # which it may give
                sent = bench.sent(call)
        except PluginError as error:
            pytest.fail(f"{text} text in {place} breaks the plugin: {error}")
        except REFUSALS:
            return
        if not sent.exchanges or sent.is_hidden:
            pytest.skip("what it makes of a call cannot be seen")
        if given.strip():
            assert _holds(sent, given), (
                f"{text} text in {place} is changed on its way: the model reads something else "
                "than the user wrote"
            )

    def test_the_same_call_is_the_same_request(self, bench: Bench, monkeypatch: Any) -> None:
        """A repeat builds the same bytes, so that cache, recordings and batches know it again."""
        for call in _calls(bench):
            first = bench.sent(call)
            if not first.exchanges:
                pytest.skip("it asks for nothing")
            later = time.time() + _DAY
            with monkeypatch.context() as patch:
                patch.setattr(time, "time", partial(float, later))
                patch.setattr(time, "time_ns", partial(int, later * 1e9))
                again = bench.sent(call)
            assert again == first, (
                f"the same call is another request the next time ({_difference(first, again)}): "
                "neither cache nor recordings know it again. Build no time and nothing random "
                "into it; types.derived_id makes ids"
            )

    def test_nothing_of_the_users_is_changed(self, bench: Bench, answered: RecordedCall) -> None:
        """Messages, tools and parameters are the user's, and the LM's defaults the LM's."""
        calls = [*_calls(bench), answered.call] if answered.kind == "complete" else []
        for call in calls:
            before, given = deepcopy(dict(call)), dict(call)
            wire = Wire(*answered.answers())
            lm = bench.lm(wire)
            with suppress(Exception):  # the answer may not fit the call
                lm.complete(**given)
            assert given == before, (
                "the plugin changes what the user gave (messages, tools or parameters): the "
                "user's next call sends something else. Copy before you change"
            )

    def test_defaults_stay_as_they_are(self, bench: Bench) -> None:
        """The second call of an LM with defaults is sent as the first was."""
        defaults = tools_for(bench)
        if "stop" in bench.info.params:
            defaults["stop"] = ["heliotrope"]
        if not defaults:
            pytest.skip("it takes no parameter that is a list")
        seen = []
        wire = Wire()
        lm = bench.lm(wire, **defaults)
        for _ in range(2):
            try:
                lm.complete(**DEFAULT_CALL)
            except REFUSALS:
                pytest.skip("it refuses the lists of the kit")
            except Exception:  # there is no answer
                pass
            if not wire.asked:
                pytest.skip("it asks for nothing")
            seen.append([tree_of(each) for each in wire.asked])
            wire.asked.clear()
        assert seen[0] == seen[1], (
            "a call changes the defaults of its LM: the next one sends something else. Copy "
            "request.params before you change it"
        )


def _call_with(bench: Bench, text: str, place: str) -> Mapping[str, Any]:
    if place == "prompt":
        return {"prompt": text}
    needs(bench, "messages")
    if place == "result":
        needs(bench, "tools")
        history = tool_turns()
        history[2]["content"] = text
        return {"messages": history, **tools_for(bench)}
    said = turns("user", "assistant", "user", texts=(TEXTS[0], TEXTS[1], text))
    if place == "parts":
        said[-1]["content"] = [{"type": "text", "text": text}]
    return {"messages": said}


def _calls(bench: Bench) -> list[Mapping[str, Any]]:
    """Calls of each kind that it takes."""
    info = bench.info
    calls: list[Mapping[str, Any]] = [DEFAULT_CALL]
    if "messages" in info.capabilities:
        calls.append({"messages": turns("user", "assistant", "user")})
    if {"messages", "tools"} <= info.capabilities:
        calls.append({"messages": tool_turns(), **tools_for(bench)})
    if {"messages", "images"} <= info.capabilities:
        content = content_with(IMAGES[0][0])
        calls.append({"messages": [{"role": "user", "content": content}]})
    return calls


def _holds(sent: Sent, text: str) -> bool:
    if sent.holds(text):
        return True
    return any(isinstance(leaf, str) and text in leaf for _, leaf in leaves_of(sent.exchanges))


def _difference(one: Sent, other: Sent) -> str:
    before, now = dict(leaves_of(one.exchanges)), dict(leaves_of(other.exchanges))
    paths = [path for path in now if before.get(path) != now[path]]
    return ".".join(paths[0]) if paths else dumped(other.exchanges)[:60]
