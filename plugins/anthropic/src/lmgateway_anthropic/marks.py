"""Where the service is to keep what it has read: ``cache_control`` of messages and parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgateway.errors import InputError
from lmgateway.types import JSON, CompletionWarning

__all__ = ["lose", "mark", "mark_last", "mark_of"]

Block = dict[str, JSON]

_NOT_MARKED = ("thinking", "redacted_thinking")


def mark_of(said: Mapping[str, Any]) -> JSON:
    """The ``cache_control`` that a message, a part or a tool asks for; None for none.

    OpenAI's word is ``prompt_cache_breakpoint``. Its lifetimes begin where the shorter one of this
    API ends, so each is the longer one here.
    """
    if (marked := said.get("cache_control")) is not None:
        return marked
    breakpoint_ = said.get("prompt_cache_breakpoint")
    if not isinstance(breakpoint_, Mapping):
        return None
    return {"type": "ephemeral", "ttl": "1h"} if breakpoint_.get("ttl") else {"type": "ephemeral"}


def mark(block: Block, marked: JSON, where: str, warnings: list[CompletionWarning]) -> Block:
    """The block with a mark, unless it has one; raises InputError if its kind takes none."""
    if block.get("type") in _NOT_MARKED:
        raise InputError(f"{where} ends in thinking, which cannot hold cache_control")
    if (own := block.get("cache_control")) is None:
        return {**block, "cache_control": marked}
    if own != marked:
        lose(where, "the block that it falls on has another", warnings)
    return block


def lose(where: str, why: str, warnings: list[CompletionWarning]) -> None:
    """Tell that a mark is left out."""
    detail = f"it was left out: {why}"
    warnings.append({"kind": "dropped", "name": f"{where}.cache_control", "detail": detail})


def mark_last(
    content: str | list[Block], marked: JSON, where: str, warnings: list[CompletionWarning]
) -> str | list[Block]:
    """A turn whose last block has the mark."""
    if not content:
        lose(where, "nothing stands there that the service could keep", warnings)
        return content
    if isinstance(content, str):
        return [{"type": "text", "text": content, "cache_control": marked}]
    place = next(
        (n for n in reversed(range(len(content))) if content[n].get("type") not in _NOT_MARKED),
        len(content) - 1,
    )
    blocks = [*content]
    blocks[place] = mark(blocks[place], marked, where, warnings)
    return blocks
