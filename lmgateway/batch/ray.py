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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .._layers.limit import Limits
from ..errors import LMGatewayError, UnsupportedError
from ..lm import LM, get_lm
from .asker import Asker, Outcome, StopError
from .rows import Row, check_columns, identified
from .runs import settled
from .tally import Tally

__all__ = ["Answerer"]

CHUNK = 16  # rows in one message to an actor
GATHER = 0.005  # seconds to wait for a chunk to fill
COLUMNS = ("custom_id", "prompt", "messages", "system", "method", "url", "body")


def _shared(limits: Limits, workers: int) -> Limits:
    """One worker's part of what the service takes from all."""
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
        **keywords: Any,
    ) -> None:
        self._lm = lm.copy(**keywords) if isinstance(lm, LM) else get_lm(lm, **keywords)
        self._concurrency = concurrency
        self._limits = _shared(Limits(rpm, tpm), workers)
        self._columns = {*COLUMNS, *params}
        check_columns(sorted(self._columns), self._lm._spec.plugin)
        self._asker: Asker | None = None

    async def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Answer a batch of columns."""
        if self._asker is None:  # made in the event loop that it is used in
            self._asker = Asker(self._lm, self._concurrency, self._limits, Tally())
        names = [name for name in batch if name in self._columns]
        columns = [_plain(batch[name]) for name in names]
        raws = [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
        try:
            rows = await settled(self._asker, list(identified(raws)), self._concurrency)
        except StopError as stop:
            raise stop.__cause__ or stop from None
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
    """What an actor made of a chunk."""

    outcomes: list[Outcome | None]
    attempts: int
    rejections: int
    stop: LMGatewayError | None = None


class _Worker:
    """The actor: an asker of its own."""

    def __init__(self, lm: LM, concurrency: int, limits: Limits) -> None:
        self._tally = Tally()
        self._asker = Asker(lm, concurrency, limits, self._tally)

    async def settle(self, rows: list[Row]) -> _Report:
        outcomes = await asyncio.gather(*map(self._asker.settle, rows), return_exceptions=True)
        stop = None
        kept: list[Outcome | None] = []
        for outcome in outcomes:
            if isinstance(outcome, StopError) and isinstance(outcome.__cause__, LMGatewayError):
                stop = outcome.__cause__
            elif isinstance(outcome, BaseException) and not isinstance(outcome, LMGatewayError):
                raise outcome
            kept.append(None if isinstance(outcome, StopError) else outcome)
        attempts, self._tally.attempts = self._tally.attempts, 0
        rejections, self._tally.rejections = self._tally.rejections, 0
        return _Report(kept, attempts, rejections, stop)

    async def ready(self) -> None:
        """It has started."""

    async def stop(self) -> None:
        self._asker.drain()


class RayAsker:
    """Settles rows on actors, in chunks; an actor that dies is started anew, and its rows with it.

    Args:
        lm: Who is asked.
        workers: How many actors.
        concurrency: Calls in flight at most, for each.
        limits: Requests and tokens a minute, of all together.
        tally: Where attempts are counted.

    Raises:
        UnsupportedError: Ray is not installed.
    """

    gate = None

    def __init__(
        self, lm: LM, workers: int, concurrency: int, limits: Limits, tally: Tally
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
        remote = ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=1000)(_Worker)
        share = _shared(limits, workers)
        self.actors = [remote.remote(lm, concurrency, share) for _ in range(workers)]
        self.stopping = asyncio.Event()
        self._ray = ray
        self._tally = tally
        self._load = [0] * workers
        self._waiting: list[tuple[Row, asyncio.Future[Outcome | None]]] = []
        self._tasks: set[asyncio.Future[None]] = set()

    async def ready(self) -> None:
        """Wait until every actor has started, so that none begins with the rows of all."""
        await asyncio.gather(*(actor.ready.remote() for actor in self.actors))

    def close(self) -> None:
        """End the actors."""
        for actor in self.actors:
            self._ray.kill(actor)

    async def settle(self, row: Row) -> Outcome | None:
        """As ``Asker.settle``."""
        if row.fault is not None:
            return row.fault
        if self.stopping.is_set():
            return None
        outcome: asyncio.Future[Outcome | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, outcome))
        if len(self._waiting) >= CHUNK:
            self._flush()
        elif len(self._waiting) == 1:
            asyncio.get_running_loop().call_later(GATHER, self._flush)
        return await outcome

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

    async def _send(self, chunk: list[tuple[Row, asyncio.Future[Outcome | None]]]) -> None:
        number = self._load.index(min(self._load))
        self._load[number] += len(chunk)
        try:
            report: _Report = await self.actors[number].settle.remote([row for row, _ in chunk])
        except Exception as error:
            for _, waiting in chunk:
                if not waiting.done():
                    waiting.set_exception(error)
            return
        finally:
            self._load[number] -= len(chunk)
        self._tally.attempts += report.attempts
        self._tally.rejections += report.rejections
        for (_, waiting), outcome in zip(chunk, report.outcomes, strict=True):
            if waiting.done():
                continue
            if outcome is None and report.stop is not None:
                stop = StopError()
                stop.__cause__ = report.stop
                waiting.set_exception(stop)
            else:
                waiting.set_result(outcome)
