"""Batches on more machines than one: an actor for Ray Data, and a run over actors.

In a pipeline of your own::

    from lmgateway.batch.ray import Answerer

    rows = ray.data.read_parquet("prompts").map_batches(
        Answerer, fn_constructor_args=("fast",), batch_size=512, concurrency=4,
    )

From a file to a file, resumably: ``lmgateway batch run --engine ray --workers 4 ...``.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .._drive.gather import Reply
from .._layers.limit import Limits
from ..errors import LMGatewayError, UnsupportedError
from ..lm import LM, get_lm, spec_of
from .pipeline import run_rows
from .progress import Counts
from .row_runner import RowRunner, StopError
from .rows import Row, check_columns, identified
from .verdicts import Waiting

__all__ = ["Answerer"]

CHUNK = 16  # rows in one message to an actor
CHUNK_SECONDS = 0.005  # to wait for a chunk to fill
LOOK_SECONDS = 3.0  # between two questions to the actors what they wait for
COLUMNS = ("custom_id", "prompt", "messages", "system", "method", "url", "body")


def _shared(limits: Limits, workers: int) -> Limits:
    """The part of the limits that one of so many workers may use."""
    return Limits(
        limits.rpm and limits.rpm / workers, limits.tpm and limits.tpm / workers, limits.in_flight
    )


class Answerer:
    """An async actor class for ``ray.data.Dataset.map_batches``, in its batch format ``numpy``.

    To the columns of a batch it adds ``custom_id``, ``answer`` (the text of the first choice),
    ``response`` and ``error`` (JSON, as in the output of a batch; null where there is none). A
    row that fails is such a row, and stops nothing; a wrong key or a missing model is raised.

    Args:
        lm: A name for get_lm, or an LM. Its key is resolved anew where the actor runs: set its
            variable on every machine.
        workers: How many actors there are; each takes its part of ``rpm`` and ``tpm``.
        concurrency: Calls in flight at most, for each actor.
        rpm: Requests a minute, of all actors together.
        tpm: Tokens a minute, of all actors together.
        params: Columns that are parameters; others are not for the model.
        patience: Seconds of failures without any answer after which the error is raised; 600 if
            None.
        **keywords: As for get_lm.
    """

    def __init__(
        self,
        lm: LM | str | None = None,
        *,
        workers: int = 1,
        concurrency: int = 100,
        rpm: float | None = None,
        tpm: float | None = None,
        params: Sequence[str] = (),
        patience: float | None = None,
        **keywords: Any,
    ) -> None:
        self._lm = lm.copy(**keywords) if isinstance(lm, LM) else get_lm(lm, **keywords)
        self._concurrency = concurrency
        self._limits = _shared(Limits(rpm, tpm), workers)
        self._columns = {*COLUMNS, *params}
        check_columns(sorted(self._columns), spec=spec_of(self._lm))
        self._patience = patience
        self._runner: RowRunner | None = None

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer a batch of columns."""
        if self._runner is None:  # made in the event loop that it is used in
            self._runner = RowRunner(
                self._lm, self._concurrency, self._limits, Counts(), self._patience
            )
        names = [name for name in batch if name in self._columns]
        columns = [_plain(batch[name]) for name in names]
        raws = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        try:
            rows = await run_rows(self._runner, list(identified(raws)), self._concurrency)
        except StopError as stop:
            raise stop.reason from None
        return {
            **batch,
            "custom_id": [row["custom_id"] for row in rows],
            "answer": [_text(row) for row in rows],
            "response": [_json(row["response"]) for row in rows],
            "error": [_json(row["error"]) for row in rows],
        }


def _plain(column: Any) -> Any:
    """A numpy column as Python's own values, however deep they lie."""
    values = column.tolist() if hasattr(column, "tolist") else column
    if isinstance(values, list):
        return [_plain(value) for value in values]
    if isinstance(values, dict):
        return {name: _plain(value) for name, value in values.items() if value is not None}
    return values


def _text(row: Mapping[str, Any]) -> str | None:
    if row["response"] is None:
        return None
    choice = row["response"]["body"]["choices"][0]
    text: str = choice["text"] if "text" in choice else choice["message"]["content"]
    return text


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, default=str)


# -- a run over actors -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Report:
    """What an actor made of a chunk of rows.

    Attributes:
        replies: Of each row; None of one that was not asked.
        attempts: Requests that were sent since the last report.
        rejections: How many of them the service refused.
        stop: Why the job cannot go on; None if it can.
    """

    replies: list[Reply | None]
    attempts: int
    rejections: int
    stop: LMGatewayError | None = None


class _Actor:
    """What runs on another machine: a RowRunner."""

    def __init__(
        self,
        lm: LM,
        concurrency: int,
        limits: Limits,
        patience: float | None = None,
        before: int = 0,
    ) -> None:
        self._counts = Counts(answered_before=before)
        self._runner = RowRunner(lm, concurrency, limits, self._counts, patience)
        self._runner.verdicts.unread = 1

    async def run_rows(self, rows: list[Row], last: bool = False) -> _Report:
        if last:  # it may be said again: an actor that was started anew has not heard it
            self._runner.verdicts.unread = 0
        results = await asyncio.gather(*map(self._runner.run_row, rows), return_exceptions=True)
        stop = None
        replies: list[Reply | None] = []
        for result in results:
            if isinstance(result, StopError):
                stop, result = result.reason, None
            elif isinstance(result, BaseException) and not isinstance(result, LMGatewayError):
                raise result
            replies.append(result)
        attempts, self._counts.attempts = self._counts.attempts, 0
        rejections, self._counts.rejections = self._counts.rejections, 0
        return _Report(replies, attempts, rejections, stop)

    async def ready(self) -> None:
        """It has started."""

    async def waiting(self) -> Waiting | None:
        return self._runner.waiting()

    async def stop(self) -> None:
        self._runner.drain()


