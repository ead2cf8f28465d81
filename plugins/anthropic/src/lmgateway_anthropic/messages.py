"""A conversation in OpenAI's form as the Messages API wants it: system apart, content in blocks.

What the API gave itself goes back as it came, from a turn's ``state``; any other turn is made of
what can be seen of it. The API is strict about the calls of tools: ids of a certain form, each
used once, and all results in the turn that follows. Here they are brought to that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lmgateway.errors import InputError, ResponseFormatError, UnsupportedError
from lmgateway.types import JSON, CompletionWarning, Message, Request
from lmgateway.wire.openai import load, write

from .calls import Calls, Turn
from .content import content_of
from .marks import mark_last, mark_of
from .models import UNKNOWN, Traits
from .system import ROLES, System, arrange, joined, system_content
from .thinking import THOUGHTS, settle

__all__ = ["FORMAT", "Conversation", "convert"]

FORMAT = "anthropic.messages"
"""The format of a turn's state: its content blocks, as they came."""

#: The keys of a message that are read here.
_KEYS = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "is_error", "refusal", "state",
     "reasoning", "reasoning_content", "thinking_blocks", "cache_control",
     "prompt_cache_breakpoint")
)  # fmt: skip
#: What OpenAI says of its own answers, and Claude need not know.
_LEFT_OUT = ("annotations", "audio")
_EMPTY = "it is empty, and the Messages API takes no empty turn: it was left out"


@dataclass(slots=True)
class Conversation:
    """What is sent of it.

    Attributes:
        system: A text or blocks; "" for none.
        messages: The turns.
        thinks: Whether the model may think, if the request says so; see ``thinking.settle``.
        warnings: What was left out.
    """

    system: System
    messages: list[dict[str, JSON]]
    thinks: bool = True
    warnings: list[CompletionWarning] = field(default_factory=list)


def convert(request: Request, thinking: JSON = None, model: Traits = UNKNOWN) -> Conversation:
    """The system text and the turns.

    Args:
        request: What was asked.
        thinking: The request's ``thinking``, if it has one.
        model: What the model takes.

    Raises:
        InputError: Something in a message has no form in this API, or a call has no result; the
            place is named.
        UnsupportedError: A name, a late system text or a last turn that the model does not take;
            ``unsupported="adapt"`` translates the first two.
    """
    system: list[System] = [request.system] if request.system is not None else []
    if request.prompt is not None:
        turn = {"role": "user", "content": request.prompt}
        return Conversation(joined(system), [turn])
    if (texts := _texts(request.messages or (), system)) is not None:
        return Conversation(joined(system), texts)
    conversation = Conversation("", [])
    turns = _turns(request.messages or (), system, model, conversation.warnings)
    conversation.system = joined(system)
    if not turns:
        empty = [warning["name"] for warning in conversation.warnings]
        raise InputError(
            f"messages hold no turn that says anything: {', '.join(empty)} is empty"
            if empty
            else "messages hold system texts only: add a turn of the user's"
        )
    _check_results(turns)
    if not model.has_prefill:
        _check_end(turns[-1])
    turns = arrange(turns, conversation.warnings)
    conversation.thinks = settle(turns, thinking, conversation.warnings)
    conversation.messages = list(_sent(turns))
    return conversation


def _texts(messages: Sequence[Message], system: list[System]) -> list[dict[str, JSON]] | None:
    """The turns of a conversation of texts that ends with the user's: they are as they are.

    None for any other conversation; the system texts are added only if it is one of texts.
    """
    turns: list[dict[str, JSON]] = []
    before: list[System] = []
    for message in messages:
        role, content = message["role"], message.get("content")
        if type(content) is not str or len(message) != 2 or not content or content.isspace():
            return None
        if role == "user" or role == "assistant":
            turns.append({"role": role, "content": content})
        elif role in ROLES and not turns:
            before.append(content)
        else:
            return None
    if not turns or turns[-1]["role"] == "assistant":
        return None
    system += before
    return turns


def _turns(
    messages: Sequence[Message],
    system: list[System],
    model: Traits,
    warnings: list[CompletionWarning],
) -> list[Turn]:
    turns: list[Turn] = []
    calls = Calls(_own_ids(messages))
    for place, message in enumerate(messages):
        where, role = f"messages[{place}]", message["role"]
        if not message.keys() <= _KEYS:
            _check_keys(message, where, warnings)
        if message.get("name") and role != "tool":
            raise UnsupportedError(
                f"{where} has a name, and the Messages API knows none: leave it out",
                param=f"{where}.name",
            )
        if role == "tool":
            _add_result(calls, message, where, warnings)
            continue
        if role in ROLES and not turns:
            system.append(system_content(message, where, warnings))
            continue
        if role == "user":
            turn = _asked(message, where, calls, turns[-1] if turns else None, warnings)
        elif role == "assistant":
            turn = _said(message, where, calls, warnings)
        elif role in ROLES:
            turn = _late(message, where, model, warnings)
        else:
            raise InputError(f"{where} has the role {role!r:.40}, which the Messages API lacks")
        if turn is None:
            continue
        if _is_empty(turn.content):
            warnings.append({"kind": "dropped", "name": where, "detail": _EMPTY})
            continue
        if role not in ROLES and (marked := mark_of(message)) is not None:
            turn.content = mark_last(turn.content, marked, where, warnings)
        turns.append(turn)
    return turns


