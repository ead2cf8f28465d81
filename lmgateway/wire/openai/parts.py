"""What an answer holds beside texts and tool calls: chunks, citations, audio and images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from ...types import JSON, AnswerChoice, Citation, Part, Request, parts_of
from ..pieces import mend
from .fields import beside, malformed, others, sound, text

__all__ = [
    "audio_part",
    "citations",
    "images",
    "read_content",
    "read_parts",
    "reasoning_in",
    "thought_in",
]

_ORDER = ("reasoning", "text")  # of parts that say no more than the texts do
_AUDIO = {"mp3": "audio/mpeg", "pcm16": "audio/pcm"}  # other formats are named as their types
_PREFIX = "openai."


def read_parts(
    choice: AnswerChoice, message: Mapping[str, JSON], where: str, request: Request
) -> None:
    """Read the content of a message, and what else it shows, into a choice.

    The choice gets ``text`` and ``reasoning``; and ``parts`` where those, the tool calls and the
    refusal do not say everything.

    Args:
        choice: With its reasoning, tool calls and refusal already.
        message: Of the answer.
        where: The name of the message, for errors.
        request: What was asked.

    Raises:
        ResponseFormatError: the content is neither a text nor a list of objects.
    """
    content = message.get("content")
    parts: list[Part] = []
    if type(content) is list:
        parts = read_content(content, f"{where}.content")
    elif content is not None:
        parts = [{"type": "text", "text": text(content, f"{where}.content")}]
    choice["text"] = _joined(parts, "text")
    thought = "reasoning" in choice
    if not thought and (reasoning := _joined(parts, "reasoning")):
        choice["reasoning"] = reasoning
    cited = citations(message.get("annotations"))
    files = [*images(message.get("images")), *_audio(message.get("audio"), request)]
    kinds = [part["type"] for part in parts]
    if not cited and not files and kinds == [kind for kind in _ORDER if kind in kinds]:
        return
    if thought and "reasoning" not in kinds:
        parts.insert(0, {"type": "reasoning", "text": choice["reasoning"]})
    if cited:
        _cite(parts, cited)
    rest = {name: choice.get(name) for name in ("tool_calls", "refusal")}
    choice["parts"] = [part for part in parts if _says_something(part)]
    choice["parts"] += files + parts_of(rest)


def _says_something(part: Part) -> bool:
    return part["type"] not in _ORDER or bool(part["text"] or part.get("citations"))


def _joined(parts: Iterable[Part], kind: str) -> str:
    return "".join(part["text"] for part in parts if part["type"] == kind)


def read_content(chunks: list[JSON], where: str) -> list[Part]:
    """The parts of a content that is a list: Mistral's chunks, OpenAI's parts.

    Raises:
        ResponseFormatError: one of them is no object, or is a text without its text.
    """
    parts: list[Part] = []
    for place, chunk in enumerate(chunks):
        if type(chunk) is not dict:
            raise malformed(f"{where}[{place}]", chunk, "an object")
        part = _chunk(chunk, f"{where}[{place}]")
        last = parts[-1] if parts else None
        if last is not None and last["type"] == part["type"] in _ORDER:
            last["text"] += part["text"]
        else:
            parts.append(part)
    return parts


def _chunk(chunk: dict[str, JSON], where: str) -> Part:
    kind = chunk.get("type", "text")
    if kind in ("text", "output_text"):
        said = chunk.get("text")
        return {"type": "text", "text": "" if said is None else text(said, f"{where}.text")}
    if kind in ("thinking", "reasoning"):
        return {"type": "reasoning", "text": mend(thought_in(chunk))}
    if kind == "refusal" and type(chunk.get("refusal")) is str:
        return {"type": "refusal", "text": text(chunk["refusal"], where)}
    if kind == "image_url":
        return _image_part(chunk)
    return _custom(kind if type(kind) is str else "chunk", chunk)


def thought_in(chunk: dict[str, JSON]) -> str:
    """The text of a chunk of thinking, with any half character that stands in it."""
    value = chunk.get("thinking", chunk.get("text"))
    if type(value) is str:
        return value
    inner = value if type(value) is list else ()
    said = (each.get("text") for each in inner if type(each) is dict)
    return "".join(each for each in said if type(each) is str)


def _custom(kind: str, value: JSON) -> Part:
    return {"type": "custom", "kind": f"{_PREFIX}{sound(kind)}", "value": sound(value)}


def reasoning_in(details: JSON) -> str:
    """The text of OpenRouter's ``reasoning_details``; "" where it is encrypted."""
    entries = details if type(details) is list else ()
    said = (entry.get("text") or entry.get("summary") for entry in entries if type(entry) is dict)
    return "".join(each for each in said if type(each) is str)


