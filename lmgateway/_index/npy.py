"""numpy's file format ``.npy``, written without numpy: a header of fixed length, then floats."""

from __future__ import annotations

import sys
from array import array

__all__ = ["HEAD", "header", "little"]

#: Bytes of the header: room for any number of rows, so that it may be written last.
HEAD = 128


def header(rows: int, dimensions: int) -> bytes:
    """The header of an array of 32-bit floats, of version 1.0 of the format."""
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dimensions}), }}"
    length = HEAD - 10
    padded = text.encode().ljust(length - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + length.to_bytes(2, "little") + padded


def little(floats: memoryview) -> bytes | memoryview:
    """Floats as bytes that every machine reads alike."""
    if sys.byteorder == "little":
        return floats.cast("B")
    turned = array("f", floats)
    turned.byteswap()
    return turned.tobytes()
