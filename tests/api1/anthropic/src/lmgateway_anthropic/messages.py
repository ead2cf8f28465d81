"""A conversation in OpenAI's form as the Messages API wants it: system apart, content in blocks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lmgateway.errors import InputError, ResponseFormatError
from lmgateway.types import JSON, Message, Request
from lmgateway.wire.openai import load, write

__all__ = ["convert"]

_DATA_URL = re.compile(r"data:(image/(?:jpeg|png|gif|webp));base64,(.+)", re.DOTALL)
_SYSTEM = ("system", "developer")
#: Blocks that only this API has: who gives one means it as it is.
_OWN = frozenset({"image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result"})


def convert(request: Request) -> tuple[str, list[dict[str, JSON]]]:
    """The system text, "" for none, and the turns.

    Raises:
        InputError: Something in a message has no form in this API; the place is named.
    """
    system = [request.system] if request.system is not None else []
    if request.prompt is not None:
        return "\n\n".join(system), [{"role": "user", "content": request.prompt}]
    turns: list[dict[str, JSON]] = []
    for place, message in enumerate(request.messages or ()):
        where, role = f"messages[{place}]", message["role"]
        if message.get("name") and role != "tool":
            raise InputError(f"{where} has a name, and the Messages API knows none: leave it out")
        if role in _SYSTEM:
            if turns:
                raise InputError(f"{where} is a system text after the first turn: put it before")
            system.append(_plain(message, where))
        elif role == "user":
            turns.append({"role": "user", "content": _content(message, where)})
        elif role == "assistant":
            turns.append({"role": "assistant", "content": _said(message, where)})
        elif role == "tool":
            _add_result(turns, _result(message, where))
        else:
            raise InputError(f"{where} has the role {role!r:.40}, which the Messages API lacks")
    if not turns:
        raise InputError("messages hold system texts only: add a turn of the user's")
    return "\n\n".join(system), turns


def _plain(message: Message, where: str) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part for part in content or () if isinstance(part, Mapping)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    if len(texts) != len(content or ()) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}.content may hold text only")
    return "".join(map(str, texts))


def _content(message: Message, where: str) -> JSON:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return [_block(part, f"{where}.content[{n}]") for n, part in enumerate(content)]


def _block(part: Mapping[str, Any], where: str) -> dict[str, JSON]:
    match part:
        case {"type": "text", "text": str(text), **rest}:
            return {"type": "text", "text": text, **rest}
        case {"type": "image_url", "image_url": {"url": str(url), **rest}}:
            if rest.get("detail", "auto") != "auto":
                raise InputError(f"{where} asks for a detail, which the Messages API has not")
            return {"type": "image", "source": _source(url, where)}
        case {"type": str(kind)} if kind in _OWN:
            return dict(part)
    raise InputError(
        f"{where} must be a text, an image_url, or a block of the Messages API's own: "
        + ", ".join(sorted(_OWN))
    )


def _source(url: str, where: str) -> dict[str, JSON]:
    if url.startswith(("http://", "https://")):
        return {"type": "url", "url": url}
    found = _DATA_URL.fullmatch(url)
    if found is None:
        raise InputError(
            f"{where} must hold the URL of an image, or data:image/...;base64,... of a JPEG, PNG, "
            "GIF or WebP"
        )
    return {"type": "base64", "media_type": found[1], "data": found[2]}


def _said(message: Message, where: str) -> JSON:
    """What the model said, the tools it called among it."""
    content = _content(message, where)
    calls = message.get("tool_calls") or ()
    if not isinstance(calls, (list, tuple)):
        raise InputError(f"{where}.tool_calls must be a list")
    if not calls:
        if not content:
            raise InputError(f"{where} is empty: the Messages API takes no turn without content")
        return content
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
    blocks = [block for block in blocks if block.get("text") != ""]
    return [*blocks, *(_use(call, f"{where}.tool_calls[{n}]") for n, call in enumerate(calls))]


def _use(call: Mapping[str, Any], where: str) -> dict[str, JSON]:
    match call:
        case {"id": str(id_), "function": {"name": str(name), "arguments": str(text)}}:
            try:
                arguments = load(text or "{}")
                write(arguments, where)
            except ResponseFormatError:
                arguments = None
            if not isinstance(arguments, dict):
                raise InputError(
                    f"{where}.function.arguments must be a JSON object, as text, nested at most "
                    "100 deep"
                )
            return {"type": "tool_use", "id": id_, "name": name, "input": arguments}
    raise InputError(f'{where} must be {{"id", "function": {{"name", "arguments"}}}}')


def _result(message: Message, where: str) -> dict[str, JSON]:
    call_id = message.get("tool_call_id")
    if not isinstance(call_id, str):
        raise InputError(f'{where} has no "tool_call_id"')
    return {"type": "tool_result", "tool_use_id": call_id, "content": _content(message, where)}


def _add_result(turns: list[dict[str, JSON]], result: dict[str, JSON]) -> None:
    """The results of one turn's calls must all stand in the one turn that follows it."""
    last = turns[-1] if turns else {}
    content = last.get("content")
    if last.get("role") == "user" and isinstance(content, list):
        content.append(result)
    else:
        turns.append({"role": "user", "content": [result]})
