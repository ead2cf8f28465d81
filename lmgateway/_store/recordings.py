"""Recordings: exchanges as readable JSON lines, which a project commits and replays.

A line holds what was asked (without host, headers or secret) and what was answered::

    {"request": {"provider": "anyscale", "sample": 0, "stream": false, "method": "POST",
                 "path": "/chat/completions", "body": {...}},
     "response": {"status": 200, "headers": {"content-type": "application/json"}, "json": {...}}}

A body that is not JSON stands under ``text`` or ``base64``, the pieces of a stream under
``chunks``. Of a request's body that is no JSON there is a digest (``content``, ``form``). What a
flow has kept as one is asked for by its key (``kept``). A file is read when it is first used, and
again when it was changed. A last line without a line end is one that another process is still
writing; it does not count yet.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from codecs import getincrementaldecoder
from collections.abc import Iterable, Mapping
from errno import EINVAL
from functools import lru_cache
from threading import Lock
from time import monotonic, sleep
from typing import IO, Any, NamedTuple

from .._base.forks import renew_lock
from .._base.values import is_deep, on_fresh_stack
from .._guard.paths import is_special
from ..errors import ConfigError, InputError
from ..types import JSON, HTTPResponse
from .serialization import Replay, identify, is_head, stored_headers, write_json

__all__ = ["Recording", "append_line", "from_json", "open_recording", "to_json"]

LOOKS = 5  # times to read a file that is written at the same time
UNFINISHED_WAIT = 1.0  # seconds after which a line without its end is damaged


class Recording:
    """A file of recorded exchanges, matched by request without host."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = Lock()
        renew_lock(self)
        self._stamp: Stamp | None = None
        self._places: dict[bytes, tuple[int, int]] = {}
        self._unfinished: int | None = None  # the number of a last line without its end

    def find(self, request: bytes) -> Any | None:
        """The recorded response of a request, a new object each time; None if there is none.

        Raises ConfigError when the file cannot be read or a line of it is not a recording.
        """
        for _ in range(LOOKS):
            with self._lock, self._open() as file:
                self._refresh(file)
                place = self._places.get(request)
                if place is None:
                    return None
                line = _read(file, place)
            sound = _parse(line)
            # Who writes into the same file again may leave neither size nor time changed.
            if sound is not None and sound[0] == request:
                return sound[1]
            with self._lock:
                self._stamp = None
        raise ConfigError(
            f"the recordings {self.path} change while they are read: whoever writes them should "
            "put a new file in the place of the old one"
        )

    def digests(self) -> set[bytes]:
        """The digests of all recorded requests; waits for a line that is being written."""
        end = monotonic() + UNFINISHED_WAIT
        while True:
            with self._lock, self._open() as file:
                self._refresh(file)
                if self._unfinished is None:
                    return set(self._places)
                if monotonic() >= end:
                    raise self._damage(self._unfinished)
            sleep(0.01)

    def requests(self) -> list[dict[str, JSON]]:
        """All recorded requests, in order."""
        with self._lock, self._open() as file:
            self._refresh(file)
            found = [_parse(_read(file, place)) for place in self._places.values()]
            return [sound[2] for sound in found if sound is not None]

    def append(self, request: bytes, entry: Mapping[str, JSON]) -> None:
        """Append the line of the request with this digest. Raises OSError."""
        with self._lock:
            known = self._unfinished is None and os.path.exists(self.path)
            before = _stamp(os.stat(self.path)) if known else None
            start, length = append_line(self.path, entry)
            after = _stamp(os.stat(self.path))
            if before is None or before != self._stamp:
                return
            same_file = before.file == after.file
            if same_file and (before.size, after.size) == (start, start + length):
                self._places.setdefault(request, (start, length))  # nobody else has written
                self._stamp = after

    def _refresh(self, file: IO[bytes]) -> None:
        """Index an open file, unless it is unchanged since the last time."""
        stamp = _stamp(os.fstat(file.fileno()))
        if stamp == self._stamp:
            return
        places: dict[bytes, tuple[int, int]] = {}
        start, unfinished = 0, None
        for number, line in enumerate(file, 1):
            if line.strip():
                digest = _digest(line)
                if digest is None and not line.endswith(b"\n"):
                    unfinished = number  # the rest may come while this file is read
                    break
                if digest is None:
                    raise self._damage(number)
                # The first answer counts, as it did when it was recorded.
                places.setdefault(digest, (start, len(line)))
            start += len(line)
        self._places, self._unfinished, self._stamp = places, unfinished, stamp

    def _damage(self, number: int) -> ConfigError:
        return ConfigError(
            f"line {number} of {self.path} is not a recorded exchange; delete it and record it "
            "again"
        )

    def _open(self) -> IO[bytes]:
        try:
            if is_special(self.path):  # a device or a pipe may have no end
                raise OSError(EINVAL, "it is no file")
            return open(self.path, "rb")
        except OSError as error:
            raise self._complaint(error) from None

    def _complaint(self, error: OSError) -> ConfigError:
        return ConfigError(
            f"the recordings {self.path} cannot be read ({error.strerror}); give the path of a "
            "file that lmgateway.record() wrote"
        )


