"""Waiters: the threads that stand still until the running code has come to its end.

Who waits for a thread of ours, as ``LM.batch`` does, gives it a context that says so. What such a
thread may not wait for is what only a waiter could bring: the two would wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from threading import get_ident

__all__ = ["waiters", "waiting"]


class _Waiter:
    """A thread that waits, until it says that it no longer does.

    The context may outlive the wait, in a thread or a task that was begun there.
    """

    __slots__ = ("thread", "waits")

    def __init__(self) -> None:
        self.thread = get_ident()
        self.waits = True


_chain: ContextVar[tuple[_Waiter, ...]] = ContextVar("lmgateway_waiters", default=())


def waiters() -> tuple[int, ...]:
    """``get_ident()`` of those that wait for the running code, for who waits for it, and so on."""
    return tuple(each.thread for each in _chain.get() if each.waits)


@contextmanager
def waiting() -> Iterator[Callable[[], Context]]:
    """While the caller waits for threads: makes the context in which one of them is to run."""
    waiter = _Waiter()
    chain = (*_chain.get(), waiter)

    def context() -> Context:
        made = copy_context()
        made.run(_chain.set, chain)
        return made

    try:
        yield context
    finally:
        waiter.waits = False
