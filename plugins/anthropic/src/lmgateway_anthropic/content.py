"""A part of a message, in OpenAI's form or in this API's own, as a block of the Messages API."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Collection, Mapping, Sequence
from mimetypes import guess_type
from typing import Any

from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import JSON, CompletionWarning, Message

from .marks import lose, mark, mark_of

__all__ = ["blocks_of", "content_of", "is_blank"]

Block = dict[str, JSON]

_DATA_URL = re.compile(r"data:([a-zA-Z0-9.+/-]*)(?:;[^;,]*)*;base64,(.+)", re.DOTALL)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
_MEDIA_TYPES = {
    "image/jpg": "image/jpeg", "application/x-pdf": "application/pdf",
    "application/octet-stream": "",  # any bytes
}  # fmt: skip
#: Blocks that only this API has: who gives one means it as it is.
_OWN = frozenset(
    ("browser_state", "container_upload", "document", "image", "mcp_tool_use", "redacted_thinking",
     "search_result", "server_tool_use", "thinking", "tool_reference", "tool_result", "tool_use")
)  # fmt: skip
_NO_BLOCKS = frozenset({"annotations", "logprobs"})  # OpenAI says them of its own answers


def content_of(
    message: Message, where: str, warnings: list[CompletionWarning]
) -> str | list[Block]:
    """A message's content: the text as it is, or its blocks without the empty ones.

    Raises:
        InputError: A part has no form in this API; the place is named.
    """
    content = message.get("content") or ""
    return content if isinstance(content, str) else blocks_of(content, f"{where}.content", warnings)


def blocks_of(
    parts: Sequence[Mapping[str, Any]], where: str, warnings: list[CompletionWarning]
) -> list[Block]:
    """The blocks of a list of parts; those of a text without a letter are left out.

    A mark on one of these falls on the block before, for the prefix ends there.

    Raises:
        InputError: A part has no form in this API; the place is named.
    """
    blocks: list[Block] = []
    for place, part in enumerate(parts):
        here = f"{where}[{place}]"
        block = _block(part, here)
        if not is_blank(block):
            blocks.append(block)
        elif (marked := block.get("cache_control")) is None:
            continue
        elif blocks:
            blocks[-1] = mark(blocks[-1], marked, here, warnings)
        else:
            lose(here, "the text is empty, and no block stands before it", warnings)
    return blocks


def is_blank(block: Mapping[str, JSON]) -> bool:
    """Whether it is a text of white space at most, which the API refuses."""
    text = block.get("text")
    return block.get("type") == "text" and isinstance(text, str) and not text.strip()


def _block(part: Mapping[str, Any], where: str) -> Block:
    match part:
        case {"type": "text" | "input_text" | "output_text", "text": str(text)}:
            return {"type": "text", "text": text, **_others(part, {"type", "text"})}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text, **_others(part, {"type", "refusal"})}
        case {"type": "image_url", "image_url": Mapping() as image}:
            return _image(image, part, f"{where}.image_url.detail", where)
        case {"type": "image_url" | "input_image"}:
            said = {**part, "url": part.get("image_url")}
            del said["type"]
            return _image(said, {}, f"{where}.detail", where)
        case {"type": "file", "file": Mapping() as file}:
            return _file(file, _others(part, {"type", "file"}), where)
        case {"type": "file" | "input_file"}:
            return _file(part, {}, where)
        case {"type": "custom", "kind": str(kind), "value": Mapping() as value} if (
            kind.startswith("anthropic.")  # a part of an answer
        ):
            return dict(value)
        case {"type": str(kind)} if kind in _OWN or kind.endswith("_tool_result"):
            return dict(part)
    raise InputError(
        f"{where} must be a text, an image_url, a file, or a block of the Messages API's own: "
        + ", ".join(sorted(_OWN))
    )


_OF_IMAGES = frozenset({"url", "image_url", "detail", "format", "media_type", "file_id"})


def _image(said: Mapping[str, Any], part: Mapping[str, Any], place: str, where: str) -> Block:
    _check_detail(said, place, where)
    others = {**_others(said, _OF_IMAGES), **_others(part, {"type", "image_url"})}
    url = said.get("url")
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": url}, **others}
    if url is None and isinstance(file_id := said.get("file_id"), str):
        return {"type": "image", "source": {"type": "file", "file_id": file_id}, **others}
    media_type, data = _data(url)
    if media_type not in _IMAGES:
        raise InputError(
            f"{where} must hold the URL of an image, or data:image/...;base64,... of a JPEG, PNG, "
            "GIF or WebP"
        )
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source, **others}


def _check_detail(said: Mapping[str, Any], place: str, where: str) -> None:
    """Refuse to be told how closely something is to be looked at."""
    if said.get("detail") not in (None, "auto"):
        raise UnsupportedError(
            f"{where} asks for a detail, which the Messages API has not", param=place
        )


_OF_FILES = frozenset(
    ("type", "filename", "name", "media_type", "format", "file_id", "id", "file_url", "url",
     "file_data", "data", "transcript", "extra", "detail")
)  # fmt: skip


def _file(file: Mapping[str, Any], others: Block, where: str) -> Block:
    """A file by its id, its URL or its content, in the names of OpenAI's two APIs and ours."""
    _check_detail(file, f"{where}.detail", where)
    others = {**_others(file, _OF_FILES), **others}
    name = file.get("filename") or file.get("name")
    media_type = file.get("media_type") or file.get("format")
    file_id, url = file.get("file_id") or file.get("id"), file.get("file_url") or file.get("url")
    data = file.get("file_data") or file.get("data")
    if isinstance(data, str) and data.startswith("data:"):
        said, data = _data(data)
        if not data:
            raise _unreadable(where)
        media_type = said or media_type
    if isinstance(file_id, str) and file_id.startswith(("http://", "https://")):
        file_id, url = None, file_id
    media_type = _media_type(media_type) or (guess_type(name)[0] if isinstance(name, str) else None)
    if isinstance(file_id, str):
        source: Block = {"type": "file", "file_id": file_id}
    elif isinstance(url, str):
        source = {"type": "url", "url": url}
        guessed = guess_type(url)[0]
        if media_type is None:  # all that the service reads from a URL but images
            media_type = guessed if guessed in _IMAGES else "application/pdf"
    elif isinstance(data, str):
        source = _content(media_type, data, where)
    else:
        raise InputError(f"{where} is a file without data, a URL or an id")
    if media_type in _IMAGES:
        return {"type": "image", "source": source, **others}
    if source["type"] == "url" and media_type != "application/pdf":
        raise _unreadable(where)
    title = {"title": name} if isinstance(name, str) else {}
    return {"type": "document", "source": source, **title, **others}


