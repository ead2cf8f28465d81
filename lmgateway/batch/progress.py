"""Progress: what a run has done so far, the line or the bar that shows it, and the summary."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from time import localtime, monotonic, strftime, time
from typing import Any

from .._drive.gather import Reply
from .._records.usage import price
from ..errors import LMGatewayError
from .adaptive_limit import AdaptiveLimit
from .speed import LOOKS, Speed
from .verdicts import FAR, Waiting

__all__ = ["Counts", "Summary", "describe", "dollars", "open_bar", "say", "shown"]

logger = logging.getLogger("lmgateway.batch")

FIRST_LINE, LINES = 5.0, 60.0  # seconds until the first line, and from one to the next
NOTES = 5.0  # seconds from one note on what is waited for to the next
SHORT_WAIT = 2.0  # seconds without an answer that are not worth a word


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a run.

    Attributes:
        total: Rows of the input; None where that is not known.
        skipped: Rows that were done before.
        answered: Rows answered in this run.
        failed: Rows that went to the errors in this run.
        errors: How many of those, by class.
        prompt_tokens: Tokens read, as the service counted them.
        completion_tokens: Tokens written, likewise.
        cached: Rows that the cache or a recording answered.
        cost: US dollars; None if the price of any answer is unknown.
        attempts: Requests sent, retries included.
        rejections: How many of them were answered 429, 503 or 529.
        seconds: How long it took.
        interrupted: Whether it was stopped by Ctrl-C before the end.
    """

    total: int | None
    skipped: int
    answered: int
    failed: int
    errors: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    cached: int
    cost: Decimal | None
    attempts: int
    rejections: int
    seconds: float
    interrupted: bool = False

    @property
    def done(self) -> int:
        """Rows of this run that are in the output."""
        return self.answered + self.failed


@dataclass(slots=True)
class Counts:
    """The counts of a run that goes on; see Summary. Their size does not depend on the rows.

    Attributes:
        answer_seconds: The sum of what the calls took that were answered; with Ray, 0.
        answered_before: Rows that had an answer in the output when the run began.
        done_before: Rows that were in the output then, those that had failed included. Some may
            not have been met in the input yet: those are not ``skipped`` so far.
    """

    total: int | None = None
    skipped: int = 0
    answered: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached: int = 0
    known_cost: Decimal = Decimal(0)
    attempts: int = 0
    rejections: int = 0
    interrupted: bool = False
    answer_seconds: float = 0.0
    answered_before: int = 0
    done_before: int = 0
    started: float = field(default_factory=monotonic)
    _unpriced: bool = False

    def add(self, reply: Reply) -> None:
        """Count a row that was written."""
        if isinstance(reply, LMGatewayError):
            self.errors[type(reply).__name__] += 1
            return
        self.answered += 1
        usage = reply.get("usage") or {}
        self.prompt_tokens += usage.get("prompt_tokens") or 0
        self.completion_tokens += usage.get("completion_tokens") or 0
        if reply.get("cached"):
            self.cached += 1
        elif self._unpriced:
            return  # the sum is unknown already, and a look-up costs a third of a row
        elif (paid := price(reply)) is not None:
            self.known_cost += paid
        else:
            self._unpriced = True

    @property
    def failed(self) -> int:
        """Rows that went to the errors."""
        return sum(self.errors.values())

    @property
    def in_output(self) -> int:
        """Rows of the input that are in the output, those of earlier runs included."""
        done = max(self.skipped, self.done_before) + self.answered + self.failed
        return done if self.total is None else min(done, self.total)

    @property
    def cost(self) -> Decimal | None:
        """US dollars; None if the price of any answer is unknown."""
        return None if self._unpriced else self.known_cost

    def summary(self) -> Summary:
        """The counts as they stand."""
        return Summary(
            total=self.total,
            skipped=self.skipped,
            answered=self.answered,
            failed=self.failed,
            errors=dict(self.errors.most_common()),
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            cached=self.cached,
            cost=self.cost,
            attempts=self.attempts,
            rejections=self.rejections,
            seconds=monotonic() - self.started,
            interrupted=self.interrupted,
        )


# -- shown ------------------------------------------------------------------------------------


def say(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError, ValueError):
        print(f"lmgateway: {text}", file=sys.stderr, flush=True)


def wait_text(waiting: Waiting) -> str:
    """What is waited for, why, and until when."""
    rows = "1 row" if waiting.rows == 1 else f"{waiting.rows:,} rows"
    until = "for ever"
    if waiting.until < FAR:
        until = strftime("until %Y-%m-%d %H:%M:%S at most", localtime(waiting.until))
    return f"no answer for {_duration(max(0.0, time() - waiting.since))}: waiting for {rows}, " + (
        f"{until}, since {_subject(waiting)}: {waiting.why}"
    )


def _subject(waiting: Waiting) -> str:
    return f"row {waiting.row} failed" if waiting.row else "calls fail"


