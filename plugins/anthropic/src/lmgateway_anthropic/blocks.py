"""The content blocks of an answer: as parts, as what the parts say, and as the turn's state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmgateway.errors import ResponseFormatError
from lmgateway.types import JSON, AnswerChoice, Citation, Part, Request, derived_id
from lmgateway.wire.openai import load, write
from lmgateway.wire.pieces import mend

from .messages import FORMAT
from .reasoning import may_think

__all__ = ["SHOWN_AS_TEXT", "choice_of", "citation_of", "part_of", "tidy"]

#: Blocks that the text, the reasoning and the calls of a choice show, with the fields that they do.
SHOWN_AS_TEXT = {
    "thinking": frozenset({"type", "thinking", "signature"}),
    "text": frozenset({"type", "text", "citations"}),
    "tool_use": frozenset({"type", "id", "name", "input"}),
}
_ORDER = {"reasoning": 0, "text": 1, "tool_call": 2}
_RUN_BY_THE_SERVICE = ("server_tool_use", "mcp_tool_use")


def choice_of(blocks: list[JSON], request: Request, *, paused: bool = False) -> AnswerChoice:
    """The choice that the blocks make, with its parts and its state where those say more.

    A turn that ``paused`` always has a state: by it the plugin knows that the turn may be the last.

    Raises:
        ResponseFormatError: A text, a thought or a call is not as it should be.
    """
    if (
        len(blocks) == 1 and not paused and (text := _only_text(blocks[0])) is not None
    ):  # as most answers are
        return {"text": text, "index": 0}
    parts = [_part(block, f"content[{place}]") for place, block in enumerate(blocks)]
    made = [part for part in parts if part["type"] == "tool_call" and "by" not in part]
    for place, part in enumerate(made):
        part["id"] = part["id"] or derived_id(request, 0, place)
    texts = [part["text"] for part in parts if part["type"] == "text"]
    choice: AnswerChoice = {"text": "".join(texts), "index": 0}
    thoughts = [part["text"] for part in parts if part["type"] == "reasoning"]
    if thoughts:
        choice["reasoning"] = "".join(thoughts)
    if made:
        choice["tool_calls"] = [_call(part) for part in made]
    if not _says_all(parts):
        choice["parts"] = parts
    if ((paused and blocks) or _is_needed(blocks, request)) and (
        turn := _turn(blocks, parts)
    ) is not None:
        choice["state"] = {"format": FORMAT, "turn": turn}
    return choice


def _only_text(block: JSON) -> str | None:
    """The text of a block that says nothing else."""
    if type(block) is not dict or block.get("type") != "text" or block.get("citations"):
        return None
    text = block.get("text")
    return mend(text) if type(text) is str and block.keys() <= SHOWN_AS_TEXT["text"] else None


def part_of(block: Mapping[str, JSON], where: str) -> Part:
    """A block as a part of the answer; what has no other form is ``custom``.

    Raises:
        ResponseFormatError: A text, a thought or a call is not as it should be.
    """
    kind = block.get("type")
    if kind == "text":
        part: Part = {"type": "text", "text": _string(block, "text", where)}
        if citations := _citations(block.get("citations")):
            part["citations"] = citations
    elif kind == "thinking":
        part = {"type": "reasoning", "text": _string(block, "thinking", where)}
    elif kind == "tool_use":
        part = _use(block, where)
    elif isinstance(kind, str) and kind in _RUN_BY_THE_SERVICE:
        return _beside(block, kind) or _custom(block, kind)
    elif isinstance(kind, str) and kind.endswith("_tool_result"):
        return _result(block, kind) or _custom(block, kind)
    else:
        return _custom(block, kind)
    if extra := _others(block, SHOWN_AS_TEXT[kind]):
        part["extra"] = extra
    return part


def citation_of(raw: JSON) -> Citation | None:
    """Where a text says that it has something from; None if that cannot be read."""
    said = tidy(raw)
    if not isinstance(said, dict):
        return None
    citation: Citation = {}
    if isinstance(url := said.get("url", said.get("source")), str) and "://" in url:
        citation["url"] = url
    if isinstance(title := said.get("title") or said.get("document_title"), str):
        citation["title"] = title
    if isinstance(text := said.get("cited_text"), str):
        citation["text"] = text
    citation["extra"] = said
    return citation


def tidy(value: JSON) -> JSON:
    """A value that stands beside the answer, as it can be kept; None if it cannot."""
    try:
        text = write(value, "it")
        return value if text.isascii() else load(text)
    except ResponseFormatError:
        return None


# -- parts ---------------------------------------------------------------------------------------


def _part(block: JSON, where: str) -> Part:
    if not isinstance(block, dict):
        raise ResponseFormatError(f"{where} in the answer is no object")
    return part_of(block, where)


def _use(block: Mapping[str, JSON], where: str) -> Part:
    arguments = block.get("input")
    if isinstance(arguments, str):  # of a stream that was cut off inside them
        arguments = mend(arguments)
    elif isinstance(arguments, dict):
        text = write(arguments, f"{where}.input")
        arguments = arguments if text.isascii() else load(text)
    else:
        raise ResponseFormatError(f"{where}.input in the answer is no object")
    call_id = "" if block.get("id") is None else _string(block, "id", where)
    name = _string(block, "name", where)
    return {"type": "tool_call", "id": call_id, "name": name, "input": arguments}


def _beside(block: Mapping[str, JSON], kind: str) -> Part | None:
    """A call that the service answered itself."""
    call_id, name = block.get("id"), block.get("name")
    if not isinstance(call_id, str) or not isinstance(name, str):
        return None
    part: Part = {
        "type": "tool_call",
        "id": mend(call_id),
        "name": mend(name),
        "input": tidy(block.get("input")),
        "by": "service",
    }
    return _with_others(part, block, {"id", "name", "input"}, kind, "server_tool_use")


def _result(block: Mapping[str, JSON], kind: str) -> Part | None:
    call_id, content = block.get("tool_use_id"), tidy(block.get("content"))
    if not isinstance(call_id, str):
        return None
    part: Part = {
        "type": "tool_result",
        "id": mend(call_id),
        "content": content,
        "by": "service",
    }
    inner = content.get("type") if isinstance(content, dict) else None
    if block.get("is_error") is True or (isinstance(inner, str) and inner.endswith("_error")):
        part["is_error"] = True
    return _with_others(part, block, {"tool_use_id", "content", "is_error"}, kind, "")


def _with_others(
    part: Part, block: Mapping[str, JSON], read: set[str], kind: str, usual: str
) -> Part:
    """The part with what else the block says, its type too where that is not the usual one."""
    others = _others(block, frozenset(read) | ({"type"} if kind == usual else set()))
    if others:
        part["extra"] = others
    return part


def _custom(block: Mapping[str, JSON], kind: JSON) -> Part:
    name = mend(kind) if isinstance(kind, str) else "unknown"
    return {"type": "custom", "kind": f"anthropic.{name}", "value": tidy(dict(block))}


def _others(block: Mapping[str, JSON], read: frozenset[str]) -> dict[str, JSON]:
    if block.keys() <= read:
        return {}
    others = {name: tidy(value) for name, value in block.items() if name not in read}
    return {mend(name): value for name, value in others.items() if value is not None}


def _citations(raw: JSON) -> list[Citation]:
    each = map(citation_of, raw) if isinstance(raw, list) else ()
    return [citation for citation in each if citation is not None]


def _string(block: Mapping[str, JSON], name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise ResponseFormatError(f"{where}.{name} in the answer is no string")
    return mend(value)


def _call(part: Part) -> dict[str, JSON]:
    """A call in OpenAI's form."""
    given = part["input"]
    text = given if isinstance(given, str) else write(given, "input")
    parsed = {} if isinstance(given, str) else {"parsed": given}
    function = {"name": part["name"], "arguments": text}
    return {"id": part["id"], "type": "function", "function": function, **parsed}


