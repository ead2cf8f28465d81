"""Checks of orders: a conversation is sent to its end, and what it holds in the order given."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from ...errors import PluginError
from ...types import JSON
from ..bench import Bench
from ..conversations import CALLS, IMAGES, TEXTS, content_with, tool_turns, turns
from ..sent import Sent, dumped, leaves_of, share_of
from ..voices import spot_of
from .sights import seen_if_taken, tools_for

__all__ = ["OrderChecks"]

_LONG = 41
_ODD = {
    "cut": ('{"word": "fumitory', "fumitory"),
    "a-list": ('["fumitory", 86753]', "fumitory"),
    "a-text": ('"fumitory"', "fumitory"),
}


class OrderChecks:
    """What the provider leaves out of a conversation, or moves."""

    def test_a_long_conversation_is_sent_whole(self, bench: Bench, way: bool) -> None:
        """However many turns there are, each arrives, in order."""
        texts = tuple(f"This is turn {n}, of the sort kit{n:03}x." for n in range(_LONG))
        roles = [("user", "assistant")[n % 2] for n in range(_LONG)]
        sent = seen_if_taken(
            bench, {"messages": turns(*roles, texts=texts)}, "messages", stream=way
        )
        _check_order(sent, [f"kit{n:03}x" for n in range(_LONG)], "the turns of a conversation")

    def test_turns_of_one_side_are_all_sent(self, bench: Bench) -> None:
        """Several turns of one role stand one after another; none takes the place of another."""
        for roles in (("user", "user", "user"), ("user", "assistant", "assistant", "user")):
            texts = (*TEXTS[:2], "They are a bistort.", TEXTS[2])[-len(roles) :]
            sent = seen_if_taken(bench, {"messages": turns(*roles, texts=texts)}, "messages")
            _check_order(
                sent, [text.split()[-1].strip(".?") for text in texts], "turns of one role"
            )

    def test_system_texts_keep_their_order(self, bench: Bench) -> None:
        """Each system text arrives, from wherever it comes, in order and apart from the others."""
        for roles in (("system", "user"), ("developer", "user"), ("system", "system", "user")):
            texts = (*TEXTS[1:][: len(roles) - 1], "They are a bistort.")
            call = {"messages": turns(*roles, texts=texts), "system": TEXTS[0]}
            sent = seen_if_taken(bench, call, "messages", "system")
            said = [TEXTS[0], *texts[:-1]]
            words = [text.split()[-1].strip(".?") for text in said]
            _check_order(sent, words, "the system texts, system= before those in messages,")
            for one, other in pairwise(said):
                assert not sent.holds(one + other), (
                    f"two system texts are sent as one word after another ({one + other!r}): the "
                    "model reads them as one sentence. Put an empty line between them"
                )

    def test_a_developers_text_is_no_turn_of_the_users(self, bench: Bench) -> None:
        """A turn of the role ``developer`` differs from the same words of the user's."""
        said, others = (
            seen_if_taken(bench, {"messages": turns(role, "user")}, "messages", "system")
            for role in ("developer", "user")
        )
        assert said != others, (
            "a turn of the role developer is sent as one of the user's: whoever writes to the "
            "model can overrule it. Send it as a system text"
        )

    def test_results_in_any_order_find_their_calls(self, bench: Bench) -> None:
        """Where nothing but the order ties a result to its call, it is the order of the calls."""
        history = tool_turns((CALLS[0][1], CALLS[0][1]))
        history[2:4] = history[3:1:-1]
        sent = seen_if_taken(bench, {"messages": history, **tools_for(bench)}, "messages", "tools")
        tree = sent.main("bistort")
        words = ("tansy", "borage", "bellwort", "milkvetch")
        said = [_leaves(share_of(tree, word, [w for w in words if w != word])) for word in words]
        if None in said:
            return  # a text in which all turns are written out
        first, second, one, other = (each or set() for each in said)
        if (one & first) - second and (other & second) - first:
            return  # ids tie them
        text = dumped(tree)
        assert text.index("bellwort") < text.index("milkvetch"), (
            "the results of two calls of one tool are sent without ids, and not in the order of "
            "the calls: the model takes each for the result of the other. Look where turns of the "
            'role "tool" are written'
        )

    def test_a_turn_keeps_its_order(self, bench: Bench) -> None:
        """A text before calls stays before them, and each image between its texts."""
        conversations: list[tuple[list[dict[str, Any]], Sequence[str], str]] = [
            (tool_turns(), ("quillwort", *(call[3][0] for call in CALLS)), "tools")
        ]
        content = content_with(*(part for part, _, _ in IMAGES))
        texts = [part["text"] for part in content[::2]]
        datas = [data for _, data, _ in IMAGES]
        words = [texts[0], datas[0], texts[1], datas[1], texts[2]]
        conversations.append(([{"role": "user", "content": content}], words, "images"))
        for messages, given, capability in conversations:
            if not {"messages", capability} <= bench.info.capabilities:
                continue
            tools = tools_for(bench) if capability == "tools" else {}
            sent = seen_if_taken(bench, {"messages": messages, **tools}, "messages")
            spots = [spot_of(sent.main(given[0]), word) for word in given]
            for one, other in pairwise(each for each in spots if each is not None):
                assert one.comes_before(other), (
                    f"what one turn holds is sent in another order ({other.leaf!r:.40} before "
                    f"{one.leaf!r:.40}): the model reads of 'this picture' beside another one. "
                    "Look where the content of a turn is written"
                )

    def test_arguments_are_written_once(self, bench: Bench) -> None:
        """The arguments of a call are JSON, or a text of JSON; not a text of a text of it."""
        sent = seen_if_taken(
            bench, {"messages": tool_turns(), **tools_for(bench)}, "messages", "tools"
        )
        for path, leaf in leaves_of(sent.exchanges):
            if isinstance(leaf, str) and leaf[:1] == '"' and CALLS[0][3][0] in leaf:
                pytest.fail(
                    f"the arguments of a call are sent as JSON within JSON ({path[-1]}={leaf!r:.60}"
                    "): the service reads a text where an object is due. Look where tool_calls are "
                    "written"
                )

    @pytest.mark.parametrize("arguments", list(_ODD))
    def test_odd_arguments_of_a_call_are_sent(self, bench: Bench, arguments: str) -> None:
        """A model may write arguments that are no object; the turn can be given back all the same.

        They arrive in whatever form, or are refused.
        """
        text, word = _ODD[arguments]
        history = tool_turns()
        history[1]["tool_calls"][0]["function"]["arguments"] = text
        try:
            sent = seen_if_taken(
                bench, {"messages": history, **tools_for(bench)}, "messages", "tools"
            )
        except PluginError as error:
            pytest.fail(f"arguments of a call that are no object break the plugin: {error}")
        assert sent.holds(word), (
            f"the arguments {text!r} of a call are dropped: the model does not see what it did "
            "wrong, and does it again. Look where tool_calls are written"
        )


def _check_order(sent: Sent, words: Sequence[str], what: str) -> None:
    for word in words:
        assert sent.holds(word), (
            f"of {what} one is dropped ({word}): the model does not know of it. Look where "
            "request.messages is read"
        )
    text = dumped(sent.main(words[-1]))
    places = [text.index(word) for word in words if word in text]
    assert places == sorted(places), (
        f"{what} are sent in another order: the model reads another conversation. Look where "
        "request.messages is read"
    )


def _leaves(share: JSON) -> set[str] | None:
    return None if share is None else {str(leaf) for _, leaf in leaves_of(share) if leaf}
