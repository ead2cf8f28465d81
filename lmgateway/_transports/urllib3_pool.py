"""urllib3's pools and connections, made to keep a deadline, and the pool for each service."""

from __future__ import annotations

import contextlib
import queue
import socket
import ssl
import threading
from collections import deque
from collections.abc import Iterator
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from weakref import ref

from requests.adapters import HTTPAdapter
from urllib3 import PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from .._drive.futures import start
from .errors import host_and_port
from .http_client import StrictResponse
from .silence import acknowledge, is_silent
from .trust import proxy_for, tls_context
from .urls import place_of
from .watchdog import CONNECT, LONGEST_WAIT, Guard, InFlight, current

__all__ = ["Target", "find_target"]

IDLE_CONNECTIONS = 512
"""Connections to one host that are kept for reuse; any number may be in use."""

ONE_PACKET = 64 * 1024  # bytes; a larger body is not worth the copy

# A model may think for minutes without a byte, and routers on the way forget silent connections.
KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 30), ("TCP_KEEPCNT", 5))
        if hasattr(socket, name)
    ),
]


class UnaskedError(ConnectionError):
    """Bytes came on a kept connection before the request, so that the request was not sent."""


class Watched:
    """What both kinds of connection add to urllib3's: they keep a deadline, and can be cut."""

    debuglevel = 0  # whatever http.client's own is set to: it would print the headers

    if TYPE_CHECKING:
        host: str
        port: int
        sock: socket.socket | None
        socket_options: Any
        _dns_host: str

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.in_flight: InFlight | None = None
        found = ref(self)  # the watchdog must not keep a connection that Ctrl-C has left
        self.guard = Guard(lambda: connection.cut() if (connection := found()) else None)
        self._socket: socket.socket | None = None  # what cut() shuts down
        self._unsent: list[bytes] | None = None  # what waits for the rest of the request
        self._used = False
        self.spoilt = False
        self.asked_at = 0.0

    def cut(self) -> None:
        """Shut the TCP connection down; a thread that reads from it wakes up."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not SSLSocket's own method: it would turn the socket into a plain one, and
                # the reader would be handed ciphertext.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    @contextlib.contextmanager
    def unwaiting(self) -> Iterator[None]:
        """Within this, a read fails instead of waiting for bytes."""
        sock = self.sock
        assert sock is not None
        sock.settimeout(0.0)
        try:
            yield
        finally:
            sock.settimeout(None)

    def connect(self) -> None:
        """Connect, through a proxy and with TLS where need be, within the limits of the request."""
        in_flight = current.in_flight
        assert in_flight is not None
        self._used = self.spoilt = False
        in_flight.take(self)
        in_flight.watch(CONNECT, in_flight.connect_timeout)
        try:
            super().connect()  # type: ignore[misc]
        finally:
            in_flight.unwatch()
            duplicate, self._socket = self._socket, getattr(self.sock, "socket", self.sock)
            if duplicate is not None:
                duplicate.close()
        if in_flight.expired:
            raise TimeoutError(f"the {in_flight.expired} limit ran out")
        if in_flight.aborted:  # perhaps before there was a socket to cut
            raise ConnectionAbortedError("given up while it was connected")
        in_flight.watch()

    def _new_conn(self) -> socket.socket:
        in_flight = current.in_flight
        assert in_flight is not None
        expires_at = in_flight.watch(CONNECT, in_flight.connect_timeout)
        try:
            addresses = _resolve(self._dns_host, self.port, expires_at)
            sock = _dial(addresses, expires_at, [*(self.socket_options or ()), *KEEP_ALIVE])
        except TimeoutError:
            in_flight.expire()
            raise
        # TLS takes the descriptor away from this object and gives it to one of its own, which
        # is not to be had before the handshake has ended: a duplicate reaches it meanwhile.
        self._socket = sock.dup()
        return sock

    def request(self, method: str, url: str, *args: Any, **options: Any) -> None:
        """Send a request; its limits hold until it lets go of the connection."""
        in_flight = current.in_flight
        assert in_flight is not None
        url = in_flight.line or url  # urllib3 has normalised its own
        if self.sock is not None:  # else connect() is called from within
            in_flight.take(self)
            in_flight.reused = self._used
            in_flight.watch()
        self._unsent = []
        self.asked_at = monotonic()
        try:
            super().request(method, url, *args, **options)  # type: ignore[misc]
            self._flush()
        finally:
            self._unsent = None
            self._used = True

    def putheader(self, header: Any, *values: Any) -> None:
        """Add a header. It is not checked here: ours are checked once for many calls."""
        if len(values) == 1 and isinstance(values[0], str):
            self._output(f"{header}: {values[0]}".encode("latin-1"))  # type: ignore[attr-defined]
        else:  # http.client's own
            super().putheader(header, *values)  # type: ignore[misc]

    def send(self, data: Any) -> None:
        """Send bytes; the head of a request waits for the body, and both go out in one packet."""
        if self._unsent is None:
            super().send(data)  # type: ignore[misc]
        else:
            self._unsent.append(data)

    @property
    def is_connected(self) -> bool:
        """Whether it is open. urllib3 also looks whether bytes came; ``_flush`` does that here."""
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
    """Look a host up, in a thread of its own: one that hangs cannot be left in another way."""
    host = host.strip("[]")
    with contextlib.suppress(socket.gaierror):
        return socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, 0, socket.SOCK_STREAM))
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=look_up, name="lmgateway-resolver", daemon=True)
    start(thread)
    thread.join(min(max(expires_at - monotonic(), 0.0), LONGEST_WAIT))
    if not found:
        raise TimeoutError("the host name was not resolved in time")
    if isinstance(found[0], BaseException):
        raise found[0]
    return list(found[0])


def _dial(addresses: list[Any], expires_at: float, options: Any) -> socket.socket:
    """Connect to the first address that answers; each but the last gets half of the time left."""
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
    """A socket that passes a timeout on only if it changes; each call sets the same one twice."""

    def settimeout(self, value: float | None) -> None:
        """Set the timeout, in seconds. A system call lets another thread take over, so avoid it."""
        if value != self.gettimeout():
            super().settimeout(value)


class _Stack:
    """A LIFO queue without a lock, which a fork could leave locked; a deque's ends are atomic."""

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
        in_flight = current.in_flight
        if in_flight is not None and in_flight.fresh:
            connection.close()  # it opens anew when it is used
        return connection

    def _put_conn(self, conn: Any) -> None:
        in_flight = conn and conn.in_flight
        if in_flight is not None:
            in_flight.let_go()
        if conn and conn.sock is not None:
            acknowledge(getattr(conn.sock, "socket", conn.sock), conn.asked_at)
        super()._put_conn(conn)  # type: ignore[misc]


