"""A web server that answers as a function tells it to, and keeps what it was asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, NamedTuple, Self

from lmgateway import LM

__all__ = ["CALLING", "Asked", "Reply", "Web", "ask"]


class Asked(NamedTuple):
    """A request: its path as it stood in its first line, and its headers in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Reply:
    """An answer; a header may stand there more than once."""

    body: bytes = b"{}"
    status: int = 200
    headers: list[tuple[str, str]] = field(
        default_factory=lambda: [("Content-Type", "application/json")]
    )


class Web:
    """The server: ``web.url`` is its base."""

    def __init__(self, answer: Callable[[Asked], Reply] = lambda asked: Reply()) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        handler = type("Handler", (_Handler,), {"web": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    web: Web

    def _do(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", 0)))
        asked = Asked(self.command, self.path, headers, body)
        self.web.asked.append(asked)
        reply = self.web.answer(asked)
        lines = [f"HTTP/1.1 {reply.status} Status"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines += [f"Content-Length: {len(reply.body)}", "", ""]
        content = b"" if self.command == "HEAD" else reply.body
        self.wfile.write("\r\n".join(lines).encode("latin-1") + content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _do  # noqa: N815

    def log_message(self, *_args: Any) -> None: ...


#: Blocking, over aiohttp, and awaited over threads.
CALLING = ["blocking", "aiohttp", "threads"]


def ask(lm: LM, how: str, *args: Any, **keywords: Any) -> Any:
    """A completion by one of the three transports."""
    if how == "blocking":
        return lm.complete(*args, **keywords)
    return asyncio.run(lm.acomplete(*args, transport=how, **keywords))