def _line(
    counts: Counts, limit: AdaptiveLimit | None, rate: float, waiting: Waiting | None = None
) -> str:
    """The counts of this moment as one line."""
    total = "" if counts.total is None else f" / {counts.total:,}"
    parts = [f"{counts.in_output:,}{total} rows", f"{rate:,.1f}/s"]
    parts.append(f"{counts.prompt_tokens + counts.completion_tokens:,} tokens")
    if counts.cost:
        parts.append(dollars(counts.cost))
    parts += [f"{count:,} {name}" for name, count in counts.errors.most_common(3)]
    if limit is not None:
        parts.append(f"{limit.in_flight} in flight")
    if waiting is not None:
        parts.append(wait_text(waiting))
    elif counts.total is not None and rate:
        parts.append(f"{_duration((counts.total - counts.in_output) / rate)} left")
    return ", ".join(parts)


def describe(summary: Summary) -> str:
    """The summary as one line."""
    parts = [f"{summary.answered:,} rows answered in {_duration(summary.seconds)}"]
    if summary.skipped:
        parts.append(f"{summary.skipped:,} were done before")
    if summary.cached:
        parts.append(f"{summary.cached:,} from the cache")
    errors = ", ".join(f"{count:,} {name}" for name, count in summary.errors.items())
    if summary.failed:
        parts.append(f"{summary.failed:,} failed ({errors})")
    parts.append(f"{summary.prompt_tokens:,} tokens read, {summary.completion_tokens:,} written")
    if summary.cost:
        parts.append(dollars(summary.cost))
    extra = summary.attempts - summary.done + summary.cached
    if extra > 0:
        parts.append(f"{summary.attempts:,} requests, {summary.rejections:,} of them refused")
    return "; ".join(parts)


@asynccontextmanager
async def shown(
    counts: Counts,
    limit: AdaptiveLimit | None,
    *,
    wanted: bool,
    waiting: Callable[[], Waiting | None] = lambda: None,
    note: Callable[[Waiting | None], object] = lambda waiting: None,
) -> AsyncIterator[None]:
    """Show progress while the block runs.

    Args:
        counts: What is shown.
        limit: Likewise.
        wanted: Whether there is to be a bar or a line from time to time; without, only what is
            waited for is told, by a warning of the logger ``lmgateway.batch``.
        waiting: What is waited for.
        note: Is told it when it has changed, for whoever looks from another process.
    """
    show = _Show(counts, limit, waiting, note, wanted=wanted)
    showing = asyncio.ensure_future(show.go_on())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        show.end()


class _Show:
    """Shows a run: as a bar on a terminal, or as lines; see ``shown``."""

    def __init__(
        self,
        counts: Counts,
        limit: AdaptiveLimit | None,
        waiting: Callable[[], Waiting | None],
        note: Callable[[Waiting | None], object],
        *,
        wanted: bool,
    ) -> None:
        self._counts, self._limit = counts, limit
        self._look_for_waiting, self._note = waiting, note
        self._wanted = wanted
        terminal = wanted and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = open_bar(_columns, total=None) if terminal else None
        self._speed = Speed(monotonic())
        self._next_line = monotonic() + FIRST_LINE
        self._noted: Waiting | None = None
        self._next_note = 0.0

    async def go_on(self) -> None:
        """Show again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOKS)
            self._look()

    def end(self) -> None:
        """Show the last state; nothing is waited for any more."""
        if self._noted is not None:
            self._note(None)
        if self._bar is not None:
            self._show_bar(None)
            self._bar.stop()

    def _look(self) -> None:
        counts, now = self._counts, monotonic()
        asked = counts.answered + counts.failed - counts.cached
        in_flight = 0 if self._limit is None else self._limit.in_flight
        self._speed.look(now, asked, counts.cached, in_flight, counts.answer_seconds)
        waiting = self._look_for_waiting()
        if waiting is not None and time() - waiting.since < SHORT_WAIT:
            waiting = None
        begins = waiting is not None and self._noted is None
        if begins or (self._noted is not None and (waiting is None or now >= self._next_note)):
            self._note(waiting)
            self._noted, self._next_note = waiting, now + NOTES
        if self._bar is not None:
            self._show_bar(waiting)
        elif not self._wanted:
            if begins and waiting is not None:
                logger.warning("%s", wait_text(waiting))
        elif begins or now >= self._next_line:
            say(_line(counts, self._limit, self._speed.rate, waiting))
            self._next_line = now + LINES

    def _show_bar(self, waiting: Waiting | None) -> None:
        line = _line(self._counts, self._limit, self._speed.rate, waiting)
        now = {"total": self._counts.total, "completed": self._counts.in_output}
        self._bar.update(self._bar.tasks[0].id, description=line, **now)


def open_bar(columns: Callable[[Any], Iterable[Any]], **task: Any) -> Any:
    """A bar of rich with one task, on stderr; None where rich is not installed.

    Args:
        columns: What it shows, made with the module ``rich.progress``.
        task: What is known of the task.
    """
    try:
        from rich import console, progress
    except ImportError:
        return None
    bar = progress.Progress(*columns(progress), console=console.Console(stderr=True))
    bar.add_task("", **task)
    bar.start()
    return bar


def _columns(rich: Any) -> Iterable[Any]:
    return rich.BarColumn(30), rich.TextColumn("{task.description}")


def dollars(amount: Decimal) -> str:
    """An amount of US dollars, for a line."""
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.6f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
