"""Checks of turns: an answer, given back to the service, is seen by it whole."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from ...errors import InputError, PluginError, UnsupportedError
from ...types import JSON
from ..bench import Bench
from ..calls import RecordedCall
from ..conversations import TEXTS, tool_turns, turns
from ..sent import Path, Sent, dumped, leaves_of
from ..voices import spot_of, spots_of
from .sights import needs, tools_for

__all__ = ["TurnChecks"]

_FEWEST = 6  # characters of what stands in the state alone
_LONG = 8  # characters of a text that stands nowhere else by chance
_THOUGHT = "It may have been a celandine."
_OF_THOUGHTS = re.compile(r"thought|think|reason", re.I)
_OF_FAILURES = re.compile(r"^(is_?)?(error|failed|failure)$", re.I)
_GO_ON = "Go on, please, with a heliotrope."
_FOREIGN = {"format": "kit.foreign", "turn": {"signature": "c3RhdGUtb2YtYW5vdGhlcg"}}


class TurnChecks:
    """What the provider sends of a turn that it has answered with."""

    def test_a_turn_survives(self, bench: Bench, answered: RecordedCall) -> None:
        """What the service must see again is in the next request, as it came."""
        message = _message(bench, answered)
        sent = _sent(bench, answered, message)
        visible = [] if message.get("state") else _visible(message)  # there it may be in pieces
        missing = [text for text in visible if not sent.holds(text)]
        assert not missing, (
            f"the model's own turn is sent without {missing[0]!r:.60}: it does not see what it "
            'said. Look where turns of the role "assistant" are written'
        )
        if message.get("state"):
            lost = [text for text in _hidden(message) if not sent.holds(text)]
            assert not lost, (
                f"of the state of a turn {lost[0]!r:.60} is not sent again: the service refuses "
                "the next turn, or thinks anew. Send message['state']['turn'] as it came"
            )

    def test_an_edited_turn_is_sent_as_it_is_seen(
        self, bench: Bench, answered: RecordedCall
    ) -> None:
        """Who edits a turn has it sent so: what the user wrote counts, and not the old state."""
        message = _message(bench, answered)
        said = {**message, "content": f"{message.get('content') or ''} and a quillwort"}
        sent = _sent(bench, answered, said)
        assert sent.holds("and a quillwort"), (
            "a turn that the user has edited is sent as the model said it. Look where "
            "message['state'] is read"
        )
        _check_hidden(sent, message, "edited")

    def test_a_turn_is_sent_once(self, bench: Bench, answered: RecordedCall) -> None:
        """What a turn says is sent as its state or as its text, not as both."""
        message = _message(bench, answered)
        sent = _sent(bench, answered, message)
        turn = dumped((message.get("state") or {}).get("turn"))
        for text in _visible(message):
            if len(text) < _LONG or text in dumped(answered.call):
                continue
            assert sent.text.count(text) <= max(1, turn.count(text)), (
                f"of the model's own turn {text!r:.60} is sent twice: it reads that it repeats "
                "itself. Send message['state']['turn'] or what can be seen of the turn"
            )

    def test_a_thought_is_not_sent_as_said(self, bench: Bench) -> None:
        """``reasoning`` of a turn is left out, or sent as what it is."""
        needs(bench, "messages")
        histories: list[tuple[Any, dict[str, Any]]] = [(turns("user", "assistant", "user"), {})]
        if "tools" in bench.info.capabilities:
            histories.append((tool_turns(), tools_for(bench)))
        for history, tools in histories:
            history[1]["reasoning"] = _THOUGHT
            tree = bench.sent({"messages": history, **tools}).main(TEXTS[1])
            said = spot_of(tree, TEXTS[1])
            if said is None:
                continue
            for thought in spots_of(tree, _THOUGHT):
                beside = [thought.path, thought.leaf.replace(_THOUGHT, ""), *thought.marks]
                assert thought.names != said.names or _OF_THOUGHTS.search(dumped(beside)), (
                    "what the model thought is sent as what it said: it takes its doubts for its "
                    "answer. Leave message['reasoning'] out, or send it in the service's own field"
                )

    def test_a_foreign_turn_is_sent_as_it_is_seen(
        self, bench: Bench, answered: RecordedCall
    ) -> None:
        """A turn of another provider's is sent without its state, and never refused."""
        message = _message(bench, answered)
        state = {**_FOREIGN, "provider": "kit-elsewhere", "model": "m"}
        for said in ({**message, "state": state}, _without_state(message)):
            try:
                sent = _sent(bench, answered, said)
            except (PluginError, InputError, UnsupportedError) as error:
                pytest.fail(
                    f"a turn without a state of this service's cannot be sent: {error}. A "
                    "conversation must be able to move here at any turn"
                )
            missing = [text for text in _visible(message) if not sent.holds(text)]
            assert not missing, f"a turn from elsewhere is sent without {missing[0]!r:.60}"
            assert not sent.holds(str(_FOREIGN["turn"])), "the state of another provider is sent"
            assert "c3RhdGUtb2YtYW5vdGhlcg" not in sent.text, "another provider's state is sent"

    def test_none_of_our_keys_is_sent(self, bench: Bench, answered: RecordedCall) -> None:
        """``state``, ``parsed`` and ``is_error`` are the library's own: services refuse them."""
        message = _message(bench, answered)
        sent = _sent(bench, answered, message)
        given = {name for path, _ in leaves_of(message.get("state")) for name in path}
        keys = {name for path, _ in leaves_of(sent.exchanges) for name in path}
        ours = keys & {"state", "parsed", "digest"} - given
        assert not ours, f"the key {sorted(ours)[0]!r} is the library's own, and is sent"

    def test_that_a_tool_failed_is_in_the_services_form(self, bench: Bench) -> None:
        """``is_error`` is told where the service has a place for it, and only of what failed."""
        needs(bench, "messages", "tools")
        good, bad = (
            bench.sent({"messages": tool_turns(failed=failed), **tools_for(bench)})
            for failed in (False, True)
        )
        if not good.exchanges or good.is_hidden:
            pytest.skip("what it makes of a call cannot be seen")
        assert not any({"is_error", "tool_call_id"} <= keys for keys in _objects(bad.exchanges)), (
            "is_error is sent beside tool_call_id, in the library's own form: services refuse "
            'what they do not know. Look where turns of the role "tool" are written'
        )
        told = [path for path, leaf in leaves_of(good.exchanges) if _is_failure(path, leaf)]
        assert not told, (
            f"a tool's result that is right is sent with {'.'.join(told[0])!r}: the model takes it "
            "for a failure. Look where is_error is read"
        )
        places = {name for keys in _objects(good.exchanges) for name in keys}
        types = {leaf for path, leaf in leaves_of(good.exchanges) if path[-1:] == ("type",)}
        has_a_place = "tool_result" in types or places & {"toolResult", "functionResponse"}
        assert not has_a_place or bad != good, (
            "a tool that failed is sent as one that did not, though the service has a place for "
            "it (is_error of tool_result, status of toolResult, error in functionResponse): the "
            "model believes the message of an error. Look where is_error is read"
        )
        if bad == good:
            pytest.skip(
                "it sends the result of a tool that failed as any other, which is right only where "
                "the service has no form for a failure"
            )


