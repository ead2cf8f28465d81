"""Many entries of the cache at once: one statement reads hundreds, one transaction writes them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import islice
from time import time

from .schema import PUT, TROUBLE, is_sound, seal
from .serialization import Key
from .sqlite import TOUCH_AFTER, Store, is_on_loop

__all__ = ["find_all", "put_all"]

#: So many entries at once: SQLite takes 999 variables, and a write keeps others out.
BLOCK = 250

#: Seconds that a block may wait for other writers, but never on an event loop: they write blocks
#: too, and what cannot be written is paid for again.
PATIENCE = 5.0


def find_all(store: Store, keys: Sequence[Key]) -> dict[Key, bytes]:
    """The values that are stored under these keys, which have one base URL; never raises."""
    found: dict[Key, bytes] = {}
    now = int(time())
    for start in range(0, len(keys), BLOCK):
        some = keys[start : start + BLOCK]
        base = some[0].base
        if base is None or store.unusable:
            break
        marks = ",".join("?" * len(some))
        try:
            rows = store.select(
                "SELECT id, request, digest, used, value FROM entries WHERE base = ? "
                f"AND length(value) <= ? AND request IN ({marks})",
                (base, store.size_limit // 8, *(key.request for key in some)),
            )
        except TROUBLE as error:
            store.miss(error)
            break
        for row, request, digest, used, value in rows:
            if type(used) is not int or not is_sound(request, base, digest, value):
                continue
            key = Key(request, base)
            if store.is_invalid(key):
                continue
            found[key] = value
            if now - used > TOUCH_AFTER:
                store.touch(row, now)
    return found


def put_all(store: Store, entries: Iterable[tuple[Key, bytes]]) -> None:
    """Store values, some hundred in one transaction; what cannot be written now is written later.

    Never raises.
    """
    waiting = iter(entries)
    while block := list(islice(waiting, BLOCK)):
        _put_block(store, block)


def _put_block(store: Store, entries: list[tuple[Key, bytes]]) -> None:
    now, most = int(time()), store.size_limit // 8
    rows = [
        (request, base, seal(request, base, value), now, len(value), value)
        for (request, base), value in entries
        if base is not None and len(value) <= most
    ]
    if store.unusable or not rows:
        return

    def write(db: sqlite3.Connection) -> None:
        db.execute("BEGIN IMMEDIATE")
        db.executemany(PUT, rows)
        db.execute("COMMIT")

    store.write(write, rows, 0.0 if is_on_loop() else PATIENCE)
    for key, _ in entries:
        store.revalidate(key)
