"""Claims: the file beside an output or a file of errors, which is locked and says whose it is."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeGuard

from ..errors import ConfigError, InputError
from .journal import O_BINARY, AlreadyLockedError, is_locked, lock, permitted

__all__ = [
    "OTHER_INPUT",
    "OWNER",
    "Check",
    "Claim",
    "Fingerprint",
    "beside",
    "open_locked",
    "read_job",
    "relative",
]

VERSION = 1
OWNER = "errors_of"  # in the claim of a file of errors: the output that it belongs to

Check: TypeAlias = "Callable[[Mapping[str, Any]], None]"
"""Is told what is recorded ({} for nothing), and raises InputError if that is another job."""


OTHER_INPUT = "other input (rows may only be added at its end)"
_WORDS = {
    "input": OTHER_INPUT,
    "provider": "another provider",
    "model": "another model",
    "settings": "other settings or parameters",
    "errors": "another file for errors",
}


def relative(path: Path, folder: Path) -> str:
    """A path from a folder, so that both may move together.

    It begins where links lead to, as the system takes a ``..`` behind a link.
    """
    try:
        start = os.path.realpath(path.parent)
        return Path(os.path.relpath(start, os.path.realpath(folder)), path.name).as_posix()
    except ValueError:  # Windows: on another drive
        return str(path)


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies a job: if any of it changes, old and new answers do not belong together.

    Attributes:
        input: The digest of the input file; None for a pipe or an iterable, whose rows are known
            by their content alone.
        provider: The provider.
        model: The model.
        settings: A digest of what else decides about the answers.
        errors: The file for errors, from the folder of the output; None if they are in the output.
    """

    input: str | None
    provider: str
    model: str
    settings: str
    errors: str | None

    def difference(self, other: Mapping[str, Any], folder: Path) -> list[str]:
        """In words, what a recorded fingerprint says otherwise.

        Args:
            other: What is recorded.
            folder: The folder of the output.
        """
        names = [name for name in _WORDS if other.get(name) != getattr(self, name)]
        if "errors" in names and _is_same(other.get("errors"), self.errors, folder):
            names.remove("errors")
        return [_WORDS[name] for name in names]


def _is_same(recorded: str | None, given: str | None, folder: Path) -> bool:
    """Whether two paths from a folder are one file.

    Versions before 0.3 recorded a path from the root, which is wrong once the folder has moved.
    """
    if recorded is None or given is None:
        return False
    then, now = folder / recorded, folder / given
    if os.path.realpath(then) == os.path.realpath(now):
        return True
    moved = os.path.isabs(recorded) and then.name == now.name and not os.path.lexists(then)
    return moved and os.path.exists(now)


def beside(path: Path) -> Path:
    """Where the claim of a file lies."""
    return path.with_name(path.name + ".job")


class Claim:
    """A file that belongs to a job, and to this process until it is closed.

    Args:
        path: The file; it need not exist.
        check: Is told what is recorded.

    Attributes:
        is_new: Whether nobody had claimed it before.

    Raises:
        InputError: Another process is at work on it, or it is another job's.
        ConfigError: What is recorded is damaged.
    """

    def __init__(self, path: Path, check: Check) -> None:
        self._path = beside(path)
        self._file = open_locked(self._path, path)
        try:
            recorded = _load(self._path, self._file)
            self.is_new = not recorded
            check(recorded)
        except BaseException:
            self.close(remove=not os.fstat(self._file).st_size)  # made just now, it means nothing
            raise

    def store(self, record: Mapping[str, Any]) -> None:
        """Write the record over the old one.

        The file never becomes shorter (JSON may end in white space), so there is no moment at
        which half of it is missing: one small write within a page happens as a whole or not at
        all.
        """
        text = json.dumps({"version": VERSION, **record}, indent=1).encode()
        text = text.ljust(os.fstat(self._file).st_size) + b"\n"
        os.lseek(self._file, 0, os.SEEK_SET)
        os.write(self._file, text)
        os.fsync(self._file)

    def note(self, **facts: Any) -> None:
        """Write some facts over those of the record."""
        self.store({**_load(self._path, self._file), **facts})

    def close(self, *, remove: bool = False) -> None:
        """Give the lock back, and take the claim back if it should be as if it had not been."""
        if remove:
            with suppress(OSError):  # Windows removes no file that is open
                os.unlink(self._path)
        os.close(self._file)


def read_job(output: Path) -> dict[str, Any]:
    """What is recorded beside an output, and whether a process is at work on it.

    Raises InputError if it is no output of a job, ConfigError if what is recorded is damaged.
    """
    path = beside(output)
    try:
        try:
            file = os.open(path, os.O_RDWR | O_BINARY)
        except OSError:  # a folder that may be read only
            file = os.open(path, os.O_RDONLY | O_BINARY)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise InputError(f"{output} is no output of a batch: {str(path)!r}: {why}") from None
    try:
        recorded = _load(path, file)
        if not recorded:
            raise InputError(f"{path} is empty: the job was killed before it began")
        if OWNER in recorded:
            raise InputError(
                f"{output} holds the errors of another output, and is none itself: "
                f"{recorded[OWNER]!r:.200}"
            )
        return {**recorded, "running": is_locked(file)}
    finally:
        os.close(file)


def open_locked(path: Path, claimed: Path) -> int:
    """The open and locked file of a claim, which may be empty."""
    while True:
        with permitted(path, "written"):
            file = os.open(path, os.O_RDWR | os.O_CREAT | O_BINARY, 0o666)
        try:
            lock(file)
            if _is_there(path, file):
                return file
        except AlreadyLockedError:
            os.close(file)
            raise InputError(
                f"another process is at work on {claimed}: wait for it, or write to another file"
            ) from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # who had locked it has taken it away


def _is_there(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False


def _load(path: Path, file: int) -> dict[str, Any]:
    os.lseek(file, 0, os.SEEK_SET)
    text = os.read(file, 1 << 20)
    if not text:
        return {}
    try:
        recorded = json.loads(text)
    except (ValueError, RecursionError):
        recorded = None
    if not _is_record(recorded):
        raise ConfigError(
            f"{path} is damaged, or of another version of lmgateway: move it and its output away"
        )
    return recorded


def _is_record(recorded: Any) -> TypeGuard[dict[str, Any]]:
    if not isinstance(recorded, dict) or recorded.get("version") != VERSION:
        return False
    if OWNER in recorded:
        return isinstance(recorded[OWNER], str)
    kinds = {"provider": str, "model": str, "settings": str}
    kinds |= dict.fromkeys(("input", "errors"), str | None)  # type: ignore[arg-type]
    return all(isinstance(recorded.get(name, 0), kind) for name, kind in kinds.items())