def _check_keys(message: Message, where: str, warnings: list[CompletionWarning]) -> None:
    """Refuse a key that says something which cannot be sent."""
    for key, value in message.items():
        if key in _KEYS or value is None or value in ([], {}, ""):
            continue
        if key not in _LEFT_OUT:
            raise InputError(f"{where}.{key!s:.60} has no form in the Messages API: leave it out")
        detail = "it was left out: the Messages API knows none"
        warnings.append({"kind": "dropped", "name": f"{where}.{key}", "detail": detail})


def _late(message: Message, where: str, model: Traits, warnings: list[CompletionWarning]) -> Turn:
    """A system turn in the middle of the conversation."""
    if not model.has_late_system:
        raise UnsupportedError(
            f"{where} is a system text after the first turn, which the model does not take: "
            "put it before",
            param=f"{where}.role",
        )
    return Turn("system", system_content(message, where, warnings), where)


def _check_end(last: Turn) -> None:
    """Refuse a beginning of the answer for a model that goes on with none but a paused turn."""
    if last.role == "assistant" and not (last.own or last.calls or _is_paused(last)):
        raise UnsupportedError(
            f"{last.where} is the assistant's and the last, and the model goes on with no turn "
            "that was begun for it: end with the user's",
            param=last.where,
        )


def _is_paused(turn: Turn) -> bool:
    return not isinstance(turn.content, str) and any(
        block.get("type") == "server_tool_use" for block in turn.content
    )


def _is_empty(content: str | list[dict[str, JSON]]) -> bool:
    return not (content.strip() if isinstance(content, str) else content)


def _sent(turns: list[Turn]) -> Iterator[dict[str, JSON]]:
    for turn in turns:
        yield {"role": turn.role, "content": turn.content}
        if turn.results:
            yield {"role": "user", "content": turn.results}


# -- the user's turns ----------------------------------------------------------------------------


def _asked(
    message: Message,
    where: str,
    calls: Calls,
    before: Turn | None,
    warnings: list[CompletionWarning],
) -> Turn | None:
    """A turn of the user's; results among its blocks that belong elsewhere are moved there."""
    turn = Turn("user", content_of(message, where, warnings), where)
    if isinstance(turn.content, str):
        return turn
    kept: list[dict[str, JSON]] = []
    moved = False
    for block in turn.content:
        call_id = block.get("tool_use_id")
        found = None
        if block.get("type") == "tool_result" and isinstance(call_id, str):
            found = calls.answer(call_id)
        if found is None:
            kept.append(block)
            continue
        of, call = found
        block = {**block, "tool_use_id": call.sent}
        if of is before and all(each.get("type") == "tool_result" for each in kept):
            kept.append(block)
        else:
            of.results.append(block)
            moved = True
    turn.content = kept
    return None if moved and not kept else turn


def _add_result(
    calls: Calls, message: Message, where: str, warnings: list[CompletionWarning]
) -> None:
    """The results of one turn's calls must all stand in the one turn that follows it."""
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise InputError(f'{where} has no "tool_call_id"')
    found = calls.answer(call_id)
    if found is None:
        raise InputError(
            f"{where} answers the call {call_id!r:.60}, which "
            + ("has a result already" if calls.is_known(call_id) else "no turn before it makes")
        )
    turn, call = found
    content = content_of(message, where, warnings)
    result: dict[str, JSON] = {
        "type": "tool_result",
        "tool_use_id": call.sent,
        "content": content or "",
    }
    if message.get("is_error"):
        result["is_error"] = True
    if (marked := mark_of(message)) is not None:
        result["cache_control"] = marked
    turn.results.append(result)


def _check_results(turns: list[Turn]) -> None:
    """Each call must have its result, but those of the last turn, if none has one yet."""
    for turn in turns:
        if turn is turns[-1] and not any(call.answered for call in turn.calls):
            continue
        for call in turn.calls:
            if not call.answered:
                raise InputError(
                    f"{turn.where} calls a tool ({call.id!r:.60}), and no message after it holds "
                    'the result: add {"role": "tool", "tool_call_id": ..., "content": ...}'
                )


