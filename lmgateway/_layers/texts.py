"""What the cache holds of embeddings: an entry for each text, so that a text is paid for once."""

from __future__ import annotations

import json
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from .._base.vectors import Vectors, first_odd
from .._store.recorder import recorders, replayer
from .._store.serialization import Key
from ..types import Options

if TYPE_CHECKING:
    from .._store.sqlite import Store
    from .context import EffectLayer

__all__ = ["Found", "TextStore", "is_recorded", "store_of_texts"]

_SCHEMA = b"lmgateway text 1\n"
_LARGEST_HEAD = 64 * 1024


def is_recorded(layers: Iterable[EffectLayer], options: Options) -> bool:
    """Whether calls are recorded, or may be answered from recordings."""
    if options.recordings or recorders() or replayer() is not None:
        return True
    return any(getattr(layer, "is_recorded", False) for layer in layers)


def store_of_texts(layers: Iterable[EffectLayer], options: Options) -> Store | None:
    """The store of an LM's cache, for what is stored text by text; None if it is not to be used.

    With recordings, whole exchanges are stored: they are what is replayed.
    """
    if options.cache not in (True, "only", "refresh") or is_recorded(layers, options):
        return None
    for layer in layers:
        if found := getattr(layer, "store_of_texts", None):
            return found()  # type: ignore[no-any-return]
    return None


class Found(NamedTuple):
    """A vector of the cache.

    Attributes:
        floats: The vector.
        beside: What was stored of its answer: ``model``, and ``usage`` if it was alone in it.
    """

    floats: array[float]
    beside: Mapping[str, Any]


class TextStore:
    """The entries of one model, asked in one way.

    Args:
        store: The cache.
        asked: The key of a request of this kind for a text that is always the same.
        refresh: Whether all is asked anew.
    """

    __slots__ = ("_asked", "_refresh", "_store")

    def __init__(self, store: Store, asked: Key, *, refresh: bool) -> None:
        self._store = store
        self._asked = asked
        self._refresh = refresh

    def find(self, texts: Iterable[Any]) -> dict[int, Found]:
        """The vectors that are stored, by the place of their text."""
        if self._refresh:
            return {}
        from .._store.many import find_all  # SQLite, which is not in every Python

        keys = [self._key(text) for text in texts]
        values, found = find_all(self._store, keys), {}
        for place, key in enumerate(keys):
            if (value := values.get(key)) is None:
                continue
            if (vector := _decode(value)) is None:
                self._store.report_foreign(key)
            else:
                found[place] = vector
        return found

    def keep(self, texts: Sequence[Any], answer: Mapping[str, Any]) -> None:
        """Store each vector of an answer that has been validated."""
        beside: dict[str, Any] = {"model": answer.get("model")}
        if len(texts) == 1 and answer.get("usage"):
            beside["usage"] = answer["usage"]
        try:
            head = json.dumps({"kind": "bytes", **beside}, separators=(",", ":")).encode() + b"\n"
        except (TypeError, ValueError):  # usage of a plugin that is no JSON
            head = b'{"kind":"bytes"}\n'
        vectors: Vectors = answer["embeddings"]
        memory, wide = vectors.memory, vectors.dimensions
        starts = range(0, len(memory), wide)
        from .._store.many import put_all

        put_all(
            self._store,
            (
                (self._key(text), head + _little(memory[start : start + wide]))
                for text, start in zip(texts, starts, strict=True)
            ),
        )

    def note(self, texts: Sequence[Any], answer: Mapping[str, Any]) -> None:
        """Store beside all vectors of a call what its requests used together."""
        if usage := answer.get("usage"):
            with suppress(TypeError, ValueError):
                head = json.dumps({"kind": "bytes", "usage": usage}, separators=(",", ":"))
                self._store.put(self._key(list(texts)), head.encode() + b"\n")

    def noted(self, texts: Sequence[Any]) -> dict[str, Any] | None:
        """What ``note`` has stored for the same texts in the same order."""
        value = self._store.get(self._key(list(texts)))
        try:
            usage = json.loads(value or b"{}").get("usage")
        except (ValueError, RecursionError, AttributeError):
            return None
        return usage if isinstance(usage, dict) else None

    def _key(self, text: Any) -> Key:
        # of what is no text, as JSON, which cannot begin so
        written = text.encode() if isinstance(text, str) else b"\0" + json.dumps(text).encode()
        return Key(sha256(_SCHEMA + self._asked.request + written).digest(), self._asked.base)


def _little(floats: memoryview) -> bytes:
    """Floats as bytes that every machine reads alike."""
    if sys.byteorder == "little":
        return floats.tobytes()
    turned = array("f", floats)
    turned.byteswap()
    return turned.tobytes()


def _decode(value: bytes) -> Found | None:
    """What ``keep`` has stored; None for anything else."""
    end = value.find(b"\n", 0, _LARGEST_HEAD)
    try:
        head = json.loads(value[: max(end, 0)])
        floats = array("f", value[end + 1 :])
    except (ValueError, RecursionError):
        return None
    if sys.byteorder == "big":
        floats.byteswap()
    if type(head) is not dict or head.get("kind") != "bytes" or not floats:
        return None
    return None if first_odd(floats) is not None else Found(floats, head)
