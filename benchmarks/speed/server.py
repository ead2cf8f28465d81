"""A service that answers at once, so that what is measured is its clients.

Raw asyncio, no HTTP library: it finds the end of a request and writes bytes that were ready
before. The path says how: ``/delay/200/v1/...`` answers after 200 ms, ``/chunks/50/v1/...`` streams
50 pieces at once to those who ask for a stream, ``/single/50/v1/...`` one by one as fast as it can,
``/paced/50/v1/...`` a piece a millisecond, as models do.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from contextlib import suppress
from functools import cache

TEXT = "Paris, because the government sits there. " * 10
COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": TEXT},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 90, "completion_tokens": 120, "total_tokens": 210},
}
EMBEDDINGS = {
    "object": "list",
    "model": "m",
    "data": [{"object": "embedding", "index": 0, "embedding": [n / 32 for n in range(32)]}],
    "usage": {"prompt_tokens": 90, "total_tokens": 90},
}
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_MODE = re.compile(rb"/(delay|chunks|single|paced)/(\d+)/")
_STREAMS = re.compile(rb'"stream": ?true')


def _whole(answer: object) -> bytes:
    body = json.dumps(answer).encode()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


WHOLE = _whole(COMPLETION)
EMBEDDED = _whole(EMBEDDINGS)


def _piece(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    shared = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1700000000}
    event = b"data: %s\n\n" % json.dumps({**shared, "model": "m", "choices": [choice]}).encode()
    return b"%x\r\n%s\r\n" % (len(event), event)


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)
STREAM_END = _piece({}, "stop") + b"e\r\ndata: [DONE]\n\n\r\n" + b"0\r\n\r\n"


@cache
def numbered(number: int) -> bytes:
    """One piece; some clients take a text that comes again and again for a fault."""
    return _piece({"content": f"{number} "})


@cache
def streamed(pieces: int) -> bytes:
    """A whole streamed response, each event in an HTTP chunk of its own."""
    return STREAM_HEAD + b"".join(map(numbered, range(pieces))) + STREAM_END


class Answering(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing read."""
        self._transport = transport
        self._read = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end]
            length = _LENGTH.search(head)
            after = end + 4 + (int(length[1]) if length else 0)
            if len(self._read) < after:
                return
            body, self._read = self._read[end + 4 : after], self._read[after:]
            self._answer(head[: head.find(b"\r\n")], body)

    def _answer(self, line: bytes, body: bytes) -> None:
        mode = _MODE.search(line)
        kind, number = (mode[1], int(mode[2])) if mode else (b"", 0)
        streams = _STREAMS.search(body)
        whole = EMBEDDED if b"/embeddings " in line else WHOLE
        answer = streamed(number or 1) if streams else whole
        if kind in (b"paced", b"single") and streams:
            self._write(STREAM_HEAD)
            self._write_piece(number, 0.001 if kind == b"paced" else 0.0)
        elif kind == b"delay":
            asyncio.get_running_loop().call_later(number / 1000, self._write, answer)
        else:
            self._write(answer)

    def _write_piece(self, left: int, pause: float) -> None:
        if left:
            self._write(numbered(left))
            asyncio.get_running_loop().call_later(pause, self._write_piece, left - 1, pause)
        else:
            self._write(STREAM_END)

    def _write(self, answer: bytes) -> None:
        self._transport.write(answer)  # type: ignore[attr-defined]


async def serve() -> None:
    """Print the port, and answer until standard input ends."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(serve())
