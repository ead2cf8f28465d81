"""Files, images and documents in messages, in OpenAI's form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import InputError, UnsupportedError

__all__ = ["sendable"]

_FORMATS = {"mpeg": "mp3", "mp3": "mp3", "wav": "wav", "x-wav": "wav", "wave": "wav",
            "pcm": "pcm16"}  # fmt: skip
_NAMES = {"application/pdf": "document.pdf"}


def sendable(content: Sequence[Any], where: str) -> Sequence[Any]:
    """The parts of a message, each in OpenAI's form; the same object where all of them are.

    Translated are files in the form that answers have them (see ``lmgateway.types.Part``), and
    Anthropic's ``document`` and ``image``. Whatever else a part is, it is sent as it is given.

    Args:
        content: The parts.
        where: Their place, for messages.

    Raises:
        InputError: a file says too little.
        UnsupportedError: OpenAI's form has no place for it.
    """
    sent: list[Any] | None = None
    for place, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else None
        read = _READERS.get(kind) if isinstance(kind, str) else None
        made = read(part, f"{where}[{place}]") if read else None
        if made is not None:
            sent = sent or [*content]
            sent[place] = made
    return content if sent is None else sent


def _neutral(part: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    if "file" in part:  # OpenAI's own
        return None
    return _file(part, where, part.get("media_type"), part.get("name"))


def _foreign(part: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    source = part.get("source")
    if not isinstance(source, Mapping):
        return None
    if source.get("type") == "text" and isinstance(source.get("data"), str):
        return {"type": "text", "text": source["data"]}
    usual = "image/*" if part["type"] == "image" else "application/pdf"
    fields = {"data": source.get("data"), "url": source.get("url"), "id": source.get("file_id")}
    media_type = source.get("media_type") or usual
    return _file(fields, where, media_type, part.get("title") or part.get("name"))


_READERS = {"file": _neutral, "document": _foreign, "image": _foreign}


def _file(fields: Mapping[str, Any], where: str, media_type: Any, name: Any) -> dict[str, Any]:
    data, url, known_as = fields.get("data"), fields.get("url"), fields.get("id")
    if isinstance(data, str) or isinstance(url, str):
        if not isinstance(media_type, str) or not media_type:
            raise InputError(f"{where} is a file without a media_type, such as application/pdf")
        kind = media_type.partition("/")[0]
        if kind == "image":
            return _image(data, url, media_type)
        if kind == "audio":
            return _audio(data, media_type, where)
        file = {"filename": name if isinstance(name, str) else _named(media_type)}
        file["file_data"] = _data_url(data, media_type) if isinstance(data, str) else str(url)
        return {"type": "file", "file": file}
    if isinstance(known_as, str):
        return {"type": "file", "file": {"file_id": known_as}}
    raise InputError(f"{where} is a file without data (base64), a url or an id")


def _named(media_type: str) -> str:
    return _NAMES.get(media_type, "document")


def _image(data: Any, url: Any, media_type: str) -> dict[str, Any]:
    if isinstance(data, str):
        kind = "image/png" if media_type == "image/*" else media_type
        url = _data_url(data, kind)
    return {"type": "image_url", "image_url": {"url": url}}


def _audio(data: Any, media_type: str, where: str) -> dict[str, Any]:
    if not isinstance(data, str):
        raise UnsupportedError(
            f"{where} is audio behind a URL, and OpenAI's form takes its data alone", param=where
        )
    name = media_type.partition("/")[2].partition(";")[0]
    spoken = {"data": data, "format": _FORMATS.get(name, name)}
    return {"type": "input_audio", "input_audio": spoken}


def _data_url(data: str, media_type: str) -> str:
    return data if data.startswith("data:") else f"data:{media_type};base64,{data}"
