"""urllib3's connections and pools, held by a deadline and strict about the head of a response."""

from __future__ import annotations

import contextlib
import http.client
import queue
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator
from io import BufferedReader, BytesIO, RawIOBase
from time import monotonic
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .._drive.futures import start
from .chunks import Chunks
from .exchange import CONNECT, Exchange, current
from .silence import acknowledge, is_silent
from .watchdog import Guard

__all__ = ["POOL_CLASSES", "HeadError"]

HEAD_LIMIT = 256 * 1024
ONE_PACKET = 64 * 1024  # bytes; a larger body is not worth the copy
CHUNKS_AT_ONCE = 16 * 1024  # bytes; if each chunk holds one, they are many small objects
LONGEST_WAIT = 3600.0  # seconds; sockets and locks refuse to wait for centuries

# A model may think for minutes without a byte, and routers on the way forget silent connections.
KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
]


class HeadError(http.client.HTTPException):
    """What came is not the head of an HTTP response that can be relied on."""


class UnaskedError(ConnectionError):
    """Something came on a kept connection before it was asked; nothing was sent on it."""


class _Tap(RawIOBase):
    """Where a response reads from, until it is shut: then only what is buffered is left to see."""

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
    """A response whose head must be whole, and must say in a known way where the body ends.

    http.client takes the end of the connection for the end of the head, so that a server that
    dies in the middle of its headers has sent "200 and an empty body"; and a header line that it
    cannot read makes it forget all that follow, Content-Length among them.
    """

    _chunks: Chunks | None = None
    _connection: Watched | None = None

    def __init__(self, sock: Any, *args: Any, **options: Any) -> None:
        self._tap = _Tap(sock)
        super().__init__(self._tap, *args, **options)  # type: ignore[arg-type]

    def begin(self, **options: Any) -> None:
        """Read the head, and pass over those of interim responses."""
        if self.headers is not None:
            return
        if current.exchange is not None:
            self._connection = current.exchange.connection
            current.exchange.began = bool(self.fp.peek(1))
        stream, head = self.fp, self._read_head()
        while re.match(rb"HTTP/1\.\d 1(?!01)", head):
            head = self._read_head()
        try:
            self.fp = BytesIO(head)
            super().begin(**options)
        except http.client.HTTPException as error:
            raise HeadError(f"its head cannot be read ({type(error).__name__})") from None
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
                raise HeadError("what came is not HTTP")
            lines.append(line)
            if line in (b"\r\n", b"\n"):
                return b"".join(lines)
        raise HeadError(f"the headers are longer than {HEAD_LIMIT} bytes")

    def _check_framing(self) -> None:
        if self.headers.defects:
            raise HeadError("a header line cannot be read")
        coding = self.headers.get("transfer-encoding", "identity").strip().lower()
        if coding not in ("chunked", "identity"):
            raise HeadError("the transfer coding is neither chunked nor identity")
        lengths = {length.strip() for length in self.headers.get_all("content-length", ())}
        if len(lengths) > 1 or not all(x.isascii() and x.isdigit() for x in lengths):
            raise HeadError("Content-Length is not one number")

    def _read1_chunked(self, n: int) -> bytes:
        """All that has come, of as many chunks; http.client would give one of them."""
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
        """Let go of the connection; with what came after the end it must not be used again."""
        self._tap.shut = True
        beyond = (self._chunks and self._chunks.beyond) or self.fp.peek(1)
        if beyond and self._connection is not None:
            self._connection.spoilt = True
        super()._close_conn()  # type: ignore[misc]

    def take_end(self) -> bool:
        """Take the end of a chunked body; False if something else comes, or would have to."""
        return self._chunks is not None and not self._read1_chunked(CHUNKS_AT_ONCE)


