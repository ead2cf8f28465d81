"""Checks of voices: no turn is told as somebody else's, in whatever words the service has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ..bench import Bench
from ..conversations import CALLS, RESULTS, TEXTS, tool_turns, turns
from ..voices import Spot, Voices, spot_of, stands_as
from .sights import needs, seen_if_taken, tools_for

__all__ = ["VoiceChecks"]

_WORDS = ("heliotrope", "quillwort", "samphire")
_LOOK = "Look where the role of a turn is written"


class VoiceChecks:
    """As whose the provider sends what was said, told by how it sends a plain conversation."""

    def test_a_conversation_is_told_as_a_prompt_is(self, bench: Bench, way: bool) -> None:
        """A turn of the user's is marked as a prompt alone is."""
        voices = _voices(bench, stream=way)
        sent = seen_if_taken(bench, {"prompt": TEXTS[0]}, stream=way)
        prompt = spot_of(sent.main(_WORDS[0]), _WORDS[0])
        for name, value in voices.user.items():
            told = None if prompt is None else prompt.mark(name)
            assert told in (None, value) or told != voices.model[name], (
                f"in a conversation the user's turns have the {name} {value!r}, and a prompt has "
                f"{told!r}, which the model's turns have there: the model takes its own words for "
                f"the user's. {_LOOK}"
            )

    def test_calls_and_results_are_told_as_whose_they_are(self, bench: Bench, way: bool) -> None:
        """A call is the model's, and a result is neither the model's nor said by the user."""
        voices = _voices(bench, "tools", stream=way)
        sent = seen_if_taken(bench, {"messages": tool_turns(), **tools_for(bench)}, stream=way)
        tree = sent.main("bistort")
        user = spot_of(tree, TEXTS[0])
        for word in (CALLS[0][3][0], CALLS[1][3][0], "bistort"):
            spot = spot_of(tree, word)
            assert spot is None or not voices.is_users(spot) or voices.is_models(spot), (
                f"what the model said or called ({word}) is sent as the user's: the model does not "
                f"know that it was its own. {_LOOK}"
            )
        for text in RESULTS:
            spot = spot_of(tree, text)
            if spot is None:
                continue
            assert not voices.is_models(spot) or voices.is_users(spot), (
                f"the result of a tool ({text!r}) is sent as said by the model: the service "
                f"refuses it, or the model believes to have made it up. Look where turns of the "
                'role "tool" are written'
            )
            assert user is None or not stands_as(spot, user, text), (
                f"the result of a tool ({text!r}) is sent just as a turn of the user's: the model "
                'takes it for the user\'s words. Look where turns of the role "tool" are written'
            )

    def test_a_system_text_comes_first(self, bench: Bench, way: bool) -> None:
        """It is in a place of its own, or before the conversation; it is not told as the user's."""
        needs(bench, "system")
        calls: list[Mapping[str, Any]] = [{"prompt": TEXTS[1], "system": TEXTS[0]}]
        if "messages" in bench.info.capabilities:
            calls.append({"messages": turns("user", texts=TEXTS[1:2]), "system": TEXTS[0]})
            calls.append({"messages": turns("system", "user")})
        for call in calls:
            tree = seen_if_taken(bench, call, stream=way).main(_WORDS[1])
            system, user = spot_of(tree, TEXTS[0]), spot_of(tree, TEXTS[1])
            if system is None or user is None:
                continue  # elsewhere, or in another form
            assert not stands_as(system, user, TEXTS[0]), (
                "a system text is sent as a turn of the user's: whoever writes to the model can "
                f"overrule it. {_LOOK}"
            )
            assert _is_before(system, user), (
                "the system text is sent after what the user said: the service refuses it, or the "
                "model takes it for the newest order. Look where request.system is written"
            )


def _is_before(one: Spot, other: Spot) -> bool:
    if one.path == other.path:
        return one.leaf.index(TEXTS[0]) < one.leaf.index(TEXTS[1])
    return one.comes_before(other)


def _voices(bench: Bench, *capabilities: str, stream: bool) -> Voices:
    needs(bench, "messages", *capabilities)
    call = {"messages": turns("user", "assistant", "user")}
    voices = Voices.of(seen_if_taken(bench, call, stream=stream).main(_WORDS[1]), _WORDS)
    if voices is None:
        pytest.skip("it writes whole conversations into one text, or tells no roles")
    return voices
