"""Many calls at once, in order, with what is in flight bounded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from .._base.values import shown
from .._guard.tracebacks import conceal
from ..errors import InputError, LMGatewayError, UnsupportedError
from .futures import pause, start
from .waiters import waiting

if TYPE_CHECKING:
    from ..lm import LM
    from ..types import Completion

__all__ = ["Input", "Outcome", "abatch", "batch"]

Input: TypeAlias = "str | list[Any] | Mapping[str, Any]"
"""A prompt, a conversation, or a dict that says what to ask; see ``LM.batch``."""

Outcome: TypeAlias = "Completion | LMGatewayError"

#: How many workers at most wait for inputs whose number is not known.
MOST = 10_000

#: How long the waiting thread sleeps between two looks for Ctrl-C, where signals do not wake it.
_LOOK = 0.5


def batch(
    lm: LM,
    inputs: Iterable[Input],
    keywords: Mapping[str, Any],
    *,
    concurrency: int,
    return_exceptions: bool = False,
    progress: bool = False,
) -> list[Any]:
    """Answer all inputs in threads; see ``LM.batch``."""
    work = _Work(inputs, keywords, concurrency, return_exceptions=return_exceptions)
    with _shown(work, progress=progress), waiting() as context:
        try:
            for _ in range(_start(work, lm, context)):
                while not pause(work.ended, _LOOK):
                    continue
        finally:
            work.stop()
    return work.results()


def _start(work: _Work, lm: LM, context: Callable[[], Context]) -> int:
    """Put threads to work: as many as are wanted, or as the system gives; how many there are."""
    for number in range(work.workers):
        thread = threading.Thread(
            target=context().run,
            args=(work.run, lm),
            name=f"lmgateway-batch-{number}",
            daemon=True,  # a call that hangs does not hold up the interpreter's exit
        )
        try:
            start(thread)
        except RuntimeError as error:
            if not number:
                raise LMGatewayError(f"the system gives no thread for a batch: {error}") from None
            return number
    return work.workers


async def abatch(
    lm: LM,
    inputs: Iterable[Input],
    keywords: Mapping[str, Any],
    *,
    concurrency: int,
    return_exceptions: bool = False,
    progress: bool = False,
) -> list[Any]:
    """Answer all inputs in tasks; see ``LM.abatch``."""
    import asyncio

    work = _Work(inputs, keywords, concurrency, return_exceptions=return_exceptions)
    with _shown(work, progress=progress):
        tasks = [asyncio.ensure_future(work.arun(lm)) for _ in range(work.workers)]
        try:
            await asyncio.gather(*tasks)
        finally:
            work.stop()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    return work.results()


class _Work:
    """The inputs, taken one by one by workers of either colour, and what became of them."""

    def __init__(
        self,
        inputs: Iterable[Input],
        keywords: Mapping[str, Any],
        concurrency: int,
        *,
        return_exceptions: bool,
    ) -> None:
        if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
            raise InputError(
                f"batch takes an iterable of inputs, not one {type(inputs).__name__}: "
                "call complete() for one"
            )
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InputError(
                f"concurrency must be a whole number of at least 1, not {shown(concurrency)}"
            )
        self.total = len(inputs) if isinstance(inputs, Sized) else None
        self.workers = min(concurrency, MOST if self.total is None else self.total)
        self.report: Callable[[Outcome], None] = lambda outcome: None
        #: Where each thread puts a word when it is done.
        self.ended: SimpleQueue[object] = SimpleQueue()
        self._waiting: Iterator[tuple[int, Input]] = iter(enumerate(inputs))
        self._keywords = keywords
        self._keep_errors = return_exceptions
        self._outcomes: dict[int, Any] = {}
        self._failure: BaseException | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, lm: LM) -> None:
        """Answer inputs in this thread until there are none."""
        try:
            while (taken := self._take()) is not None:
                place, given = taken
                try:
                    self._settle(place, lm.complete(**self._arguments(lm, place, given)))
                except LMGatewayError as error:
                    self._fail(place, error)
                except BaseException as error:
                    self._break(error)
        finally:
            self.ended.put(None)

    async def arun(self, lm: LM) -> None:
        """Answer inputs in this task until there are none."""
        while (taken := self._take()) is not None:
            place, given = taken
            try:
                self._settle(place, await lm.acomplete(**self._arguments(lm, place, given)))
            except LMGatewayError as error:
                self._fail(place, error)
            if self._failure is not None:
                raise self._failure

    def stop(self) -> None:
        """Take no further input."""
        self._stopped = True

    def results(self) -> list[Any]:
        """The outcomes in the order of the inputs; raises the first failure."""
        if self._failure is not None:
            raise self._failure
        return [self._outcomes[place] for place in range(len(self._outcomes))]

    def _take(self) -> tuple[int, Input] | None:
        """The next input and its place; None when there is nothing left to do."""
        with self._lock:
            if self._stopped:
                return None
            try:
                return next(self._waiting)
            except StopIteration:
                self._stopped = True
            except BaseException as error:  # of the caller's own iterator
                self._stopped, self._failure = True, error
            return None

    def _arguments(self, lm: LM, place: int, given: Input) -> dict[str, Any]:
        """An input as keywords of ``complete``; a dict says what to ask, and no more."""
        if isinstance(given, str):
            return {**self._keywords, "prompt": given}
        if isinstance(given, Mapping):
            row = dict(given)
            lm._check_row(row, f"inputs[{place}]")
            return {**self._keywords, **row}
        if isinstance(given, (list, tuple)):
            return {**self._keywords, "messages": given}
        raise InputError(
            f"inputs[{place}] must be a prompt, a list of messages or a dict of keywords, "
            f"not {type(given).__name__}"
        )

    def _settle(self, place: int, outcome: Outcome) -> None:
        self._outcomes[place] = outcome
        self.report(outcome)

    def _fail(self, place: int, error: LMGatewayError) -> None:
        if self._keep_errors:
            conceal(error)  # the frame that caught it holds the input, and all keywords
            self._settle(place, error)
        else:
            self._break(error)

    def _break(self, error: BaseException) -> None:
        with self._lock:
            self._stopped = True
            self._failure = self._failure or error


def _shown(work: _Work, *, progress: bool) -> AbstractContextManager[object]:
    """A bar on the terminal or in the notebook while the work goes on, if one is wanted."""
    if not progress:
        return nullcontext()
    try:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )
    except ImportError:
        raise UnsupportedError(
            "progress=True needs rich: pip install 'lmgateway-core[cli]'"
        ) from None
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[tokens]} tokens"),
        TextColumn("{task.fields[errors]} errors"),
    )
    task = bar.add_task("", total=work.total, rate=0.0, tokens=0, errors=0)
    counts: dict[str, Any] = {"tokens": 0, "errors": 0}
    lock = threading.Lock()

    def report(outcome: Outcome) -> None:
        with lock:
            if isinstance(outcome, LMGatewayError):
                counts["errors"] += 1
            else:
                tokens = (outcome.get("usage") or {}).get("total_tokens")
                counts["tokens"] += tokens if isinstance(tokens, int) else 0
            bar.update(task, advance=1, rate=bar.tasks[0].speed or 0.0, **counts)

    work.report = report
    return bar
