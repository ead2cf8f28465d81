"""Whether a kept connection is silent: one on which bytes came unasked must not be used again.

HTTP/1.1 does not say which request an answer belongs to: the next answer is taken for it. If a
server sends something that nobody asked for (an answer twice, or a proxy's error after it waited
too long), each later request on this connection would get the answer to the one before.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import Any

__all__ = ["acknowledge", "is_readable", "is_silent", "watch"]

AT_LEAST = 0.025  # seconds; a model takes longer for an answer

_HAS_POLL = hasattr(select, "poll")
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


def is_readable(sock: Any) -> bool:
    """Whether a socket has unread bytes, or the other side has closed it; never blocks."""
    return bool(watch(sock)())


def watch(sock: Any) -> Callable[[], object]:
    """A function that returns a true value whenever the socket ``is_readable``.

    Args:
        sock: A socket, or something else with a file descriptor.
    """
    if not _HAS_POLL:  # on Windows, select() takes any descriptor
        return partial(_selects, sock)
    poll = select.poll()
    try:
        poll.register(sock, select.POLLIN)
    except (OSError, ValueError):  # it is closed
        return lambda: True
    return partial(poll.poll, 0)


def _selects(sock: Any) -> bool:
    try:
        return bool(select.select([sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def is_silent(sock: Any) -> bool:
    """Whether a blocking socket has no unread bytes; never blocks.

    Messages of TLS itself (session tickets, new keys) do not count and are read. If there is
    anything else, this may take a byte of it away.
    """
    if isinstance(sock, ssl.SSLSocket):
        return not sock.pending() and (not is_readable(sock) or _reads_nothing(sock))
    if isinstance(sock, socket.socket):
        return not is_readable(sock)
    return _reads_nothing(sock)  # TLS within TLS: it keeps what has come in a buffer of its own


def _reads_nothing(sock: Any) -> bool:
    timeout = sock.gettimeout()
    with suppress(OSError):  # it is closed
        sock.settimeout(0.0)
        try:
            sock.recv(1)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError):
            return True
        finally:
            sock.settimeout(timeout)
    return False


def acknowledge(sock: Any, asked_at: float) -> None:
    """Acknowledge an answer (TCP) now, and not with the next request.

    Until it is acknowledged, the other side's system may hold back more bytes (Nagle's
    algorithm). They would come right after the next request, and pass for its answer.

    Args:
        sock: Where the answer came from.
        asked_at: ``monotonic()`` of the request. An answer that came faster than any model's is
            not acknowledged: the packet would take a twentieth of the time of such a call.
    """
    if _QUICK_ACK is not None and monotonic() - asked_at > AT_LEAST:
        with suppress(OSError, ValueError):  # it is closed, or no TCP
            sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
