"""History: the last calls of an LM, as copies."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any, overload

from .._base.forks import renew_lock
from .._base.values import copied
from ..errors import LMGatewayError
from ..types import Completion, Flow

__all__ = ["History", "remembered"]


class History(Sequence[dict[str, Any]]):
    """The last calls, oldest first; bounded and safe to use from many threads.

    Each entry is a dict: ``prompt``, ``params``, ``completion`` (None after an error), ``error``
    (None or the error's text), ``seconds`` and ``time`` (seconds since the epoch).
    """

    def __init__(self, limit: int) -> None:
        self._entries: deque[dict[str, Any]] = deque(maxlen=limit)
        self._lock = Lock()
        renew_lock(self)

    @property
    def limit(self) -> int:
        """How many entries are kept; 0 for none."""
        return self._entries.maxlen or 0

    def append(self, entry: dict[str, Any]) -> None:
        """Keep a copy of an entry, dropping the oldest if it is one too many."""
        if self.limit:
            kept = copied(entry)
            with self._lock:
                self._entries.append(kept)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()

    def _snapshot(self) -> list[dict[str, Any]]:
        with self._lock:
            return list(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter([copied(entry) for entry in self._snapshot()])

    @overload
    def __getitem__(self, place: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, place: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, place: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        found: dict[str, Any] | list[dict[str, Any]] = copied(self._snapshot()[place])
        return found

    def __repr__(self) -> str:
        return f"<History of {len(self)} calls>"


def remembered(
    flow: Flow[Completion], prompt: Any, params: Mapping[str, Any], history: History
) -> Flow[Completion]:
    """Keep what became of a call in the LM's history."""
    began, moment = time.monotonic(), time.time()
    completion, problem = None, None
    try:
        completion = yield from flow
        return completion
    except LMGatewayError as error:
        problem = str(error)
        raise
    finally:
        if completion is not None or problem is not None:
            history.append(
                {
                    "prompt": prompt,
                    "params": params,
                    "completion": completion,
                    "error": problem,
                    "seconds": time.monotonic() - began,
                    "time": moment,
                }
            )
