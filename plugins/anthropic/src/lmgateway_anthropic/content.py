"""A part of a message, in OpenAI's form or in this API's own, as a block of the Messages API."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from mimetypes import guess_type
from typing import Any

from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import JSON, Message

__all__ = ["blocks_of", "content_of", "is_blank", "plain_text"]

Block = dict[str, JSON]

_DATA_URL = re.compile(r"data:([a-zA-Z0-9.+/-]+)(?:;[^;,]*)*;base64,(.+)", re.DOTALL)
_IMAGES = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
#: Blocks that only this API has: who gives one means it as it is.
_OWN = frozenset(
    ("container_upload", "document", "image", "redacted_thinking", "search_result",
     "server_tool_use", "thinking", "tool_result", "tool_use")
)  # fmt: skip


def plain_text(message: Message, where: str) -> str:
    """The text of a message that may hold nothing else.

    Raises:
        InputError: It holds something else.
    """
    content = message.get("content")
    if isinstance(content, str):
        return content
    parts = [part for part in content or () if isinstance(part, Mapping)]
    texts = [part.get("text") for part in parts if part.get("type") == "text"]
    if len(texts) != len(content or ()) or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{where}.content may hold text only")
    return "".join(map(str, texts))


def content_of(message: Message, where: str) -> str | list[Block]:
    """A message's content: the text as it is, or its blocks without the empty ones.

    Raises:
        InputError: A part has no form in this API; the place is named.
    """
    content = message.get("content") or ""
    return content if isinstance(content, str) else blocks_of(content, f"{where}.content")


def blocks_of(parts: Sequence[Mapping[str, Any]], where: str) -> list[Block]:
    """The blocks of a list of parts; those of a text without a letter are left out.

    Raises:
        InputError: A part has no form in this API; the place is named.
    """
    blocks = [_block(part, f"{where}[{n}]") for n, part in enumerate(parts)]
    return [block for block in blocks if not is_blank(block)]


def is_blank(block: Mapping[str, JSON]) -> bool:
    """Whether it is a text of white space at most, which the API refuses."""
    text = block.get("text")
    return block.get("type") == "text" and isinstance(text, str) and not text.strip()


def _block(part: Mapping[str, Any], where: str) -> Block:
    match part:
        case {"type": "text", "text": str(text), **rest}:
            return {"type": "text", "text": text, **rest}
        case {"type": "input_text" | "output_text", "text": str(text)}:  # of OpenAI's Responses
            return {"type": "text", "text": text}
        case {"type": "refusal", "refusal": str(text)}:
            return {"type": "text", "text": text}
        case {"type": "image_url", "image_url": Mapping() as image}:
            return _image(image.get("url"), image, part, f"{where}.image_url.detail", where)
        case {"type": "image_url" | "input_image", "image_url": str(url)}:
            return _image(url, part, part, f"{where}.detail", where)
        case {"type": "file", "file": Mapping() as file}:
            return _file(file, part, where)
        case {"type": "file" | "input_file"}:
            return _file(part, part, where)
        case {"type": str(kind)} if kind in _OWN or kind.endswith("_tool_result"):
            return dict(part)
    raise InputError(
        f"{where} must be a text, an image_url, a file, or a block of the Messages API's own: "
        + ", ".join(sorted(_OWN))
    )


def _image(
    url: Any, said: Mapping[str, Any], part: Mapping[str, Any], place: str, where: str
) -> Block:
    if said.get("detail", "auto") != "auto":
        raise UnsupportedError(
            f"{where} asks for a detail, which the Messages API has not", param=place
        )
    if isinstance(url, str) and url.startswith(("http://", "https://")):
        return {"type": "image", "source": {"type": "url", "url": url}, **_marks(part)}
    media_type, data = _data(url)
    if media_type not in _IMAGES:
        raise InputError(
            f"{where} must hold the URL of an image, or data:image/...;base64,... of a JPEG, PNG, "
            "GIF or WebP"
        )
    source = {"type": "base64", "media_type": media_type, "data": data}
    return {"type": "image", "source": source, **_marks(part)}


def _file(file: Mapping[str, Any], part: Mapping[str, Any], where: str) -> Block:
    """A file by its id, its URL or its content, in the names of OpenAI's two APIs and ours."""
    name = file.get("filename") or file.get("name")
    media_type = file.get("media_type")
    if media_type is None and isinstance(name, str):
        media_type = guess_type(name)[0]
    file_id, url = file.get("file_id") or file.get("id"), file.get("file_url") or file.get("url")
    data = file.get("file_data") or file.get("data")
    if isinstance(data, str) and data.startswith("data:"):
        media_type, data = _data(data)
    if isinstance(file_id, str):
        source: Block = {"type": "file", "file_id": file_id}
    elif isinstance(url, str):
        source = {"type": "url", "url": url}
        media_type = media_type or "application/pdf"  # all that it reads from a URL but images
    elif isinstance(data, str):
        source = _content(media_type, data, where)
    else:
        raise InputError(f"{where} is a file without data, a URL or an id")
    if media_type in _IMAGES:
        return {"type": "image", "source": source, **_marks(part)}
    if source["type"] == "url" and media_type != "application/pdf":
        raise _unreadable(where)
    title = {"title": name} if isinstance(name, str) else {}
    return {"type": "document", "source": source, **title, **_marks(part)}


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
    found = _DATA_URL.fullmatch(url) if isinstance(url, str) else None
    return (found[1].lower(), found[2]) if found else (None, "")


def _marks(part: Mapping[str, Any]) -> Block:
    """What a part of OpenAI's may say beside, in this API's own words."""
    names = ("cache_control", "citations", "context")
    return {name: part[name] for name in names if part.get(name) is not None}
