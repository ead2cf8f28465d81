"""How a body is decompressed, in pieces of bounded size."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Protocol

from ..errors import excerpt

__all__ = ["ACCEPT_ENCODING", "Decoder", "DecodingError", "decoder_for"]

PIECE = 64 * 1024
"""About how many bytes a decoder returns at once."""


class DecodingError(Exception):
    """The body is not what its Content-Encoding says; the message says how."""


class Decoder(Protocol):
    """Undoes one content coding."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode these bytes, into pieces of bounded size."""

    def finish(self) -> None:
        """Raise DecodingError if the compressed data are not complete."""


class _Zlib:
    """Decodes gzip of any number of members, and deflate, in the zlib format or raw."""

    def __init__(self, coding: str) -> None:
        self._coding = coding
        self._window = zlib.MAX_WBITS | 16
        self._inflate: Any = None  # made when the first two bytes tell the format
        self._held = b""

    def feed(self, data: bytes) -> Iterator[bytes]:
        data = self._held + data
        if self._inflate is None:
            if len(data) < 2:
                self._held = data
                return
            self._held = b""
            self._begin(data)
        while data:
            if self._inflate.eof:
                if self._coding != "gzip":
                    raise DecodingError("there are bytes after the end of the deflate data")
                self._inflate = zlib.decompressobj(self._window)
            # At the bound some output may stay inside although all input was taken: an empty
            # input fetches it.
            while piece := self._decompress(data):
                yield piece
                data = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    break
            data = self._inflate.unused_data

    def _begin(self, data: bytes) -> None:
        if self._coding == "deflate":
            # "deflate" means the zlib format, but some servers send the bare data (RFC 9110,
            # 8.4.1.2). The header's checksum tells them apart: RFC 1950, 2.2.
            is_zlib = data[0] & 15 == 8 and (data[0] * 256 + data[1]) % 31 == 0
            self._window = zlib.MAX_WBITS if is_zlib else -zlib.MAX_WBITS
        self._inflate = zlib.decompressobj(self._window)

    def _decompress(self, data: bytes) -> bytes:
        try:
            piece: bytes = self._inflate.decompress(data, PIECE)
        except zlib.error:
            raise DecodingError(f"the body is not valid {self._coding} data") from None
        return piece

    def finish(self) -> None:
        if self._held or (self._inflate is not None and not self._inflate.eof):
            raise DecodingError(f"the {self._coding} data end too early")


class _Brotli:
    """Decodes br, if a Brotli package is installed that can bound its output."""

    def __init__(self) -> None:
        import brotli  # type: ignore[import-not-found, import-untyped, unused-ignore]

        self._error: type[Exception] = brotli.error
        self._inflate: Any = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        self._begun = self._begun or bool(data)
        try:
            piece = self._inflate.process(data, output_buffer_limit=PIECE)
            while piece:
                yield piece
                if self._inflate.is_finished():
                    return
                # can_accept_more_data() may be true while output waits inside: ask until it is dry.
                piece = self._inflate.process(b"", output_buffer_limit=PIECE)
        except self._error:
            raise DecodingError("the body is not valid br data") from None

    def finish(self) -> None:
        if self._begun and not self._inflate.is_finished():
            raise DecodingError("the br data end too early")


def _can_bound_brotli() -> bool:
    if find_spec("brotli") is None:
        return False
    import brotli

    return hasattr(getattr(brotli, "Decompressor", None), "can_accept_more_data")


ACCEPT_ENCODING = "gzip, deflate, br" if _can_bound_brotli() else "gzip, deflate"


def decoder_for(content_encoding: str) -> Decoder | None:
    """The decoder for a Content-Encoding; None if the body is not encoded.

    Raises DecodingError for a coding that we did not ask for.
    """
    coding = content_encoding.strip().lower().removeprefix("x-")
    if coding in ("", "identity", "none", "utf-8"):  # the last two are wrong, seen, and harmless
        return None
    if coding in ("gzip", "deflate"):
        return _Zlib(coding)
    if coding == "br" and "br" in ACCEPT_ENCODING:
        return _Brotli()
    raise DecodingError(
        f"the body is encoded in a way that was not asked for: {excerpt(coding, 40)!r}"
    )
