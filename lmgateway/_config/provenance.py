"""Origins: every value knows where it came from."""

from __future__ import annotations

import os
import stat
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from errno import ETIMEDOUT
from pathlib import Path
from threading import Lock
from time import monotonic, sleep
from typing import Any, NamedTuple

from .._base.forks import renew_lock
from ..errors import ConfigError

__all__ = ["Environment", "Sourced", "folders_upwards", "read_dotenv"]

PATIENCE = 2.0  # seconds for a program to write what is read from a named pipe
LARGEST_PIPE = 1024 * 1024  # bytes


class Sourced(NamedTuple):
    """A value and where it came from.

    Attributes:
        value: The value.
        kind: ``argument``, ``environment``, ``.env``, ``file``, ``catalogue`` or ``default``.
        place: The variable, the file and line, or the row; "" for an argument or a default.
    """

    value: Any
    kind: str
    place: str = ""

    def __repr__(self) -> str:
        return f"<Sourced from {self}>"  # the value may be a secret

    def __str__(self) -> str:
        if self.kind == "argument":
            return "an argument"
        return f"the {self.kind}: {self.place}" if self.place else f"the {self.kind}"


def folders_upwards(start: str | None = None) -> Iterator[str]:
    """The working directory and its parents, up to the repository's root or the home folder."""
    if start is None:
        try:
            start = os.getcwd()
        except OSError:  # it was deleted under the process, or may not be seen
            return
    home = os.path.expanduser("~")
    folder = start
    while True:
        yield folder
        parent = os.path.dirname(folder)
        if folder in (home, parent) or os.path.exists(os.path.join(folder, ".git")):
            return
        folder = parent


class Dotenv(NamedTuple):
    """One ``.env`` file: its values, and the line of each."""

    path: Path
    values: Mapping[str, str]
    lines: Mapping[str, int]

    def __repr__(self) -> str:
        return f"<Dotenv {self.path}, {len(self.values)} values>"  # most of them are secrets


class Environment:
    """The process's environment and the nearest ``.env`` file, which is read and never loaded."""

    def __init__(self, start: str | None = None) -> None:
        self._start = start
        self._dotenv: Dotenv | None = None
        self._read = False

    @property
    def dotenv(self) -> Dotenv | None:
        """The nearest ``.env`` upwards from the working directory."""
        if not self._read:
            self._dotenv = _nearest_dotenv(self._start)
            self._read = True
        return self._dotenv

    def lookup(self, variable: str) -> Sourced | None:
        """A variable's value, environment before ``.env``; a blank one counts as not set."""
        value = os.environ.get(variable)
        if value and not value.isspace():
            return Sourced(value, "environment", variable)
        dotenv = self.dotenv
        value = dotenv.values.get(variable) if dotenv is not None else None
        if dotenv is None or not value or value.isspace():
            return None
        place = f"{variable} in {dotenv.path}:{dotenv.lines.get(variable, '?')}"
        return Sourced(value, ".env", place)

    def looked_in(self) -> str:
        """The places that ``lookup`` looks in, for a message."""
        if self.dotenv is None:
            start = next(folders_upwards(self._start), "the working directory")
            return f"the environment (there is no .env in {start} or above it)"
        return f"the environment and {self.dotenv.path}"


_lock = Lock()
renew_lock(sys.modules[__name__])
_files: dict[tuple[str, int, int], Dotenv | None] = {}


def _nearest_dotenv(start: str | None) -> Dotenv | None:
    for folder in folders_upwards(start):
        path = os.path.join(folder, ".env")
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            return read_dotenv(Path(path))
    return None


def _is_pipe(path: Path) -> bool:
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def read_dotenv(path: Path) -> Dotenv | None:
    """Read a ``.env`` file; one that cannot be read is warned about and counts as not there.

    It may be a named pipe, into which another program writes when it is read.

    Raises ConfigError, with the number of the line and without its content, for a line that is
    no assignment or whose quote is not closed.
    """
    piped, key, text, problem = _is_pipe(path), (str(path), 0, 0), "", ""
    try:
        key = _state(path)
        with _lock:
            if key in _files:
                return _files[key]
            if piped:  # under the lock: what one reader takes out of it no other one sees
                text = _read_pipe(path)
        if not piped:
            text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        problem = "is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
    if problem:
        warnings.warn(f"{path} was not read: it {problem}", stacklevel=2)
        if not piped:
            return None
    dotenv = None if problem else _parse_dotenv(path, text)
    if piped:  # it counts as it is until somebody writes into it again
        with suppress(OSError):
            key = _state(path)
    with _lock:
        _files.clear()  # at most one file matters to a process at a time
        _files[key] = dotenv
    return dotenv


def _state(path: Path) -> tuple[str, int, int]:
    status = path.stat()
    return str(path), status.st_mtime_ns, status.st_size


def _read_pipe(path: Path) -> str:
    """All that is written into a named pipe until it is closed, waited for a moment."""
    import select

    content, end = b"", monotonic() + PATIENCE
    file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it would wait for a writer, for ever
    try:
        while (left := end - monotonic()) > 0 and len(content) <= LARGEST_PIPE:
            if not select.select((file,), (), (), left)[0]:
                continue
            piece = os.read(file, LARGEST_PIPE)
            if not piece and content:
                return content.decode("utf-8-sig")
            if not piece:  # nobody has opened it yet, or somebody only to close it
                sleep(0.01)
            content += piece
    finally:
        os.close(file)
    raise OSError(ETIMEDOUT, f"is a pipe, and its end did not come within {PATIENCE:.0f} seconds")


def _parse_dotenv(path: Path, text: str) -> Dotenv:
    from io import StringIO

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        # The line where a statement begins counts from the blank lines that lead up to it.
        statement = binding.original.string
        line = binding.original.line + len(statement) - len(statement.lstrip("\n"))
        if binding.error:
            raise ConfigError(
                f"{path}:{line} is no assignment NAME=value, or its quote is not closed: "
                "mend that line"
            )
        if binding.key is not None:
            lines[binding.key] = line
    values = dotenv_values(stream=StringIO(text))
    return Dotenv(path, {name: value for name, value in values.items() if value is not None}, lines)
