"""A text that comes in pieces, put together to what UTF-8 can carry."""

from __future__ import annotations

__all__ = ["Pieces", "mend"]

_JOINED = 1024  # a small string is mostly head: so many are joined to one


class Pieces:
    r"""Takes pieces of a text as a stream brings them; the pieces it gives make the same text.

    JSON can say half a character (``"\ud83d"``), and a stream may be cut between its halves: the
    first waits for the second. A half that stays alone becomes U+FFFD.
    """

    __slots__ = ("_half", "_joined", "_parts")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._joined = 0  # of these, how many are many pieces joined
        self._half = ""

    def add(self, piece: str) -> str:
        """Take a piece; what can be shown of it by now."""
        if self._half:
            piece = self._whole(piece)
        elif not piece.isascii():
            try:
                piece.encode()
            except UnicodeEncodeError:
                piece = self._whole(piece)
        if piece:
            self._parts.append(piece)
            if len(self._parts) - self._joined == _JOINED:
                self._parts[self._joined :] = ["".join(self._parts[self._joined :])]
                self._joined += 1
        return piece

    def end(self) -> str:
        """What is left to be shown when no more can come."""
        half, self._half = self._half, ""
        if half:
            self._parts.append("\N{REPLACEMENT CHARACTER}")
        return "\N{REPLACEMENT CHARACTER}" if half else ""

    def __str__(self) -> str:
        return "".join(self._parts)

    def __bool__(self) -> bool:
        return bool(self._parts)

    def _whole(self, piece: str) -> str:
        piece, self._half = self._half + piece, ""
        if "\ud800" <= piece[-1:] <= "\udbff":
            piece, self._half = piece[:-1], piece[-1]
        return mend(piece)


def mend(text: str) -> str:
    r"""The text with pairs of ``\ud83d``-like escapes joined and lone ones replaced.

    JSON can say half a character; a text that holds one can be neither printed nor stored.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
