"""Files: which configuration file counts, and on which line each of its values stands."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

from ..errors import ConfigError, excerpt
from ..forks import renew_lock
from .origins import Sourced, folders_upwards

__all__ = ["FILE_NAME", "VARIABLE", "Document", "Found", "find", "read", "user_file"]

FILE_NAME = "lmgateway.toml"
VARIABLE = "LMGATEWAY_CONFIG"
_PYPROJECT = "pyproject.toml"
_OURS = re.compile(r"^\s*\[+\s*tool\s*\.\s*lmgateway\s*[.\]]")

Path = tuple[str, ...]


class Found(NamedTuple):
    """A configuration file and what led to it."""

    path: str
    why: str


@dataclass(frozen=True, slots=True, eq=False)  # each state of a file is one, and a key
class Document:
    """A configuration file that was read.

    Attributes:
        path: Its absolute path.
        data: Our part of it, as TOML gives it.
        lines: The line on which each key begins.
    """

    path: str
    data: Mapping[str, Any] = field(repr=False)
    lines: Mapping[Path, int] = field(repr=False)

    def place(self, *keys: str) -> str:
        """``file:line`` of a key, or of the nearest table around it."""
        for length in range(len(keys), 0, -1):
            if keys[:length] in self.lines:
                return f"{self.path}:{self.lines[keys[:length]]}"
        return self.path

    def sourced(self, value: Any, *keys: str) -> Sourced:
        """The value of a key with its origin."""
        return Sourced(value, "file", self.place(*keys))

    def beside(self, path: str) -> str:
        """A path in the file, which is relative to the file's folder."""
        return os.path.join(os.path.dirname(self.path), os.path.expanduser(path))


def find(config: str | os.PathLike[str] | None = None) -> Found | None:
    """The configuration file that counts: the first one found, and no other.

    ``config`` > ``$LMGATEWAY_CONFIG`` > upwards from the working directory, ``lmgateway.toml``
    before ``[tool.lmgateway]`` of ``pyproject.toml`` > the user's configuration directory.

    Raises ConfigError if one that was named is not there.
    """
    if config is not None:
        return _named(os.fspath(config), "config=")
    if variable := os.environ.get(VARIABLE):
        return _named(variable, VARIABLE)
    for folder in folders_upwards():
        path = os.path.join(folder, FILE_NAME)
        if os.path.isfile(path):
            return Found(path, "found upwards from the working directory")
        path = os.path.join(folder, _PYPROJECT)
        if os.path.isfile(path) and read(path) is not None:
            return Found(path, "found upwards from the working directory")
    path = user_file()
    return Found(path, "the user's configuration directory") if os.path.isfile(path) else None


def user_file() -> str:
    """The path of the user's own configuration file, which need not exist."""
    from platformdirs import user_config_dir

    return os.path.join(user_config_dir("lmgateway", appauthor=False), FILE_NAME)


def _named(path: str, by: str) -> Found:
    path = os.path.abspath(os.path.expanduser(path))
    if not os.path.isfile(path):
        raise ConfigError(f"{by} names {path}, which is no file: mend the path, or leave it out")
    return Found(path, f"named by {by}")


_lock = Lock()
renew_lock(sys.modules[__name__])
_documents: dict[tuple[str, int, int], Document | None] = {}


def read(path: str) -> Document | None:
    """Read a configuration file, once for as long as it does not change.

    Returns None for a ``pyproject.toml`` without ``[tool.lmgateway]``.

    Raises ConfigError with file, line and column where it cannot be read.
    """
    try:
        stat = os.stat(path)
        key = (path, stat.st_mtime_ns, stat.st_size)
        if key in _documents:
            return _documents[key]
        with open(path, "rb") as file:
            raw = file.read()
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
    document = _parsed(path, raw)
    with _lock:
        if len(_documents) > 32:  # a process has a few; a notebook that edits one, many
            _documents.clear()
        _documents[key] = document
    return document


def _parsed(path: str, raw: bytes) -> Document | None:
    whole = os.path.basename(path) != _PYPROJECT
    if not whole and b"lmgateway" not in raw:
        return None
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: this is not UTF-8; save it as UTF-8") from None
    text = text.replace("\r\n", "\n")
    if not whole and not any(map(_OURS.match, text.split("\n"))):
        return None  # whatever else is wrong in it is not our business
    import tomllib

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_malformed(path, text, str(error))) from None
    if whole:
        return Document(path, data, dict(_lines(text)))
    ours = data.get("tool", {}).get("lmgateway", {})
    lines = {keys[2:]: line for keys, line in _lines(text) if keys[:2] == ("tool", "lmgateway")}
    return Document(path, ours, lines)


def _malformed(path: str, text: str, message: str) -> str:
    """``file:line:column: what is wrong``, from a message that says where in words."""
    what, _, where = message.rpartition(" (at ")
    numbers = re.findall(r"\d+", where)
    lines = text.rstrip("\n").split("\n")
    line, column = numbers if len(numbers) == 2 else (len(lines), len(lines[-1]) + 1)
    return f"{path}:{line}:{column}: this is no TOML: {excerpt(what)}"


def _lines(text: str) -> Iterator[tuple[Path, int]]:
    """Each key of a valid TOML document and the line on which its statement begins."""
    import tomllib

    table: Path = ()
    statement, start = "", 0
    for number, line in enumerate(text.split("\n"), 1):
        if not statement:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        statement += line + "\n"
        try:
            data = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue  # a value that goes on in the next line
        is_header = statement.lstrip().startswith("[")
        statement = ""
        for keys in _paths(data):
            if is_header:
                table = keys
                yield table, start
            else:
                yield (*table, *keys), start


def _paths(data: Mapping[str, Any]) -> Iterator[Path]:
    """The path of every key, outer ones first."""
    for key, value in data.items():
        yield (key,)
        if isinstance(value, Mapping):
            yield from ((key, *inner) for inner in _paths(value))
