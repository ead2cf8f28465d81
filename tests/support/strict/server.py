"""A server of several strict services: each has a path of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Protocol, Self

__all__ = ["RefusalError", "Reply", "Server", "StrictService"]


class RefusalError(Exception):
    """What the request is refused for, in the service's words; a 400 unless told otherwise."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Reply:
    """What a service says: JSON, or the bytes of an event stream."""

    body: Any
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


class StrictService(Protocol):
    """One service.

    ``down`` makes it answer 503 to everything. ``asked`` holds the bodies that came.
    """

    label: str
    down: bool
    asked: list[dict[str, Any]]

    def answer(self, path: str, body: dict[str, Any]) -> Reply:
        """The answer, or a RefusalError."""
        ...

    def refusal(self, error: RefusalError) -> Reply:
        """An error in the service's own form."""
        ...


class Server:
    """All services behind one port: ``http://127.0.0.1:port/<label>``."""

    def __init__(self, *services: StrictService) -> None:
        self.services = {service.label: service for service in services}
        handler = type("Handler", (_Handler,), {"services": self.services})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.port = self._server.server_port

    def base(self, label: str) -> str:
        """The base URL of a service."""
        return f"http://127.0.0.1:{self.port}/{label}"

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
    services: dict[str, StrictService]

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        _, label, path = self.path.split("/", 2)
        service, body = self.services[label], json.loads(raw)
        service.asked.append(body)
        try:
            if service.down:
                raise RefusalError("The service is overloaded", 503)
            reply = service.answer(f"/{path}", body)
        except RefusalError as error:
            reply = service.refusal(error)
        streamed = isinstance(reply.body, bytes)
        content = reply.body if streamed else json.dumps(reply.body).encode()
        head = [f"HTTP/1.1 {reply.status} Status"]
        kind = "text/event-stream" if streamed else "application/json"
        for name, value in {"Content-Type": kind, **reply.headers}.items():
            head.append(f"{name}: {value}")
        head.append(f"Content-Length: {len(content)}")
        self.wfile.write("\r\n".join(head).encode() + b"\r\n\r\n" + content)

    def log_message(self, *_args: Any) -> None: ...
