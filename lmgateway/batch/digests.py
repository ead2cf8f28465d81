"""Digests: which rows have been seen, in about 25 bytes each, however many there are."""

from __future__ import annotations

from hashlib import blake2b

__all__ = ["Digests", "digest"]

SIZE = 12  # bytes: among a thousand million rows, two alike by chance once in 10**11 jobs
_COUNT = 4
_SLOT = SIZE + _COUNT
_FREE = bytes(_COUNT)
_SHARDS = 256  # each grows by itself, so that no growth stops the work or doubles the memory
_LOAD = 0.75


def digest(text: str | bytes) -> bytes:
    """What stands for a text in a set of digests."""
    if isinstance(text, str):
        text = text.encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=SIZE).digest()


class Digests:
    """A multiset of digests.

    A set of ``bytes`` objects would take five times the memory; this is open addressing in
    one ``bytearray`` a shard.
    """

    __slots__ = ("_shards", "_used")

    def __init__(self) -> None:
        self._shards = [bytearray(_SLOT * 8) for _ in range(_SHARDS)]
        self._used = [0] * _SHARDS

    def add(self, key: bytes) -> int:
        """Count a digest once more; how often it has been counted now."""
        number = key[0]
        table = self._shards[number]
        if (self._used[number] + 1) * _SLOT > len(table) * _LOAD:
            table = self._shards[number] = _grown(table)
        at = _find(table, key)
        count = int.from_bytes(table[at + SIZE : at + _SLOT], "little")
        if not count:
            table[at : at + SIZE] = key
            self._used[number] += 1
        count = min(count + 1, 2**32 - 1)
        table[at + SIZE : at + _SLOT] = count.to_bytes(_COUNT, "little")
        return count

    def __contains__(self, key: bytes) -> bool:
        table = self._shards[key[0]]
        at = _find(table, key)
        return table[at + SIZE : at + _SLOT] != _FREE

    def __len__(self) -> int:
        """How many different digests there are."""
        return sum(self._used)


def _find(table: bytearray, key: bytes) -> int:
    """Where the digest is, or else the free slot where it belongs."""
    end = len(table)
    at = (int.from_bytes(key[1:5], "little") * (end // _SLOT) >> 32) * _SLOT
    while table[at : at + SIZE] != key and table[at + SIZE : at + _SLOT] != _FREE:
        at += _SLOT
        if at == end:
            at = 0
    return at


def _grown(table: bytearray) -> bytearray:
    larger = bytearray(len(table) // _SLOT * 3 // 2 * _SLOT)
    for at in range(0, len(table), _SLOT):
        if table[at + SIZE : at + _SLOT] != _FREE:
            to = _find(larger, bytes(table[at : at + SIZE]))
            larger[to : to + _SLOT] = table[at : at + _SLOT]
    return larger
