"""Files: which configuration file is used, and the line of each of its values."""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, NamedTuple

from .._base.forks import renew_lock
from .._guard.paths import absolute, as_path, user_folder
from ..errors import ConfigError, excerpt
from .provenance import Environment, Provenance

__all__ = ["FILE_NAME", "VARIABLE", "Document", "Found", "find", "read", "user_file"]

FILE_NAME = "lmgateway.toml"
VARIABLE = "LMGATEWAY_CONFIG"
_PYPROJECT = "pyproject.toml"
_OURS = re.compile(r"^\s*\[+\s*tool\s*\.\s*lmgateway\s*[.\]]")

Path = tuple[str, ...]


class Found(NamedTuple):
    """A configuration file, and why it is the one."""

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

    def provenance(self, value: Any, *keys: str) -> Provenance:
        """The value of a key with its line."""
        return Provenance(value, "file", self.place(*keys))

    def beside(self, path: str) -> str:
        """A path that stands in the file, as a path from the file's folder."""
        return os.path.join(os.path.dirname(self.path), as_path(path, "path"))


def find(
    config: str | os.PathLike[str] | None = None, environment: Environment | None = None
) -> Found | None:
    """The configuration file that is used: the first one found, and no other.

    ``config`` > ``$LMGATEWAY_CONFIG`` > upwards from the working directory, ``lmgateway.toml``
    before ``[tool.lmgateway]`` of ``pyproject.toml`` > the user's configuration directory.

    Raises ConfigError if a file was named and is not there.
    """
    if config is not None:
        return _named(as_path(config, "config"), "config=")
    if variable := os.environ.get(VARIABLE):
        return _named(variable, VARIABLE)
    for folder in (environment or Environment()).folders:
        path = f"{folder}{FILE_NAME}"
        # os.access is no Python call, and nearly always there is no such file.
        if os.access(path, os.F_OK) and os.path.isfile(path):
            return Found(path, "found upwards from the working directory")
        path = f"{folder}{_PYPROJECT}"
        if os.access(path, os.F_OK) and os.path.isfile(path) and _is_ours(path):
            return Found(path, "found upwards from the working directory")
    own = user_file()
    if own is None or not os.path.isfile(own):
        return None
    return Found(own, "the user's configuration directory")


def user_file() -> str | None:
    """The path of the user's own configuration file, which need not exist; None without a home."""
    return _user_file(os.environ.get("HOME"), os.environ.get("XDG_CONFIG_HOME"))


@lru_cache(maxsize=8)  # to ask platformdirs takes longer than all else that get_lm does for a name
def _user_file(home: str | None, xdg: str | None) -> str | None:
    try:
        return os.path.join(user_folder("config"), FILE_NAME)
    except ConfigError:
        return None


def _named(path: str, by: str) -> Found:
    path = absolute(path)
    if not os.path.isfile(path):
        said = excerpt(path.encode("utf-8", "replace"))
        raise ConfigError(f"{by} names {said}, which is no file: mend the path, or leave it out")
    return Found(path, f"named by {by}")


def _is_ours(pyproject: str) -> bool:
    """Whether a ``pyproject.toml`` holds our table; one that cannot be read does not."""
    try:
        return _read(pyproject) is not None
    except OSError as error:
        warnings.warn(f"{pyproject} was not read: {error.strerror}", stacklevel=2)
        return False


_lock = Lock()
renew_lock(sys.modules[__name__])
_documents: dict[tuple[str, int, int], Document | None] = {}


def read(path: str) -> Document | None:
    """Read a configuration file; it is read again only after it has changed.

    Returns None for a ``pyproject.toml`` without ``[tool.lmgateway]``.

    Raises ConfigError with file, line and column where it cannot be read.
    """
    try:
        return _read(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None


def _read(path: str) -> Document | None:
    stat = os.stat(path)
    key = (path, stat.st_mtime_ns, stat.st_size)
    with suppress(KeyError):  # another thread may clear them at any moment
        return _documents[key]
    with open(path, "rb") as file:
        raw = file.read()
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

    within = () if whole else ("tool", "lmgateway")
    try:
        ours: Any = tomllib.loads(text)
        lines = {keys[len(within) :]: line for keys, line in _lines(text, within)}
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_malformed(path, text, str(error))) from None
    except (ValueError, RecursionError) as error:  # a number or a nesting beyond Python's limits
        raise ConfigError(f"{path} cannot be read: {excerpt(str(error))}") from None
    for key in within:
        ours = ours.get(key) if isinstance(ours, Mapping) else None
    if ours is None:
        return None  # what looked like our header stands in a text
    if not isinstance(ours, Mapping):
        raise ConfigError(
            f"{path}:{lines[()]}: tool.lmgateway must be a table: write [tool.lmgateway]"
        )
    return Document(path, ours, lines)


def _malformed(path: str, text: str, message: str) -> str:
    """``file:line:column: what is wrong``, from tomllib's message, which says it in words."""
    what, _, where = message.rpartition(" (at ")
    numbers = re.findall(r"\d+", where)
    lines = text.rstrip("\n").split("\n")
    line, column = numbers if len(numbers) == 2 else (len(lines), len(lines[-1]) + 1)
    return f"{path}:{line}:{column}: this is no TOML: {excerpt(what)}"


#: In valid TOML, all that decides where a statement ends.
_TOKENS = re.compile(
    "|".join(
        (
            r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*"{3,5}',
            r"'''[^']*(?:'(?!'')[^']*)*'{3,5}",
            r'"[^"\\]*(?:\\.[^"\\]*)*"',
            r"'[^']*'",
            r"#[^\n]*",
            r"[\[\]{}\n]",
        )
    ),
    re.DOTALL,
)


def _statements(text: str) -> Iterator[tuple[str, int]]:
    """The statements of a valid TOML document, each with the line on which it begins."""
    begin = depth = 0
    start = line = 1
    for match in _TOKENS.finditer(text + "\n"):
        token = match[0]
        line += token.count("\n")
        if token in ("[", "{"):
            depth += 1
        elif token in ("]", "}"):
            depth -= 1
        elif token == "\n" and not depth:
            statement = text[begin : match.start()].strip()
            if statement and not statement.startswith("#"):
                yield statement, start
            begin, start = match.end(), line


def _lines(text: str, within: Path) -> Iterator[tuple[Path, int]]:
    """Each key of a table in a valid TOML document, and the line on which its statement begins."""
    import tomllib

    table: Path = ()
    for statement, line in _statements(text):
        is_header = statement.startswith("[")
        if not is_header and table[: len(within)] != within[: len(table)]:
            continue  # of a table beside it
        for keys in _paths(tomllib.loads(statement)):
            if is_header:
                table = keys
            found = keys if is_header else (*table, *keys)
            if found[: len(within)] == within:
                yield found, line


def _paths(data: Mapping[str, Any], deep: int = 8) -> Iterator[Path]:
    """The path of every key, outer keys first, down to a depth."""
    for key, value in data.items():
        yield (key,)
        if isinstance(value, Mapping) and deep > 1:
            yield from ((key, *inner) for inner in _paths(value, deep - 1))
