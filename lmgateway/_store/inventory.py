"""Statistics of a cache file, a check of every entry, and removal of all entries."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, sleep

from ..errors import ConfigError
from .schema import APPLICATION, SCHEMA, TROUBLE, explain, is_busy, is_sound

__all__ = ["Stats", "Verdict", "clear", "stats", "verify"]

LOCK_WAIT = 5.0  # seconds to wait for other processes

# Damage can turn a number into a text, or into one that no sum and no calendar holds.
_COUNT = """
SELECT count(*), CAST(total(size) AS INTEGER),
min(CASE WHEN used BETWEEN 0 AND 99999999999 THEN used END) FROM entries
"""


@dataclass(frozen=True, slots=True)
class Stats:
    """What a cache holds.

    Attributes:
        file: The database.
        entries: How many answers.
        value_bytes: Bytes of them, compressed.
        file_bytes: Bytes on disk, the write-ahead log included.
        oldest: When the answer unused longest was last used, to the hour; seconds since the epoch.
    """

    file: Path
    entries: int = 0
    value_bytes: int = 0
    file_bytes: int = 0
    oldest: int | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a check of a cache found.

    Attributes:
        entries: How many answers were read.
        damaged: How many of them are not what was written; they are never given out.
        problems: What SQLite says is wrong with the file itself.
    """

    entries: int = 0
    damaged: int = 0
    problems: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.damaged or self.problems)


def stats(file: Path) -> Stats:
    """Count the entries of a cache; a file that does not exist has none.

    Raises:
        ConfigError: The file is no cache or cannot be read; so for the other functions here.
    """
    if not _is_there(file):
        return Stats(file)
    with closing(_open(file)) as db:
        try:
            [(entries, size, oldest)] = db.execute(_COUNT)
        except TROUBLE as error:
            raise _complaint(file, error) from None
    return Stats(file, entries, size, _size_on_disk(file), oldest)


def verify(file: Path) -> Verdict:
    """Check every entry and SQLite's own structures; changes nothing."""
    if not _is_there(file):
        return Verdict()
    entries = damaged = 0
    with closing(_open(file)) as db:
        try:
            problems = [text for (text,) in db.execute("PRAGMA quick_check(20)") if text != "ok"]
            for row in db.execute("SELECT request, base, digest, value FROM entries"):
                entries += 1
                damaged += not is_sound(*row)
        except TROUBLE as error:
            problems = [explain(error)]
    return Verdict(entries, damaged, tuple(problems))


def clear(file: Path) -> int:
    """Remove every entry, from the disk too; returns how many there were."""
    if not _is_there(file):
        return 0
    with closing(_open(file)) as db:
        try:
            removed = db.execute("DELETE FROM entries").rowcount
            # Deleted rows stay legible in free pages and in the log until both are rewritten.
            db.execute("VACUUM")
            _empty_log(db)
        except TROUBLE as error:
            raise _complaint(file, error) from None
    return removed


def _empty_log(db: sqlite3.Connection) -> None:
    # SQLite's own timeout does not cover a checkpoint of somebody else's.
    end = monotonic() + LOCK_WAIT
    while True:
        [(busy, _, _)] = db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        if not busy or monotonic() > end:
            return
        sleep(0.005)


def _is_there(file: Path) -> bool:
    try:
        return file.exists()
    except OSError as error:  # its folder may not be looked into
        raise _complaint(file, error) from None


def _open(file: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(file, timeout=LOCK_WAIT, isolation_level=None)
    except sqlite3.Error as error:
        raise _complaint(file, error) from None
    try:
        [(application,)] = db.execute("PRAGMA application_id")
        [(version,)] = db.execute("PRAGMA user_version")
    except TROUBLE as error:
        db.close()
        raise _complaint(file, error) from None
    if application != APPLICATION or version > SCHEMA:
        db.close()
        what = "by a newer lmgateway" if application == APPLICATION else "by another program"
        raise ConfigError(f"{file} was written {what}; give another path to the cache")
    return db


def _complaint(file: Path, error: Exception) -> ConfigError:
    if is_busy(error):
        return ConfigError(f"another process keeps the cache {file} locked; try again later")
    return ConfigError(
        f"the cache {file} cannot be used: {explain(error)}; if it is damaged, delete it and "
        "begin anew"
    )


def _size_on_disk(file: Path) -> int:
    return sum(
        os.path.getsize(part) for end in ("", "-wal") if os.path.exists(part := f"{file}{end}")
    )
