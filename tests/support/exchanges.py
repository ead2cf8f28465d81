"""Recorded exchanges, read back: a request as it was sent and its response as it came."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmgateway.types import Delta, Emit, Flow, HTTPRequest, HTTPResponse, Read, Request

DATA = Path(__file__).parent.parent / "data" / "wire"

_PARTS = re.compile(rb">>> REQUEST\n(.*?)\r\n\r\n(.*?)\n<<< RESPONSE [^\n]*\n(.*)", re.DOTALL)


@dataclass(frozen=True)
class Recorded:
    """One exchange; ``chunks`` is the body as it was cut, dechunked."""

    name: str
    method: str
    path: str
    sent: bytes
    status: int
    headers: dict[str, str]
    chunks: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        """The request's JSON; None if it had none, or one that was too long to keep."""
        try:
            return json.loads(self.sent)
        except ValueError:
            return None

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def response(self, cuts: Iterable[bytes] | None = None) -> HTTPResponse:
        """The response as a transport hands it over; a stream may be cut anew."""
        if not self.is_stream:
            return HTTPResponse(self.status, self.headers, self.body)
        source = Pieces(self.chunks if cuts is None else cuts)
        return HTTPResponse(self.status, self.headers, source=source)

    def request(self) -> Request:
        """What a user asked for to get this exchange, as far as reading the answer goes."""
        body = self.json if isinstance(self.json, dict) else {}
        prompt, messages = body.get("prompt"), body.get("messages")
        params = {"n": body["n"]} if "n" in body else {}
        return Request(
            body.get("model", ""),
            prompt=None if isinstance(messages, list) else str(prompt or ""),
            messages=messages if isinstance(messages, list) else None,
            params=params,
            stream=bool(body.get("stream")),
        )

    def http_request(self) -> HTTPRequest:
        return HTTPRequest(
            self.method,
            "http://service.example",
            self.path.removeprefix("/v1"),
            json=self.json,
            stream=bool((self.json or {}).get("stream")) if isinstance(self.json, dict) else False,
        )


class Pieces:
    """A source that hands out pieces, or raises one that is an error."""

    def __init__(self, pieces: Iterable[bytes | BaseException]) -> None:
        self._pieces = iter(pieces)
        self.closed = 0

    def read(self) -> Flow[bytes]:
        piece = yield Read(None)  # a driver is asked, as by a real body
        assert piece is None
        for piece in self._pieces:
            if isinstance(piece, BaseException):
                raise piece
            return piece
        return b""

    def close(self) -> None:
        self.closed += 1


def run(flow: Flow[Any], *responses: HTTPResponse) -> tuple[Any, list[Delta]]:
    """Drive a flow by hand: what it returned, and what it emitted."""
    waiting, emitted, answer = list(responses), [], None
    try:
        while True:
            effect = flow.send(answer)
            answer = waiting.pop(0) if isinstance(effect, HTTPRequest) else None
            if isinstance(effect, Emit):
                delta = effect.delta
                emitted.append(Delta(delta) if isinstance(delta, str) else delta)
    except StopIteration as end:
        return end.value, emitted


def read_exchange(path: Path) -> Recorded:
    """Parse one file."""
    parts = _PARTS.fullmatch(path.read_bytes())
    assert parts is not None, path
    method, target, _ = parts[1].split(b"\r\n")[0].decode().split(" ")
    head, _, body = parts[3].partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = (line.partition(":") for line in lines)
    headers = {name.lower(): value.strip() for name, _, value in fields}
    chunked = headers.get("transfer-encoding") == "chunked"
    return Recorded(
        name=f"{path.parent.name}/{path.name.removesuffix('.http.txt')}",
        method=method,
        path=target,
        sent=parts[2].removesuffix(b"\n"),
        status=int(first.split(" ")[1]),
        headers=headers,
        chunks=tuple(_dechunk(body) if chunked else [body]),
    )


def _dechunk(body: bytes) -> Iterable[bytes]:
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        if not length:
            return
        yield body[:length]
        body = body[length + 2 :]


def exchanges() -> list[Recorded]:
    """All recorded exchanges."""
    return [read_exchange(path) for path in sorted(DATA.rglob("*.http.txt"))]
