"""Two versions of lmgateway in turns: whether the newer one is slower.

In each round both have a new process, because some have more luck than others with where things
lie in memory. A round's figure is the least of several turns, which lie some seconds apart: what a
busy machine adds is never less than nothing, and it adds more at some times than at others.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from measures import Measure, Row
from processes import Worker, serving
from verdicts import Comparison, table
from versions import Version, VersionError, both

__all__ = ["COMPARED", "compare"]

TURNS = 5  # of each version in a round

COMPARED = (
    Measure("sync", "sync_call", "/v1", 150, (Row("sync call, CPU", "cpu"),)),
    Measure("async", "async_call", "/v1", 200, (Row("async call, CPU", "cpu"),)),
    Measure(
        "hundred", "async_batch", "/delay/20/v1", 800,
        (Row("100 in flight, wall", "wall"), Row("100 in flight, CPU", "cpu")), in_flight=100,
    ),
    Measure(
        "threads", "sync_batch", "/delay/50/v1", 400,
        (Row("100 threads, wall", "wall"), Row("100 threads, CPU", "cpu")), in_flight=100,
    ),
    Measure("chunk", "sync_chunk", "/chunks/5000/v1", 5000, (Row("stream, a piece, CPU", "cpu"),)),
    Measure("achunk", "async_chunk", "/chunks/5000/v1", 5000, (Row("awaited, a piece", "cpu"),)),
    Measure("first", "sync_first", "/chunks/3/v1", 80, (Row("stream, first piece, CPU", "cpu"),)),
    Measure("afirst", "async_first", "/chunks/3/v1", 80, (Row("awaited, first piece", "cpu"),)),
    Measure("cached", "cached", "/v1", 200, (Row("cached answer, CPU", "cpu"),)),
    Measure("limited", "limited", "/v1", 150, (Row("call within limits, CPU", "cpu"),), 100),
    Measure("dicts", "dicts", "/v1", 1000, (Row("batch of 1,000 dicts, CPU", "cpu"),), 8),
    Measure("embed", "embed", "/v1", 150, (Row("embedding, CPU", "cpu"),)),
    Measure("made", "made", "/v1", 200, (Row("get_lm and close, CPU", "cpu"),)),
    Measure("render", "render", "/v1", 40, (Row("template of 41 turns, CPU", "cpu"),)),
    Measure("preview", "preview", "/v1", 100, (Row("preview of a request, CPU", "cpu"),)),
    Measure("import", "imports", "/v1", 1, (Row("import lmgateway, CPU", "cpu"),)),
    Measure(
        "ready", "ready", "/v1", 1,
        (Row("import of get_lm, CPU", "cpu"), Row("memory after it", "resident")),
    ),
    Measure("cold", "cold", "/v1", 1, (Row("first answer of a process", "cpu"),)),
    Measure(
        "memory", "memory", "/delay/200/v1", 500, (Row("memory, 500 in flight", "peak"),), 500,
        fresh=True,
    ),
)  # fmt: skip


def compare(revision: str, rounds: int, only: Sequence[str] | None, file: Path | None) -> int:
    """Print how the working tree does beside another version; the exit status.

    Args:
        revision: The old version.
        rounds: How often both begin anew.
        only: Names of the measures; all by default.
        file: Where to write every figure as JSON.
    """
    wanted = [measure for measure in COMPARED if not only or measure.name in only]
    if find_spec("jinja2") is None:
        wanted = [measure for measure in wanted if measure.name != "render"]
    with both(revision) as versions, serving(sys.executable) as service:
        run = Run(versions, service)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            run.take_round(number, wanted)
    comparisons = [each for measure in wanted for each in run.comparisons(measure)]
    for version in versions:
        print(f"{version.name}: {version.said}")
    print(table(comparisons))
    for (name, who), error in run.failures.items():
        print(f"{name}: no figure of the {who} version: {error}")
    if file is not None:
        file.write_text(json.dumps(_as_json(versions, comparisons), indent=1) + "\n")
    slower = any(each.verdict == "worse" for each in comparisons)
    return int(slower or any(who == "new" for _, who in run.failures))


@dataclass(slots=True)
class Run:
    """All rounds of two versions.

    Attributes:
        versions: The old one and the new one.
        service: What they ask.
        figures: By measure and version, the figures of each round.
        failures: By measure and version, why there are none.
    """

    versions: tuple[Version, Version]
    service: str
    figures: dict[tuple[str, str], list[dict[str, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    failures: dict[tuple[str, str], str] = field(default_factory=dict)

    def take_round(self, number: int, measures: Sequence[Measure]) -> None:
        """Take every measure in new processes."""
        turns: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
        with self._workers() as workers:
            for turn in range(TURNS):
                order = self.versions[:: -1 if (number + turn) % 2 else 1]
                for measure in measures:
                    if not measure.fresh:
                        self._take(measure, order, workers, turns)
        for measure in measures:
            if measure.fresh:
                with self._workers() as workers:
                    order = self.versions[:: -1 if number % 2 else 1]
                    self._take(measure, order, workers, turns)
        for key, answers in turns.items():
            least = {name: min(answer[name] for answer in answers) for name in answers[0]}
            self.figures[key].append(least)

    def comparisons(self, measure: Measure) -> Iterator[Comparison]:
        """What came of a measure; nothing where a version failed."""
        old, new = (self.figures[measure.name, version.name] for version in self.versions)
        if len(old) != len(new):
            return
        for row in measure.rows if old else ():
            unit = "s" if row.field in ("cpu", "wall") else "MiB"
            spans = [tuple(each[row.field] for each in rounds) for rounds in (old, new)]
            yield Comparison(measure.name, row.title, unit, *spans)

    def _take(
        self,
        measure: Measure,
        order: Sequence[Version],
        workers: Mapping[str, Worker],
        turns: Mapping[tuple[str, str], list[dict[str, float]]],
    ) -> None:
        """One turn of each version, unless one has failed before."""
        asked: dict[str, Any] = {"measure": measure.does, "base": self.service + measure.path}
        for version in order:
            if any((measure.name, each.name) in self.failures for each in self.versions):
                return
            answer = workers[version.name].ask(
                **asked, count=measure.count, in_flight=measure.in_flight
            )
            if "error" in answer:
                self.failures[measure.name, version.name] = answer["error"]
            else:
                turns[measure.name, version.name].append(answer)

    @contextmanager
    def _workers(self) -> Iterator[dict[str, Worker]]:
        """A process for each version, that is seen to have run that version."""
        with ExitStack() as stack:
            workers = {}
            for version in self.versions:
                worker = Worker(version.python, "lmgateway", version.environment, version.empty)
                workers[version.name] = stack.enter_context(closing(worker))
            yield workers
            for version in self.versions:
                _check_files(version, workers[version.name], self.service)


def _check_files(version: Version, worker: Worker, service: str) -> None:
    files = worker.ask(measure="modules", base=service, count=0).get("files", [])
    home = version.folder.resolve()
    strange = [file for file in files if not Path(file).resolve().is_relative_to(home)]
    if strange or not files:
        raise VersionError(f"the {version.name} version has run {strange or 'nothing'}")


def _as_json(versions: Sequence[Version], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    measures = [
        {**asdict(each), "ratio": each.ratio, "verdict": each.verdict} for each in comparisons
    ]
    return {**{version.name: version.said for version in versions}, "measures": measures}
