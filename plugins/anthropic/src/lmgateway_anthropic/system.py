"""The system texts of a conversation: those before it, and those between its turns.

A model that takes a system turn in the middle wants it right behind the user's turns, one in a row,
and before the model's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import JSON, CompletionWarning, Message

from .calls import Turn
from .content import content_of
from .marks import mark_last, mark_of

__all__ = ["ROLES", "System", "arrange", "joined", "system_content"]

ROLES = ("system", "developer")

System = str | list[dict[str, JSON]]
_PLAIN = frozenset({"type", "text"})


def system_content(message: Message, where: str, warnings: list[CompletionWarning]) -> System:
    """What a system turn says: a text, or blocks where they say more than texts.

    Raises:
        InputError: It holds something else than texts.
    """
    content = content_of(message, where, warnings)
    if not isinstance(content, str) and any(block.get("type") != "text" for block in content):
        raise InputError(f"{where}.content may hold text only")
    if (marked := mark_of(message)) is not None:
        return mark_last(content, marked, where, warnings)
    if isinstance(content, str) or not all(block.keys() <= _PLAIN for block in content):
        return content
    return "".join(block["text"] for block in content)


def joined(systems: Sequence[System]) -> System:
    """Several as one: a text of paragraphs, or all their blocks where one has some."""
    texts = [each for each in systems if isinstance(each, str)]
    if len(texts) == len(systems):
        return "\n\n".join(texts)
    return [block for each in systems for block in _blocks(each)]


def _blocks(system: System) -> Iterable[dict[str, JSON]]:
    if not isinstance(system, str):
        return system
    return [{"type": "text", "text": system}] if system.strip() else ()


def arrange(turns: list[Turn], warnings: list[CompletionWarning]) -> list[Turn]:
    """The turns with each system turn where the API takes it.

    Raises:
        UnsupportedError: There is no turn of the user's that it could stand behind.
    """
    if all(turn.role != "system" for turn in turns):
        return turns
    arranged: list[Turn] = []
    waiting: list[Turn] = []
    for turn in turns:
        if turn.role == "system":
            if waiting:
                waiting[0].content = joined([waiting[0].content, turn.content])
            else:
                waiting.append(turn)
            continue
        if turn.role == "assistant":
            _put(waiting, arranged)
        elif waiting:
            detail = "it was sent behind the user's turn, where the Messages API takes it"
            warnings.append({"kind": "adapted", "name": waiting[0].where, "detail": detail})
        arranged.append(turn)
    _put(waiting, arranged)
    return arranged


def _put(waiting: list[Turn], arranged: list[Turn]) -> None:
    """Put the system turn that waits behind the turns there are."""
    if not waiting:
        return
    before = arranged[-1] if arranged else None
    if before is None or not (
        before.role == "user" or before.results or _ends_in_server_tool(before)
    ):
        where = waiting[0].where
        raise UnsupportedError(
            f"{where} is a system text behind the assistant's turn: put it behind the user's",
            param=f"{where}.role",
        )
    arranged.append(waiting.pop())


def _ends_in_server_tool(turn: Turn) -> bool:
    last: Mapping[str, JSON] = {} if isinstance(turn.content, str) else turn.content[-1]
    kind = str(last.get("type"))
    return kind == "server_tool_use" or kind.endswith("_tool_result")
