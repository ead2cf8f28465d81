"""Batches: files of prompts of any length, resumable, each row answered exactly once.

::

    lmgateway.batch.run("prompts.jsonl", "answers.jsonl", "fast")

Calls are made at least once, rows are written exactly once: a job that was killed and is run
again asks only the rows whose answers were not written yet.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import Status as Status
    from .job import status as status
    from .progress import Summary as Summary
    from .reports.tables import to_pandas as to_pandas
    from .runs import aprocess_batch as aprocess_batch
    from .runs import arun as arun
    from .runs import process_batch as process_batch
    from .runs import run as run
    from .verdicts import Waiting as Waiting

_LAZY = {
    "Status": "job",
    "Summary": "progress",
    "Waiting": "verdicts",
    "arun": "runs",
    "aprocess_batch": "runs",
    "process_batch": "runs",
    "run": "runs",
    "status": "job",
    "to_pandas": "reports.tables",
}

__all__ = [
    "Status",
    "Summary",
    "Waiting",
    "aprocess_batch",
    "arun",
    "process_batch",
    "run",
    "status",
    "to_pandas",
]


if not TYPE_CHECKING:  # a checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'lmgateway.batch' has no attribute {name!r}")
        return getattr(import_module(f"lmgateway.batch.{_LAZY[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
