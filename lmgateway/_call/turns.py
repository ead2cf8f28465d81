"""Turns on their way to a plugin: a conversation of its own, with the state that it may see.

What a plugin is given is its own: nothing that it does to it changes the LM, what the user gave,
or the ``prompt`` of the completion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._base.turns import turn_digest
from .._base.values import TypeSchema, on_fresh_stack
from ..types import CompletionWarning, Info, Request
from .answers import is_json

__all__ = ["given"]

_PLAIN = frozenset({str, int, float, bool, type(None)})

#: Keys of the library's own: in a message, which a plugin of API 1 does not know, and in a call.
_OF_MESSAGES = ("reasoning", "is_error")
_OF_CALLS = frozenset({"parsed", "state", "index"})

_WITHOUT = "the turn was sent without its state"


def given(request: Any, info: Info, provider: str) -> tuple[Any, list[CompletionWarning]]:
    """A request of any kind as a plugin is given it, and a warning for each state left behind.

    A turn's state goes along to the provider that made it, and where ``info.portable`` names its
    format, unless the turn has been edited since.

    Args:
        request: As the user asked, checked.
        info: Of the plugin, for this model.
        provider: The name of the provider that is asked.
    """
    if type(request) is not Request:
        kind = type(request)
        return kind(*[_own(getattr(request, name)) for name in kind.__slots__]), []
    messages, schema = request.messages, request.schema
    warnings: list[CompletionWarning] = []
    params = request.params
    params = {  # most are no containers: not worth a call
        name: each if type(each) in _PLAIN else _own(each) for name, each in params.items()
    }
    if messages is not None:
        messages = [
            {**message}
            if len(message) == 2 and type(message.get("content")) is str  # a role and a text
            else _given_turn(message, place, info, provider, warnings)
            for place, message in enumerate(messages)
        ]
    return Request(
        request.model,
        request.prompt,
        messages,
        params,
        request.system,
        schema and (TypeSchema(_own(schema)) if type(schema) is TypeSchema else _own(schema)),
        request.stream,
        request.timeout,
    ), warnings


def _own(value: Any) -> Any:
    """A copy of plain JSON, its containers of the same kinds; a mapping becomes a dict."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    try:
        return _copied(value)
    except RecursionError:
        return on_fresh_stack(_copied, value)


def _copied(value: Any) -> Any:
    if type(value) is dict or isinstance(value, Mapping):
        return {
            name: each if type(each) in _PLAIN else _copied(each) for name, each in value.items()
        }
    if isinstance(value, (list, tuple)):
        kept = tuple if isinstance(value, tuple) else list
        return kept([each if type(each) in _PLAIN else _copied(each) for each in value])
    return value


def _given_turn(
    message: Mapping[str, Any],
    place: int,
    info: Info,
    provider: str,
    warnings: list[CompletionWarning],
) -> Any:
    """A message as the plugin is given it."""
    turn: dict[str, Any] = {**message}
    state = turn.pop("state", None)
    if info.api >= 2 and None in turn.values():  # as SDKs and databases write what is not there
        turn = {key: each for key, each in turn.items() if each is not None or key == "content"}
    for key in _OF_MESSAGES:
        if key in turn and (info.api < 2 or turn[key] is None):
            del turn[key]
    if "tool_calls" in turn:
        calls = turn.pop("tool_calls")
        if isinstance(calls, (list, tuple)):
            state = _first_state(calls) if state is None else state
            calls = list(map(_given_call, calls))
        if calls:  # an empty list says nothing, and some services refuse it
            turn["tool_calls"] = calls
    for key, value in turn.items():
        if type(value) not in _PLAIN:
            turn[key] = _own(value)
    if state is not None:
        problem = _foreign(state, turn, info, provider)
        own = _own_state(state) if problem is None else None
        if own is not None:
            turn["state"] = own
        else:
            problem = problem or f"{_WITHOUT}, which holds what JSON cannot carry"
            warnings.append({"kind": "state", "name": f"messages[{place}]", "detail": problem})
    return turn


def _own_state(state: Any) -> Any:
    """A copy of a state; None if it is no JSON that could be sent."""
    try:
        own = _own(state)
    except RecursionError:  # deeper than any service writes, or within itself
        return None
    return own if is_json(own) else None


def _first_state(calls: Sequence[Any]) -> Any:
    states = (call.get("state") for call in calls if isinstance(call, Mapping))
    return next((state for state in states if state is not None), None)


def _given_call(call: Any) -> Any:
    """A call with OpenAI's keys and those of others, and none of ours."""
    if not isinstance(call, Mapping):
        return call
    own = {
        name: value for name, value in call.items() if name not in _OF_CALLS and value is not None
    }
    if own.get("type") is None and isinstance(own.get("function"), Mapping):
        own["type"] = "function"
    return own


def _foreign(state: Any, turn: Mapping[str, Any], info: Info, provider: str) -> str | None:
    """Why a turn is sent without its state; None if the state goes along."""
    if not _is_state(state) or turn.get("role") != "assistant":
        return "what stands under 'state' is no state of a turn: it was left out"
    made_by, form = state["provider"], state["format"]
    if info.api < 2 or (made_by != provider and form not in info.portable):
        return f"{_WITHOUT}, which is {made_by:.80}'s ({form:.80}) and means nothing to {provider}"
    if state["digest"] != turn_digest(turn):
        return f"{_WITHOUT}, because it has been edited since it was made"
    return None


def _is_state(state: Any) -> bool:
    if not isinstance(state, Mapping) or state.get("turn") is None:
        return False
    texts = [state.get(name) for name in ("format", "provider", "digest")]
    return all(isinstance(text, str) and text for text in texts)