def _says_all(parts: list[Part]) -> bool:
    """Whether text, reasoning and calls, in the usual order, say all that the parts do."""
    last = 0
    for part in parts:
        order = _ORDER.get(part["type"], -1)
        if order < last or not part.keys().isdisjoint(("by", "citations", "extra")):
            return False
        last = order
    return True


# -- state ---------------------------------------------------------------------------------------


def _is_needed(blocks: list[Any], request: Request) -> bool:
    """Whether the turn cannot be given back from what can be seen of it.

    A call beside thinking is one, too: only its state says that the service made it, and so that
    the turn may be gone on with thinking.
    """
    thinks = may_think(request.params)
    for block in blocks:
        kind = block.get("type")
        if not isinstance(kind, str) or kind not in SHOWN_AS_TEXT:
            return True
        if kind == "tool_use" and thinks:
            return True
        if kind == "thinking" and block.get("signature"):
            return True
        if kind == "text" and block.get("citations"):
            return True
        shown = SHOWN_AS_TEXT[kind]
        if any(value is not None for name, value in block.items() if name not in shown):
            return True
    return False


def _turn(blocks: list[Any], parts: list[Part]) -> list[JSON] | None:
    """The blocks as they came; None if they cannot be given back.

    Citations that are null are left out, for a stream does not say that there are none.
    """
    turn: list[JSON] = []
    for block, part in zip(blocks, parts, strict=True):
        given = block.get("input")
        if isinstance(given, str) or ("input" in block and given is None):
            return None  # cut off inside
        if part["type"] == "tool_call" and "by" not in part and not block.get("id"):
            block = {**block, "id": part["id"]}
        if part["type"] == "text" and block.get("citations", ...) is None:
            block = {name: value for name, value in block.items() if name != "citations"}
        turn.append(block)
    kept: list[JSON] | None = tidy(turn)
    return kept
