"""Whether a version is slower than another, and the table that says so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

__all__ = ["TOLERANCE", "Comparison", "Verdict", "judge", "table"]

TOLERANCE = 0.05
"""How much of a median may be lost and count as nothing."""

Verdict = Literal["worse", "better", "same"]


def judge(old: Sequence[float], new: Sequence[float], *, more_is_better: bool = False) -> Verdict:
    """What the rounds of two versions say about the new one.

    It is worse if its median is worse by more than 5 %, and its best round worse than the worst
    one of the old version; better, the other way round.

    Args:
        old: A figure for each round, none of them below 0.
        new: The same of the new version.
        more_is_better: For figures such as calls a second.
    """
    better, worse = (old, new) if more_is_better else (new, old)
    if _apart(better, worse):
        return "better"
    return "worse" if _apart(worse, better) else "same"


def _apart(less: Sequence[float], more: Sequence[float]) -> bool:
    return median(more) > median(less) * (1 + TOLERANCE) and min(more) > max(less)


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure of both versions, round by round.

    Attributes:
        name: The measure's, for the command line.
        title: What it is.
        unit: ``s`` or ``MiB``.
        old: What the old version took.
        new: What the new version took.
    """

    name: str
    title: str
    unit: str
    old: tuple[float, ...]
    new: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The new median, divided by the old one."""
        return median(self.new) / median(self.old)

    @property
    def verdict(self) -> Verdict:
        """What is to be said about the new version."""
        return judge(self.old, self.new)


_HEAD = ("measure", "", "unit", "old", "new", "new/old", "")
_WIDTHS = (9, 28, 4, 19, 19, 7, 6)  # with a space between each: under 100 columns


def table(comparisons: Iterable[Comparison]) -> str:
    """A line each: median and range of both, as text under 100 columns wide."""
    return "\n".join(map(_aligned, [_HEAD, *map(_cells, comparisons)]))


def _cells(each: Comparison) -> tuple[str, ...]:
    unit, scale = _unit(each)
    shown = (_span(each.old, scale), _span(each.new, scale))
    return (each.name, each.title, unit, *shown, f"{each.ratio:.3f}", each.verdict)


def _unit(each: Comparison) -> tuple[str, float]:
    if each.unit != "s":
        return each.unit, 1.0
    return ("us", 1e6) if median(each.old) < 1e-3 else ("ms", 1e3)


def _span(rounds: Sequence[float], scale: float) -> str:
    middle, least, most = (_short(f(rounds) * scale) for f in (median, min, max))
    return f"{middle} [{least}..{most}]"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _aligned(cells: Sequence[str]) -> str:
    return " ".join(map(str.ljust, cells, _WIDTHS)).rstrip()
