"""Lines of JSON (NDJSON, JSON Lines), decoded from bytes as they arrive.

https://github.com/ndjson/ndjson-spec::

    decoder = Decoder()
    while documents := (yield from decoder.read(response)):
        for document in documents:
            ...

``wire.sse.opened`` is not for such a stream, each of whose lines may begin as a whole body does. A
service that answers with one document in place of a stream gives a stream of that one.
"""

from __future__ import annotations

import json

from .._base.values import on_fresh_stack
from ..errors import ResponseFormatError, StreamInterruptedError, excerpt
from ..types import JSON, Flow, HTTPResponse, read

__all__ = ["Decoder"]

_BOM = b"\xef\xbb\xbf"
_LIMIT = 8 * 1024 * 1024


_parse = json.JSONDecoder().decode


class Decoder:
    r"""Turns chunks, cut anywhere, into JSON documents, one a line.

    Lines end with LF or CRLF, the last one perhaps with the stream; empty lines are passed over,
    and so is a byte order mark at the beginning. Bytes that are not UTF-8 become U+FFFD; NaN and
    infinite numbers become floats, since whoever reads a field looks at its type.

    The time is linear in the bytes, however they are cut; the memory is that of one line.
    """

    __slots__ = ("_begun", "_limit", "_line", "_size")

    def __init__(self, limit: int = _LIMIT) -> None:
        """``limit`` is how many bytes one line may have."""
        self._limit = limit
        self._begun = False
        self._line: list[bytes] = []  # the pieces of the line that is being read
        self._size = 0  # bytes of them

    def read(self, response: HTTPResponse) -> Flow[list[JSON]]:
        """The next documents of a streamed response; an empty list at its end."""
        while chunk := (yield from read(response)):
            if documents := self.feed(chunk):
                return documents
        return self.end()

    def feed(self, data: bytes) -> list[JSON]:
        """The documents whose lines these bytes complete.

        Raises:
            ResponseFormatError: A line is no JSON, or is larger than the limit.
        """
        *lines, rest = data.split(b"\n")  # CR is white space of JSON, and no line's end alone
        if lines and self._line:
            lines[0] = b"".join([*self._line, lines[0]])
            self._line.clear()
            self._size = 0
        documents = self._documents(lines)
        if rest:
            self._line.append(rest)
            self._size += len(rest)
            self._check(self._size)
        return documents

    def end(self) -> list[JSON]:
        """The document of a last line that no line break ends; an empty list if there is none.

        Raises:
            StreamInterruptedError: The line begins as JSON, and its end is missing.
            ResponseFormatError: It is no JSON.
        """
        line = b"".join(self._line)
        self._line.clear()
        self._size = 0
        try:
            return self._documents([line])
        except ResponseFormatError:
            if line.lstrip().startswith((b"{", b"[")):
                raise StreamInterruptedError("the stream ended in the middle of a line") from None
            raise

    def _documents(self, lines: list[bytes]) -> list[JSON]:
        if lines and not self._begun:
            self._begun = True
            lines[0] = lines[0].removeprefix(_BOM)
        return [self._document(line) for line in lines if line and not line.isspace()]

    def _document(self, line: bytes) -> JSON:
        self._check(len(line))
        text = line.decode("utf-8", "replace")
        try:
            try:
                return _parse(text)
            except RecursionError:
                return on_fresh_stack(_parse, text)
        except (ValueError, RecursionError):
            raise ResponseFormatError(f"a line of the stream is no JSON: {excerpt(line)}") from None

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise ResponseFormatError(f"a line of the stream is larger than {self._limit:,} bytes")
