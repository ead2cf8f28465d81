"""A proxy that speaks TLS and tunnels: what is inside the tunnel may be TLS again."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
from collections.abc import Iterator

__all__ = ["tls_proxy"]


@contextlib.contextmanager
def tls_proxy(context: ssl.SSLContext) -> Iterator[str]:
    """The URL of a proxy on localhost that does whatever CONNECT asks for."""
    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(
            target=_accept, args=(listener, context, sockets), name="relay", daemon=True
        )
        accepting.start()
        yield f"https://localhost:{listener.getsockname()[1]}"
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
    accepting.join(10)
    for sock in sockets:
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _accept(listener: socket.socket, context: ssl.SSLContext, sockets: list[socket.socket]) -> None:
    with contextlib.suppress(OSError):
        while True:
            client = context.wrap_socket(listener.accept()[0], server_side=True)
            sockets.append(client)
            threading.Thread(target=_tunnel, args=(client,), name="relay", daemon=True).start()


def _tunnel(client: ssl.SSLSocket) -> None:
    with contextlib.suppress(OSError), client:
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        host, _, port = head.split()[1].decode().rpartition(":")
        with socket.create_connection((host, int(port))) as server:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            _relay(client, server)


def _relay(client: ssl.SSLSocket, server: socket.socket) -> None:
    while True:
        readable = [client] if client.pending() else select.select([client, server], [], [])[0]
        for sock in readable:
            data = sock.recv(65536)
            if not data:
                return
            (server if sock is client else client).sendall(data)
