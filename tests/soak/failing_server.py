"""A service that fails one request in five, in mixed ways, and counts what it answered whole.

``python tests/soak/failing_server.py --share 0.2`` prints its port and serves until its standard
input ends; then it prints what it did, as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import socket
import struct
import sys
from collections import Counter
from typing import Any

FAULTS = ("reset", "500", "429", "stall", "cut", "garbage")
EVENTS = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON = b"Content-Type: application/json\r\n"


def answer_to(prompt: str) -> str:
    """What the right answer to a prompt is; long enough to be cut in the middle."""
    return f"answer to {prompt} " + prompt[::-1] * 20


class Service(asyncio.Protocol):
    """One connection."""

    def __init__(self, counts: Counter[str], whole: bytearray, share: float) -> None:
        self.counts = counts
        self.whole = whole  # how often each prompt was answered whole
        self.share = share
        self.data = b""
        self.stalled = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, end, rest = self.data.partition(b"\r\n\r\n")
        if not end or self.stalled:
            return
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length")
        )
        if len(rest) >= length:
            self.data = rest[length:]
            self.serve(json.loads(rest[:length]))

    def serve(self, asked: dict[str, Any]) -> None:
        prompt = asked["messages"][0]["content"]
        good = streamed(prompt) if asked.get("stream") else whole(prompt)
        if random.random() >= self.share:
            self.counts["good"] += 1
            number = int(prompt.split()[1])
            if number >= len(self.whole):
                self.whole.extend(bytes(number + 100_000 - len(self.whole)))
            self.whole[number] += 1
            self.transport.write(good)
            return
        fault = random.choice(FAULTS)
        self.counts[fault] += 1
        getattr(self, f"serve_{fault}", self.serve_status)(good, fault)

    def serve_status(self, good: bytes, fault: str) -> None:
        again = b"Retry-After: 0\r\n" if fault == "429" else b""
        head = b"HTTP/1.1 %s Status\r\n" % fault.encode() + JSON + again
        self.transport.write(head + b"Content-Length: 2\r\n\r\n{}")

    def serve_reset(self, good: bytes, fault: str) -> None:
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def serve_stall(self, good: bytes, fault: str) -> None:
        self.stalled = True
        self.transport.write(good[: random.randrange(len(good) - 1)])

    def serve_cut(self, good: bytes, fault: str) -> None:
        self.transport.write(good[: random.randrange(len(good) - 1)])
        self.transport.close()

    def serve_garbage(self, good: bytes, fault: str) -> None:
        if random.random() < 0.5:
            self.transport.write(random.randbytes(200) + b"\r\n\r\n")
        else:
            body = random.randbytes(200)
            head = b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(body)
            self.transport.write(head + body)
        self.transport.close()


def whole(prompt: str) -> bytes:
    """A plain answer."""
    message = {"role": "assistant", "content": answer_to(prompt)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    body = json.dumps({"id": "x", "model": "m", "choices": [choice]}).encode()
    return b"HTTP/1.1 200 OK\r\n" + JSON + b"Content-Length: %d\r\n\r\n" % len(body) + body


def streamed(prompt: str) -> bytes:
    """A streamed answer, in ten pieces."""
    text = answer_to(prompt)
    size = len(text) // 10 + 1
    pieces = [{"content": text[n : n + size]} for n in range(0, len(text), size)]
    choices = [{"index": 0, "delta": piece, "finish_reason": None} for piece in pieces]
    choices[-1]["finish_reason"] = "stop"
    data = [json.dumps({"id": "x", "model": "m", "choices": [choice]}) for choice in choices]
    lines = [f"data: {each}\n\n".encode() for each in [*data, "[DONE]"]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(line), line) for line in lines)
    return b"HTTP/1.1 200 OK\r\n" + EVENTS + chunks + b"0\r\n\r\n"


async def serve(share: float) -> None:
    """Serve until standard input ends."""
    counts: Counter[str] = Counter()
    answered = bytearray(100_000)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Service(counts, answered, share), "127.0.0.1", 0, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    doubled = sum(number > 1 for number in answered)
    print(json.dumps({"requests": sum(counts.values()), **counts, "answered twice": doubled}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.2, help="of requests that fail")
    asyncio.run(serve(parser.parse_args().share))
