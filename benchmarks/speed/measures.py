"""What is measured, against which floor, and what is aimed at."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from contenders import CONTENDERS, FLOORS, PEERS, Contender

__all__ = ["MEASURES", "QUICK", "Measure", "Row", "who_can"]

Field = Literal["cpu", "wall", "peak", "growth", "resident"]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a measure, as the table shows it.

    Attributes:
        title: What it is.
        field: Which of the figures.
        floor: The contender it is divided by; None for an ideal in seconds.
        ideal: Seconds that a client which costs nothing would take.
        aim: The ratio that lmgateway is to stay under; None where none was set.
    """

    title: str
    field: Field
    floor: str | None = None
    ideal: float | None = None
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Measure:
    """One thing that every contender does, in turns.

    Attributes:
        name: For the command line.
        does: The worker's function.
        path: What the service is to do.
        count: Calls or pieces in a round.
        rows: What is made of it.
        in_flight: Calls at a time.
        rounds: Rounds; the figure is their median.
        fresh: A process for each round.
    """

    name: str
    does: str
    path: str
    count: int
    rows: tuple[Row, ...]
    in_flight: int = 1
    rounds: int = 9
    fresh: bool = False


MEASURES = (
    Measure(
        "sync", "sync_call", "/v1", 200,
        (Row("sync call, CPU", "cpu", "requests", aim=0.6),),
        rounds=15,
    ),
    Measure(
        "async", "async_call", "/v1", 200,
        (Row("async call, CPU", "cpu", "aiohttp", aim=1.15),),
        rounds=15,
    ),
    Measure(
        "flood", "async_batch", "/delay/200/v1", 1000,
        (
            Row("1,000 calls of 200 ms, 1,000 in flight, wall", "wall", "aiohttp", aim=1.15),
            Row("the same, CPU", "cpu", "aiohttp", aim=1.15),
        ),
        in_flight=1000,
    ),
    Measure(
        "hundred", "async_batch", "/delay/200/v1", 1000,
        (Row("the same, 100 in flight, wall", "wall", ideal=2.0, aim=1.1),),
        in_flight=100,
    ),
    Measure(
        "threads", "sync_batch", "/delay/200/v1", 1000,
        (
            Row("the same in 100 threads, wall", "wall", ideal=2.0, aim=1.1),
            Row("the same in 100 threads, CPU", "cpu", "requests", aim=0.6),
        ),
        in_flight=100,
    ),
    Measure(
        "chunk", "sync_chunk", "/chunks/5000/v1", 5000,
        (Row("stream, a piece of many in a packet, CPU", "cpu", "requests"),),
    ),
    Measure(
        "single", "sync_chunk", "/single/5000/v1", 5000,
        (Row("stream, a piece in a packet, CPU", "cpu", "requests", aim=2.0),),
    ),
    Measure(
        "paced", "sync_chunk", "/paced/500/v1", 500,
        (Row("stream, a piece a millisecond, CPU", "cpu", "requests"),),
        rounds=5,
    ),
    Measure(
        "achunk", "async_chunk", "/chunks/5000/v1", 5000,
        (Row("stream awaited, a piece of many in a packet, CPU", "cpu", "aiohttp"),),
    ),
    Measure(
        "first", "sync_first", "/paced/3/v1", 100,
        (Row("stream, first piece, CPU", "cpu", "requests", aim=1.3),),
    ),
    Measure(
        "afirst", "async_first", "/paced/3/v1", 100,
        (Row("stream awaited, first piece, CPU", "cpu", "aiohttp", aim=1.3),),
    ),
    Measure(
        "memory", "memory", "/delay/200/v1", 1000,
        (
            Row("memory at 1,000 in flight, of the process", "peak", "aiohttp", aim=1.2),
            Row("the same without what it took before", "growth", "aiohttp"),
        ),
        in_flight=1000, rounds=3, fresh=True,
    ),
)  # fmt: skip


def _shortened(measure: Measure) -> Measure:
    """The same in a few seconds: 200 calls and 100 in flight where it has 1,000 of them."""
    rows = tuple(
        replace(row, title=row.title.replace("1,000 calls", "200 calls").replace("1,000", "100"))
        for row in measure.rows
    )
    count = 200 if measure.in_flight > 1 else measure.count
    in_flight = min(measure.in_flight, 100)
    rounds = min(measure.rounds, 3)
    return replace(measure, rows=rows, count=count, in_flight=in_flight, rounds=rounds)


QUICK = tuple(map(_shortened, MEASURES))

_NEEDS = {
    "sync_call": "call",
    "sync_batch": "call",
    "sync_chunk": "stream",
    "sync_first": "stream",
    "async_call": "acall",
    "async_batch": "acall",
    "memory": "acall",
    "async_chunk": "astream",
    "async_first": "astream",
}


def who_can(measure: Measure, *, peers: bool) -> list[str]:
    """The contenders that do what is measured, this project's first."""
    needed = _NEEDS[measure.does]
    names = ["lmgateway", *FLOORS, *(PEERS if peers else ())]
    return [
        name
        for name in names
        if getattr(CONTENDERS[name], needed) is not getattr(Contender, needed)
    ]
