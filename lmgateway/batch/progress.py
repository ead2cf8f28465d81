"""Progress: what a run has done so far, the line or the bar that shows it, and the summary."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from importlib.util import find_spec
from time import monotonic
from typing import Any

from .._drive.gather import Reply
from .._records.usage import price
from ..errors import LMGatewayError
from ..types import Completion
from .adaptive_limit import AdaptiveLimit

__all__ = ["Counts", "Summary", "describe", "say", "shown"]

SECONDS = {True: 0.25, False: 60.0}  # between two looks, for a bar and for lines


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
    """The counts of a run that goes on; see Summary. Their size does not depend on the rows."""

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
    started: float = field(default_factory=monotonic)
    _priced: bool = field(default_factory=lambda: find_spec("genai_prices") is not None)
    _unpriced: set[tuple[str, str]] = field(default_factory=set)

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
        elif self._priced:
            self._pay(reply)

    def _pay(self, completion: Completion) -> None:
        who = (completion.get("provider", ""), completion.get("model", ""))
        if who not in self._unpriced:  # a look-up that fails is slow
            paid = price(completion)
            if paid is None:
                self._unpriced.add(who)
            else:
                self.known_cost += paid

    @property
    def failed(self) -> int:
        """Rows that went to the errors."""
        return sum(self.errors.values())

    @property
    def in_output(self) -> int:
        """Rows of the input that are in the output, those of earlier runs included."""
        return self.skipped + self.answered + self.failed

    @property
    def cost(self) -> Decimal | None:
        """US dollars; None if the price of any answer is unknown."""
        paid = self.answered - self.cached
        return None if self._unpriced or (paid and not self._priced) else self.known_cost

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


class _Speed:
    """How many rows a second are done, over the last half minute or so."""

    def __init__(self) -> None:
        self.rate = 0.0
        self._last: tuple[float, int] | None = None

    def look(self, now: float, done: int) -> None:
        """So many rows are done now."""
        if self._last is not None and (seconds := now - self._last[0]) > 0:
            weight = min(1.0, seconds / 30.0) if self.rate else 1.0
            self.rate += ((done - self._last[1]) / seconds - self.rate) * weight
        self._last = now, done


def say(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError, ValueError):
        print(f"lmgateway: {text}", file=sys.stderr, flush=True)


def _line(counts: Counts, limit: AdaptiveLimit | None, rate: float) -> str:
    """The counts of this moment as one line."""
    total = "" if counts.total is None else f" / {counts.total:,}"
    parts = [f"{counts.in_output:,}{total} rows", f"{rate:,.1f}/s"]
    parts.append(f"{counts.prompt_tokens + counts.completion_tokens:,} tokens")
    if counts.cost:
        parts.append(_dollars(counts.cost))
    parts += [f"{count:,} {name}" for name, count in counts.errors.most_common(3)]
    if limit is not None:
        parts.append(f"{limit.in_flight} in flight")
    if counts.total is not None and rate:
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
        parts.append(_dollars(summary.cost))
    extra = summary.attempts - summary.done + summary.cached
    if extra > 0:
        parts.append(f"{summary.attempts:,} requests, {summary.rejections:,} of them refused")
    return "; ".join(parts)


@asynccontextmanager
async def shown(
    counts: Counts, limit: AdaptiveLimit | None, *, wanted: bool
) -> AsyncIterator[None]:
    """Show progress on stderr while the block runs, if it is wanted."""
    if not wanted:
        yield
        return
    bar = _bar() if sys.stderr is not None and sys.stderr.isatty() else None
    speed, loop = _Speed(), asyncio.get_running_loop()

    def show() -> None:
        speed.look(loop.time(), counts.answered + counts.failed)
        line = _line(counts, limit, speed.rate)
        if bar is None:
            say(line)
        else:
            now = {"total": counts.total, "completed": counts.in_output}
            bar.update(bar.tasks[0].id, description=line, **now)

    async def show_again() -> None:
        speed.look(loop.time(), counts.answered + counts.failed)
        while True:
            await asyncio.sleep(SECONDS[bar is not None])
            show()

    showing = asyncio.ensure_future(show_again())
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)
        if bar is not None:
            show()
            bar.stop()


def _bar() -> Any:
    """A bar of rich; None where it is not installed."""
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn
    except ImportError:
        return None
    bar = Progress(BarColumn(30), TextColumn("{task.description}"), console=Console(stderr=True))
    bar.add_task("", total=None)
    bar.start()
    return bar


def _dollars(amount: Decimal) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.6f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
