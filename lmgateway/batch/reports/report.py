"""Reports: what came out of a batch, as a page to look at or as a table for other tools."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from ..._guard.paths import absolute
from ...errors import InputError
from ..job import beside
from .figures import gather
from .page import page
from .results import Results
from .tables import write_csv, write_parquet

__all__ = ["FORMS", "report"]

FORMS = ("html", "csv", "parquet")


def report(
    output: str | os.PathLike[str],
    to: str = "html",
    target: str | os.PathLike[str] | None = None,
) -> Path:
    """Write a report on the output of a batch; returns where it is.

    It reads the rows one at a time, so its memory does not depend on their number. The job may be
    running.

    Args:
        output: The file of answers; the file of errors that its job names is read too.
        to: ``html`` for one page that loads nothing and runs no script, ``csv`` or ``parquet``.
        target: The file to write, replaced if it is there; without it, the output's name with
            ``.html``, ``.csv`` or ``.parquet`` after it.

    Raises:
        InputError: The output cannot be read, or the target cannot be written.
        ConfigError: The output is damaged.
        UnsupportedError: Parquet without pyarrow.
    """
    if to not in FORMS:
        raise InputError(f"a report is one of {', '.join(FORMS)}, not {to!r:.40}")
    results = Results(output)
    path = results.path.with_name(f"{results.path.name}.{to}")
    if target is not None:
        path = Path(absolute(target, "target"))
    _check_target(path, results)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
        os.close(handle)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from None
    fresh = Path(name)
    try:
        if to == "html":
            fresh.write_text(page(gather(results), results), encoding="utf-8", errors="replace")
        else:
            (write_csv if to == "csv" else write_parquet)(results, fresh)
        with suppress(OSError):
            os.chmod(fresh, results.path.stat().st_mode & 0o777)  # who may read the answers
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    return path


def _check_target(path: Path, results: Results) -> None:
    """Refuse to write over a file of the job."""
    kept = [*results.files, beside(results.path)]
    if name := results.job.get("input_name"):
        kept.append(results.path.parent / name)
    for each in kept:
        if path == each or (path.exists() and each.exists() and path.samefile(each)):
            raise InputError(f"{path} is a file of the job itself: write the report to another")
    if path.is_dir() or not path.parent.is_dir():
        raise InputError(f"{path} cannot be written: name a file in a folder that is there")
