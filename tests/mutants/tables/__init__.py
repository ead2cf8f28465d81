"""The faults as data: a plugin is a file of TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..faults import Fault, Target

__all__ = ["TARGETS"]

HERE = Path(__file__).parent


def _target(path: Path) -> Target:
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    faults = list(_faults(table))
    left_out = frozenset(table.get("without", ()))
    for name in table.get("includes", ()):
        shared = tomllib.loads((HERE / name).read_text(encoding="utf-8"))
        faults += (each for each in _faults(shared) if left_out.isdisjoint((each.kind, each.name)))
    whys = [table.get(word, {}) for word in ("survives", "equivalent")]  # of shared faults
    for place, fault in enumerate(faults):
        survives, equivalent = (why.get(fault.name, "") for why in whys)
        if survives or equivalent:
            faults[place] = replace(
                fault,
                survives=survives or fault.survives,
                equivalent=equivalent or fault.equivalent,
            )
    return Target(path.stem, table["test"], table["recordings"], faults)


def _faults(table: dict[str, Any]) -> Iterator[Fault]:
    for row in table["faults"]:
        yield Fault(**{**row, "file": table["source"] + row["file"]})


TARGETS: dict[str, Target] = {
    path.stem: _target(path)
    for path in sorted(HERE.glob("*.toml"))
    if not path.name.startswith("_")
}
