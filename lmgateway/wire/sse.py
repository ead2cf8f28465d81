"""Server-sent events, decoded from bytes as they arrive.

https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation::

    response = yield from opened(response)
    if response.source is None:
        ...  # a whole body: an answer, or an error
    decoder = Decoder()
    while events := (yield from decoder.read(response)):
        for event in events:
            ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from ..errors import ResponseFormatError, too_large
from ..types import Flow, HTTPResponse, Source, read, read_all

__all__ = ["Decoder", "Event", "opened"]

_BOM = b"\xef\xbb\xbf"
_LIMIT = 8 * 1024 * 1024
_BETWEEN = b"\n\ndata: "
_SPACE = b" \t\r\n"
#: What the lines of an event begin with.
_FIELDS = (b":", b"data", b"event", b"id", b"retry")


def opened(head: HTTPResponse) -> Flow[HTTPResponse]:
    """Look at the first byte of an answer that was asked for as a stream, and tell what it is.

    Some services answer a stream with JSON (an error, or all of the answer), some proxies with a
    page of HTML, and some send events under another type. So the first byte that is no white
    space decides: ``{``, ``[`` or ``<`` begins a whole body, whatever the type says. Under another
    type than ``text/event-stream`` a whole body is also what begins as no event does.

    Returns:
        A response with a whole ``body``, and no source; or one whose source gives the stream from
        its first byte, also if it is empty.

    Raises:
        ResponseFormatError: The body is larger than ``head.max_body``.
    """
    if head.source is None:
        return head
    begun: list[bytes] = []
    size, start = 0, b""
    declared = head.headers.get("content-type", "").strip().lower().startswith("text/event-stream")
    while _may_be_anything(start, declared=declared):
        piece = yield from read(head)
        if not piece:
            break
        begun.append(piece)
        start = (start + piece).lstrip(_SPACE)
        if start.startswith(_BOM):
            start = start[len(_BOM) :].lstrip(_SPACE)
        size += len(piece)
        if size > head.max_body and not start:
            raise too_large(head.max_body, head.status)
    source = _Begun(head.source, begun)
    rest = HTTPResponse(head.status, head.headers, source=source, max_body=head.max_body)
    if not start.startswith((b"{", b"[", b"<")) and (declared or start.startswith(_FIELDS)):
        return rest
    return replace(head, body=(yield from read_all(rest)), source=None)


def _may_be_anything(start: bytes, *, declared: bool) -> bool:
    """Whether more must be read before it is known what begins so."""
    if not start or _BOM.startswith(start):
        return True
    return not declared and any(len(start) < len(f) and f.startswith(start) for f in _FIELDS)


class _Begun:
    """A source whose first pieces have been read already."""

    __slots__ = ("_begun", "_source")

    def __init__(self, source: Source, begun: Iterable[bytes]) -> None:
        self._source = source
        self._begun = deque(begun)

    def read(self) -> Flow[bytes]:
        """The next bytes, b"" at the end."""
        return _at_once(self._begun.popleft()) if self._begun else self._source.read()

    def close(self) -> None:
        """Let go of the connection."""
        self._source.close()


def _at_once(piece: bytes) -> Flow[bytes]:
    yield from ()
    return piece


class Event(NamedTuple):
    """One event: its type (``message`` unless the stream said otherwise), data and last id."""

    event: str
    data: str
    id: str


class Decoder:
    r"""Turns chunks, cut anywhere, into events.

    Lines end with LF, CRLF or CR; bytes that are not UTF-8 become U+FFFD; an event the stream
    ends in the middle of is dropped: all as the standard says. ``retry`` is ignored, because
    a stream of a completion cannot be taken up again.

    The time is linear in the bytes, however they are cut; the memory is that of one event.
    """

    __slots__ = ("_after_cr", "_data", "_event", "_id", "_limit", "_line", "_size", "_start")

    def __init__(self, limit: int = _LIMIT) -> None:
        """``limit`` is how many bytes one event may have."""
        self._limit = limit
        self._id = ""
        self._event = b""
        self._data: list[bytes] = []  # the data lines of the event that is being read
        self._line: list[bytes] = []  # the pieces of the line that is being read
        self._size = 0  # bytes of both
        self._after_cr = False  # a LF that comes next belongs to the line before
        self._start: bytes | None = b""  # the first bytes, until they are known to be no BOM

    def read(self, response: HTTPResponse) -> Flow[list[Event]]:
        """The next events of a streamed response; an empty list at its end."""
        while chunk := (yield from read(response)):
            if events := self.feed(chunk):
                return events
        return []

    def feed(self, data: bytes) -> list[Event]:
        """The events that these bytes complete.

        Raises:
            ResponseFormatError: an event is larger than the limit.
        """
        if self._size or self._after_cr or self._start:  # in the middle of an event
            end = data.find(b"\n\n") + 2
            if not 2 <= end < len(data):
                return self._decode(data)
            return self._decode(data[:end]) + self.feed(data[end:])
        # Nearly all that comes are whole events of one line each.
        end = data.rfind(b"\n\n")
        if 0 < end <= self._limit and data.startswith(b"data: ") and b"\r" not in data:
            whole, rest = data[6:end], data[end + 2 :]
            if whole.count(b"\n") == 2 * whole.count(_BETWEEN):
                self._start = None
                texts = whole.decode("utf-8", "replace").split(_BETWEEN.decode())
                events = [Event("message", text, self._id) for text in texts]
                return events + self._decode(rest) if rest else events
        return self._decode(data)

    def _decode(self, data: bytes) -> list[Event]:
        if self._start is not None:
            data = self._without_bom(data)
        if self._after_cr and data:
            self._after_cr = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not data:
            return []
        lines = data.splitlines()  # of bytes: at LF, CRLF and CR only
        if self._line and (len(lines) > 1 or data.endswith((b"\n", b"\r"))):
            lines[0] = b"".join([*self._line, lines[0]])
            self._size -= sum(map(len, self._line))
            self._line.clear()
        if data.endswith(b"\r"):
            self._after_cr = True
        elif not data.endswith(b"\n"):
            rest = lines.pop()
            events = self._take(lines)
            self._line.append(rest)
            self._grow(len(rest))
            return events
        return self._take(lines)

    def _without_bom(self, data: bytes) -> bytes:
        data = (self._start or b"") + data
        if len(data) < len(_BOM) and _BOM.startswith(data):
            self._start = data
            return b""
        self._start = None
        return data.removeprefix(_BOM)

    def _take(self, lines: list[bytes]) -> list[Event]:
        events = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(self._dispatch())
                self._data.clear()
                self._event = b""
                self._size = 0
                continue
            if line.startswith(b":"):
                continue
            name, _, value = line.partition(b":")
            self._set(name, value.removeprefix(b" "))
        return events

    def _set(self, name: bytes, value: bytes) -> None:
        if name == b"data":
            self._grow(len(value) + 1)
            self._data.append(value)
        elif name == b"event":
            self._grow(len(value) - len(self._event))
            self._event = value
        elif name == b"id" and b"\0" not in value:
            if len(value) > self._limit:
                raise self._too_large()
            self._id = value.decode("utf-8", "replace")

    def _dispatch(self) -> Event:
        return Event(
            self._event.decode("utf-8", "replace") or "message",
            b"\n".join(self._data).decode("utf-8", "replace"),
            self._id,
        )

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit:
            raise self._too_large()

    def _too_large(self) -> ResponseFormatError:
        return ResponseFormatError(f"an event of the stream is larger than {self._limit:,} bytes")
