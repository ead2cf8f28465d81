"""A raw-socket HTTP server on 127.0.0.1 that misbehaves at any byte a test wants it to.

Each connection plays one script, a list of steps; the n-th connection plays the n-th script, and
all later ones play the last::

    with FaultServer([receive(), send(head(200, length=10)), send(b"five!"), reset()]) as server:
        ...  # talk to server.url
        assert len(server.requests) == 1

When a script has been played to its end, the connection is closed in the usual way.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from types import TracebackType
from typing import Any, Self, TypeAlias

__all__ = [
    "FaultServer",
    "Peer",
    "ReceivedRequest",
    "Script",
    "Step",
    "answer",
    "await_event",
    "chunk",
    "close",
    "drip",
    "head",
    "receive",
    "reply",
    "reset",
    "send",
    "signal",
    "stall",
    "start_tls",
    "whole",
]

Headers: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]


class ScriptOverError(Exception):
    """The rest of the script makes no sense: the client is gone, or a step closed the socket."""


@dataclass(frozen=True)
class ReceivedRequest:
    """A request as it stood on the wire.

    Attributes:
        raw: Every byte of it, head and body.
        connection: The number of the connection it came on, counted from 0.
        at: ``time.monotonic()`` when its last byte had arrived.
    """

    raw: bytes
    connection: int
    at: float = field(default_factory=monotonic)

    @property
    def line(self) -> str:
        """The request line, such as ``POST /v1/completions HTTP/1.1``."""
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def path(self) -> str:
        """The target in the request line."""
        return self.line.split(" ")[1]

    @property
    def headers(self) -> dict[str, str]:
        """The headers, their names in lower case."""
        lines = self.raw.split(b"\r\n\r\n", 1)[0].decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in (x.partition(":") for x in lines)}

    @property
    def body(self) -> bytes:
        """What came after the head."""
        return self.raw.split(b"\r\n\r\n", 1)[1]


class Peer:
    """The server's end of one connection: what a step works on.

    Attributes:
        number: Counted from 0 in the order of acceptance.
        sock: The socket, a TLS socket after ``start_tls``.
        hung_up: Set once the client's end of the connection was seen to be gone.
        hung_up_at: ``time.monotonic()`` of that, else None.
    """

    def __init__(self, server: FaultServer, sock: socket.socket, number: int) -> None:
        self.server = server
        self.sock = sock
        self.number = number
        self.hung_up = threading.Event()
        self.hung_up_at: float | None = None

    def send(self, data: bytes) -> None:
        """Send all of it, or end the script when the client is gone."""
        try:
            self.sock.sendall(data)
        except OSError:
            self.lost()

    def recv(self, size: int = 65536) -> bytes:
        """Bytes from the client; ends the script when it is gone."""
        try:
            data = self.sock.recv(size)
        except OSError:
            data = b""
        if not data:
            self.lost()
        return data

    def lost(self) -> None:
        """Note that the client hung up, and end the script."""
        if not self.hung_up.is_set():
            self.hung_up_at = monotonic()
            self.hung_up.set()
        raise ScriptOverError

    def close(self) -> None:
        """Close the socket; also wakes a step that waits on it."""
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)
        with contextlib.suppress(OSError):
            self.sock.close()


Step: TypeAlias = Callable[[Peer], None]
Script: TypeAlias = Sequence[Step]


# -- steps ---------------------------------------------------------------------------------------


def receive() -> Step:
    """Read one request, head and body, and record it in ``server.requests``."""

    def step(peer: Peer) -> None:
        _received(peer)

    return step


def _received(peer: Peer) -> ReceivedRequest:
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += peer.recv()
    request = ReceivedRequest(raw, peer.number)
    missing = int(request.headers.get("content-length", 0)) - len(request.body)
    pieces = [raw]
    while missing > 0:
        pieces.append(peer.recv())
        missing -= len(pieces[-1])
    request = ReceivedRequest(b"".join(pieces), peer.number)
    peer.server.record(request)
    return request


def answer(make: Callable[[ReceivedRequest], bytes]) -> Step:
    """Answer each request with the bytes that a function makes of it, until the client hangs up."""

    def step(peer: Peer) -> None:
        while True:
            peer.send(make(_received(peer)))

    return step


def send(*pieces: bytes) -> Step:
    """Send these bytes, each piece in a packet of its own where the system allows."""

    def step(peer: Peer) -> None:
        for piece in pieces:
            peer.send(piece)

    return step


def drip(data: bytes, every: float) -> Step:
    """Send a byte each ``every`` seconds, until they are all sent or the client is gone."""

    def step(peer: Peer) -> None:
        for offset in range(len(data)):
            peer.send(data[offset : offset + 1])
            if peer.server.stopping.wait(every):
                raise ScriptOverError

    return step


def stall() -> Step:
    """Say nothing more, and read what comes until the client hangs up."""

    def step(peer: Peer) -> None:
        while True:
            peer.recv()

    return step


def await_event(event: threading.Event) -> Step:
    """Do nothing until the test sets the event."""

    def step(peer: Peer) -> None:
        while not event.wait(0.02):
            if peer.server.stopping.is_set():
                raise ScriptOverError

    return step


def signal(event: threading.Event) -> Step:
    """Tell the test that the script has come this far."""

    def step(_peer: Peer) -> None:
        event.set()

    return step


def reset() -> Step:
    """Drop the connection with an RST, as a crashed process or a firewall does."""

    def step(peer: Peer) -> None:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        raise ScriptOverError

    return step


def close() -> Step:
    """Close the connection with a FIN."""

    def step(peer: Peer) -> None:
        peer.close()
        raise ScriptOverError

    return step


def start_tls(context: ssl.SSLContext) -> Step:
    """Shake hands as the server; what follows is encrypted. A failed handshake ends the script."""

    def step(peer: Peer) -> None:
        try:  # assigned before the handshake, so that the end of the server can interrupt it
            peer.sock = context.wrap_socket(
                peer.sock, server_side=True, do_handshake_on_connect=False
            )
            peer.sock.do_handshake()
        except OSError:
            peer.lost()

    return step


# -- bytes ---------------------------------------------------------------------------------------


def head(status: int = 200, headers: Headers = (), *, length: int | None = None) -> bytes:
    """The head of a response; Content-Length only where ``length`` is given."""
    items = list(headers.items() if isinstance(headers, Mapping) else headers)
    if length is not None:
        items.append(("Content-Length", str(length)))
    lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in items)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def reply(body: bytes = b"{}", status: int = 200, headers: Headers = ()) -> Step:
    """Receive a request and answer it properly, the connection kept alive."""

    def step(peer: Peer) -> None:
        _received(peer)
        peer.send(whole(body, status, headers))

    return step


def whole(body: bytes = b"{}", status: int = 200, headers: Headers = ()) -> bytes:
    """A whole response."""
    return head(status, headers, length=len(body)) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; ``chunk(b"")`` ends it."""
    return b"%x\r\n%b\r\n" % (len(data), data)


