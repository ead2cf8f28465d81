"""A service on a raw socket that says what it was told to say, and sees the client leave."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    b'data: {"choices": [{"index": 0, "delta": {"content": "once upon"}}]}\n\n'
)
UNAUTHORIZED = (
    b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: 42\r\n\r\n"
    b'{"error": {"message": "no such key here"}}'
)


class Service:
    """One connection is answered; ``asked`` is set by its request, ``left`` by its end."""

    def __init__(self, listener: socket.socket, answer: bytes, *, stays: bool) -> None:
        self.base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        self.asked, self.left = threading.Event(), threading.Event()
        self._listener, self._answer, self._stays = listener, answer, stays

    def serve(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # nobody came
            return
        with connection:
            connection.settimeout(30)
            received = b""
            while b"\r\n\r\n" not in received:
                received += connection.recv(65536)
            connection.sendall(self._answer)
            self.asked.set()
            if not self._stays:
                return
            try:
                while connection.recv(65536):
                    pass
            except ConnectionError:
                pass
            self.left.set()


@contextmanager
def serve(answer: bytes, *, stays: bool = True) -> Iterator[Service]:
    """A service that gives one request this raw answer, and waits for the client to leave."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        service = Service(listener, answer, stays=stays)
        thread = threading.Thread(target=service.serve, daemon=True)
        thread.start()
        yield service
    thread.join(5)
