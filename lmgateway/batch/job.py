"""A job on disk: its output, the fingerprint and the lock beside it, and how far the job is."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import copymode
from typing import Any, Self, TypeGuard

from .._drive.gather import Reply
from .._guard.paths import absolute
from ..errors import ConfigError, InputError, LMGatewayError
from .answers import output_line
from .journal import (
    O_BINARY,
    AlreadyLockedError,
    Journal,
    is_locked,
    lock,
    read_journal,
    sync_folder,
)
from .rows import DigestCounter, digest
from .verdicts import Waiting

__all__ = ["Fingerprint", "Job", "Status", "beside", "read_job", "status"]

VERSION = 1

_WORDS = {
    "input": "other input",
    "provider": "another provider",
    "model": "another model",
    "settings": "other settings or parameters",
    "errors": "another file for errors",
}


def beside(output: Path) -> Path:
    """Where the fingerprint of an output lies."""
    return output.with_name(output.name + ".job")


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What identifies a job: if any of it changes, old and new answers do not belong together.

    Attributes:
        input: The digest of the input file; None for a pipe or an iterable, whose rows are known
            by their content alone.
        provider: The provider.
        model: The model.
        settings: A digest of what else decides about the answers.
        errors: The file for errors; None if they are in the output.
    """

    input: str | None
    provider: str
    model: str
    settings: str
    errors: str | None

    def difference(self, other: Mapping[str, Any]) -> list[str]:
        """In words, what a recorded fingerprint says otherwise."""
        return [words for name, words in _WORDS.items() if other.get(name) != getattr(self, name)]


@dataclass(slots=True)
class Done:
    """What an output holds already.

    Attributes:
        ids: The ids of its rows, as digests.
        answers: Rows with an answer.
        errors: Rows with an error.
    """

    ids: DigestCounter = field(default_factory=DigestCounter)
    answers: int = 0
    errors: int = 0


class Job:
    """A job that is open for this process alone; a context manager.

    Args:
        output: The file of answers.
        fingerprint: What it is.
        facts: What else ``status`` should tell: the input's name, total, the command to resume.
        retry_errors: Whether rows that failed are to be asked again: they are taken out first.

    Raises:
        InputError: Another job is at work on this output, or the output is of another job or
            of none.
        ConfigError: A file is damaged.
    """

    def __init__(
        self,
        output: Path,
        fingerprint: Fingerprint,
        *,
        facts: Mapping[str, Any],
        retry_errors: bool = False,
    ) -> None:
        self.output = output
        self.done = Done()
        self._lock = _claim(output, fingerprint, facts)
        self._journals: list[Journal] = []
        try:
            self._answers = self._open(output, retry_errors=retry_errors)
            self._errors = self._answers
            if fingerprint.errors is not None:
                self._errors = self._open(Path(fingerprint.errors), retry_errors=retry_errors)
            sync_folder(output.parent)
        except BaseException:
            self.close()
            raise

    def is_done(self, name: str) -> bool:
        """Whether a row is in the output already."""
        return digest(name) in self.done.ids

    def write(self, name: str, reply: Reply) -> None:
        """Write what became of a row to the file for it; raises OSError."""
        journal = self._errors if isinstance(reply, LMGatewayError) else self._answers
        journal.append(output_line(name, reply))

    def note(self, waiting: Waiting | None) -> None:
        """Record what the run waits for, for ``status``; a disk that is full is no reason to stop.

        Args:
            waiting: What, or None: nothing.
        """
        facts = {"waiting": None if waiting is None else asdict(waiting)}
        with suppress(OSError):
            _store(self._lock, {**_load(beside(self.output), self._lock), **facts})

    def check_complete(self, skipped: int) -> None:
        """Raise ConfigError if the output held rows, when the job began, that the input has not.

        Args:
            skipped: How many rows of the whole input were done when the job began.
        """
        strangers = len(self.done.ids) - skipped
        if strangers:
            raise ConfigError(
                f"every row of the input is done, and {strangers} of those in {self.output} (or "
                "its file of errors) belong to none: their custom_id was damaged, or they are "
                "another job's; look for them and remove them"
            )

    def close(self) -> None:
        """Sync what was written, and give the lock back."""
        try:
            for journal in self._journals:
                journal.close()
        finally:
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, path: Path, *, retry_errors: bool) -> Journal:
        if retry_errors and path.exists():
            _drop_errors(path)
        size = 0
        with suppress(FileNotFoundError), path.open("rb") as file:
            for row in read_journal(file, str(path)):
                if self.done.ids.add(digest(row.id)) > 1:
                    raise ConfigError(
                        f"line {row.number} of {path} has the custom_id {row.id!r:.80} of an "
                        "earlier line, so one of the two is damaged: remove both, so that their "
                        "rows are asked again"
                    )
                self.done.answers += row.error is None
                self.done.errors += row.error is not None
                size = row.end
        journal = Journal(path)
        self._journals.append(journal)
        journal.cut(size)
        return journal