# -- the server ----------------------------------------------------------------------------------


class FaultServer:
    """Plays scripts to its clients, and keeps what they sent.

    Use it as a context manager: on leaving, every socket is closed and every thread has ended,
    and an exception that a step should not have raised is raised to the test.

    Attributes:
        port: Where it listens, chosen by the system.
        requests: Every request that ``receive`` or ``reply`` read, in order of arrival.
        peers: Every connection accepted, in order.
        stopping: Set when the server is shutting down.
    """

    def __init__(self, *scripts: Script, address: str = "127.0.0.1") -> None:
        self._scripts = scripts or ([stall()],)
        self._arrived = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []
        self.requests: list[ReceivedRequest] = []
        self.peers: list[Peer] = []
        self.stopping = threading.Event()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=128)
        self._address = f"[{address}]" if ":" in address else address
        self.port: int = self._listener.getsockname()[1]

    @property
    def host(self) -> str:
        """``127.0.0.1:port``."""
        return f"{self._address}:{self.port}"

    @property
    def url(self) -> str:
        """The base URL for plain HTTP."""
        return f"http://{self.host}"

    @property
    def tls_url(self) -> str:
        """The base URL for scripts that begin with ``start_tls``, by name: ``localhost``."""
        return f"https://localhost:{self.port}"

    def record(self, request: ReceivedRequest) -> None:
        """Keep a request that has arrived."""
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()

    def await_requests(self, count: int, timeout: float = 10.0) -> list[ReceivedRequest]:
        """Wait until that many requests have arrived in all, and return them."""
        with self._arrived:
            if not self._arrived.wait_for(lambda: len(self.requests) >= count, timeout):
                raise AssertionError(f"{len(self.requests)} of {count} requests arrived")
            return list(self.requests)

    def await_hang_up(self, connection: int = 0, timeout: float = 10.0) -> float:
        """Wait until a connection's script saw the client hang up; ``monotonic()`` of that.

        The script must be reading or sending at that point: end it with ``stall()``.
        """
        peer = self.peers[connection]
        if not peer.hung_up.wait(timeout) or peer.hung_up_at is None:
            raise AssertionError(f"the client still holds connection {connection}")
        return peer.hung_up_at

    def __enter__(self) -> Self:
        self._spawn(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(10)  # afterwards nobody is added
        for peer in self.peers:
            peer.close()
        for thread in self._threads:
            thread.join(10)
        if self._failures and error is None:
            raise self._failures[0]

    def _spawn(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, name="fault-server", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _address = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(self, sock, len(self.peers))
            self.peers.append(peer)
            script = self._scripts[min(peer.number, len(self._scripts) - 1)]
            self._spawn(self._play, script, peer)

    def _play(self, script: Script, peer: Peer) -> None:
        try:
            for step in script:
                step(peer)
        except ScriptOverError:
            pass
        except BaseException as error:
            # The end of the test closes the socket, which may be between two steps.
            if not (self.stopping.is_set() and isinstance(error, OSError)):
                self._failures.append(error)
        finally:
            peer.close()
