"""Values that a field should not have, and every field of a document with one of them in it."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

from lmgateway import LMGatewayError, PluginError
from lmgateway._records.history import History

__all__ = ["ODD", "assert_sound", "each_field_odd", "outcome", "spell"]

#: By name; what JSON writes as NaN and Infinity among them, for many services do.
ODD: dict[str, Any] = {
    "null": None,
    "number": 5,
    "negative": -1,
    "fraction": 1.5,
    "text": "x",
    "digits": "5",
    "empty text": "",
    "half a character": "a\ud83d",
    "list": [],
    "list of one": [1],
    "object": {},
    "true": True,
    "NaN": float("nan"),
    "without end": float("inf"),
    "400 digits": 10**400,
    "300 deep": json.loads("[" * 300 + "]" * 300),
}


def spell(document: Any) -> bytes:
    """The document as a service would send it that minds no rule."""
    return json.dumps(document).encode()


def each_field_odd(document: Any, odd: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Copies of a document, each with another field made odd, and the way to that field."""
    for path in _paths(document):
        changed = copy.deepcopy(document)
        inner = changed
        for step in path[:-1]:
            inner = inner[step]
        inner[path[-1]] = odd
        yield path, changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    steps = (
        value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    )
    for step in steps:
        yield from _paths(value[step], (*path, step))


def outcome(act: Callable[[], Any]) -> tuple[Any, LMGatewayError | None]:
    """What came out: a value, or an error of the library's that blames no plugin."""
    try:
        return act(), None
    except PluginError:
        raise
    except LMGatewayError as error:
        str(error).encode()
        return None, error


def assert_sound(completion: Any) -> None:
    """It can be written, printed, kept and copied by whoever has it."""
    json.dumps(completion, allow_nan=False, ensure_ascii=False).encode()
    assert pickle.loads(pickle.dumps(copy.deepcopy(completion))) == completion
    history = History(1)
    history.append({"completion": completion})
    assert history[0]["completion"] == completion
