"""Turns of a conversation: as an answer gives them to be kept, and as they are sent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from typing import Any

from ...types import JSON, Message, State
from .calls import holds_more
from .fields import sound
from .files import sendable

__all__ = ["FORMAT", "needs_state", "state_of", "visible_messages", "wire_messages"]

#: Names the form of ``state["turn"]``: an assistant's message of chat completions.
FORMAT = "openai.chat"

# What the visible form of a turn holds, or what only an answer has.
_VISIBLE = frozenset({
    "role", "content", "refusal", "tool_calls", "function_call", "reasoning", "annotations",
    "index",
})  # fmt: skip
_OUTPUT_ONLY = frozenset({"annotations", "function_call", "index", "tool_calls", "role"})
_OURS = ("state", "reasoning", "is_error")


def needs_state(message: Mapping[str, JSON]) -> bool:
    """Whether a message holds what its visible form does not."""
    for name, value in message.items():
        if value and name not in _VISIBLE:
            return True
    if type(message.get("content")) is list:
        return True
    raw = message.get("tool_calls")
    return bool(raw) and holds_more(raw)  # type: ignore[arg-type]


def state_of(message: Mapping[str, JSON], calls: Sequence[Mapping[str, JSON]]) -> State:
    """The turn that the service must see again: its message, without what is output alone.

    Args:
        message: As it came.
        calls: Its tool calls as they were read: with the ids that the user sees.
    """
    turn: dict[str, JSON] = {"role": "assistant"}
    for name, value in message.items():
        if name == "audio":  # OpenAI has it, and takes its id
            spoken = value.get("id") if type(value) is dict else None
            if spoken:
                turn[name] = {"id": sound(spoken)}
        elif name == "content" or not (name in _OUTPUT_ONLY or _is_empty(value)):
            turn[name] = sound(value)
    if not turn.get("content"):
        # Some hosts want the key; a stream may say "" where the plain answer says null.
        turn["content"] = None if calls or "audio" in turn else ""
    if calls:
        raw = message.get("tool_calls") or [{}]
        turn["tool_calls"] = [_call(*pair) for pair in zip(raw, calls, strict=True)]
    return {"format": FORMAT, "turn": turn}


def _is_empty(value: JSON) -> bool:
    return value is None or value == "" or value == [] or value == {}


def _call(raw: Mapping[str, JSON], read: Mapping[str, JSON]) -> dict[str, JSON]:
    call = {**read}
    call.pop("parsed", None)
    for name, value in raw.items():
        if (name == "type" and value) or (
            name not in call and name != "index" and value is not None
        ):
            call[name] = sound(value)
    function = raw.get("function")
    if type(function) is dict and "function" in call:
        more = {name: sound(value) for name, value in function.items() if value is not None}
        call["function"] = {**more, **call["function"]}
    return call


def visible_messages(messages: Iterable[Message | Mapping[str, Any]]) -> list[Any]:
    """A conversation without the library's own keys, for what can carry no state: a template."""
    return [_visible(turn) for turn in messages]


def _visible(turn: Any) -> Any:
    for name in _OURS:
        if name in turn:
            return {key: value for key, value in turn.items() if key not in _OURS}
    return turn


def wire_messages(
    messages: Sequence[Message | Mapping[str, Any]], longest_id: int | None = None
) -> list[Any]:
    """A conversation as it is sent: kept turns as they came, and no key of the library's own.

    Args:
        messages: As the core hands them over.
        longest_id: Characters that the id of a call may have; a longer one gets a shorter in its
            place, in the call and in the tool's answer.

    Raises:
        InputError: a file in a message is not as it must be.
    """
    sent: list[Any] = []
    calling = False
    for place, turn in enumerate(messages):
        if len(turn) == 2 and type(turn.get("content")) is str:  # nearly always, beside its role
            sent.append(turn)
        else:
            sent.append(_wire(turn, place))
            calling = True
    if calling and longest_id is not None:
        return _with_short_ids(sent, messages, longest_id)
    return sent


def _with_short_ids(sent: list[Any], given: Sequence[Mapping[str, Any]], longest: int) -> list[Any]:
    long = {each for each in _ids(sent) if len(each) > longest}
    if long:  # what a kept turn says stays, and so does what answers it
        kept = (turn for turn, told in zip(sent, given, strict=True) if "state" in told)
        ids = {each: _shorter(each) for each in long.difference(_ids(kept))}
        sent = [_renamed(turn, ids) for turn in sent]
    return sent


def _ids(messages: Iterable[Any]) -> Iterator[str]:
    """The ids of calls, and those that the answers of tools name."""
    for turn in messages:
        values = [turn.get("tool_call_id"), *(call.get("id") for call in _calls(turn))]
        yield from (value for value in values if isinstance(value, str))


def _calls(turn: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    calls = turn.get("tool_calls")
    given = calls if isinstance(calls, (list, tuple)) else ()
    return [call for call in given if isinstance(call, Mapping)]


def _shorter(call_id: str) -> str:
    return f"call_{sha256(call_id.encode()).hexdigest()[:24]}"


def _renamed(turn: Any, ids: Mapping[str, str]) -> Any:
    answered = turn.get("tool_call_id")
    if isinstance(answered, str) and answered in ids:
        turn = {**turn, "tool_call_id": ids[answered]}
    calls = _calls(turn)
    if not ids.keys().isdisjoint(_ids([{"tool_calls": calls}])):
        renamed = [
            {**call, "id": ids.get(call["id"], call["id"])}
            if isinstance(call, Mapping) and isinstance(call.get("id"), str) else call
            for call in turn["tool_calls"]
        ]  # fmt: skip
        turn = {**turn, "tool_calls": renamed}
    return turn


def _wire(turn: Any, place: int) -> Any:
    state = turn.get("state")
    if isinstance(state, Mapping) and state.get("format") == FORMAT:
        kept = state.get("turn")
        if isinstance(kept, Mapping):
            return kept
    turn = _visible(turn)
    content = turn.get("content")
    if type(content) is list or type(content) is tuple:
        sent = sendable(content, f"messages[{place}].content")
        if sent is not content:
            turn = {**turn, "content": sent}
    return turn
