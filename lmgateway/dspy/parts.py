"""Parts of an answer in lm15's types, and what these have no field for: a turn's state, a name.

lm15 lets a message and a part carry opaque data that one provider gives and reads. The provider is
this library here, so another engine that is asked in its place passes the data by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dspy import lm15

from ..types import Part

__all__ = ["CITATION", "FILE", "TURN", "deltas_of", "keeping", "kept", "parts_beside"]

OWNER = "lmgateway"
TURN, FILE, CITATION = "turn", "file", "citation"

_MEDIA = {"image": lm15.ImagePart, "audio": lm15.AudioPart, "video": lm15.VideoPart}
_CITED = ("url", "title", "text")


def keeping(kind: str, data: Mapping[str, Any] | None) -> tuple[lm15.ContinuationState, ...]:
    """Data for a message or part to carry; nothing if there is none."""
    return (lm15.ContinuationState(OWNER, kind, dict(data)),) if data else ()


def kept(carrier: Any, kind: str) -> dict[str, Any]:
    """The data that a message or part carries."""
    for state in carrier.continuation:
        if state.provider == OWNER and state.kind == kind:
            return dict(state.data)
    return {}


def parts_beside(parts: Sequence[Part], *, streamed: bool = False) -> tuple[list[Any], list[Part]]:
    """Citations and files among the parts of an answer, and the parts that lm15 has no form for.

    Texts, reasoning, refusals and calls are in neither: an answer has them in fields of their own.

    Args:
        parts: All that the plugin gave.
        streamed: Whether they are to be events, which lm15 has for fewer kinds.
    """
    beside: list[Any] = []
    others: list[Part] = []
    for part in parts:
        kind = part["type"]
        if kind == "text":
            beside.extend(_citations(part))
        elif kind == "file":
            made = _file(part)
            if made is None or (streamed and not _streams(made)):
                others.append(part)
            else:
                beside.append(made)
        elif kind not in ("reasoning", "refusal") and not (
            kind == "tool_call" and part.get("by") != "service"
        ):
            others.append(part)
    return beside, others


def _citations(part: Part) -> Iterator[lm15.CitationPart]:
    for citation in part.get("citations") or ():
        said = {name: citation.get(name) or None for name in _CITED}
        more = {name: value for name, value in citation.items() if name not in _CITED}
        if "extra" in more and part.get("text"):
            more["supported_text"] = part["text"]
        if not any(said.values()):
            said["text"] = part.get("text") or None  # the cited place alone: by its number, say
        with suppress(TypeError, ValueError):
            yield lm15.CitationPart(**said, continuation=keeping(CITATION, more))


def _file(part: Part) -> Any:
    """A file as a media part; None if it is not as lm15 wants it."""
    media_type = part.get("media_type") or "application/octet-stream"
    kind = _MEDIA.get(media_type.partition("/")[0], lm15.DocumentPart)
    addresses = {"data": part.get("data"), "url": part.get("url"), "file_id": part.get("id")}
    told = {name: value for name, value in addresses.items() if value}
    more = {name: part[name] for name in ("name", "transcript", "extra") if part.get(name)}
    for name in ("data", "url", "file_id"):
        if name in told:
            with suppress(TypeError, ValueError):
                return kind(media_type, **{name: told[name]}, continuation=keeping(FILE, more))
    return None


def _streams(part: Any) -> bool:
    return part.type == "image" or (part.type == "audio" and part.data is not None)


def deltas_of(part: Any, place: int) -> Iterator[Any]:
    """A citation, image or audio as deltas.

    Args:
        part: As parts_beside made it.
        place: Which part of the message it is.
    """
    if part.type == "citation":
        yield lm15.CitationDelta(part.text, part.url, part.title, place)
    else:
        made = lm15.ImageDelta if part.type == "image" else lm15.AudioDelta
        yield made(part.data, part.url, part.file_id, place, part.media_type)
    for state in part.continuation:
        yield lm15.ContinuationDelta(state.provider, state.kind, state.data, place)
