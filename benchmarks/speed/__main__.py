"""The project's benchmark: ``python benchmarks/speed``; see docs/reference/performance.md.

Every contender runs in a process and an environment of its own, against one service in a process
of its own, in turns, so that whatever else the machine does meets them all. A figure is the median
of its rounds. Trust the ratios, not the microseconds.

With ``--against COMMIT`` two versions of lmgateway take turns instead, and the exit status says
whether the newer one is slower.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from against import COMPARED, compare
from cold import FIRST_ANSWER, IMPORTS, medians
from contenders import CONTENDERS, FLOORS, PEERS
from environments import ROOT, Environments
from measures import MEASURES, QUICK, Measure, who_can
from processes import Worker, serving
from report import Results, write
from versions import VersionError

BUDGET = 8.0  # seconds of wall time that another gateway may take for one measure


def take(measure: Measure, service: str, pythons: dict[str, str]) -> dict[str, dict[str, float]]:
    """The medians of one measure, for each contender that came through."""
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in pythons}
    order = {"measure": measure.does, "base": service + measure.path, "count": measure.count}
    with ExitStack() as stack:
        workers: dict[str, Worker] = {}
        left = set(pythons)
        for _ in range(measure.rounds):
            for name in [name for name in pythons if name in left]:
                if name not in workers:
                    workers[name] = Worker(pythons[name], name)
                    stack.callback(workers[name].close)
                answer = workers[name].ask(**order, in_flight=measure.in_flight)
                if "error" in answer:
                    print(f"{measure.name}: {name}: {answer['error']}", file=sys.stderr)
                else:
                    figures[name].append(answer)
                slow = name in PEERS and workers[name].seconds > BUDGET
                if "error" in answer or slow:
                    left.discard(name)
                if measure.fresh:
                    del workers[name]
    return {
        name: {field: median(each[field] for each in rounds) for field in rounds[0]}
        for name, rounds in figures.items()
        if rounds
    }


def take_cold(service: str, environments: Environments, *, quick: bool) -> dict[str, Any]:
    """Import times, first answers and what is installed."""
    results: dict[str, Any] = {}
    for title, table in (("import", IMPORTS), ("first answer", FIRST_ANSWER)):
        commands = {}
        for name, (environment, code) in table.items():
            if quick and name not in ("nothing", "lmgateway", "requests"):
                continue
            python = environments.python(environment)
            if python is not None:
                commands[name] = (python, code.format(base=f"{service}/v1"))
        results[title] = medians(commands, rounds=3 if quick else 7)
    return results


def main() -> None:
    """Measure, and print a table or write the page; or compare two versions."""
    options = parse_arguments()
    if options.against:
        try:
            sys.exit(compare(options.against, options.rounds, options.only, options.json))
        except VersionError as error:
            sys.exit(str(error))
    measure_all(options)


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute, without peers")
    parser.add_argument("--only", nargs="*", help="these measures, and nothing cold")
    parser.add_argument("--page", type=Path, help="the page to write; its plot goes beside it")
    group = parser.add_argument_group("two versions of lmgateway in turns, and nobody else")
    group.add_argument(
        "--against",
        metavar="COMMIT",
        help="compare the working tree with this commit (or the folder of another checkout); "
        "the exit status is 1 if anything is slower",
    )
    group.add_argument("--rounds", type=int, default=7, help="new processes of each; default 7")
    group.add_argument("--json", type=Path, help="a file for the figures of all rounds")
    options = parser.parse_args()
    known = {measure.name for measure in (COMPARED if options.against else MEASURES)}
    if unknown := set(options.only or ()) - known:
        parser.error(
            f"no measure {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}"
        )
    if options.against and (options.quick or options.page):
        parser.error("--against knows neither --quick nor --page")
    if options.rounds < 1:
        parser.error("--rounds begins at 1")
    return options


def measure_all(options: argparse.Namespace) -> None:
    """Every contender, every measure."""
    folder = None if options.quick else ROOT / ".cache" / "bench"
    environments = Environments(folder)
    results = Results()
    page = None
    try:
        with tempfile.TemporaryDirectory() as cache, serving(sys.executable) as service:
            os.environ["LMGATEWAY_CACHE_DIR"] = cache
            os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it asks the network first
            for measure in QUICK if options.quick else MEASURES:
                if not options.only or measure.name in options.only:
                    pythons = pythons_for(measure, environments, peers=not options.quick)
                    results.measured[measure] = take(measure, service, pythons)
            if not options.only:
                results.cold = take_cold(service, environments, quick=options.quick)
                if not options.quick:
                    results.installed = {
                        name: environments.sizes(name)
                        for name in ("core", *sorted({c.environment for c in CONTENDERS.values()}))
                    }
        page = options.page
    finally:
        write(results, page)  # what was measured before a failure is shown, on no page
    if broken := results.without(["lmgateway", *FLOORS]):
        sys.exit(f"no figures: {', '.join(broken)}")


def pythons_for(measure: Measure, environments: Environments, *, peers: bool) -> dict[str, str]:
    """Who takes part, each with the interpreter it runs in."""
    found = {}
    for name in who_can(measure, peers=peers):
        python = environments.python(CONTENDERS[name].environment)
        if python is not None:
            found[name] = python
    print(f"{measure.name}: {', '.join(found)}", file=sys.stderr)
    return found


if __name__ == "__main__":
    main()
