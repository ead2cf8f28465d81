"""The chunked framing of a body, taken off in bulk."""

from __future__ import annotations

__all__ = ["Chunks"]

_HEX_DIGITS = b"0123456789abcdefABCDEF"


class Chunks:
    """Takes bytes as they come, cut anywhere; gives what is in the chunks.

    http.client reads a body chunk by chunk, three calls for each. A model's answer has a chunk for
    every token, and many of them come with one packet.

    Attributes:
        ended: The last chunk and its trailer have been taken.
        beyond: Something came after that.
        broken: What came after the bytes that were given is no chunk.
    """

    __slots__ = ("_left", "_limit", "_line", "_skip", "_trailer", "beyond", "broken", "ended")

    def __init__(self, limit: int) -> None:
        """``limit`` is how many bytes a line, and all lines of the trailer, may have."""
        self.ended = self.beyond = self.broken = False
        self._limit = limit
        self._left = 0  # bytes of the chunk that is being read
        self._skip = 0  # bytes of the line break after it
        self._line = b""  # the beginning of a line
        self._trailer: int | None = None  # bytes of it so far, once it has begun

    def feed(self, data: bytes) -> bytes:
        """What these bytes bring."""
        if self._line:
            data, self._line = self._line + data, b""
        pieces = []
        at, size = 0, len(data)
        while at < size and not (self.ended or self.broken):
            if self._left:
                piece = data[at : at + self._left]
                pieces.append(piece)
                at += len(piece)
                self._left -= len(piece)
                self._skip = 0 if self._left else 2
            elif self._skip:
                at += 1
                self._skip -= 1
            else:
                end = data.find(b"\n", at) + 1
                line = data[at : end or size]
                at += len(line)
                if end:
                    self._take(line)
                else:
                    self._line = line
                    self._check(len(line))
        self.beyond = at < size and self.ended
        return b"".join(pieces)

    def _take(self, line: bytes) -> None:
        """A line that begins a chunk, or one of the trailer."""
        if self._trailer is None:
            digits = line.partition(b";")[0].strip()
            # int() alone would take "-5", "0x5" and "1_0" as well.
            if not 1 <= len(digits) <= 16 or digits.strip(_HEX_DIGITS):
                self.broken = True
                return
            self._left = int(digits, 16)
            self._trailer = None if self._left else 0
        elif line in (b"\r\n", b"\n"):
            self.ended = True
        else:
            self._trailer += len(line)
            self._check(self._trailer)

    def _check(self, size: int) -> None:
        self.broken = size > self._limit
