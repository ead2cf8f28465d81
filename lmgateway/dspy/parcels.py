"""Parcels: turns that DSPy's own types refuse, on their way to the engine.

DSPy reads ``messages=`` into the types of lm15, which refuse every key that they have no place for:
the ``state`` of an answer, a speaker's ``name``, a file's ``filename``, ``cache_control``. Others
they write anew: ``refusal``, ``reasoning_content``. Such a turn travels whole in the call's
``metadata``, a plain turn stands in its place, and the engine puts it back. So DSPy's cache knows
it, and no service sees the parcel.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from ..errors import InputError

try:
    from dspy.clients._deprecation import _adapter_call, adapter_message_call
except ImportError:  # another version of DSPy, where messages are an adapter's alone
    _adapter_call = adapter_message_call = None

__all__ = ["is_adapters", "odd_turns", "packed", "standing_for", "unpacked", "with_turns"]

_NAME = "lmgateway.turns"

# What lm15 takes and gives back as it was, by role and by the type of a block.
_BASE = frozenset({"role", "content"})
_KEYS = {
    "system": _BASE,
    "developer": _BASE,
    "user": _BASE,
    "assistant": _BASE | {"tool_calls"},
    "tool": _BASE | {"tool_call_id", "name"},
}
_BLOCKS = {
    "text": (frozenset(_KEYS) - {"assistant"}, frozenset[str]()),
    "image_url": (frozenset({"user", "tool"}), frozenset({"url", "detail"})),
    "input_audio": (frozenset({"user"}), frozenset({"data", "format"})),
    "file": (frozenset({"user"}), frozenset({"file_data", "file_id"})),
}


def odd_turns(messages: Any) -> dict[int, Mapping[str, Any]]:
    """The turns that lm15 refuses or changes, by their places."""
    if not isinstance(messages, (list, tuple)):
        return {}
    return {
        place: turn
        for place, turn in enumerate(messages)
        if not (type(turn) is dict and len(turn) == 2 and type(turn.get("content")) is str)
        and isinstance(turn, Mapping)
        and not _fits(turn)
    }


def packed(messages: Sequence[Any], metadata: Any) -> tuple[Sequence[Any], Any]:
    """Messages that lm15 takes, and metadata with the others in it.

    Args:
        messages: As they were given.
        metadata: The call's, or else the LM's. If it can hold nothing, both are as they were.

    Raises:
        InputError: A turn is no JSON.
    """
    if metadata is not None and not isinstance(metadata, Mapping):
        return messages, metadata
    odd = odd_turns(messages)
    plain = [_stand_in(odd[place]) if place in odd else turn for place, turn in enumerate(messages)]
    parcel = {str(place): dict(turn) for place, turn in odd.items()}
    for place, turn in parcel.items():
        try:
            json.dumps(turn, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(f"messages[{place}] cannot be sent as JSON: {error}") from None
    return plain, {**(metadata or {}), _NAME: parcel}


def is_adapters(lm: Any, messages: Any) -> bool:
    """Whether an adapter of DSPy's made the messages of a call."""
    if _adapter_call is None:
        return messages is not None
    call = _adapter_call.get()
    return call is not None and call[0] is lm and call[1] is messages


def standing_for(lm: Any, given: Any, sent: Any) -> AbstractContextManager[None]:
    """While messages are sent in the place of others, DSPy knows whether those are an adapter's.

    It warns of messages that are anybody else's, as it tells the one from the other by identity.
    """
    if adapter_message_call is None or not is_adapters(lm, given):
        return nullcontext()
    marked: AbstractContextManager[None] = adapter_message_call(lm, sent)
    return marked


def unpacked(params: dict[str, Any]) -> dict[str, Any]:
    """Take the parcel out of a request's parameters, in place; the turns in it by their places."""
    metadata = params.get("metadata")
    if metadata is None or not isinstance(metadata, Mapping) or _NAME not in metadata:
        return {}
    params["metadata"] = {key: value for key, value in metadata.items() if key != _NAME}
    if not params["metadata"]:
        del params["metadata"]
    turns: dict[str, Any] = metadata[_NAME]
    return turns


def with_turns(messages: Sequence[Any], turns: Mapping[str, Any]) -> list[Any]:
    """Messages with the turns of a parcel in their places."""
    return [turns.get(str(place), turn) for place, turn in enumerate(messages)]


def _fits(turn: Mapping[str, Any]) -> bool:
    """Whether lm15 can hold a turn; also said of what is no turn, so that DSPy refuses it."""
    role, content = turn.get("role"), turn.get("content")
    if role not in _KEYS or (role == "tool" and not isinstance(turn.get("tool_call_id"), str)):
        return True
    if not turn.keys() <= _KEYS[role] or not all(map(_call_fits, turn.get("tool_calls") or ())):
        return False
    blocks = content if isinstance(content, (list, tuple)) else ()
    return all(_block_fits(block, role) for block in blocks)


def _block_fits(block: Any, role: str) -> bool:
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind not in _BLOCKS:
        return False
    roles, inside = _BLOCKS[kind]
    if role not in roles or not block.keys() <= {"type", kind, "prompt_cache_breakpoint"}:
        return False
    value = block.get(kind)
    return not inside or (isinstance(value, Mapping) and value.keys() <= inside)


def _call_fits(call: Any) -> bool:
    if not isinstance(call, Mapping) or not call.keys() <= {"id", "type", "function"}:
        return False
    function = call.get("function")
    if not isinstance(function, Mapping) or not function.keys() <= {"name", "arguments"}:
        return False
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        return True
    try:  # lm15 reads them, so they would be written anew
        said = json.loads(arguments)
        return isinstance(said, dict) and json.dumps(said) == arguments
    except (ValueError, RecursionError):
        return False


def _stand_in(turn: Mapping[str, Any]) -> dict[str, Any]:
    """A plain turn of the same role, which only keeps the place."""
    plain = {"role": turn["role"], "content": "-"}
    if turn["role"] == "tool":
        plain["tool_call_id"] = turn["tool_call_id"]
    return plain
