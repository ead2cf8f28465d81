"""A chat service in a process of its own, fast enough to stay out of measurements.

``python chat_server.py --delay 0.05`` prints its port, serves until stdin ends, and tells its
counts at ``GET /stats``. It answers each prompt with itself.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import random
from typing import Any

REFUSAL = b'{"error": {"message": "slow down", "type": "rate_limit", "code": null}}'


@dataclass
class Counts:
    """What the service was asked, and how it is set up."""

    delay: float = 0.0
    in_flight: int | None = None
    rate: float | None = None
    chance: float = 0.0
    keep: bool = False
    calls: int = 0
    refused: int = 0
    flying: int = 0
    peak: int = 0
    credit: float = 0.0
    moment: float = 0.0
    first: float = 0.0
    last: float = 0.0
    prompts: Counter[str] = field(default_factory=Counter)

    def takes(self) -> bool:
        """Whether a call that arrives now is answered."""
        if self.in_flight is not None and self.flying >= self.in_flight:
            return False
        if random() < self.chance:
            return False
        if self.rate is None:
            return True
        now = asyncio.get_running_loop().time()
        self.credit = min(self.rate / 10, self.credit + (now - self.moment) * self.rate)
        self.moment = now
        if self.credit < 1.0:
            return False
        self.credit -= 1.0
        return True

    def stats(self) -> bytes:
        """The counts as JSON."""
        shown = {name: getattr(self, name) for name in ("calls", "refused", "flying", "peak")}
        span = self.last - self.first  # seconds from the first call to the last
        return json.dumps({**shown, "span": span, "prompts": dict(self.prompts)}).encode()


class Connection(asyncio.Protocol):
    """One connection: requests one after another, as clients with pools send them."""

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.buffer = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            head = self.buffer[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.buffer) < end + 4 + length:
                return
            body = self.buffer[end + 4 : end + 4 + length]
            self.buffer = self.buffer[end + 4 + length :]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        counts = self.counts
        if head.startswith(b"get /stats"):
            self.reply(200, counts.stats())
            return
        counts.calls += 1
        counts.last = asyncio.get_running_loop().time()
        counts.first = counts.first or counts.last
        prompt = b'""'
        if counts.keep:
            asked = json.loads(body)
            text = asked["messages"][-1]["content"] if "messages" in asked else asked["prompt"]
            counts.prompts[text] += 1
            prompt = json.dumps(text).encode()
        if not counts.takes():
            counts.refused += 1
            self.reply(429, REFUSAL)
            return
        counts.flying += 1
        counts.peak = max(counts.peak, counts.flying)
        if counts.delay:
            asyncio.get_running_loop().call_later(counts.delay, self.say, prompt)
        else:
            self.say(prompt)

    def say(self, prompt: bytes) -> None:
        self.counts.flying -= 1
        self.reply(200, _ANSWER % prompt)

    def reply(self, status: int, body: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(_HEAD % (status, len(body)) + body)


_HEAD = b"HTTP/1.1 %d Status\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_ANSWER = (
    b'{"id": "chatcmpl-1", "object": "chat.completion", "model": "m", "choices": [{"index": 0, '
    b'"message": {"role": "assistant", "content": %b}, "finish_reason": "stop"}], '
    b'"usage": {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}}'
)


@dataclass
class ChatServer:
    """A running service, seen from outside."""

    port: int

    @property
    def url(self) -> str:
        """The base URL."""
        return f"http://127.0.0.1:{self.port}/v1"

    def stats(self) -> dict[str, Any]:
        """Its counts."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/stats", timeout=30) as answer:
            counts: dict[str, Any] = json.load(answer)
        return counts


@contextmanager
def serve_chat(*options: str) -> Iterator[ChatServer]:
    """A service in a process of its own, with these options of the command line."""
    command = [sys.executable, __file__, *options]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            yield ChatServer(int(process.stdout.readline()))
        finally:
            process.stdin.close()
            process.wait(10)


async def main() -> None:
    """Serve until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--delay", type=float, default=0.0, help="seconds before each answer")
    parser.add_argument("--in-flight", type=int, help="429 for what comes on top of these")
    parser.add_argument("--rate", type=float, help="429 for what comes on top, a second")
    parser.add_argument("--chance", type=float, default=0.0, help="429 for this part, at random")
    parser.add_argument("--keep", action="store_true", help="count each prompt")
    counts = Counts(**vars(parser.parse_args()))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(counts), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main())
