"""The figures as a Markdown table, and as a plot."""

from __future__ import annotations

import os
import platform
import re
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contenders import CONTENDERS, PEERS
from measures import Measure, Row, who_can
from plot import Bars, draw

__all__ = ["Results", "write"]

BEGIN, END = "<!-- benchmark -->", "<!-- end of benchmark -->"
IDEAL = "ideal"


@dataclass(slots=True)
class Results:
    """All that was measured.

    Attributes:
        measured: For each measure and contender, medians.
        cold: CPU seconds of whole processes: "import" and "first answer".
        installed: For each environment, version and bytes of its distributions.
    """

    measured: dict[Measure, dict[str, dict[str, float]]] = field(default_factory=dict)
    cold: dict[str, dict[str, float]] = field(default_factory=dict)
    installed: dict[str, dict[str, tuple[str, int]]] = field(default_factory=dict)

    def without(self, names: list[str]) -> list[str]:
        """What one of these contenders took part in and came out of without a figure."""
        broken = []
        for measure, figures in self.measured.items():
            able = who_can(measure, peers=False)
            broken += [
                f"{name} in {measure.name}"
                for name in names
                if name in able and name not in figures
            ]
        for title, seconds in self.cold.items():
            broken += [
                f"{name} in {title}" for name in ("lmgateway", "requests") if name not in seconds
            ]
        return broken


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table."""

    title: str
    unit: str
    floor: str
    aim: float | None
    values: dict[str, float]

    @property
    def ratios(self) -> dict[str, float]:
        """Each value divided by the floor's."""
        floor = self.values.get(self.floor)
        return {name: value / floor for name, value in self.values.items()} if floor else {}


def lines(results: Results) -> list[Line]:
    """The table, line by line."""
    table = []
    for measure, figures in results.measured.items():
        table += [_line(row, measure, figures) for row in measure.rows]
    if imports := results.cold.get("import"):
        nothing = imports.get("nothing", 0.0)
        over = {name: (each - nothing) * 1e3 for name, each in imports.items() if name != "nothing"}
        table.append(Line("import, CPU over `python -c pass`", "ms", "openai", 0.05, over))
    if answers := results.cold.get("first answer"):
        values = {name: each * 1e3 for name, each in answers.items()}
        table.append(Line("first answer of a cold process, CPU", "ms", "requests", 2.0, values))
    return table


def _line(row: Row, measure: Measure, figures: dict[str, dict[str, float]]) -> Line:
    batch = measure.in_flight > 1
    unit, scale = (
        ("MiB", 1.0) if row.field in ("peak", "growth") else ("s", 1.0) if batch else ("us", 1e6)
    )
    values = {name: each[row.field] * scale for name, each in figures.items()}
    if row.ideal is not None:
        values[IDEAL] = row.ideal * measure.count / 1000
    return Line(row.title, unit, row.floor or IDEAL, row.aim, values)


def _markdown(table: list[Line]) -> str:
    peers = [name for name in PEERS if any(name in line.values for line in table)]
    head = ["measure", "floor", "aim", "lmgateway", *peers]
    rows = [head, ["---"] * len(head)]
    for line in table:
        floor = line.values.get(line.floor)
        shown = f"{line.floor} {_short(floor)} {line.unit}" if floor else "not measured"
        aim = f"<= {line.aim:g}" if line.aim is not None else ""
        rows.append([line.title, shown, aim, _cell(line, "lmgateway", bold=True)])
        rows[-1] += [_cell(line, name) for name in peers]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(line: Line, name: str, *, bold: bool = False) -> str:
    ratio, value = line.ratios.get(name), line.values.get(name)
    if value is None:
        return ""
    if ratio is None:
        return f"{_short(value)} {line.unit}"
    text = f"{ratio:.2f}" if ratio < 10 else f"{ratio:.0f}"
    return f"**{text}** ({_short(value)})" if bold else text


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _floors(table: list[Line]) -> str:
    """The bare clients beside each other, for the one measure that all of them do."""
    line = next((each for each in table if each.title.startswith("sync call")), None)
    if line is None:
        return ""
    bare = sorted((value, name) for name, value in line.values.items() if name not in PEERS)
    listed = ", ".join(f"{name} {_short(value)} us" for value, name in bare)
    return f"CPU of a sync call: {listed}."


def _installed(results: Results) -> str:
    rows = []
    for name, found in results.installed.items():
        if found:
            size = sum(each for _, each in found.values()) / 1e6
            rows.append(f"| {name} | {len(found)} | {size:.1f} |")
    head = "| environment | distributions | MB |\n| --- | --- | --- |\n"
    return head + "\n".join(rows) if rows else ""


def _context(results: Results) -> str:
    versions = {}
    for contender in CONTENDERS.values():
        found = results.installed.get(contender.environment, {}).get(contender.package or "")
        if found:
            versions[contender.package] = found[0]
    named = ", ".join(f"{name} {version}" for name, version in versions.items())
    python = f"Python {platform.python_version()}"
    machine = f"{os.cpu_count()} cores ({_processor()}), {platform.system()} {platform.release()}"
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    return f"Measured {day} with {python} on {machine}." + (f" Versions: {named}." if named else "")


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as rows:
            found = re.search(r"model name\s*: (.+)", rows.read())
    except OSError:
        found = None
    return found[1].strip() if found else platform.machine()


def write(results: Results, page: Path | None) -> None:
    """Print the table, or put it between the marks of the page and its plot beside it."""
    table = lines(results)
    parts = [_context(results), _markdown(table), _floors(table), _installed(results)]
    text = "\n\n".join(part for part in parts if part)
    if page is None:
        sys.stdout.write(text + "\n")
        return
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    bars: dict[str, Any] = {line.title: Bars(line.floor, line.ratios) for line in table}
    page.with_suffix(".svg").write_text(draw(bars))
