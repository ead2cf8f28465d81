"""Runs: a job from its input to its output, in this process."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._drive.futures import result_of
from .._drive.workers import Workers
from .._guard.paths import absolute
from .._guard.tracebacks import door
from .._layers.limit import Limits
from ..errors import LMGatewayError
from .answers import is_success
from .asker import Asker, StopError
from .engine import (
    Engine,
    Settler,
    Sink,
    as_row,
)
from .feed import Feed
from .interrupts import Control, drive
from .job import Job
from .journal import Journal
from .plan import Plan
from .progress import say, shown
from .rows import Row, check_columns, identified
from .sources import (
    Input,
    Source,
    check_rows,
    open_source,
)
from .tally import Summary, Tally

if TYPE_CHECKING:
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
    format: str | None = None,
    retry_errors: bool = False,
    progress: bool = False,
    **keywords: Any,
) -> Summary:
    """Answer every row of a source and write each answer once, as a line of JSON.

    Run again with the same arguments, it asks only rows that are not in the output yet. The
    first Ctrl-C lets calls in flight end, the second stops at once; both raise KeyboardInterrupt.

    Args:
        source: A file of JSON lines, CSV or Parquet; "-" for JSON lines on stdin; or an iterable
            of prompts, message lists and dicts.
        output: The file of answers, in OpenAI's batch form; "-" for stdout, which cannot be
            resumed.
        lm: An LM, or a name for get_lm.
        errors: A file of their own for rows that fail; otherwise they are in the output.
        concurrency: Calls in flight at most; how many are, follows what the service takes.
        rpm: Requests a minute.
        tpm: Tokens a minute.
        ordered: Write the answers in the order of the rows.
        ignore: Fields or columns of the input that are not for the model.
        format: ``jsonl``, ``csv``, ``tsv`` or ``parquet``, where the name does not say it.
        retry_errors: Ask the rows again that failed in earlier runs.
        progress: Show it on stderr.
        **keywords: As for get_lm.

    Raises:
        InputError: The arguments, the input or the output cannot be used.
        LMGatewayError: No row would be answered: a wrong key, a spent quota, a missing model, or
            a service that is down. What is done is done; the message says how to go on.
        OSError: The output cannot be written.
    """
    plan = Plan(
        source, output, lm, errors, concurrency, Limits(rpm, tpm), ordered, ignore, format,
        retry_errors, progress, keywords=keywords,
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
    format: str | None = None,
    retry_errors: bool = False,
    progress: bool = False,
    **keywords: Any,
) -> Summary:
    """As ``run``, awaited; cancelled, it stops at once. Ctrl-C is left to the program."""
    plan = Plan(
        source, output, lm, errors, concurrency, Limits(rpm, tpm), ordered, ignore, format,
        retry_errors, progress, keywords=keywords,
    )  # fmt: skip
    return await execute(plan, Control())


@door
def process_batch(
    rows: Iterable[Any], lm: LM | str | None = None, *, concurrency: int = 100, **keywords: Any
) -> list[dict[str, Any]]:
    """The rows of the output for rows of an input, in their order; nothing is written.

    It takes what ``run`` takes as an iterable, and each row of the result is as a line of its
    output: made for ``map`` and ``map_batches`` of any framework. A running event loop is blocked
    meanwhile, and nothing waited for that only its tasks could bring, as in ``LM.batch``.

    Raises LMGatewayError where no row would be answered, as ``run`` does.
    """
    return drive(lambda: aprocess_batch(rows, lm, concurrency=concurrency, **keywords), Control())


@door
async def aprocess_batch(
    rows: Iterable[Any], lm: LM | str | None = None, *, concurrency: int = 100, **keywords: Any
) -> list[dict[str, Any]]:
    """As ``process_batch``, awaited."""
    check_rows(rows)
    plan = Plan((), "-", lm, concurrency=concurrency, keywords=keywords)
    opened, ours = plan.open_lm()
    asker = Asker(opened, concurrency, plan.limits, Tally())
    try:
        return await settled(asker, list(identified(rows)), concurrency)
    except StopError as stop:
        error = _cause(stop)
        raise error from error.__cause__  # which None would take from it
    finally:
        asker.close()
        if ours:
            await opened.aclose()


async def settled(asker: Asker, rows: list[Row], concurrency: int) -> list[dict[str, Any]]:
    """The output's rows for some rows, in their order; raises StopError."""
    waiting = iter(enumerate(rows))
    results: list[dict[str, Any]] = [{}] * len(rows)

    async def work() -> None:
        for place, row in waiting:
            outcome = await asker.settle(row)
            if outcome is not None:
                results[place] = as_row(row.id, outcome)

    tasks = [asyncio.ensure_future(work()) for _ in range(min(concurrency, len(rows)))]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return results


