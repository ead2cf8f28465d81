"""Locks that are new in a forked child, where another thread's lock would never be released."""

from __future__ import annotations

import os
from collections.abc import Callable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

__all__ = ["renew_lock"]

_owners: WeakKeyDictionary[Any, Callable[[], object]] = WeakKeyDictionary()


def renew_lock(owner: object, make: Callable[[], object] = Lock) -> None:
    """Give an object, or a module, a new ``_lock`` in every forked child.

    What the lock guards must be usable whenever the fork happens.

    Args:
        owner: What holds the lock; it is not kept alive.
        make: Makes the lock.
    """
    _owners[owner] = make


def _renew_all() -> None:
    for owner, make in list(_owners.items()):
        owner._lock = make()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