class Stamp(NamedTuple):
    """A file's identity, size and times, to see a change."""

    file: tuple[int, int]
    size: int
    times: tuple[int, int]


def _stamp(status: os.stat_result) -> Stamp:
    times = status.st_mtime_ns, status.st_ctime_ns
    return Stamp((status.st_dev, status.st_ino), status.st_size, times)


def _digest(line: bytes) -> bytes | None:
    """The digest of a line's request; None if the line is damaged."""
    sound = _parse(line)
    return None if sound is None else sound[0]


def _parse(line: bytes) -> tuple[bytes, Any, dict[str, JSON]] | None:
    """A line's digest, response and request; None if it is no recorded exchange."""
    try:
        try:
            return _read_entry(line)
        except RecursionError:
            return on_fresh_stack(_read_entry, line)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def _read_entry(line: bytes) -> tuple[bytes, Any, dict[str, JSON]] | None:
    entry = json.loads(line)
    request, response = entry["request"], from_json(entry["response"])
    key = identify(request)
    in_place = isinstance(response, HTTPResponse) or "blocking" in request or "kept" in request
    return (key.request, response, request) if key is not None and in_place else None


def _read(file: IO[bytes], place: tuple[int, int]) -> bytes:
    file.seek(place[0])
    return file.read(place[1])


def append_line(path: str, entry: Mapping[str, JSON]) -> tuple[int, int]:
    """Append one line, whole or not at all; returns where it begins and its length in bytes.

    It is one write, so that several writers leave whole lines. Raises OSError.
    """
    text = json.dumps(entry, ensure_ascii=False, allow_nan=False)
    # What UTF-8 cannot hold, a lone surrogate, becomes the escape that JSON has for it.
    line = text.encode("utf-8", "backslashreplace") + b"\n"
    with open(path, "ab+", buffering=0) as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # an editor's last line
                line = b"\n" + line
        written = file.write(line)
        start = file.tell() - written
        try:
            while written < len(line):  # a disk that is full takes what it can at first
                written += file.write(line[written:])
        except BaseException:
            # Unless another's line has come between or after.
            if start + written == file.tell() == os.fstat(file.fileno()).st_size:
                file.truncate(start)
            raise
    return start, len(line)


@lru_cache(maxsize=64)
def open_recording(path: str) -> Recording:
    """The process's one Recording for an absolute path."""
    return Recording(path)


def to_json(response: Any, deciding: Iterable[str] = frozenset()) -> dict[str, JSON]:
    """The response of an exchange as JSON for people to read; ``from_json`` reads it back.

    Args:
        response: What ``encode`` takes as well.
        deciding: Names of response headers to write beside the usual ones.

    Raises:
        InputError: It is something else.
    """
    if isinstance(response, bytes):
        return _bytes_to_json(response)
    if not isinstance(response, HTTPResponse):
        if write_json(response) is None:
            kind = type(response).__name__
            raise InputError(f"what work in the process returned ({kind}) JSON does not give back")
        return {"value": response}
    headers = stored_headers(response.headers, deciding)
    head: dict[str, JSON] = {"status": response.status, "headers": headers}
    if isinstance(response.source, Replay):
        return {**head, "chunks": _split_text(response.source.chunks)}
    try:
        body = json.loads(response.body, parse_constant=_refuse)
        json.dumps(body, allow_nan=False)  # 1e999 reads as infinity
        readable = not is_deep(body)  # or the line could be written, and not read
    except (ValueError, RecursionError):
        readable = False
    return {**head, **({"json": body} if readable else _bytes_to_json(response.body))}


def from_json(response: Mapping[str, JSON]) -> Any:
    """The response from its JSON. Raises ValueError, LookupError or TypeError."""
    if "value" in response:
        return response["value"]
    if "status" not in response:
        return _bytes_from_json(response)
    status, headers = response["status"], response["headers"]
    if not is_head(status, headers):
        raise ValueError("neither status nor headers")
    if "chunks" in response:
        if not isinstance(response["chunks"], list):
            raise TypeError("chunks")
        chunks = [_bytes_from_json(chunk) for chunk in response["chunks"]]
        return HTTPResponse(status, headers, source=Replay(chunks))
    if "json" in response:
        return HTTPResponse(status, headers, json.dumps(response["json"]).encode())
    return HTTPResponse(status, headers, _bytes_from_json(response))


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _bytes_to_json(body: bytes) -> dict[str, JSON]:
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"base64": b64encode(body).decode()}


def _bytes_from_json(body: JSON) -> bytes:
    if isinstance(body, str):
        return body.encode()
    return body["text"].encode() if "text" in body else b64decode(body["base64"], validate=True)


def _split_text(chunks: list[bytes]) -> list[JSON]:
    """The pieces as strings; a character that is cut in two goes with its second half."""
    decoder = getincrementaldecoder("utf-8")()
    try:
        texts = [decoder.decode(chunk) for chunk in chunks]
        texts.append(decoder.decode(b"", final=True))
    except UnicodeDecodeError:
        return [_bytes_to_json(chunk) for chunk in chunks]
    return [text for text in texts if text]