def read_job(output: Path) -> dict[str, Any]:
    """What is recorded beside an output, and whether a process is at work on it.

    Raises InputError if it is no output of a job, ConfigError if its fingerprint is damaged.
    """
    path = beside(output)
    try:
        file = os.open(path, os.O_RDWR | O_BINARY)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", error)
        raise InputError(f"{output} is no output of a batch: {str(path)!r}: {why}") from None
    try:
        recorded = _load(path, file)
        if not recorded:
            raise InputError(f"{path} is empty: the job was killed before it began")
        return {**recorded, "running": is_locked(file)}
    finally:
        os.close(file)


@dataclass(frozen=True, slots=True)
class Status:
    """How far a job is.

    Attributes:
        output: The file of answers.
        provider: Who is asked.
        model: For which model.
        total: Rows of the input; None where that is not known.
        answered: Rows with an answer.
        errors: Rows that failed, by class.
        running: Whether a process is at work on it.
        resume: The command that goes on with it.
        waiting: What the running process waits for, why, and until when; None if nothing.
    """

    output: Path
    provider: str
    model: str
    total: int | None
    answered: int
    errors: dict[str, int]
    running: bool
    resume: str
    waiting: Waiting | None = None

    @property
    def failed(self) -> int:
        """Rows that failed."""
        return sum(self.errors.values())

    @property
    def finished(self) -> bool:
        """Whether every row of the input is in the output."""
        return self.total is not None and self.answered + self.failed >= self.total


def status(output: str | os.PathLike[str]) -> Status:
    """How far the job that writes this output is; the job may be running.

    Raises InputError if it is no output of a job, ConfigError if a file is damaged.
    """
    path = Path(absolute(output, "output"))
    recorded = read_job(path)
    answered, errors = 0, Counter[str]()
    for each in filter(None, (str(path), recorded["errors"])):
        with suppress(FileNotFoundError), open(each, "rb") as file:
            for row in read_journal(file, each):
                if row.error is None:
                    answered += 1
                else:
                    errors[row.error] += 1
    return Status(
        output=path,
        provider=recorded["provider"],
        model=recorded["model"],
        total=recorded.get("total"),
        answered=answered,
        errors=dict(errors.most_common()),
        running=recorded["running"],
        resume=recorded.get("resume", ""),
        waiting=_waiting(recorded),
    )


def _waiting(recorded: Mapping[str, Any]) -> Waiting | None:
    told = recorded.get("waiting")
    if not recorded["running"] or not isinstance(told, dict):
        return None
    with suppress(TypeError):  # of another version
        return Waiting(**told)
    return None


def _claim(output: Path, fingerprint: Fingerprint, facts: Mapping[str, Any]) -> int:
    """Lock the file beside an output, and check that it is new or belongs to this job."""
    path = beside(output)
    file = os.open(path, os.O_RDWR | os.O_CREAT | O_BINARY, 0o666)
    try:
        try:
            lock(file)
        except AlreadyLockedError:
            raise InputError(
                f"another process is at work on {output}: wait for it, or write to another file"
            ) from None
        recorded = _load(path, file)
        if not recorded:
            for each in (output, fingerprint.errors):
                if each is not None and os.path.exists(each) and os.path.getsize(each):
                    with suppress(PermissionError):  # Windows removes no file that is open
                        os.unlink(path)  # it was made just now: without rows it means nothing
                    raise InputError(
                        f"{each} exists and is no output of this job (there is no {path.name} "
                        "that says so): move it away, or write to another file"
                    )
        elif differences := fingerprint.difference(recorded):
            raise InputError(
                f"{output} belongs to a job with {', '.join(differences)}: give what that job was "
                f"given, or write to another file (or remove {output.name} and {path.name})"
            )
        names = Fingerprint.__dataclass_fields__
        record = {"version": VERSION, **{name: getattr(fingerprint, name) for name in names}}
        _store(file, {**record, **facts})
    except BaseException:
        os.close(file)
        raise
    return file


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
    kinds = {"provider": str, "model": str, "settings": str}
    kinds |= dict.fromkeys(("input", "errors"), str | None)  # type: ignore[arg-type]
    return all(isinstance(recorded.get(name, 0), kind) for name, kind in kinds.items())


def _store(file: int, record: Mapping[str, Any]) -> None:
    """Write the record over the old one, which has the same fingerprint.

    The file never becomes shorter (JSON may end in white space), so there is no moment at which
    half of it is missing: one small write within a page happens as a whole or not at all.
    """
    text = json.dumps(record, indent=1).encode()
    text = text.ljust(os.fstat(file).st_size) + b"\n"
    os.lseek(file, 0, os.SEEK_SET)
    os.write(file, text)
    os.fsync(file)


def _drop_errors(path: Path) -> None:
    """Replace a journal by one without its errors, in one step; a link to it remains a link."""
    path = path.resolve()
    fresh = path.with_name(path.name + ".new")
    try:
        fresh.touch(mode=0o600)  # before a byte is in it, nobody may read it who may not the other
        copymode(path, fresh)
        with path.open("rb") as old, fresh.open("wb") as new:
            for row in read_journal(old, str(path)):
                if row.error is None:
                    new.write(row.text)
            new.flush()
            os.fsync(new.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)  # of a journal that turned out to be damaged
    sync_folder(path.parent)