def _objects(tree: JSON) -> Iterator[frozenset[str]]:
    """The names of the fields of each object in a tree."""
    if isinstance(tree, Mapping):
        yield frozenset(map(str, tree))
    inside = tree.values() if isinstance(tree, Mapping) else tree
    if isinstance(inside, str) or not hasattr(inside, "__iter__"):
        return
    for each in inside:
        yield from _objects(each)


def _is_failure(path: Path, leaf: JSON) -> bool:
    """Whether a scalar says that something failed."""
    name = path[-1] if path else ""
    if _OF_FAILURES.match(name):
        return leaf is True or (isinstance(leaf, str) and leaf.lower() not in ("", "false", "no"))
    return name == "status" and str(leaf).lower() in ("error", "failed")


def _message(bench: Bench, answered: RecordedCall) -> dict[str, Any]:
    """The turn that a recorded call was answered with."""
    needs(bench, "messages")
    if answered.kind != "complete" or not answered.responses:
        pytest.skip("no answer is recorded")
    message: Any = bench.replay(answered).completion["choices"][0].get("message")
    if not message or not (message.get("content") or message.get("tool_calls")):
        pytest.skip("the recorded answer says nothing that could be given back")
    return dict(message)


def _sent(bench: Bench, answered: RecordedCall, message: Mapping[str, Any]) -> Sent:
    """What is sent for the conversation that goes on after this turn."""
    call = dict(answered.call)
    before = call.pop("messages", None) or [{"role": "user", "content": call.pop("prompt")}]
    call.pop("schema", None)
    calls = message.get("tool_calls") or ()
    results = [
        {"role": "tool", "tool_call_id": each["id"], "content": f"Result {place}: a samphire."}
        for place, each in enumerate(calls)
    ]
    after = [*results, {"role": "user", "content": _GO_ON}]
    sent = bench.sent({**call, "messages": [*before, message, *after]}, stream=answered.stream)
    if not sent.exchanges:
        pytest.skip("it asks for nothing")
    if sent.is_hidden:
        pytest.skip("its Blocking has no key that says what is asked")
    return sent


def _visible(message: Mapping[str, Any]) -> Iterator[str]:
    """What can be seen of a turn: its text, and the names and arguments of its calls."""
    content = message.get("content")
    if isinstance(content, str) and content.strip():
        yield content.strip()
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield function["name"]
        try:
            arguments = json.loads(function["arguments"] or "{}")
        except ValueError:
            continue
        for _, leaf in leaves_of(arguments):
            if isinstance(leaf, str) and leaf.strip():
                yield leaf


def _hidden(message: Mapping[str, Any]) -> list[str]:
    """What stands in a turn's state alone."""
    state = message.get("state") or {}
    bare = {**message, "state": None}
    texts = [leaf for _, leaf in leaves_of(bare) if isinstance(leaf, str)]
    seen = "\n".join([*texts, json.dumps(bare, ensure_ascii=False)])
    found: list[JSON] = [leaf for _, leaf in leaves_of(state.get("turn"))]
    return [
        leaf
        for leaf in found
        if isinstance(leaf, str) and len(leaf) >= _FEWEST and leaf not in seen
    ]


def _without_state(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    bare = {name: each for name, each in message.items() if name not in ("state", "tool_calls")}
    if calls:
        bare["tool_calls"] = [
            {name: each for name, each in call.items() if name != "state"} for call in calls
        ]
    return bare


def _check_hidden(sent: Sent, message: Mapping[str, Any], what: str) -> None:
    kept = [text for text in _hidden(message) if len(text) > 15 and sent.holds(text)]
    assert not kept, (
        f"a turn that was {what} is sent with its old state ({kept[0]!r:.40}): the service sees "
        "another turn than the user. Use no state but that of message['state']"
    )
