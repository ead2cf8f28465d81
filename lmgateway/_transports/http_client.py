"""The response class of the blocking transport: http.client's, stricter and quicker."""

from __future__ import annotations

import http.client
import re
from io import BufferedReader, BytesIO, RawIOBase
from typing import Any

from .errors import not_http
from .watchdog import Connection, current

__all__ = ["Chunks", "StrictResponse"]

HEAD_LIMIT = 256 * 1024  # bytes
CHUNKS_AT_ONCE = 16 * 1024  # bytes; if each chunk holds one, they are many small objects

_HEX_DIGITS = b"0123456789abcdefABCDEF"


class _Tap(RawIOBase):
    """The stream that a response reads from; once it is shut, it gives only what is buffered."""

    def __init__(self, sock: Any) -> None:
        self._raw = sock.makefile("rb", buffering=0)
        self.shut = False

    def makefile(self, _mode: str) -> BufferedReader:
        """What http.client asks a socket for."""
        return BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        return None if self.shut else self._raw.readinto(buffer)

    def close(self) -> None:
        self._raw.close()
        super().close()


class StrictResponse(http.client.HTTPResponse):
    """A response whose head must be complete and must say in a known way where the body ends.

    http.client takes the end of the connection for the end of the head: if a server dies in the
    middle of its headers, http.client returns status 200 and an empty body. After a header line
    that it cannot read, it ignores all later ones, Content-Length among them.
    """

    _chunks: Chunks | None = None
    _connection: Connection | None = None

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        self._tap = _Tap(sock)
        super().__init__(self._tap, *args, **options)  # type: ignore[arg-type]

    def begin(self, **options: Any) -> None:
        """Read the head; the heads of interim responses (1xx) are skipped."""
        if self.headers is not None:
            return
        if current.in_flight is not None:
            self._connection = current.in_flight.connection
            current.in_flight.began = bool(self.fp.peek(1))
        stream, head = self.fp, self._read_head()
        while re.match(rb"HTTP/1\.\d 1(?!01)", head):
            head = self._read_head()
        try:
            self.fp = BytesIO(head)
            super().begin(**options)
        except http.client.HTTPException as error:
            raise not_http(f"its head cannot be read ({type(error).__name__})") from None
        finally:
            self.fp = stream
        self._check_framing()

    def _read_head(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        while size <= HEAD_LIMIT:
            line = self.fp.readline(HEAD_LIMIT)
            size += len(line)
            if not line:
                if lines:
                    raise ConnectionAbortedError("closed in the middle of the headers")
                raise http.client.RemoteDisconnected("closed before a response")
            if not lines and not line.startswith(b"HTTP/"):
                raise not_http("what came is not HTTP")
            lines.append(line)
            if line in (b"\r\n", b"\n"):
                return b"".join(lines)
        raise not_http(f"the headers are longer than {HEAD_LIMIT} bytes")

    def _check_framing(self) -> None:
        if self.headers.defects:
            raise not_http("a header line cannot be read")
        coding = self.headers.get("transfer-encoding", "identity").strip().lower()
        if coding not in ("chunked", "identity"):
            raise not_http("the transfer coding is neither chunked nor identity")
        lengths = {length.strip() for length in self.headers.get_all("content-length", ())}
        if len(lengths) > 1 or not all(x.isascii() and x.isdigit() for x in lengths):
            raise not_http("Content-Length is not one number")

    def _read1_chunked(self, n: int) -> bytes:
        """What has come, of any number of chunks; http.client would return one chunk."""
        if self._chunks is None:
            self._chunks = Chunks(HEAD_LIMIT)
        chunks = self._chunks
        while not chunks.ended:
            data = b"" if chunks.broken else self.fp.read1(min(n, CHUNKS_AT_ONCE))
            if not data:
                raise http.client.IncompleteRead(b"")
            body = chunks.feed(data)
            if chunks.ended:
                self._close_conn()
            if body:
                return body
        return b""

    def _close_conn(self) -> None:
        """Let go of the connection. If bytes came after the end, it must not be used again."""
        self._tap.shut = True
        beyond = (self._chunks and self._chunks.beyond) or self.fp.peek(1)
        if beyond and self._connection is not None:
            self._connection.spoilt = True
        super()._close_conn()  # type: ignore[misc]

    def take_end(self) -> bool:
        """Read the end of a chunked body; False if something else comes, or has not come yet."""
        return self._chunks is not None and not self._read1_chunked(CHUNKS_AT_ONCE)


class Chunks:
    """A parser of the chunked coding: it is fed bytes, cut anywhere, and returns the body.

    http.client reads a body chunk by chunk, with three calls for each. A model's answer has a
    chunk for every token, and one packet brings many of them.

    Attributes:
        ended: The last chunk and its trailer have been read.
        beyond: More bytes came after the end.
        broken: The bytes are not in the chunked coding, from here on.
    """

    __slots__ = ("_left", "_limit", "_line", "_skip", "_trailer", "beyond", "broken", "ended")

    def __init__(self, limit: int) -> None:
        """A line may have ``limit`` bytes, and so may all lines of the trailer together."""
        self.ended = self.beyond = self.broken = False
        self._limit = limit
        self._left = 0  # bytes of the chunk that is being read
        self._skip = 0  # bytes of the line break after it
        self._line = b""  # the beginning of a line
        self._trailer: int | None = None  # bytes of it so far, once it has begun

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body among these."""
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
        """Read a line that begins a chunk, or a line of the trailer."""
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