async def start_actors(
    lm: LM,
    workers: int,
    concurrency: int,
    limits: Limits,
    counts: Counts,
    patience: float | None = None,
) -> RayRunner:
    """Start the actors, and wait until all of them are there, or the first would take every row.

    Raises UnsupportedError: Ray is not installed.
    """
    runner = RayRunner(lm, workers, concurrency, limits, counts, patience)
    try:
        await asyncio.gather(*(actor.ready.remote() for actor in runner.actors))
    except BaseException:
        runner.close()
        raise
    return runner


class RayRunner:
    """Runs rows on actors, in chunks; an actor that dies is started anew, and its rows with it.

    Args:
        lm: Who is asked.
        workers: How many actors.
        concurrency: Calls in flight at most, for each actor.
        limits: Requests and tokens a minute, of all actors together.
        counts: Where attempts are counted.
        patience: See RowRunner.

    Attributes:
        limit: None, since each actor has one.
        stopping: Is set once no further call begins.

    Raises:
        UnsupportedError: Ray is not installed.
    """

    limit = None

    def __init__(
        self,
        lm: LM,
        workers: int,
        concurrency: int,
        limits: Limits,
        counts: Counts,
        patience: float | None = None,
    ) -> None:
        try:
            ray = import_module("ray")
        except ImportError:
            raise UnsupportedError(
                "--engine ray needs Ray: pip install 'lmgateway-core[ray]'"
            ) from None
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        # Ray restarts an actor that died and runs its unfinished calls again: rows are written
        # by this process alone, so each still comes once.
        remote = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=1000)(_Actor)
        share = _shared(limits, workers)
        self.actors = [
            remote.remote(lm, concurrency, share, patience, counts.answered_before)
            for _ in range(workers)
        ]
        self.stopping = asyncio.Event()
        self._ray = ray
        self._counts = counts
        self._load = [0] * workers
        self._waiting: list[tuple[Row, asyncio.Future[Reply | None]]] = []
        self._tasks: set[asyncio.Future[None]] = set()
        self._last = False
        self._told: Waiting | None = None
        self._looking: asyncio.Future[None] | None = None

    def close(self) -> None:
        """End the actors."""
        if self._looking is not None:
            self._looking.cancel()
        for actor in self.actors:
            self._ray.kill(actor)

    async def run_row(self, row: Row) -> Reply | None:
        """See ``RowRunner.run_row``."""
        if row.fault is not None:
            return row.fault
        if self.stopping.is_set():
            return None
        reply: asyncio.Future[Reply | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, reply))
        if len(self._waiting) >= CHUNK:
            self._flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(CHUNK_SECONDS, self._flush)
        return await reply

    def waiting(self) -> Waiting | None:
        """What the actor waits for that waits longest, as it was a few seconds ago."""
        return self._told

    def rows_follow(self, bring: Callable[[int], None]) -> None:
        """See ``Runner`` in pipeline.py. More rows are in hand here than are asked, anyway."""
        self._looking = asyncio.ensure_future(self._look())

    def none_follow(self, bring: Callable[[int], None]) -> None:
        """See ``Runner`` in pipeline.py."""
        self._last = True
        for actor in self.actors if self._tasks else ():
            actor.run_rows.options(max_task_retries=0).remote([], True)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            with suppress(Exception):  # an actor that died is being started anew
                told = await asyncio.gather(*(each.waiting.remote() for each in self.actors))
                waiting = [each for each in told if each is not None]
                all_wait = len(waiting) == len(told)
                self._told = max(waiting, key=lambda each: each.until) if all_wait else None

    def drain(self) -> None:
        """Have the actors begin no further call."""
        self.stopping.set()
        for actor in self.actors if self._tasks else ():
            actor.stop.options(max_task_retries=0).remote()

    def _flush(self) -> None:
        chunk, self._waiting = self._waiting, []
        if chunk:
            task = asyncio.ensure_future(self._send(chunk))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send(self, chunk: list[tuple[Row, asyncio.Future[Reply | None]]]) -> None:
        number = self._load.index(min(self._load))
        self._load[number] += len(chunk)
        try:
            report: _Report = await self.actors[number].run_rows.remote(
                [row for row, _ in chunk], self._last
            )
        except Exception as error:
            for _, waiting in chunk:
                if not waiting.done():
                    waiting.set_exception(error)
            return
        finally:
            self._load[number] -= len(chunk)
        self._counts.attempts += report.attempts
        self._counts.rejections += report.rejections
        for (_, waiting), reply in zip(chunk, report.replies, strict=True):
            if waiting.done():
                continue
            if reply is None and report.stop is not None:
                waiting.set_exception(StopError(report.stop))
            else:
                waiting.set_result(reply)
