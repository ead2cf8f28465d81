"""Status: how far a job is, read from its files."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from .._guard.paths import absolute
from .job import read_job
from .journal import read_journal

__all__ = ["Status", "status"]


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
        resume: What goes on with it.
    """

    output: Path
    provider: str
    model: str
    total: int | None
    answered: int
    errors: dict[str, int]
    running: bool
    resume: str

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
    )
