"""Progress: a bar on a terminal, a plain line a minute elsewhere, and the summary at the end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from decimal import Decimal
from typing import Any

from .gate import Gate
from .tally import Summary, Tally

__all__ = ["Pulse", "describe", "say", "shown"]

SECONDS = {True: 0.25, False: 60.0}


class Pulse:
    """How fast rows are done, over the last minute or so."""

    def __init__(self, tally: Tally, gate: Gate | None) -> None:
        self._tally = tally
        self._gate = gate
        self._rate = 0.0
        self._last = (0.0, 0)

    def beat(self, now: float) -> dict[str, Any]:
        """The figures of this moment."""
        tally = self._tally
        done = tally.answered + tally.failed
        seconds = now - self._last[0]
        if self._last[0] and seconds > 0:
            fresh = (done - self._last[1]) / seconds
            weight = min(1.0, seconds / 30.0) if self._rate else 1.0
            self._rate += (fresh - self._rate) * weight
        self._last = (now, done)
        rest = None if tally.total is None else tally.total - tally.skipped - done
        return {
            "done": done + tally.skipped,
            "total": tally.total,
            "rate": self._rate,
            "tokens": tally.prompt_tokens + tally.completion_tokens,
            "cost": tally.cost,
            "errors": dict(tally.errors.most_common(3)),
            "flying": self._gate.flying if self._gate else None,
            "eta": rest / self._rate if rest is not None and self._rate else None,
        }


def say(text: str) -> None:
    """One line on stderr."""
    with suppress(OSError, ValueError):
        print(f"lmgateway: {text}", file=sys.stderr, flush=True)


def compose(figures: dict[str, Any]) -> str:
    """The figures as one line."""
    total = "" if figures["total"] is None else f" / {figures['total']:,}"
    parts = [f"{figures['done']:,}{total} rows", f"{figures['rate']:,.1f}/s"]
    parts.append(f"{figures['tokens']:,} tokens")
    if figures["cost"]:
        parts.append(_dollars(figures["cost"]))
    parts += [f"{count:,} {name}" for name, count in figures["errors"].items()]
    if figures["flying"] is not None:
        parts.append(f"{figures['flying']} in flight")
    if figures["eta"] is not None:
        parts.append(f"{_duration(figures['eta'])} left")
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
async def shown(tally: Tally, gate: Gate | None, *, wanted: bool) -> AsyncIterator[None]:
    """Show progress on stderr while the block runs, if it is wanted."""
    if not wanted:
        yield
        return
    bar = _bar() if sys.stderr is not None and sys.stderr.isatty() else None
    pulse = Pulse(tally, gate)
    ticking = asyncio.ensure_future(_tick(pulse, bar))
    try:
        yield
    finally:
        ticking.cancel()
        await asyncio.gather(ticking, return_exceptions=True)
        if bar is not None:
            _show(bar, pulse.beat(asyncio.get_running_loop().time()))
            bar.stop()


async def _tick(pulse: Pulse, bar: Any) -> None:
    loop = asyncio.get_running_loop()
    tell: Callable[[dict[str, Any]], None] = lambda figures: say(compose(figures))  # noqa: E731
    if bar is not None:
        tell = lambda figures: _show(bar, figures)  # noqa: E731
    pulse.beat(loop.time())
    while True:
        await asyncio.sleep(SECONDS[bar is not None])
        tell(pulse.beat(loop.time()))


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


def _show(bar: Any, figures: dict[str, Any]) -> None:
    task = bar.tasks[0].id
    bar.update(task, total=figures["total"], completed=figures["done"])
    bar.update(task, description=compose(figures))


def _dollars(amount: Decimal) -> str:
    return f"${amount:,.2f}" if amount >= 1 else f"${amount:.6f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
