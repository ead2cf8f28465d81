"""The tables of the cache, the SQL statements, and what SQLite's errors mean for a cache."""

from __future__ import annotations

import sqlite3
from hashlib import sha256

from ..errors import excerpt

__all__ = [
    "APPLICATION",
    "CREATE",
    "GET",
    "GET_ANY",
    "PUT",
    "SCHEMA",
    "TROUBLE",
    "UnusableFileError",
    "code_of",
    "explain",
    "is_busy",
    "is_sound",
    "seal",
]

SCHEMA = 1
APPLICATION = 0x6C6D6777  # "lmgw": no other program's database is taken for a cache

CREATE = f"""
BEGIN IMMEDIATE;
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY,
    request BLOB NOT NULL,   -- digest of what was asked, without host
    base BLOB NOT NULL,      -- digest of the base URL that answered
    digest BLOB NOT NULL,    -- of request, base and value: SQLite does not notice damaged blobs
    used INTEGER NOT NULL,   -- seconds since the epoch, to the hour
    size INTEGER NOT NULL,   -- bytes of the value
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX IF NOT EXISTS entries_key ON entries (request, base);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used, size);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {SCHEMA};
COMMIT;
"""
GET = """
SELECT id, digest, used, value FROM entries WHERE request = ? AND base = ? AND length(value) <= ?
"""
GET_ANY = """
SELECT id, digest, used, value, base FROM entries WHERE request = ? AND length(value) <= ? LIMIT 2
"""
PUT = """
INSERT INTO entries (request, base, digest, used, size, value) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (request, base) DO UPDATE
SET digest = excluded.digest, used = excluded.used, size = excluded.size, value = excluded.value
"""


class UnusableFileError(Exception):
    """The file cannot serve as a cache; the message says why."""


# MemoryError is how Python tells of a row whose damaged length no memory could hold, and
# UnicodeDecodeError of a message of SQLite that quotes the damage.
TROUBLE = (sqlite3.Error, OSError, MemoryError, UnicodeDecodeError, UnusableFileError)


def seal(request: bytes, base: bytes, value: bytes) -> bytes:
    """The digest stored with a row. It covers the key too: a damaged index may confuse rows."""
    return sha256(request + base + value).digest()


def is_sound(request: bytes, base: bytes, digest: bytes, value: bytes) -> bool:
    """Whether a row still is what was written."""
    try:
        return seal(request, base, value) == digest
    except TypeError:  # damage can turn a blob into a number
        return False


def code_of(error: BaseException) -> int:
    """SQLite's primary error code; 0 for another error."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def explain(error: BaseException) -> str:
    """What is wrong, in SQLite's own words if there are any."""
    if isinstance(error, UnicodeDecodeError):
        return excerpt(error.object)
    return str(error) or "it is damaged"


def is_busy(error: BaseException) -> bool:
    """Whether another connection holds a lock."""
    return code_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
