"""Checks of requests: every parameter and capability that the user gave reaches the service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest

from ...errors import PluginError, UnsupportedError
from ..bench import DEFAULT_CALL, Bench
from ..samples import BESIDE, sample_values
from ..sent import Sent
from ..wire import Wire
from .sights import REFUSALS, needs_stream

__all__ = ["RequestChecks"]


_TURNS = [
    {"role": "user", "content": "The word is heliotrope."},
    {"role": "assistant", "content": "I shall remember quillwort."},
    {"role": "user", "content": "Which word was it, samphire?"},
]
_PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNk+A8AAQUBAScY42YAAAAASUVORK5C"
_PICTURE = [
    {"type": "text", "text": "What is in this picture?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{_PIXEL}"}},
]
_SCHEMA = {
    "type": "object",
    "properties": {"heliotrope": {"type": "string"}},
    "required": ["heliotrope"],
    "additionalProperties": False,
}

#: What a capability is asked for with, and the texts that must then be sent.
_CAPABILITIES: dict[str, tuple[Mapping[str, Any], tuple[str, ...]]] = {
    "messages": ({"messages": _TURNS}, ("heliotrope", "quillwort", "samphire")),
    "images": ({"messages": [{"role": "user", "content": _PICTURE}]}, (_PIXEL,)),
    "system": ({"prompt": "Hello.", "system": "Speak of heliotrope."}, ("heliotrope", "Hello.")),
    "schema": ({"prompt": "Name one.", "schema": _SCHEMA}, ("heliotrope", "Name one.")),
}


class RequestChecks:
    """What the provider sends for a call."""

    samples: ClassVar[Mapping[str, Any]]

    @pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
    def test_a_parameter_is_sent_or_refused(
        self, bench: Bench, parameter: str, stream: bool
    ) -> None:
        """A parameter changes the request, or is refused; it is never dropped."""
        if stream:
            needs_stream(bench)
        beside = {name: v for name, v in BESIDE.get(parameter, {}).items() if name != parameter}
        beside = {name: v for name, v in beside.items() if name in bench.info.params}
        without = bench.first({**DEFAULT_CALL, **beside}, stream=stream)
        if without is None:
            pytest.skip("its Blocking has no key that says what is asked")
        values = sample_values(parameter, self.samples)
        fates: list[str] = []
        for value in values:
            fates.append(self._fate(bench, {**beside, parameter: value}, without, stream=stream))
            if fates[-1] == "sent":
                return
        assert "dropped" not in fates, (
            f"{parameter} is dropped: the request is the same with {values!r:.100} as without"
        )

    def _fate(self, bench: Bench, params: Mapping[str, Any], without: Any, *, stream: bool) -> str:
        try:
            asked = bench.first({**DEFAULT_CALL, **params}, stream=stream)
        except PluginError:
            raise
        except REFUSALS:
            return "refused"
        return "sent" if asked != without else "dropped"

    @pytest.mark.parametrize("capability", list(_CAPABILITIES))
    def test_a_capability_works_or_is_refused(self, bench: Bench, capability: str) -> None:
        """A declared capability sends all that was given; any other is refused before I/O."""
        call, texts = _CAPABILITIES[capability]
        declared = bench.info.capabilities
        if capability in declared or (capability == "system" and "messages" in declared):
            self._carries(bench, call, texts)
            return
        wire = Wire()
        with pytest.raises(UnsupportedError):
            bench.lm(wire).complete(**call)
        assert not wire.asked, "it was asked for before it was refused"

    def _carries(self, bench: Bench, call: Mapping[str, Any], texts: tuple[str, ...]) -> None:
        for stream in (False, True) if "lmgateway_stream" in bench.plugin.hooks else (False,):
            asked = bench.first(call, stream=stream)
            if asked is None:
                pytest.skip("its Blocking has no key that says what is asked")
            sent = json.dumps(asked, ensure_ascii=False)
            missing = [text for text in texts if text not in sent]
            assert not missing, f"what it declares it drops: {missing[0]!r:.60} is not sent"
            places = [sent.index(text) for text in texts]
            assert places == sorted(places) or len(texts) < 3, "the turns are sent out of order"

    def test_the_prompt_is_sent_unchanged(self, bench: Bench) -> None:
        """The prompt is sent as it is, with white space, quotes, and characters outside ASCII."""
        prompt = ' A "line",\n\tand\\another: naïve \U0001d518nicode\u2028\x00 '
        asked = bench.first({"prompt": prompt})
        if asked is None:
            pytest.skip("its Blocking has no key that says what is asked")
        assert Sent((asked,)).holds(prompt), "the prompt was changed on its way"