def _content(media_type: Any, data: str, where: str) -> Block:
    if media_type in _IMAGES or media_type == "application/pdf":
        return {"type": "base64", "media_type": media_type, "data": data}
    if isinstance(media_type, str) and media_type.startswith("text/"):
        try:
            text = b64decode(data, validate=True).decode()
        except ValueError:
            raise InputError(f"{where} must hold a text in UTF-8, as base64") from None
        return {"type": "text", "media_type": "text/plain", "data": text}
    raise _unreadable(where)


def _unreadable(where: str) -> InputError:
    return InputError(
        f"{where} must be a PDF, a text, or a JPEG, PNG, GIF or WebP; say which in media_type, in "
        "the file's name, or as data:...;base64,..."
    )


def _data(url: Any) -> tuple[str | None, str]:
    """The media type of a ``data:`` URL, if it says one, and its base64; "" for no such URL."""
    found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    return (_media_type(found[1]), found[2]) if found else (None, "")


def _media_type(given: object) -> str | None:
    """A media type without its parameters; None for one that says nothing."""
    if not isinstance(given, str):
        return None
    media_type = given.partition(";")[0].strip().lower()
    return _MEDIA_TYPES.get(media_type, media_type) or None


def _others(part: Mapping[str, Any], read: Collection[str]) -> Block:
    """What a part says beside: its mark for the cache, and the rest as it is, for the service.

    What is empty says nothing.
    """
    if len(part) == len(read) == 2:  # as nearly all are
        return {}
    others = {
        name: value
        for name, value in part.items()
        if name not in read
        and name not in ("cache_control", "prompt_cache_breakpoint")
        and value is not None
        and not (name in _NO_BLOCKS and not value)
    }
    if (marked := mark_of(part)) is not None:
        others["cache_control"] = marked
    return others
