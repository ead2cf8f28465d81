"""Whether the model may think while it goes on with a turn.

While ``thinking`` is on, the API wants the turn that goes on to begin with a thinking block of its
own, signed. A turn is all that the model said since the user last spoke: the calls of a loop of
tools, one after the other. Where another model began it, or its state is lost, there is no such
block; then the model goes on without thinking, for this request.
"""

from __future__ import annotations

from collections.abc import Mapping

from lmgateway.types import JSON, CompletionWarning

from .calls import Turn

__all__ = ["THOUGHTS", "is_on", "settle"]

THOUGHTS = ("thinking", "redacted_thinking")


def is_on(thinking: JSON) -> bool:
    """Whether the request asks for thinking."""
    return isinstance(thinking, Mapping) and thinking.get("type") != "disabled"


def settle(turns: list[Turn], thinking: JSON, warnings: list[CompletionWarning]) -> bool:
    """Whether the model may think; if not, thoughts are taken out of the turn that it goes on with.

    Args:
        turns: The conversation; changed.
        thinking: The request's ``thinking``.
        warnings: Is told if ``thinking`` is to be left out.
    """
    if not is_on(thinking):
        return True
    begun = _begun(turns)
    # A turn of its own need not begin with a thought where the model decides when to think.
    first = not begun or _thinks(begun[0]) or thinking.get("type") == "adaptive"
    if first and all(turn.own or _thinks(turn) for turn in begun):
        return True
    for turn in begun:
        if not isinstance(turn.content, str):
            turn.content = [each for each in turn.content if each.get("type") not in THOUGHTS]
    turns[:] = [turn for turn in turns if turn.content]
    missing = next(turn.where for turn in begun if not _thinks(turn))
    detail = (
        f"{missing} has no signed thinking of this service's, and the model goes on with that "
        "turn: it did so without thinking"
    )
    warnings.append({"kind": "adapted", "name": "thinking", "detail": detail})
    return False


def _begun(turns: list[Turn]) -> list[Turn]:
    """The turns of the model's that it goes on with: the last loop of tools, or a prefill."""
    place = next((n for n in reversed(range(len(turns))) if turns[n].role == "assistant"), None)
    if place is None or (place + 1 < len(turns) and not turns[place].calls):
        return []
    begun: list[Turn] = []
    for turn in reversed(turns[: place + 1]):
        if turn.role == "assistant":
            begun.insert(0, turn)
        elif not _holds_results_only(turn):
            break
    return begun


def _holds_results_only(turn: Turn) -> bool:
    return not isinstance(turn.content, str) and all(
        block.get("type") == "tool_result" for block in turn.content
    )


def _thinks(turn: Turn) -> bool:
    return not isinstance(turn.content, str) and turn.content[0].get("type") in THOUGHTS
