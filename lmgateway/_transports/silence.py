"""What a kept connection has to say before it is asked: nothing, or it must not be asked.

HTTP/1.1 does not say which request an answer belongs to; it is the next one that comes. A server
that says something nobody asked for (an answer twice, the error of a proxy that was tired of
waiting) would have each later request of that connection answered with the answer before.
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

AT_LEAST = 0.025  # seconds that a model takes for an answer

_HAS_POLL = hasattr(select, "poll")
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # Linux has it


def is_readable(sock: Any) -> bool:
    """Whether bytes, or the end, have come on a socket and were not read yet; never blocks."""
    return bool(watch(sock)())


def watch(sock: Any) -> Callable[[], object]:
    """A function whose value is true, as often as it is called, while a socket ``is_readable``.

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
    """Whether nothing has come on a blocking socket that nobody has read; never blocks.

    What TLS says for itself (session tickets, new keys) is no more than that: it is taken.
    Anything else may be lost by this look.
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
    """Tell the other side at once that its answer has come, and not with the next request.

    Its system may hold back what it still has to say until it hears that (Nagle's algorithm): it
    would then come right after the next request, and pass for its answer.

    Args:
        sock: Where the answer came from.
        asked_at: ``monotonic()`` of the request. What was answered faster than any model answers
            is left alone: the packet would cost a twentieth of such a call.
    """
    if _QUICK_ACK is not None and monotonic() - asked_at > AT_LEAST:
        with suppress(OSError, ValueError):  # it is closed, or no TCP
            sock.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