# -- a job -------------------------------------------------------------------------------------


def conduct(plan: Plan) -> Summary:
    """Execute a plan and handle Ctrl-C; an interrupted run is told by its summary."""
    control = Control(
        on_first=lambda: say("waiting for the calls in flight; Ctrl-C again stops at once")
    )
    return drive(lambda: execute(plan, control), control)


async def execute(plan: Plan, control: Control) -> Summary:
    """Execute a plan in the running event loop."""
    lm, ours = plan.open_lm()
    try:
        check = partial(check_columns, plugin=lm._spec.plugin, ignore=plan.ignore)
        source = open_source(plan.source, plan.form, check)
        tally = Tally(total=source.total)
        with _output(plan, source, lm) as (write, job):
            rows = _undone(identified(source.read(), plan.ignore), job, tally)
            await _ask(plan, lm, rows, write, tally, control)
            if job is not None and source.digest is not None and not tally.interrupted:
                job.check_complete(tally.skipped)
        return tally.summary()
    finally:
        if ours:
            await lm.aclose()


async def _ask(
    plan: Plan, lm: LM, rows: Iterator[Row], write: Sink, tally: Tally, control: Control
) -> None:
    # To keep actors busy, rows wait at their door: a chunk ends with its slowest row.
    hands = plan.concurrency * 2 * plan.workers if plan.workers else plan.concurrency
    feed = Feed(rows, 2 * hands)
    async with _asking(plan, lm, tally) as asker:
        engine = Engine(asker, write, tally, workers=hands, window=plan.window)
        with control.attached(engine.drain):
            try:
                async with shown(tally, asker.gate, wanted=plan.progress):
                    await engine.run(feed)
            except StopError as stop:
                done = tally.skipped + tally.answered + tally.failed
                error = _cause(stop)
                raise error.advise(
                    f"the job has stopped with {done} rows done; to go on: {plan.command}"
                ) from error.__cause__
            finally:
                feed.stop()


@asynccontextmanager
async def _asking(plan: Plan, lm: LM, tally: Tally) -> AsyncIterator[Settler]:
    if not plan.workers:
        asker = Asker(lm, plan.concurrency, plan.limits, tally)
        try:
            yield asker
        finally:
            asker.close()
        return
    from .ray import RayAsker

    actors = RayAsker(lm, plan.workers, plan.concurrency, plan.limits, tally)
    try:
        await actors.ready()
        yield actors
    finally:
        actors.close()


@contextmanager
def _output(plan: Plan, source: Source, lm: LM) -> Iterator[tuple[Sink, Job | None]]:
    """What writes a line, and the job, which knows what is done; None for a pipe."""
    if plan.to_stdout:
        path = plan.errors_path()
        errors = None if path is None else Journal(path)
        try:
            yield _Pipe(errors), None
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
    )
    with job:
        yield job.append, job


class _Pipe:
    """Stdout, which may make its writer wait; then the event loop goes on."""

    def __init__(self, errors: Journal | None) -> None:
        self._errors = errors
        self._thread = Workers(1)
        self._turn = asyncio.Lock()

    async def __call__(self, text: bytes) -> None:
        if self._errors is not None and not is_success(text):
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


def _undone(rows: Iterator[Row], job: Job | None, tally: Tally) -> Iterator[Row]:
    is_done = job.is_done if job is not None and len(job.done.ids) else None
    for row in rows:
        if is_done is not None and is_done(row.id):
            tally.skipped += 1
        else:
            yield row


def _cause(stop: StopError) -> LMGatewayError:
    error = stop.__cause__
    assert isinstance(error, LMGatewayError)
    return error


def _completed(summary: Summary) -> Summary:
    if summary.interrupted:
        raise KeyboardInterrupt
    return summary