class Watched:
    """What both kinds of connection add to urllib3's: a guard, and a dial tone within its limit."""

    debuglevel = 0  # whatever http.client's own is set to: it would print the headers

    if TYPE_CHECKING:
        host: str
        port: int
        sock: socket.socket | None
        socket_options: Any
        _dns_host: str

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.exchange: Exchange | None = None
        self.guard = Guard(self.cut)
        self._socket: socket.socket | None = None  # what cut() shuts down
        self._unsent: list[bytes] | None = None  # what waits for the rest of the request
        self._used = False
        self.spoilt = False  # something came on it that no request had asked for
        self.asked_at = 0.0

    def cut(self) -> None:
        """Shut the TCP connection down, under whoever is reading from it."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own method: it would turn the socket into a plain one, and
                # the reader would be handed ciphertext.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def unwaiting(self) -> Iterator[None]:
        """Meanwhile, reading what is not there yet fails."""
        sock = self.sock
        assert sock is not None
        sock.settimeout(0.0)
        try:
            yield
        finally:
            sock.settimeout(None)

    def connect(self) -> None:
        """Connect, TLS and proxies included, within the limits of the exchange."""
        exchange = current.exchange
        assert exchange is not None
        self._used = self.spoilt = False
        exchange.take(self)
        exchange.watch(CONNECT, exchange.connect_timeout)
        try:
            super().connect()  # type: ignore[misc]
        finally:
            exchange.settle()
            duplicate, self._socket = self._socket, getattr(self.sock, "socket", self.sock)
            if duplicate is not None:
                duplicate.close()
        if exchange.expired:
            raise TimeoutError(f"the {exchange.expired} limit ran out")
        if exchange.aborted:  # perhaps before there was a socket to cut
            raise ConnectionAbortedError("given up while it was connected")
        exchange.watch()

    def _new_conn(self) -> socket.socket:
        exchange = current.exchange
        assert exchange is not None
        expires_at = exchange.watch(CONNECT, exchange.connect_timeout)
        try:
            addresses = _resolve(self._dns_host, self.port, expires_at)
            sock = _dial(addresses, expires_at, [*(self.socket_options or ()), *KEEP_ALIVE])
        except TimeoutError:
            exchange.expire()
            raise
        # TLS takes the descriptor away from this object and gives it to one of its own, which
        # is not to be had before the handshake has ended: a duplicate reaches it meanwhile.
        self._socket = sock.dup()
        return sock

    def request(self, *args: Any, **options: Any) -> None:
        """Send a request, watched until the exchange lets go."""
        exchange = current.exchange
        assert exchange is not None
        if self.sock is not None:  # else connect() is called from within
            exchange.take(self)
            exchange.reused = self._used
            exchange.watch()
        self._unsent = []
        self.asked_at = monotonic()
        try:
            super().request(*args, **options)  # type: ignore[misc]
            self._flush()
        finally:
            self._unsent = None
            self._used = True

    def putheader(self, header: Any, *values: Any) -> None:
        """Add a header; what ours may hold has been looked at before, once for many calls."""
        if len(values) == 1 and isinstance(values[0], str):
            self._output(f"{header}: {values[0]}".encode("latin-1"))  # type: ignore[attr-defined]
        else:  # http.client's own
            super().putheader(header, *values)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Send; the head of a request waits for its body, to go out in one packet with it."""
        if self._unsent is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._unsent.append(data)

    @property
    def is_connected(self) -> bool:
        """Whether it is open; urllib3 would look here already if it is silent, too."""
        return self.sock is not None

    def _flush(self) -> None:
        if self._used and self.sock is not None and (self.spoilt or not is_silent(self.sock)):
            raise UnaskedError("something came before anything was asked")
        pieces, self._unsent = self._unsent or [], None
        if sum(map(len, pieces)) <= ONE_PACKET:
            pieces = [b"".join(pieces)]
        for piece in pieces:
            super().send(piece)  # type: ignore[misc]


class _PlainConnection(Watched, HTTPConnection):
    response_class = StrictResponse


class _TLSConnection(Watched, HTTPSConnection):
    response_class = StrictResponse


def _resolve(host: str, port: int, expires_at: float) -> list[Any]:
    """Look a host up in a thread of its own: nothing else can leave a resolver that hangs."""
    host = host.strip("[]")
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    outcome: list[Any] = []

    def look_up() -> None:
        try:
            outcome.append(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=look_up, name="lmgateway-resolver", daemon=True)
    start(thread)
    thread.join(min(max(expires_at - monotonic(), 0.0), LONGEST_WAIT))
    if not outcome:
        raise TimeoutError("the host name was not resolved in time")
    if isinstance(outcome[0], BaseException):
        raise outcome[0]
    return list(outcome[0])


def _dial(addresses: list[Any], expires_at: float, options: Any) -> socket.socket:
    """Connect to the first address that answers; all but the last leave time for the next."""
    failure: OSError = OSError("the host name has no address")
    for number, (family, kind, protocol, _name, address) in enumerate(addresses, 1):
        remaining = expires_at - monotonic()
        if remaining <= 0:
            raise TimeoutError("no address answered in time")
        sock = _Socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            share = remaining if number == len(addresses) else remaining / 2
            sock.settimeout(min(share, LONGEST_WAIT))
            sock.connect(address)
            sock.settimeout(None)
            return sock
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
    raise failure


class _Socket(socket.socket):
    """A socket that is asked for the same timeout twice in every call."""

    def settimeout(self, value: float | None) -> None:
        """Set it if it changes: each time the system is told, another thread takes over."""
        if value != self.gettimeout():
            super().settimeout(value)


class _Stack:
    """A LIFO queue without locks: the ends of a deque are atomic, and a fork leaves none locked."""

    def __init__(self, maxsize: int) -> None:
        self._maxsize = maxsize
        self._items: deque[Any] = deque()

    def qsize(self) -> int:
        return len(self._items)

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        if item is None:  # urllib3's mark of a place where a connection may be made
            return
        if len(self._items) >= self._maxsize:
            raise queue.Full
        self._items.append(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        try:
            return self._items.pop()
        except IndexError:
            raise queue.Empty from None


class _WatchedPool:
    """What both kinds of pool add to urllib3's."""

    def _get_conn(self, timeout: float | None = None) -> Any:
        connection = super()._get_conn(timeout)  # type: ignore[misc]
        exchange = current.exchange
        if exchange is not None and exchange.fresh:
            connection.close()  # it opens anew when it is used
        return connection

    def _put_conn(self, conn: Any) -> None:
        exchange = conn and conn.exchange
        if exchange is not None:
            exchange.let_go()
        if conn and conn.sock is not None:
            acknowledge(getattr(conn.sock, "socket", conn.sock), conn.asked_at)
        super()._put_conn(conn)  # type: ignore[misc]


class _PlainPool(_WatchedPool, HTTPConnectionPool):
    ConnectionCls = _PlainConnection
    QueueCls = _Stack  # type: ignore[assignment]  # all that urllib3 needs of a queue


class _TLSPool(_WatchedPool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
    QueueCls = _Stack  # type: ignore[assignment]  # all that urllib3 needs of a queue


POOL_CLASSES = {"http": _PlainPool, "https": _TLSPool}
"""For ``PoolManager.pool_classes_by_scheme``."""
