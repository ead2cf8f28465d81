"""Vectors as OpenAI-compatible hosts write them: base64 of floats, or lists of numbers.

An answer of 2,048 vectors has 33 MB as base64, and four times that as numbers. So the vectors are
cut out of its bytes, and only what is left is read as JSON.
"""

from __future__ import annotations

import re
import sys
from array import array
from binascii import Error as Base64Error
from binascii import a2b_base64
from typing import NamedTuple

from ..._base.vectors import Vectors, extend, first_odd
from ...errors import ResponseFormatError
from ...types import JSON
from .faults import load
from .fields import malformed

__all__ = ["Cut", "cut", "read_vectors"]

_KEY = b'"embedding"'
_OPENED = re.compile(rb'"embedding"[ \t\r\n]*:[ \t\r\n]*(["\[])').match


class Cut(NamedTuple):
    """A body without its vectors.

    Attributes:
        rest: The body, with the number of its piece, as a string, in the place of each vector.
        pieces: Where each vector stands in the body: its begin and its end, quotes or brackets
            included.
        body: The whole body.
    """

    rest: bytes
    pieces: list[tuple[int, int]]
    body: memoryview


def cut(body: bytes) -> Cut | None:
    """Take the vectors out of a body; None where something in it is written in an unusual way."""
    kept: list[bytes] = []
    pieces: list[tuple[int, int]] = []
    last, at = 0, body.find(_KEY)
    while at >= 0:
        opened = _OPENED(body, at)
        if opened is None:
            at = body.find(_KEY, at + 1)
            continue
        start = opened.end()
        is_text = body[start - 1 : start] == b'"'
        end = body.find(b'"' if is_text else b"]", start)
        if end < 0 or body.find(b"\\" if is_text else b"[", start, end) >= 0:
            return None
        kept += (body[last : start - 1], b'"%d"' % len(pieces))
        pieces.append((start - 1, end + 1))
        last = end + 1
        at = body.find(_KEY, last)
    kept.append(body[last:])
    return Cut(b"".join(kept), pieces, memoryview(body)) if pieces else None


def read_vectors(data: JSON, expected: int, cut_out: Cut | None = None) -> Vectors:
    """The vectors of ``data``, in the order of the texts.

    Args:
        data: The list that the answer holds.
        expected: How many texts were asked for.
        cut_out: Where the vectors are, if they were cut out.

    Raises:
        ResponseFormatError: One is missing, is no vector of finite numbers, or has another length.
    """
    if type(data) is not list:
        raise malformed("data", data, "a list")
    floats = array("f")
    places: dict[int, int] = {}
    for position, item in enumerate(data):
        if type(item) is not dict:
            raise malformed(f"data[{position}]", item, "an object")
        index = position if item.get("index") is None else item["index"]
        if type(index) is not int or not 0 <= index < expected or index in places:
            raise malformed(f"data[{position}].index", index, f"each number below {expected} once")
        before = len(floats)
        _append(floats, item.get("embedding"), cut_out, position)
        places[index] = position
        if position == 0:
            dimensions = len(floats)
        elif len(floats) - before != dimensions:
            raise ResponseFormatError(
                "data[].embedding in the answer holds vectors of different lengths"
            )
    if len(places) != expected:
        raise ResponseFormatError(
            f"data in the answer holds {len(places)} vectors for {expected} texts"
        )
    vectors = Vectors(floats, dimensions)
    if all(index == position for index, position in places.items()):
        return vectors
    return Vectors.of(vectors[places[index]] for index in range(expected))


def _append(floats: array[float], raw: JSON, cut_out: Cut | None, position: int) -> None:
    """Append the floats of one vector, checked."""
    before = len(floats)
    try:
        if cut_out is not None and type(raw) is str:
            start, end = cut_out.pieces[int(raw)]
            piece = cut_out.body[start:end]
            if piece[0] == 0x22:
                floats.frombytes(a2b_base64(piece[1:-1], strict_mode=True))
            else:
                raw = load(bytes(piece), strict=False)
        elif type(raw) is str:
            floats.frombytes(a2b_base64(raw, strict_mode=True))
        if type(raw) is list:
            extend(floats, raw)
        elif sys.byteorder == "big":
            floats[before:] = _swapped(floats[before:])
        if len(floats) > before and first_odd(memoryview(floats)[before:]) is None:
            return
    except (Base64Error, ValueError, TypeError, OverflowError, ResponseFormatError):
        pass
    where = f"data[{position}].embedding"
    if type(raw) is list or type(raw) is str:
        form = "list" if type(raw) is list else "text"
        raise ResponseFormatError(
            f"{where} in the answer is a {form}, but not one of finite floats"
        )
    raise malformed(where, raw, "a list of numbers, or floats in base64")


def _swapped(floats: array[float]) -> array[float]:
    floats.byteswap()
    return floats
