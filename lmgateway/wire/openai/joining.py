"""Fields of a message that a stream brings in pieces, put together to what they would have been."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from typing import Any

from ...types import JSON

__all__ = ["join_audio", "join_chunks", "join_details", "join_lists", "join_values"]

#: What of an entry grows; everything else of it is said once, or again.
_GROWING = frozenset({"text", "summary", "thinking", "data", "signature"})


def join_values(pieces: Sequence[JSON]) -> JSON:
    """Pieces of a field that nothing here knows: texts and lists joined, the last of all else."""
    if len(pieces) == 1:
        return pieces[0]
    kinds = set(map(type, pieces))
    if kinds == {str}:
        return "".join(pieces)
    if kinds == {list}:
        return [item for piece in pieces for item in piece]
    if kinds == {dict}:
        return _join_objects(pieces)
    return pieces[-1]


def join_lists(known: dict[str, JSON], more: dict[str, JSON]) -> None:
    """Add the fields that a chunk brings to those that are known: lists grow, all else is new."""
    for name, value in more.items():
        before = known.get(name)
        if type(before) is list and type(value) is list:  # such as one id a token
            before += value
        else:
            known[name] = value


def _join_objects(pieces: Iterable[dict[str, JSON]]) -> dict[str, JSON]:
    joined: dict[str, JSON] = {}
    for piece in pieces:  # what a provider adds of its own comes whole, perhaps again
        joined.update(piece)
    return joined


def join_details(pieces: Iterable[JSON]) -> list[JSON]:
    """OpenRouter's ``reasoning_details``, LiteLLM's ``thinking_blocks``.

    Pieces of one entry share its index, id or type.

    Args:
        pieces: Lists of entries, as each delta brought one.
    """
    joined: list[JSON] = []
    grown: list[dict[str, list[str]]] = []
    places: dict[Any, int] = {}
    for piece in _flat(pieces):
        if type(piece) is not dict:
            joined.append(piece)
            grown.append({})
            continue
        place = _place_of(piece, places, joined)
        if place is None:
            place = len(joined)
            joined.append({})
            grown.append({})
        for key in _keys(piece):
            places[key] = place
        entry = joined[place]
        for name, value in piece.items():
            if name in _GROWING and type(value) is str:
                grown[place].setdefault(name, []).append(value)
                entry.setdefault(name, "")
            elif value is not None or name not in entry:
                entry[name] = value
    for entry, texts in zip(joined, grown, strict=True):
        for name, said in texts.items():
            entry[name] = "".join(said)
    return joined


def _flat(pieces: Iterable[JSON]) -> Iterable[JSON]:
    for piece in pieces:
        if type(piece) is list:
            yield from piece
        else:
            yield piece


def _keys(piece: dict[str, JSON]) -> list[tuple[str, Any, Any]]:
    """What a later piece of the same entry can be known by."""
    kind = piece.get("type")
    kind = kind if type(kind) is str else None
    keys = [
        (name, piece[name], kind) for name in ("index", "id") if type(piece.get(name)) in (int, str)
    ]
    return keys or [("last", None, kind)]


def _place_of(piece: dict[str, JSON], places: dict[Any, int], joined: list[JSON]) -> int | None:
    for key in _keys(piece):
        place = places.get(key)
        if place is None:
            continue
        known, told = joined[place].get("id"), piece.get("id")
        if known and told and known != told:
            continue
        if key[0] != "last":
            return place
        # Nothing but its type says whose it is: it goes on with the last entry, if that can grow.
        if place == len(joined) - 1 and "data" not in piece and not joined[place].get("signature"):
            return place
    return None


def join_chunks(chunks: Iterable[dict[str, JSON]]) -> list[JSON]:
    """Mistral's chunks of a content: neighbours of one type are one, as in a plain answer."""
    joined: list[dict[str, JSON]] = []
    texts: list[list[str]] = []  # of each chunk of text, its pieces
    for chunk in chunks:
        last = joined[-1] if joined else {}
        kind = chunk.get("type")
        if kind == "text" == last.get("type") and type(chunk.get("text")) is str:
            texts[-1].append(chunk["text"])
            last.update({name: value for name, value in chunk.items() if name != "text"})
        elif kind == "thinking" == last.get("type") and _goes_on(last, chunk):
            last["thinking"].extend(chunk["thinking"])
            last.update({name: value for name, value in chunk.items() if name != "thinking"})
        else:
            said = chunk.get("text")
            texts.append([said] if kind == "text" and type(said) is str else [])
            inner = chunk.get("thinking")
            joined.append({**chunk, "thinking": [*inner]} if type(inner) is list else {**chunk})
    for chunk, said in zip(joined, texts, strict=True):
        if said:
            chunk["text"] = "".join(said)
        if type(chunk.get("thinking")) is list:
            inner = chunk["thinking"]
            if all(type(each) is dict for each in inner):
                chunk["thinking"] = join_chunks(inner)
    return list(joined)


def _goes_on(last: dict[str, JSON], chunk: dict[str, JSON]) -> bool:
    lists = type(last.get("thinking")) is list and type(chunk.get("thinking")) is list
    return lists and last.get("closed") is not True


def join_audio(pieces: Sequence[JSON]) -> JSON:
    """OpenAI's audio: each piece of data is base64 by itself."""
    if any(type(piece) is not dict for piece in pieces):
        return join_values(pieces)
    audio: dict[str, JSON] = {}
    data: list[str] = []
    words: list[str] = []
    for piece in pieces:
        for name, value in piece.items():
            if type(value) is str and name in ("data", "transcript"):
                (data if name == "data" else words).append(value)
            elif value is not None:
                audio[name] = value
    if data:
        audio["data"] = _join_base64(data)
    if words:
        audio["transcript"] = "".join(words)
    return audio


def _join_base64(pieces: list[str]) -> str:
    if all(len(piece) % 4 == 0 and not piece.endswith("=") for piece in pieces[:-1]):
        return "".join(pieces)
    try:
        return b64encode(b"".join(map(b64decode, pieces))).decode()
    except ValueError:  # no base64 after all: as it came
        return "".join(pieces)
