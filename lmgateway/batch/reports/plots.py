"""Plots: figures drawn as SVG, to stand within a page of HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from math import ceil, floor, log10

from .figures import STEPS, Histogram

__all__ = ["bars", "dollars", "histogram", "seconds", "whole"]

WIDTH, HEIGHT = 360, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 18, 36
MOST_BARS, LEAST_BARS = 36, 12
MOST_TICKS = 6
_FINE = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)
INK, FILL, LINE = "#333", "#2f6db3", "#bbb"  # where a policy keeps the page's style away

Show = Callable[[float], str]


def whole(value: float) -> str:
    """A number: 950, 12,500, 1.3 M."""
    if value >= 1e6:
        return f"{value / 1e6:,.3g} M"
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def seconds(value: float) -> str:
    """A time with its unit: 12 ms, 1.5 s, 3 min."""
    if value >= 120:
        return f"{value / 60:,.3g} min"
    return f"{value:.3g} s" if value >= 1 else f"{value * 1000:.3g} ms"


def dollars(value: float) -> str:
    """An amount: $0.00012, $1.50."""
    if value == 0:
        return "$0"
    return f"${value:,.2f}" if value >= 1 else f"${value:.{max(2, 1 - floor(log10(value)))}f}"


def histogram(title: str, figures: Histogram, unit: str, show: Show) -> str:
    """How many rows there are of each size, on a logarithmic scale; needs at least one value.

    Args:
        title: What is shown, for those who hear the page too.
        figures: The values.
        unit: What stands below the axis.
        show: A value in words.
    """
    groups, first, size = _grouped(figures)
    most = max(max(groups), figures.zeros)
    zero = 1 if figures.zeros else 0
    step = (WIDTH - LEFT - RIGHT) / (len(groups) + 2 * zero)
    begin = LEFT + 2 * zero * step

    def x(value: float) -> float:
        return begin + (log10(value) * STEPS - first) / size * step

    parts = [_grid(most)]
    if zero:
        parts.append(_bar(LEFT, step, figures.zeros / most, f"{figures.zeros:,} rows: 0"))
        parts.append(_below(LEFT + step / 2, "0"))
    for place, count in enumerate(groups):
        if count:
            lower, upper = (10 ** ((first + (place + n) * size) / STEPS) for n in (0, 1))
            words = f"{count:,} rows: {show(lower)} to {show(upper)}"
            parts.append(_bar(begin + place * step, step, count / most, words))
    last = first + len(groups) * size
    taken = LEFT + step if zero else 0.0
    for tick in _ticks(first / STEPS, last / STEPS):
        half = len(show(tick)) * 3.4  # what 12 px letters take, about
        at = min(x(tick), WIDTH - half)
        if at - half > taken:
            parts.append(_below(at, show(tick)))
            taken = at + half + 6
    for share, name, anchor in ((0.5, "half", "end"), (0.95, "95 %", "start")):
        if (value := figures.percentile(share)) > 0:
            parts.append(_mark(x(value), name, anchor))
    middle, end = figures.percentile(0.5), figures.percentile(0.95)
    told = (
        f"{figures.count:,} rows, from {show(figures.least)} to {show(figures.most)}; "
        f"half are at most {show(middle)}, 95 % at most {show(end)}"
    )
    return _svg(title, told, unit, parts)


def bars(title: str, counts: Iterable[tuple[str, int]], told: str) -> str:
    """One bar below another, the names above them; needs at least one that is not 0."""
    rows = list(counts)
    most = max(count for _, count in rows)
    high = 34
    parts = []
    for place, (name, count) in enumerate(rows):
        y = place * high
        wide = max(2.0, (WIDTH - 70) * count / most)
        parts.append(
            f'<text class="ink" fill="{INK}" x="0" y="{y + 12}">{escape(name[:52])}</text>'
            f'<rect class="bad" fill="#b3412f" x="0" y="{y + 17}" width="{wide:.1f}" height="11"/>'
            f'<text class="ink" fill="{INK}" x="{wide + 6:.1f}" y="{y + 27}">{count:,}</text>'
        )
    return _frame(title, told, len(rows) * high + 2, parts)


def _grouped(figures: Histogram) -> tuple[list[int], int, int]:
    """The counts of bars, the bin at which the first begins, and how many bins make a bar."""
    least, most = (min(figures.bins), max(figures.bins)) if figures.bins else (0, 0)
    size = ceil((most - least + 1) / MOST_BARS)
    number = max(LEAST_BARS, ceil((most - least + 1) / size))
    first = least - (number * size - (most - least + 1)) // 2
    groups = [0] * number
    for place, count in figures.bins.items():
        groups[(place - first) // size] += count
    return groups, first, size


def _ticks(first: float, last: float) -> list[float]:
    """Round values on a logarithmic axis, no more than there is room for."""
    decades = range(floor(first), ceil(last) + 1)
    for steps in (_FINE, (1, 2, 5), (1, 3), (1,)):
        found = [step * 10.0**n for n in decades for step in steps]
        found = [value for value in found if first <= log10(value) <= last]
        if len(found) <= MOST_TICKS:
            break
    return found[:: ceil(len(found) / MOST_TICKS) or 1]


def _grid(most: int) -> str:
    size: float = 10 ** floor(log10(most))
    step = max(1, next(size * part for part in (0.25, 0.5, 1, 2.5) if most / (size * part) <= 4))
    lines, value = [], 0.0
    while value <= most:
        y = _y(value / most)
        lines.append(
            f'<line class="line" stroke="{LINE}" x1="{LEFT}" x2="{WIDTH - RIGHT}" '
            f'y1="{y:.1f}" y2="{y:.1f}"/><text class="ink" fill="{INK}" x="{LEFT - 5}" '
            f'y="{y + 4:.1f}" text-anchor="end">{whole(value)}</text>'
        )
        value += step
    return "".join(lines)


def _y(share: float) -> float:
    return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def _bar(x: float, step: float, share: float, words: str) -> str:
    top = min(_y(share), HEIGHT - BOTTOM - 1.5)  # one row among a million is seen too
    return (
        f'<rect class="bar" fill="{FILL}" x="{x + 0.5:.1f}" y="{top:.1f}" '
        f'width="{max(step - 1, 1):.1f}" height="{HEIGHT - BOTTOM - top:.1f}">'
        f"<title>{escape(words)}</title></rect>"
    )


def _below(x: float, words: str) -> str:
    return (
        f'<text class="ink" fill="{INK}" x="{x:.1f}" y="{HEIGHT - BOTTOM + 14}" '
        f'text-anchor="middle">{escape(words)}</text>'
    )


def _mark(x: float, words: str, anchor: str) -> str:
    room = len(words) * 9.0  # at the right, or the words would be cut
    beside = min(x + 3, WIDTH - room) if anchor == "start" else x - 3
    return (
        f'<line class="mark" stroke="{INK}" stroke-dasharray="3 3" x1="{x:.1f}" x2="{x:.1f}" '
        f'y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text class="ink" fill="{INK}" x="{beside:.1f}" y="{TOP - 5}" text-anchor="{anchor}">'
        f"{escape(words)}</text>"
    )


def _svg(title: str, told: str, unit: str, parts: list[str]) -> str:
    axis = (
        f'<text class="ink" fill="{INK}" x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 4}" '
        f'text-anchor="middle">{escape(unit)}</text>'
        f'<text class="ink" fill="{INK}" x="0" y="{TOP - 5}">rows</text>'
    )
    return _frame(title, told, HEIGHT, [*parts, axis])


def _frame(title: str, told: str, height: int, parts: list[str]) -> str:
    return (
        f'<svg role="img" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'font-family="sans-serif" font-size="12" aria-label="{escape(f"{title}: {told}")}">'
        f"<title>{escape(title)}</title><desc>{escape(told)}</desc>{''.join(parts)}</svg>"
    )
