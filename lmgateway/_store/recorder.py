"""The blocks ``record`` and ``replay``, which hold for the whole process.

A call from any thread or task belongs to the block while it runs: so does one from a thread pool.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import Any

from .._base.forks import renew_lock
from .._guard.paths import absolute, is_special
from .._guard.tracebacks import door
from ..errors import CacheMissError, ConfigError
from ..types import JSON
from .recordings import Recording, open_recording
from .serialization import Key, identify

__all__ = ["Recorder", "Replayer", "record", "recorders", "replay", "replayer"]

_recorders: tuple[Recorder, ...] = ()
_replayers: tuple[Replayer, ...] = ()
_lock = Lock()
renew_lock(sys.modules[__name__])


class Recorder:
    """Appends exchanges to a file, each request once.

    Args:
        path: The file; made when it is not there.
        fresh: Answer from this file or the service only, never from the cache, so that a file
            recorded anew holds nothing old.
    """

    def __init__(self, path: str, *, fresh: bool = False) -> None:
        self.recording = open_recording(path)  # shared: its index knows what this appends
        self.fresh = fresh
        self.missed: str | None = None
        self._lock = Lock()
        renew_lock(self)
        if is_special(path):
            raise ConfigError(f"cannot record to {path}: it is no file")
        try:
            open(path, "ab").close()
        except OSError as error:
            raise ConfigError(f"cannot record to {path}: {error.strerror}") from None
        self._written = self.recording.digests()

    def append(self, request: Mapping[str, JSON], response: Mapping[str, JSON]) -> None:
        """Write one exchange, unless that request is in the file already."""
        key = identify(request)
        if key is None:
            return
        with self._lock:
            if key.request in self._written:
                return
            try:
                self.recording.append(key.request, {"request": request, "response": response})
            except OSError as error:
                self.miss(error.strerror or str(error))
            else:
                self._written.add(key.request)

    def miss(self, reason: str) -> None:
        """Note that an answer could not be recorded; the end of the block raises."""
        self.missed = self.missed or reason


class Replayer:
    """Answers from one recording and from nothing else."""

    def __init__(self, path: str) -> None:
        self.recording = Recording(path)

    def answer(self, key: Key | None, request: Mapping[str, JSON] | None) -> Any:
        """The recorded response. Raises CacheMissError that says what differs."""
        path = self.recording.path
        if key is None or request is None:
            raise CacheMissError(f"only {path} may answer here, and this exchange has no identity")
        response = self.recording.find(key.request)
        if response is None:
            from .difference import nearest

            raise CacheMissError(
                f"this request is not in {path}: {nearest(request, self.recording.requests())}; "
                "record it again if the change is meant"
            )
        return response


@door
@contextmanager
def record(path: str | os.PathLike[str], *, fresh: bool = False) -> Iterator[object]:
    """Append every exchange answered inside the block to a file of JSON lines.

    What is appended was validated; a request the file holds already is not appended again. The
    file holds neither key nor host, but prompts and answers in full.

    Args:
        path: The file; its folder must exist.
        fresh: Ask the service for what this file does not hold, not the cache.

    Raises:
        InputError: The path is none.
        ConfigError: The file cannot be written, or holds a line that is not a recording. At the
            end of the block: something was answered and is not in the file, because the disk was
            full, a stream longer than 8 MiB, or what work in the process returned no JSON.
    """
    global _recorders
    recorder = Recorder(absolute(path), fresh=fresh)
    with _lock:
        _recorders = (*_recorders, recorder)
    try:
        yield recorder
    finally:
        with _lock:
            _recorders = tuple(one for one in _recorders if one is not recorder)
    if recorder.missed is not None:
        raise ConfigError(
            f"not everything was recorded to {recorder.recording.path}: {recorder.missed}"
        )


@door
@contextmanager
def replay(path: str | os.PathLike[str]) -> Iterator[object]:
    """Answer every exchange inside the block from a recording, and never from anywhere else.

    A request that is not recorded raises CacheMissError, which says what differs.
    """
    global _replayers
    replayer = Replayer(absolute(path))
    with _lock:
        _replayers = (*_replayers, replayer)
    try:
        yield replayer
    finally:
        with _lock:
            _replayers = tuple(one for one in _replayers if one is not replayer)


def recorders() -> tuple[Recorder, ...]:
    """The recorders of the blocks that run now."""
    return _recorders


def replayer() -> Replayer | None:
    """The replayer of the innermost ``replay`` block; None if none runs."""
    return _replayers[-1] if _replayers else None
