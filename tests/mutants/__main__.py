"""Plant every fault, run the kit, and say which of them it did not notice.

``python -m tests.mutants [PLUGIN ...] [--kind KIND] [--checks WORDS] [--jobs N] [--page FILE]``
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from . import TARGETS
from .faults import Fault, Target
from .kit import Outcome, run_all
from .page import page_of


def main() -> int:
    """Returns 1 if anything is not as the tables say, or the kit fails a plugin as it is."""
    parser = argparse.ArgumentParser(prog="make mutants", description=__doc__)
    parser.add_argument("plugins", nargs="*", help="all by default")
    parser.add_argument("--kind", action="append", help="faults of this kind only")
    parser.add_argument("--name", help="faults whose name holds this text only")
    parser.add_argument("--checks", default="", help="those of the kit to run, as pytest's -k has")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--page", type=Path, help="write the survivors into this page")
    parser.add_argument("--verbose", action="store_true", help="name the check that noticed each")
    given = parser.parse_args()
    if unknown := set(given.plugins) - set(TARGETS):
        parser.error(f"no faults are known for {', '.join(sorted(unknown))}")
    failed = False
    for name in given.plugins or TARGETS:
        target = TARGETS[name]
        faults = [
            fault
            for fault in target.faults
            if (not given.kind or fault.kind in given.kind)
            and (not given.name or given.name in fault.name)
            and not fault.equivalent
        ]
        outcomes = list(run_all(target, faults, given.jobs, given.checks))
        failed |= _report(target, outcomes, verbose=given.verbose)
    if given.page:
        given.page.write_text(page_of(TARGETS), encoding="utf-8")
    return failed


def _report(target: Target, outcomes: list[Outcome], *, verbose: bool) -> bool:
    """Print what became of a plugin's faults; whether anything is not as it must be."""
    (right,) = (each for each in outcomes if each.fault is None)
    rest = [(each.fault, each) for each in outcomes if each.fault is not None]
    survivors = [(fault, each) for fault, each in rest if each.survived]
    print(f"{target.name}: {len(survivors)} of {len(rest)} faults survive")
    kinds = Counter(fault.kind for fault, _ in rest)
    left = Counter(fault.kind for fault, _ in survivors)
    print("  " + ", ".join(f"{kind} {left[kind]}/{kinds[kind]}" for kind in kinds))
    bad = not right.survived
    if bad:
        print(f"  the kit fails the right plugin: {right.failed or right.problem}")
    for fault, outcome in sorted(rest, key=lambda each: _place(target, each[0])):
        line = _line(fault, outcome)
        if outcome.problem or outcome.survived != bool(fault.survives):
            bad = True
        elif not verbose:
            continue
        print(f"  {line}")
    sys.stdout.flush()
    return bad


def _place(target: Target, fault: Fault) -> int:
    return list(target.faults).index(fault)


def _line(fault: Fault, outcome: Outcome) -> str:
    said = f"{fault.kind}: {fault.name}"
    if outcome.problem:
        return f"CANNOT BE PLANTED  {said}: {outcome.problem}"
    if outcome.survived:
        return f"survives           {said}" + (f" ({fault.survives})" if fault.survives else "")
    late = "  BUT IT IS SAID TO SURVIVE" if fault.survives else ""
    return f"noticed            {said}: {outcome.failed[:160]}{late}"


if __name__ == "__main__":
    raise SystemExit(main())
