"""Many calls at once: the workers, in threads or in tasks, that ``LM.batch`` and ``abatch`` run.

The batches of files are in ``lmgateway.batch``, which uses the workers from here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sized
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from .._base.values import shown
from .._guard.tracebacks import conceal
from ..errors import InputError, LMGatewayError, UnsupportedError
from .futures import start, wait_for_item, waiting

if TYPE_CHECKING:
    from ..types import Completion

__all__ = ["Batch", "Input", "Reply", "check_concurrency", "in_tasks", "in_threads"]
__all__ += ["REQUESTS_IN_FLIGHT", "progress_bar"]

#: Requests of one ``embed`` in flight at once, unless the caller says otherwise. Each may hold
#: 60 MB.
REQUESTS_IN_FLIGHT = 4

Input: TypeAlias = str | list[Any] | tuple[Any, ...] | Mapping[str, Any]
"""A prompt, a conversation, or a dict that says what to ask; see ``LM.batch``."""

Reply: TypeAlias = "Completion | LMGatewayError"
"""What became of an input or of a row: its answer, or why there is none."""

Check: TypeAlias = Callable[[Mapping[Any, Any], str], None]
"""Refuses a dict that says more than what to ask; is told where the dict stands."""

#: How many workers at most wait for inputs whose number is not known.
MOST = 10_000

#: How many seconds the waiting thread sleeps between two looks for Ctrl-C, where signals do not
#: wake it.
_LOOK = 0.5


# -- workers -----------------------------------------------------------------------------------


def check_concurrency(given: object, *, name: str = "concurrency", most: int | None = None) -> None:
    """Raise InputError for what is no number of workers."""
    if isinstance(given, bool) or not isinstance(given, int) or given < 1:
        raise InputError(f"{name} must be a whole number of at least 1, not {shown(given)}")
    if most is not None and given > most:
        raise InputError(f"{name} must be at most {most:,}, not {shown(given)}")


def in_threads(
    count: int,
    work: Callable[[], object],
    stop: Callable[[], object] = lambda: None,
    *,
    name: str = "lmgateway-batch",
) -> None:
    """Have threads do the same work, and wait until all of them have ended.

    A call within the threads knows that this thread waits for it. Ctrl-C is raised here at once,
    and leaves the threads behind.

    Args:
        count: How many threads; fewer do the work where the system gives no more.
        work: What each thread does.
        stop: Is called after the first failure, so that the other threads come to their end.
        name: What the names of the threads begin with.

    Raises the first failure of the work, or LMGatewayError if the system gives no thread at all.
    """
    ended: SimpleQueue[object] = SimpleQueue()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)
            stop()
        finally:
            ended.put(None)

    with waiting() as context:
        try:
            for _ in range(_start(count, context, run, name)):
                while not wait_for_item(ended, _LOOK):
                    continue
        except BaseException:
            stop()
            raise
    if failures:
        try:
            raise failures[0]
        finally:
            failures.clear()  # they hold this frame: leave no cycle behind


def _start(count: int, context: Callable[[], Context], run: Callable[[], None], name: str) -> int:
    """Start as many threads as are wanted, or as the system gives; how many there are."""
    for number in range(count):
        # A daemon: a call that hangs does not hold up the interpreter's exit.
        thread = threading.Thread(
            target=context().run, args=(run,), name=f"{name}-{number}", daemon=True
        )
        try:
            start(thread)
        except RuntimeError as error:
            if not number:
                raise LMGatewayError(f"the system gives no thread for a batch: {error}") from None
            return number
    return count


async def in_tasks(
    count: int,
    work: Callable[[], Coroutine[Any, Any, object]],
    stop: Callable[[], object],
    *,
    drain: bool = False,
) -> None:
    """Have tasks do the same work, and wait until all of them have ended.

    Args:
        count: How many tasks.
        work: What each task does.
        stop: Is called after the first failure, so that no task begins anything new.
        drain: Whether the other tasks may then end what they have begun; else they are cancelled.

    Raises the first failure of the work.
    """
    import asyncio

    tasks = [asyncio.ensure_future(work()) for _ in range(count)]
    try:
        await asyncio.gather(*tasks)
    except BaseException:  # cancelled itself, it has cancelled all of them
        stop()
        for task in () if drain else tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        tasks.clear()  # their failures hold this frame: leave no cycle behind
        raise


# -- the batch of an LM ------------------------------------------------------------------------


class Batch:
    """The inputs of ``LM.batch``, which workers take one by one, and what became of them.

    Args:
        inputs: See ``LM.batch``.
        keywords: As for ``LM.complete``, for every input that does not say otherwise.
        check: Refuses a dict that says more than what to ask.
        concurrency: How many workers at most.
        return_exceptions: Whether an LMGatewayError is a reply; else it ends the batch.
        progress: Whether a bar is shown.
    """

    def __init__(
        self,
        inputs: Iterable[Input],
        keywords: Mapping[str, Any],
        check: Check,
        *,
        concurrency: int,
        return_exceptions: bool,
        progress: bool,
    ) -> None:
        if isinstance(inputs, (str, bytes, Mapping)) or not isinstance(inputs, Iterable):
            raise InputError(
                f"batch takes an iterable of inputs, not one {type(inputs).__name__}: "
                "call complete() for one"
            )
        check_concurrency(concurrency)
        total = len(inputs) if isinstance(inputs, Sized) else None
        self._workers = min(concurrency, MOST if total is None else total)
        self._bar: AbstractContextManager[object] = nullcontext()
        self._report: Callable[[Reply], None] = lambda reply: None
        if progress:
            self._bar, self._report = progress_bar(total)
        self._waiting: Iterator[tuple[int, Input]] = iter(enumerate(inputs))
        self._keywords = keywords
        self._check = check
        self._keep_errors = return_exceptions
        self._replies: dict[int, Reply] = {}
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, complete: Callable[..., Completion]) -> list[Reply]:
        """Answer the inputs in threads; the replies in the order of the inputs."""

        def work() -> None:
            for place, given in iter(self._take, None):
                try:
                    reply: Reply = complete(**self._arguments(place, given))
                except LMGatewayError as error:
                    if not self._keep_errors:
                        raise
                    reply = error
                self._put(place, reply)

        with self._bar:
            in_threads(self._workers, work, self._stop)
        return self._in_order()

    async def arun(self, complete: Callable[..., Coroutine[Any, Any, Completion]]) -> list[Reply]:
        """As ``run``, in tasks."""

        async def work() -> None:
            for place, given in iter(self._take, None):
                try:
                    reply: Reply = await complete(**self._arguments(place, given))
                except LMGatewayError as error:
                    if not self._keep_errors:
                        raise
                    reply = error
                self._put(place, reply)

        with self._bar:
            await in_tasks(self._workers, work, self._stop)
        return self._in_order()

    def _stop(self) -> None:
        self._stopped = True

    def _in_order(self) -> list[Reply]:
        return [self._replies[place] for place in range(len(self._replies))]

    def _take(self) -> tuple[int, Input] | None:
        """The next input and its place; None when there is nothing left to do."""
        with self._lock:
            if self._stopped:
                return None
            try:
                return next(self._waiting)
            except StopIteration:
                self._stopped = True
                return None
            except BaseException:  # of the caller's own iterator, which nobody is to ask again
                self._stopped = True
                raise

    def _arguments(self, place: int, given: Input) -> dict[str, Any]:
        """An input as keywords of ``complete``; a dict says what to ask, and no more."""
        if isinstance(given, str):
            return {**self._keywords, "prompt": given}
        if isinstance(given, Mapping):
            row = dict(given)
            self._check(row, f"inputs[{place}]")
            return {**self._keywords, **row}
        if isinstance(given, (list, tuple)):
            return {**self._keywords, "messages": given}
        raise InputError(
            f"inputs[{place}] must be a prompt, a list of messages or a dict of keywords, "
            f"not {type(given).__name__}"
        )

    def _put(self, place: int, reply: Reply) -> None:
        if isinstance(reply, LMGatewayError):
            conceal(reply)  # the frame that caught it holds the input, and all keywords
        self._replies[place] = reply
        self._report(reply)


def progress_bar(total: int | None) -> tuple[AbstractContextManager[object], Callable[..., None]]:
    """A bar on the terminal or in the notebook, and what tells it of a reply to some inputs."""
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
    task = bar.add_task("", total=total, rate=0.0, tokens=0, errors=0)
    counts: dict[str, Any] = {"tokens": 0, "errors": 0}
    lock = threading.Lock()

    def report(reply: Any, count: int = 1) -> None:
        with lock:
            if isinstance(reply, LMGatewayError):
                counts["errors"] += 1
            else:
                tokens = (reply.get("usage") or {}).get("total_tokens")
                counts["tokens"] += tokens if isinstance(tokens, int) else 0
            bar.update(task, advance=count, rate=bar.tasks[0].speed or 0.0, **counts)

    return bar, report
