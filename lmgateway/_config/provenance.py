"""Provenance: where a value came from; and the environment, in which many values are found."""

from __future__ import annotations

import os
import stat
import sys
import warnings
from collections.abc import Mapping
from contextlib import suppress
from errno import ETIMEDOUT
from functools import lru_cache
from threading import Lock
from time import monotonic, sleep
from typing import Any, NamedTuple

from .._base.forks import renew_lock
from ..errors import ConfigError

__all__ = ["ARGUMENT", "DEFAULT", "Environment", "Provenance"]

PIPE_TIMEOUT = 2.0  # seconds for another program to write what is read from a named pipe
LARGEST_PIPE = 1024 * 1024  # bytes


class Provenance(NamedTuple):
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
        return f"<Provenance: {self}>"  # the value may be a secret

    def __str__(self) -> str:
        if self.kind == "argument":
            return "an argument"
        return f"the {self.kind}: {self.place}" if self.place else f"the {self.kind}"


#: Where only the kind matters.
ARGUMENT = Provenance(None, "argument")
DEFAULT = Provenance(None, "default")


class Dotenv(NamedTuple):
    """One ``.env`` file: its values, and the line of each."""

    path: str
    values: Mapping[str, str]
    lines: Mapping[str, int]

    def __repr__(self) -> str:
        return f"<Dotenv {self.path}, {len(self.values)} values>"  # most of them are secrets


class Environment:
    """One look at what surrounds the process: its variables, and the nearest ``.env`` file.

    The ``.env`` file is searched for once, when it is first needed. It is read, and never loaded
    into the process.

    Attributes:
        folders: The working directory and its parents, up to the root of the repository or the
            home folder, nearest first. Each ends with a separator. Empty if there is no working
            directory any more.
    """

    def __init__(self) -> None:
        self.folders = _folders()
        self._dotenv: Dotenv | None = None
        self._searched = False

    @property
    def dotenv(self) -> Dotenv | None:
        """The nearest ``.env`` file, upwards from the working directory.

        Raises ConfigError, with file and line, for a line in it that is no assignment.
        """
        if not self._searched:
            self._dotenv = _nearest_dotenv(self.folders)
            self._searched = True
        return self._dotenv

    def lookup(self, variable: str) -> Provenance | None:
        """The value of a variable, environment before ``.env``; a blank one counts as not set."""
        try:
            value = os.environ[variable]
            if value and not value.isspace():
                return Provenance(value, "environment", variable)
        except KeyError:
            pass
        dotenv = self._dotenv if self._searched else self.dotenv
        if dotenv is None:
            return None
        found = dotenv.values.get(variable)
        if not found or found.isspace():
            return None
        place = f"{variable} in {dotenv.path}:{dotenv.lines.get(variable, '?')}"
        return Provenance(found, ".env", place)

    def looked_in(self) -> str:
        """The places in which ``lookup`` looks, for a message."""
        if self.dotenv is not None:
            return f"the environment and {self.dotenv.path}"
        start = "the working directory"
        if self.folders:
            start = self.folders[0].rstrip(os.sep) or os.sep
        return f"the environment (there is no .env in {start} or above it)"


def _folders() -> tuple[str, ...]:
    try:
        start = os.getcwd()
    except OSError:  # it was deleted under the process, or may not be seen
        return ()
    home = os.path.join(os.path.expanduser("~"), "")
    folders: list[str] = []
    for folder in _parents(start):
        folders.append(folder)
        # os.access, unlike os.path.exists, is no Python call: get_lm passes here each time.
        if folder == home or os.access(f"{folder}.git", os.F_OK):
            break
    return tuple(folders)


@lru_cache(maxsize=8)
def _parents(folder: str) -> tuple[str, ...]:
    """A folder and all that are above it, each with a separator at its end."""
    found = []
    while True:
        found.append(os.path.join(folder, ""))
        parent = os.path.dirname(folder)
        if parent == folder:
            return tuple(found)
        folder = parent


_lock = Lock()
renew_lock(sys.modules[__name__])
_files: dict[tuple[str, int, int], Dotenv | None] = {}


def _nearest_dotenv(folders: tuple[str, ...]) -> Dotenv | None:
    for folder in folders:
        path = f"{folder}.env"
        try:
            mode = os.stat(path).st_mode
        except (OSError, ValueError):
            continue
        if stat.S_ISREG(mode) or stat.S_ISFIFO(mode):
            return _read_dotenv(path, piped=stat.S_ISFIFO(mode))
    return None


def _read_dotenv(path: str, *, piped: bool) -> Dotenv | None:
    """Read a ``.env`` file. One that cannot be read is warned of, and counts as missing.

    It may be a named pipe, into which another program writes when it is read.

    Raises ConfigError, with the number of the line and without its content, for a line that is
    no assignment or whose quote is not closed.
    """
    key, text, problem = (path, 0, 0), "", ""
    try:
        key = _state(path)
        with _lock:
            if key in _files:
                return _files[key]
            if piped:  # under the lock: what one thread reads, no other can read again
                text = _read_pipe(path)
        if not piped:
            with open(path, encoding="utf-8-sig") as file:
                text = file.read()
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


def _state(path: str) -> tuple[str, int, int]:
    status = os.stat(path)
    return path, status.st_mtime_ns, status.st_size


def _read_pipe(path: str) -> str:
    """Read a named pipe to its end, within a time limit."""
    import select

    content, end = b"", monotonic() + PIPE_TIMEOUT
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
    limit = f"{PIPE_TIMEOUT:.0f} seconds"
    raise OSError(ETIMEDOUT, f"is a pipe, and its end did not come within {limit}")


def _parse_dotenv(path: str, text: str) -> Dotenv:
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
