"""Runs: a plan executed from its input to its output, and rows answered from a list."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._drive.futures import result_of
from .._drive.workers import Workers
from .._guard.paths import absolute
from .._guard.tracebacks import door
from .._layers.limit import Limits
from ..errors import LMGatewayError
from .answers import output_line
from .interrupts import Interrupts, drive
from .job import Job, open_errors
from .journal import Journal
from .pipeline import Pipeline, ReaderThread, Runner, Write, run_rows
from .plan import Plan
from .progress import Counts, Summary, say, shown
from .row_runner import RowRunner, StopError
from .rows import Row
from .sources import Input, RowSource, check_rows
from .verdicts import Waiting

if TYPE_CHECKING:
    from .._drive.gather import Reply
    from ..lm import LM

__all__ = ["aprocess_batch", "arun", "conduct", "process_batch", "run"]


@door
def run(
    source: Input,
    output: str | os.PathLike[str],
    lm: LM | str | None = None,
    *,
    errors: str | os.PathLike[str] | None = None,
    concurrency: int = 100,
    rpm: float | None = None,
    tpm: float | None = None,
    ordered: bool = False,
    ignore: Collection[str] = (),
    keep: Collection[str] = (),
    format: str | None = None,
    retry_errors: bool = False,
    progress: bool = False,
    patience: float | None = None,
    **keywords: Any,
) -> Summary:
    """Answer every row of a source and write each answer once, as a line of JSON.

    Run again with the same arguments, it asks only the rows that are not in the output yet. The
    first Ctrl-C lets the calls in flight end, the second stops at once; both raise
    KeyboardInterrupt.

    Args:
        source: A file of JSON lines, JSON, CSV or Parquet, or one of the first three compressed
            (``.gz``, ``.zst``); "-" for JSON lines on stdin; or an iterable of prompts, message
            lists and dicts.
        output: The file of answers, in OpenAI's batch form; "-" for stdout, which cannot be
            resumed.
        lm: An LM, or a name for get_lm.
        errors: A file of their own for rows that fail; otherwise they are in the output.
        concurrency: Calls in flight at most; how many are, follows what the service takes.
        rpm: Requests a minute.
        tpm: Tokens a minute.
        ordered: Write the answers in the order of the rows.
        ignore: Fields or columns of the input that are not for the model.
        keep: Fields or columns of the input that are copied to the output, beside ``custom_id``.
            Those that are no parameters are not for the model.
        format: ``jsonl``, ``json``, ``csv``, ``tsv`` or ``parquet``, where the name does not say
            it.
        retry_errors: Ask the rows again that failed in earlier runs.
        progress: Show it on stderr.
        patience: The job stops after so many seconds of failures without any answer; 600 if None.
            Rows that are left alone and keep failing fail sooner.
        **keywords: As for get_lm.

    Raises:
        InputError: The arguments, the input or the output cannot be used.
        LMGatewayError: No row would be answered: a wrong key, a spent quota, a missing model, or
            a service that is down. What is done is done; the message says how to go on.
        OSError: The output cannot be written.
    """
    plan = Plan(
        source, output, lm, errors, concurrency, Limits(rpm, tpm), ordered, ignore, keep,
        format, retry_errors, progress, patience=patience, keywords=keywords,
    )  # fmt: skip
    return _completed(conduct(plan))


@door
async def arun(
    source: Input,
    output: str | os.PathLike[str],
    lm: LM | str | None = None,
    *,
    errors: str | os.PathLike[str] | None = None,
    concurrency: int = 100,
    rpm: float | None = None,
    tpm: float | None = None,
    ordered: bool = False,
    ignore: Collection[str] = (),
    keep: Collection[str] = (),
    format: str | None = None,
    retry_errors: bool = False,
    progress: bool = False,
    patience: float | None = None,
    **keywords: Any,
) -> Summary:
    """As ``run``, awaited; cancelled, it stops at once. Ctrl-C is left to the program."""
    plan = Plan(
        source, output, lm, errors, concurrency, Limits(rpm, tpm), ordered, ignore, keep,
        format, retry_errors, progress, patience=patience, keywords=keywords,
    )  # fmt: skip
    return await execute(plan, Interrupts())


@door
def process_batch(
    rows: Iterable[Any],
    lm: LM | str | None = None,
    *,
    concurrency: int = 100,
    ignore: Collection[str] = (),
    keep: Collection[str] = (),
    patience: float | None = None,
    **keywords: Any,
) -> list[dict[str, Any]]:
    """Answer rows from a list: the rows of the output, in the order of the input.

    It takes what ``run`` takes as an iterable, and each row of the result is what ``run`` would
    write as a line; nothing is written. It is made for ``map`` and ``map_batches`` of any
    framework. A running event loop is blocked meanwhile, as by ``LM.batch``: what only a task of
    that loop could bring is not waited for.

    Raises LMGatewayError if no row would be answered, as ``run`` does; ``ignore``, ``keep`` and
    ``patience`` are as there.
    """
    return drive(
        lambda: aprocess_batch(
            rows, lm, concurrency=concurrency, ignore=ignore, keep=keep, patience=patience,
            **keywords,
        ),
        Interrupts(),
    )  # fmt: skip


@door
async def aprocess_batch(
    rows: Iterable[Any],
    lm: LM | str | None = None,
    *,
    concurrency: int = 100,
    ignore: Collection[str] = (),
    keep: Collection[str] = (),
    patience: float | None = None,
    **keywords: Any,
) -> list[dict[str, Any]]:
    """As ``process_batch``, awaited."""
    check_rows(rows)
    plan = Plan(
        (), "-", lm, concurrency=concurrency, ignore=ignore, keep=keep, patience=patience,
        keywords=keywords,
    )  # fmt: skip
    with (
        plan.open_lm() as opened,
        closing(RowRunner(opened, concurrency, plan.limits, Counts(), patience)) as runner,
    ):
        try:
            return await run_rows(runner, list(plan.identified(rows, opened)), concurrency)
        except StopError as stop:
            raise stop.reason from stop.reason.__cause__  # which None would take from it


# -- a job -------------------------------------------------------------------------------------


def conduct(plan: Plan) -> Summary:
    """Execute a plan and handle Ctrl-C; the summary says whether the run was interrupted."""
    interrupts = Interrupts(
        on_first=lambda: say("waiting for the calls in flight; Ctrl-C again stops at once")
    )
    return drive(lambda: execute(plan, interrupts), interrupts)


async def execute(plan: Plan, interrupts: Interrupts) -> Summary:
    """Execute a plan in the running event loop."""
    with plan.open_lm() as lm:
        source, read = plan.open_rows(lm)
        counts = Counts(total=source.total)
        with _output(plan, source, lm) as (write, job):
            if job is not None:
                counts.answered_before = job.done.answers
                counts.done_before = len(job.done.ids)
            rows = _undone(read(), job, counts)
            with closing(await _runner(plan, lm, counts)) as runner:
                note = job.note if job is not None else lambda waiting: None
                await _ask(
                    plan, runner, rows, write, counts=counts, interrupts=interrupts, note=note
                )
            if job is not None and source.digest is not None and not counts.interrupted:
                job.check_complete(counts.skipped)
        return counts.summary()


async def _runner(plan: Plan, lm: LM, counts: Counts) -> Runner:
    if not plan.workers:
        return RowRunner(lm, plan.concurrency, plan.limits, counts, plan.patience)
    from .ray import start_actors

    return await start_actors(
        lm, plan.workers, plan.concurrency, plan.limits, counts, plan.patience
    )


async def _ask(
    plan: Plan,
    runner: Runner,
    rows: Iterator[Row],
    write: Write,
    *,
    counts: Counts,
    interrupts: Interrupts,
    note: Callable[[Waiting | None], object],
) -> None:
    # To keep actors busy, more rows are in hand than are asked: a chunk ends with its slowest row.
    workers = plan.concurrency * 2 * plan.workers if plan.workers else plan.concurrency
    reader = ReaderThread(rows, 2 * workers)
    pipeline = Pipeline(reader, runner, write, counts, workers=workers, window=plan.window)
    try:
        with interrupts.draining(pipeline.interrupt):
            async with shown(
                counts, runner.limit, wanted=plan.progress, waiting=runner.waiting, note=note
            ):
                await pipeline.run()
    except StopError as stop:
        raise stop.reason.advise(
            f"the job has stopped with {counts.in_output} rows done; to go on: {plan.command}"
        ) from stop.reason.__cause__
    finally:
        reader.stop()


@contextmanager
def _output(plan: Plan, source: RowSource, lm: LM) -> Iterator[tuple[Write, Job | None]]:
    """What writes a reply, and the job, which knows what is done; None for a pipe."""
    if plan.to_stdout:
        path = plan.errors_path()
        errors = None if path is None else open_errors(path)
        try:
            yield _Stdout(errors).write, None
        finally:
            if errors is not None:
                errors.close()
        return
    facts = {"input_name": source.name, "total": source.total, "resume": plan.command}
    job = Job(
        Path(absolute(plan.output)),
        plan.fingerprint(source, lm),
        facts=facts,
        retry_errors=plan.retry_errors,
        history=source.history,
    )
    with job:
        for note in job.done.torn:
            say(note)
        yield job.write, job


class _Stdout:
    """Stdout, which may make its writer wait; the event loop goes on meanwhile."""

    def __init__(self, errors: Journal | None) -> None:
        self._errors = errors
        self._thread = Workers(1)
        self._turn = asyncio.Lock()

    async def write(self, name: str, reply: Reply, kept: Mapping[str, Any] | None = None) -> None:
        """Write what became of a row."""
        text = output_line(name, reply, kept)
        if self._errors is not None and isinstance(reply, LMGatewayError):
            self._errors.append(text)
            return
        async with self._turn:
            if _takes_at_once(text):
                os.write(1, text)
                return
            await result_of(self._thread.submit(partial(_write_stdout, text)))


def _takes_at_once(text: bytes) -> bool:
    """Whether a pipe takes a line now: POSIX promises room for PIPE_BUF bytes if it is ready."""
    at_once = getattr(select, "PIPE_BUF", 0)
    return len(text) <= at_once and bool(select.select((), (1,), (), 0)[1])


def _write_stdout(text: bytes) -> None:
    rest = memoryview(text)
    while rest:
        rest = rest[os.write(1, rest) :]


def _undone(rows: Iterator[Row], job: Job | None, counts: Counts) -> Iterator[Row]:
    is_done = job.is_done if job is not None and len(job.done.ids) else None
    for row in rows:
        if is_done is not None and is_done(row.id):
            counts.skipped += 1
        else:
            yield row


def _completed(summary: Summary) -> Summary:
    if summary.interrupted:
        raise KeyboardInterrupt
    return summary