class _PlainPool(_WatchedPool, HTTPConnectionPool):
    ConnectionCls = _PlainConnection
    QueueCls = _Stack  # type: ignore[assignment]  # all that urllib3 needs of a queue


class _TLSPool(_WatchedPool, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection
    QueueCls = _Stack  # type: ignore[assignment]  # all that urllib3 needs of a queue


_POOL_CLASSES = {"http": _PlainPool, "https": _TLSPool}


# -- services --------------------------------------------------------------------------------------


class Target(NamedTuple):
    """One service as it is reached from here, found once and then kept.

    Attributes:
        url: The base URL as it is sent, without a trailing slash.
        prefix: What stands before a path in the request line: a plain HTTP proxy wants the URL.
        place: ``host:port``, for messages.
        proxy: ``host:port`` of the proxy on the way there, or None.
        in_full: Whether the request line names the whole URL.
        root: What urllib3 is told to ask for, which reads a URL anew for each request. What is
            really asked for is the request's own.
        pool: Connections to it.
    """

    url: str
    prefix: str
    place: str
    proxy: str | None
    in_full: bool
    root: str
    pool: Any


def find_target(base_url: str, adapter: HTTPAdapter, context: ssl.SSLContext | None) -> Target:
    """Find out how a base URL is reached; the environment's proxies are read now.

    Args:
        base_url: Scheme, host and perhaps a path.
        adapter: It writes the headers for a proxy.
        context: For TLS; None for a URL that does not need it.

    Raises:
        InputError: The URL cannot be reached by HTTP.
        ConfigError: The environment names a proxy that cannot be used.
    """
    there = place_of(base_url)
    parts = urlsplit(there.origin)
    proxy = proxy_for(there.url)
    manager = PoolManager(maxsize=IDLE_CONNECTIONS)
    if proxy is not None:
        secure = urlsplit(proxy).scheme == "https"
        manager = ProxyManager(
            proxy,
            proxy_headers=adapter.proxy_headers(proxy),
            proxy_ssl_context=(context or tls_context(verify=True)) if secure else None,
            maxsize=IDLE_CONNECTIONS,
        )
    manager.pool_classes_by_scheme = _POOL_CLASSES
    tls = {"ssl_context": context, "cert_reqs": "CERT_REQUIRED"} if context is not None else {}
    in_full = proxy is not None and parts.scheme == "http"
    return Target(
        url=there.url,
        prefix=there.url if in_full else there.prefix,
        place=host_and_port(there.url),
        proxy=host_and_port(proxy) if proxy else None,
        in_full=in_full,
        root=there.origin + "/" if in_full else "/",
        pool=manager.connection_from_host(parts.hostname, parts.port, parts.scheme, tls),
    )
