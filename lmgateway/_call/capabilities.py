"""Capabilities: what a request holds is compared with what the model can do, before any I/O."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .._plugins.contract import Plugin
from ..errors import UnsupportedError
from ..types import Info, Request

__all__ = ["check_capabilities"]


def check_capabilities(request: Request, plugin: Plugin, info: Info) -> None:
    """Refuse what the model's Info does not name; raises UnsupportedError."""
    has = info.capabilities
    if request.messages is not None:
        if "messages" not in has:
            raise _unsupported(plugin, "messages", "give the prompt as one text")
        if info.api > 1 and not has >= _OF_MESSAGES:
            _check_parts(request.messages, plugin, has)
        elif "images" not in has and _hold_images(request.messages):
            raise _unsupported(plugin, "images", "give text only")
    if info.api > 1 and request.params.get("tools") and "tools" not in has:
        raise _unsupported(plugin, "tools", _INSTEAD["tools"], "tools")
    if request.system is not None and not has & {"system", "messages"}:
        raise _unsupported(plugin, "system", "put the system text into the prompt")
    if request.schema is not None and "schema" not in has:
        raise _unsupported(plugin, "schema", "ask for JSON in the prompt")
    if request.stream and "lmgateway_stream" not in plugin.hooks:
        raise _unsupported(plugin, "streams", "call it without stream")


#: What each kind of part needs; a kind that is not here passes.
_PARTS = {
    **dict.fromkeys(("image_url", "image", "input_image"), "images"),
    **dict.fromkeys(("input_audio", "audio", "audio_url"), "audio"),
    **dict.fromkeys(("file", "document", "input_file"), "files"),
}
_INSTEAD = {
    "images": "give text only",
    "audio": "give what is said as a text",
    "files": "give what stands in them as a text",
    "tools": "describe them in the prompt",
}
#: What is looked for inside messages.
_OF_MESSAGES = frozenset(_INSTEAD)


def _check_parts(messages: Sequence[Any], plugin: Plugin, has: Collection[str]) -> None:
    """Refuse a part, a tool call or a tool's result that the model does not take."""
    for place, message in enumerate(messages):
        if "tools" not in has and (message.get("role") == "tool" or message.get("tool_calls")):
            where = f"messages[{place}]"
            raise _unsupported(plugin, "tools", f"{_INSTEAD['tools']} ({where})", where)
        content = message.get("content")
        if not isinstance(content, list):
            continue
        for number, part in enumerate(content):
            needed = _needed(part) if isinstance(part, Mapping) else None
            if needed is not None and needed not in has:
                where = f"messages[{place}].content[{number}]"
                raise _unsupported(plugin, needed, f"{_INSTEAD[needed]} ({where})", where)


def _needed(part: Mapping[str, Any]) -> str | None:
    """The capability that a part asks for; None for a text, and for what nobody here knows."""
    kind = part.get("type")
    media_type = part.get("media_type")
    if kind == "file" and isinstance(media_type, str):  # a part of an answer
        family = media_type.partition("/")[0].lower()
        return {"image": "images", "audio": "audio"}.get(family, "files")
    return _PARTS.get(kind) if isinstance(kind, str) else None


def _hold_images(messages: Sequence[Any]) -> bool:
    contents = (message.get("content") for message in messages)
    parts = (part for content in contents if isinstance(content, list) for part in content)
    kinds = (part.get("type") for part in parts if isinstance(part, dict))
    return any(kind in ("image_url", "image", "input_image") for kind in kinds)


def _unsupported(
    plugin: Plugin, what: str, advice: str, param: str | None = None
) -> UnsupportedError:
    return UnsupportedError(f"{plugin.name} does not support {what}: {advice}", param=param)