# -- the model's turns ---------------------------------------------------------------------------


def _said(message: Message, where: str, calls: Calls, warnings: list[CompletionWarning]) -> Turn:
    """What the model said, the tools it called among it."""
    turn = Turn("assistant", "", where)
    given = _given(message, where)
    if given is not None:
        turn.own = True
        turn.content = [_noted(block, turn, calls) for block in given]
        return turn
    content = content_of(message, where, warnings)
    refusal: Any = message.get("refusal")  # in OpenAI's messages it stands apart
    if not content and isinstance(refusal, str):
        content = refusal
    asked = message.get("tool_calls") or ()
    if not isinstance(asked, (list, tuple)):
        raise InputError(f"{where}.tool_calls must be a list")
    thoughts = _thoughts(message, where)
    if isinstance(content, str):
        if not asked and not thoughts:
            turn.content = content
            return turn
        content = [{"type": "text", "text": content}] if content.strip() else []
    blocks = [*thoughts, *(_noted(block, turn, calls) for block in content)]
    known = {call.id for call in turn.calls}  # who gives the API's own blocks may give both
    uses = [_use(call, f"{where}.tool_calls[{n}]", warnings) for n, call in enumerate(asked)]
    turn.content = [*blocks, *(_noted(use, turn, calls) for use in uses if use["id"] not in known)]
    return turn


def _thoughts(message: Mapping[str, Any], where: str) -> list[dict[str, JSON]]:
    """What the model thought: signed blocks as they are; a text of any model's as a text.

    Thinking that this service did not sign has no other form here.
    """
    blocks = message.get("thinking_blocks") or ()  # as other gateways hand them back
    if not isinstance(blocks, (list, tuple)) or not all(isinstance(b, Mapping) for b in blocks):
        raise InputError(f"{where}.thinking_blocks must be a list of blocks")
    if blocks:
        return [dict(block) for block in blocks]
    thought = message.get("reasoning") or message.get("reasoning_content")
    if not isinstance(thought, str) or not thought.strip():
        return []
    content = message.get("content")
    if isinstance(content, list) and any(part.get("type") in THOUGHTS for part in content):
        return []  # it stands there already
    return [{"type": "text", "text": f"<thinking>\n{thought}\n</thinking>"}]


def _given(message: Message, where: str) -> list[dict[str, JSON]] | None:
    """The turn's blocks as the API gave them, where they were kept."""
    state: Any = message.get("state")
    if not isinstance(state, Mapping) or state.get("format") != FORMAT:
        return None
    blocks = state.get("turn")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise InputError(f"{where}.state.turn must be a list of content blocks, as it came")
    return blocks or None


def _own_ids(messages: Sequence[Message]) -> Iterator[str]:
    for place, message in enumerate(messages):
        if "state" not in message:
            continue
        for block in _given(message, f"messages[{place}]") or ():
            if block.get("type") == "tool_use" and isinstance(block.get("id"), str):
                yield block["id"]


def _noted(block: dict[str, JSON], turn: Turn, calls: Calls) -> dict[str, JSON]:
    """The block; a call's id as it is sent."""
    call_id = block.get("id")
    if block.get("type") != "tool_use" or not isinstance(call_id, str):
        return block
    sent = calls.add(turn, call_id)
    return block if sent == call_id else {**block, "id": sent}


def _use(call: Mapping[str, Any], where: str, warnings: list[CompletionWarning]) -> dict[str, JSON]:
    match call:
        case {"id": str(id_), "function": {"name": str(name), "arguments": str(text)}}:
            try:
                arguments = load(text or "{}")
                write(arguments, where)
            except ResponseFormatError:
                arguments = None
            if not isinstance(arguments, dict):  # a model may write anything, or be cut off
                arguments = {"arguments": text}
                detail = "its arguments are no JSON object, and were sent as a text in one"
                warnings.append({"kind": "adapted", "name": where, "detail": detail})
            return {
                "type": "tool_use",
                "id": id_,
                "name": name,
                "input": arguments,
                **_marked(call),
            }
        case {"id": str(id_), "custom": {"name": str(name), "input": str(text)}}:
            # OpenAI's tools that take a free text; here every input is an object.
            given = {"input": text}
            return {"type": "tool_use", "id": id_, "name": name, "input": given, **_marked(call)}
    raise InputError(f'{where} must be {{"id", "function": {{"name", "arguments"}}}}')


def _marked(call: Mapping[str, Any]) -> dict[str, JSON]:
    marked = mark_of(call)
    return {} if marked is None else {"cache_control": marked}