# -- citations -----------------------------------------------------------------------------------


def citations(raw: JSON) -> list[Citation]:
    """The annotations of a text."""
    given = raw if type(raw) is list else [raw] if raw else ()
    return [_citation(each) for each in given]


_CITED = frozenset({"url", "title", "content", "start_index", "end_index"})


def _citation(raw: JSON) -> Citation:
    """An annotation; ``extra`` holds it where it says more than has a name here."""
    fields = raw if type(raw) is dict else {}
    kind = fields.get("type")
    said = fields.get(kind) if type(kind) is str else None
    inner = {name: value for name, value in fields.items() if name != "type"}
    if type(said) is dict and len(inner) == 1:  # else all stands beside the type
        inner = said
    cited: dict[str, Any] = {}
    for name, field in (("url", "url"), ("title", "title"), ("text", "content")):
        value = beside(inner, field)
        if value is not None:
            cited[name] = value
    for name, field in (("start", "start_index"), ("end", "end_index")):
        value = inner.get(field)
        if type(value) is int and value >= 0:
            cited[name] = value
    if kind != "url_citation" or len(cited) < len(inner) or not _CITED.issuperset(inner):
        whole = sound(raw)
        cited["extra"] = whole if type(whole) is dict else {"annotation": whole}
    return cast(Citation, cited)


def _cite(parts: list[Part], cited: list[Citation]) -> None:
    part = next((part for part in parts if part["type"] == "text"), None)
    if part is None:
        part = {"type": "text", "text": ""}
        parts.append(part)
    part["citations"] = cited


# -- files ---------------------------------------------------------------------------------------


def images(raw: JSON) -> list[Part]:
    """The images beside a text, as files."""
    given = raw if type(raw) is list else [raw] if raw else ()
    return [_image_part(each) for each in given]


def _image_part(raw: JSON) -> Part:
    """An image, ``{"image_url": {"url": ...}}``, as a file."""
    fields = raw if type(raw) is dict else {}
    image = fields.get("image_url")
    url = image if type(image) is str else beside(image, "url") if type(image) is dict else None
    if not url:
        return _custom("image", raw)
    part: Part = {"type": "file", "media_type": "image/*"}
    head, comma, data = url.partition(";base64,")
    if comma and head.startswith("data:"):
        part["media_type"] = head.removeprefix("data:").partition(";")[0] or "image/*"
        part["data"] = data
    else:
        part["url"] = text(url, "")
    more = others(fields, ("type", "image_url", "index"))
    if more:
        part["extra"] = more
    return part


def _audio(raw: JSON, request: Request) -> list[Part]:
    return [audio_part(raw, request)] if raw else []


def audio_part(raw: JSON, request: Request | None) -> Part:
    """What was spoken: its data, the transcript, and in ``extra`` its id and when that expires."""
    if type(raw) is not dict:
        return _custom("audio", raw)
    part: Part = {"type": "file", "media_type": _spoken(request)}
    if (data := beside(raw, "data")) is not None:
        part["data"] = data
    if (transcript := beside(raw, "transcript")) is not None:
        part["transcript"] = transcript
    more = others(raw, ("data", "transcript"))
    if more:
        part["extra"] = more
    return part


def _spoken(request: Request | None) -> str:
    """The media type that was asked for."""
    params = request.params if request is not None else {}
    extra = params.get("extra_body")
    sources = (extra if isinstance(extra, Mapping) else {}, params)
    for source in sources:
        audio = source.get("audio")
        wanted = audio.get("format") if isinstance(audio, Mapping) else None
        if isinstance(wanted, str) and wanted:
            return _AUDIO.get(wanted, f"audio/{wanted}")
    return "audio/wav"
