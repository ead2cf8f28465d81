"""A job on disk: its output, what it is known again by, and how far it is."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from shutil import copymode
from typing import Any, Self

from .._drive.gather import Reply
from .._guard.paths import absolute
from ..errors import ConfigError, InputError, LMGatewayError, UnsupportedError
from .answers import output_line
from .claims import OTHER_INPUT, OWNER, Claim, Fingerprint, beside, read_job, relative
from .journal import AlreadyLockedError, Journal, Rows, permitted, sync_folder
from .rows import DigestCounter, digest
from .verdicts import Waiting

__all__ = [
    "Fingerprint",
    "Job",
    "Status",
    "beside",
    "open_errors",
    "read_job",
    "relative",
    "status",
]


@dataclass(slots=True)
class Done:
    """What an output holds already.

    Attributes:
        ids: The ids of its rows, as digests.
        answers: Rows with an answer.
        errors: Rows with an error.
        torn: What was dropped since it was damaged at the end of a file, for the user.
    """

    ids: DigestCounter = field(default_factory=DigestCounter)
    answers: int = 0
    errors: int = 0
    torn: list[str] = field(default_factory=list)


class Job:
    """A job that is open for this process alone; a context manager.

    Args:
        output: The file of answers.
        fingerprint: What it is.
        facts: What else ``status`` should tell: the input's name, total, the command to resume.
        retry_errors: Whether rows that failed are to be asked again: they are taken out first.
        history: Tells, by what is recorded, what the input was from run to run; None if it is
            another.

    Raises:
        InputError: Another job is at work on this output or this file of errors, or one of them
            is of another job or of none.
        ConfigError: A file is damaged.
    """

    def __init__(
        self,
        output: Path,
        fingerprint: Fingerprint,
        *,
        facts: Mapping[str, Any],
        retry_errors: bool = False,
        history: Callable[[Mapping[str, Any]], list[list[Any]] | None] = lambda recorded: None,
    ) -> None:
        self.output = output
        self.done = Done()
        self._fingerprint = fingerprint
        self._history = history
        self._inputs: list[list[Any]] = []
        self._claims: list[Claim] = []
        self._record: dict[str, Any] = {}
        self._journals: list[Journal] = []
        self._made: list[Path] = []  # files that were not there before
        errors = None if fingerprint.errors is None else output.parent / fingerprint.errors
        self._files = [each for each in (output, errors) if each is not None]
        try:
            self._claim(errors, facts)
            for path in self._files:
                self._open(path)
            read = [self._read(path, retry_errors=retry_errors) for path in self._files]
            for place, (rows, failed) in enumerate(read):  # all can be understood
                self._mend(place, rows, failed if retry_errors else 0)
            self._answers, self._errors = self._journals[0], self._journals[-1]
            sync_folder(output.parent)
        except BaseException:
            self.abandon()
            raise

    def is_done(self, name: str) -> bool:
        """Whether a row is in the output already."""
        return digest(name) in self.done.ids

    def write(self, name: str, reply: Reply, kept: Mapping[str, Any] | None = None) -> None:
        """Write what became of a row to the file for it; raises OSError."""
        journal = self._errors if isinstance(reply, LMGatewayError) else self._answers
        journal.append(output_line(name, reply, kept))

    @property
    def _was_longer(self) -> bool:
        """Whether rows were taken from the end of the input since an earlier run."""
        return bool(self._inputs) and max(self._inputs)[0] > self._inputs[-1][0]

    def note(self, waiting: Waiting | None) -> None:
        """Record what the run waits for, for ``status``; a disk that is full is no reason to stop.

        Args:
            waiting: What, or None: nothing.
        """
        facts = {"waiting": None if waiting is None else asdict(waiting)}
        with suppress(OSError):
            self._claims[0].store({**self._record, **facts})

    def check_complete(self, skipped: int) -> None:
        """Raise ConfigError if the output held rows, when the job began, that the input has not.

        Args:
            skipped: How many rows of the whole input were done when the job began.
        """
        strangers = len(self.done.ids) - skipped
        if strangers and not self._was_longer:
            raise ConfigError(
                f"every row of the input is done, and {strangers} of those in {self.output} (or "
                "its file of errors) belong to none: their custom_id was damaged, or they are "
                "another job's; look for them and remove them"
            )

    def close(self) -> None:
        """Sync what was written, and give the locks back."""
        try:
            for journal in self._journals:
                journal.close()
        finally:
            for claim in self._claims:
                claim.close()

    def abandon(self) -> None:
        """Close, and leave no file behind that was not there before and holds no row."""
        unused = all(not journal.size for journal in self._journals)
        for journal in self._journals:
            journal.close()
        for path in self._made if unused else ():
            path.unlink(missing_ok=True)
        for claim in self._claims:
            claim.close(remove=claim.is_new and unused)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # What the set-up turns out to be wrong with when the first row is read is told so.
        if kind is not None and issubclass(kind, (InputError, UnsupportedError)):
            self.abandon()
        else:
            self.close()

    def _claim(self, errors: Path | None, facts: Mapping[str, Any]) -> None:
        """Lock the output and the file of errors, if they are new or belong to this job."""
        output = Claim(self.output, self._check_ours)
        self._claims.append(output)
        if errors is not None:
            real = Path(os.path.realpath(errors))  # two jobs may name it by two links
            owner = relative(Path(os.path.realpath(self.output)), real.parent)
            apart = Claim(real, lambda recorded: _check_owner(recorded, errors, owner))
            self._claims.append(apart)
            apart.store({OWNER: owner})
        self._record = {**asdict(self._fingerprint), **facts, "inputs": self._inputs}
        output.store(self._record)

    def _check_ours(self, recorded: Mapping[str, Any]) -> None:
        """Raise InputError unless a record is of this job, or there are no rows but no record."""
        output, job = self.output, beside(self.output)
        if OWNER in recorded:
            raise InputError(
                f"{output} holds the errors of another output ({recorded[OWNER]!r:.200}): write to "
                "another file"
            )
        if not recorded:
            for each in self._files:
                if os.path.exists(each) and os.path.getsize(each):
                    raise InputError(
                        f"{each} exists and is no output of this job (there is no {job.name} "
                        "that says so): move it away, or write to another file"
                    )
            self._inputs = self._history(recorded) or []
            return
        differences = self._fingerprint.difference(recorded, output.parent)
        if (inputs := self._history(recorded)) is not None:
            self._inputs = inputs
            differences = [each for each in differences if each != OTHER_INPUT]
        if differences:
            raise InputError(
                f"{output} belongs to a job with {', '.join(differences)}: give what that job was "
                f"given, or write to another file (or remove {output.name} and {job.name})"
            )

    def _open(self, path: Path) -> None:
        """Open and lock a file to append to."""
        if not os.path.exists(path):
            self._made.append(Path(os.path.realpath(path)))
        self._journals.append(_begun(path))

    def _read(self, path: Path, *, retry_errors: bool) -> tuple[Rows, int]:
        """Count what a file holds as done, but not errors that are asked again.

        Returns the rows, which are read, and how many of them are errors.
        """
        failed = 0
        with permitted(path, "read"), path.open("rb") as file:
            rows = Rows(file, str(path))
            for row in rows:
                failed += row.error is not None
                if row.error is not None and retry_errors:
                    continue
                if self.done.ids.add(digest(row.id)) > 1:
                    raise ConfigError(
                        f"line {row.number} of {path} has the custom_id {row.id!r:.80} of an "
                        "earlier line: remove one of them if they are alike; else one is damaged: "
                        "remove both, so that their rows are asked again"
                    )
                self.done.answers += row.error is None
                self.done.errors += row.error is not None
        return rows, failed

    def _mend(self, place: int, rows: Rows, drop: int) -> None:
        """Take from a file what is torn at its end, and its errors if there are any to drop."""
        path = self._files[place]
        if rows.torn:
            self.done.torn.append(
                f"line {rows.torn} of {path}, the last, was not whole and is dropped: its row is "
                "asked again"
            )
        if drop:
            self._drop_errors(path)
            replaced = self._journals[place]
            self._journals[place] = _begun(path)
            replaced.close()
        else:
            self._journals[place].cut(rows.size)
        self._journals[place].end_line()

    @staticmethod
    def _drop_errors(path: Path) -> None:
        """Replace a journal by one without its errors, in one step; a link to it remains one."""
        path = path.resolve()
        fresh = path.with_name(path.name + ".new")
        try:
            with permitted(fresh, "written"):
                fresh.touch(mode=0o600)  # nobody may read it, before a byte, who may not the other
            copymode(path, fresh)
            with path.open("rb") as old, fresh.open("wb") as new:
                for row in Rows(old, str(path)):
                    if row.error is None:
                        new.write(row.text if row.text.endswith(b"\n") else row.text + b"\n")
                new.flush()
                os.fsync(new.fileno())
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        sync_folder(path.parent)


def _begun(path: Path) -> Journal:
    try:
        with permitted(path, "written"):
            return Journal(path)
    except AlreadyLockedError:
        raise InputError(
            f"another process is at work on {path}: wait for it, or write to another file"
        ) from None


def open_errors(path: Path) -> Journal:
    """The file for the errors of answers that go to a pipe.

    Raises InputError if it belongs to a job, or another process is at work on it.
    """
    if os.path.exists(beside(Path(os.path.realpath(path)))):
        raise InputError(f"{path} belongs to a job: write errors to another file")
    return _begun(path)


def _check_owner(recorded: Mapping[str, Any], errors: Path, owner: str) -> None:
    """Raise InputError if a file of errors is another job's."""
    if not recorded or recorded.get(OWNER) == owner:
        return
    if OWNER not in recorded:
        raise InputError(f"{errors} is the output of a job: write errors to another file")
    theirs = Path(os.path.normpath(Path(os.path.realpath(errors)).parent / recorded[OWNER]))
    empty = not (os.path.exists(errors) and os.path.getsize(errors))
    if not (empty and not os.path.exists(beside(theirs))):
        raise InputError(
            f"{errors} holds the errors of {theirs}: two jobs share no file of errors, or one "
            "would take the other's rows for its own; name another"
        )


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
    for each in filter(None, (path.name, recorded["errors"])):
        each = path.parent / each
        with suppress(FileNotFoundError), permitted(each, "read"), each.open("rb") as file:
            for row in Rows(file, str(each)):
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
