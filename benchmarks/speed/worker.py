"""One contender in a process of its own: measures what it is told to, one JSON line each.

``worker.py NAME`` reads ``{"measure": ..., "base": ..., "count": ...}`` from standard input and
writes ``{"cpu": seconds, "wall": seconds}`` or ``{"error": text}``. CPU is that of the process
with all its threads.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

from contenders import CONTENDERS, Contender
from own import OWN
from workload import PROMPT, WARM_UP, Clock, Figures, ShortClock


def sync_call(contender: Contender, count: int, _: int) -> Figures:
    """Calls one after the other."""
    for _ in range(WARM_UP):
        contender.call(PROMPT)
    clock = Clock()
    for _ in range(count):
        contender.call(PROMPT)
    return clock.read(count)


async def async_call(contender: Contender, count: int, _: int) -> Figures:
    """The same, awaited."""
    for _ in range(WARM_UP):
        await contender.acall(PROMPT)
    clock = Clock()
    for _ in range(count):
        await contender.acall(PROMPT)
    return clock.read(count)


async def async_batch(contender: Contender, count: int, in_flight: int) -> Figures:
    """Many calls, so many of them at a time; the connections are made in the time measured."""
    await contender.acall(PROMPT)
    clock = Clock()
    await contender.abatch([f"{number} {PROMPT}" for number in range(count)], in_flight)
    return clock.read()


def sync_batch(contender: Contender, count: int, in_flight: int) -> Figures:
    """The same in threads."""
    contender.call(PROMPT)
    clock = Clock()
    contender.batch([f"{number} {PROMPT}" for number in range(count)], in_flight)
    return clock.read()


def sync_chunk(contender: Contender, count: int, _: int) -> Figures:
    """A stream of ``count`` pieces, each piece."""
    clock = Clock()
    _expect(sum(1 for _ in contender.stream(PROMPT)), count)
    return clock.read(count)


async def async_chunk(contender: Contender, count: int, _: int) -> Figures:
    """The same, awaited."""
    await contender.acall(PROMPT)
    clock = Clock()
    pieces = 0
    async for _ in contender.astream(PROMPT):
        pieces += 1
    _expect(pieces, count)
    return clock.read(count)


def sync_first(contender: Contender, count: int, _: int) -> Figures:
    """From the call to the first piece of a stream; its end is not measured."""
    total = {"wall": 0.0, "cpu": 0.0}
    for number in range(WARM_UP + count):
        clock = ShortClock()
        pieces = iter(contender.stream(PROMPT))
        next(pieces)
        if number >= WARM_UP:
            clock.add_to(total)
        for _ in pieces:
            pass
    return {name: seconds / count for name, seconds in total.items()}


async def async_first(contender: Contender, count: int, _: int) -> Figures:
    """The same, awaited."""
    total = {"wall": 0.0, "cpu": 0.0}
    for number in range(WARM_UP + count):
        clock = ShortClock()
        pieces = aiter(contender.astream(PROMPT))
        await anext(pieces)
        if number >= WARM_UP:
            clock.add_to(total)
        async for _ in pieces:
            pass
    return {name: seconds / count for name, seconds in total.items()}


async def memory(contender: Contender, count: int, in_flight: int) -> Figures:
    """Peak resident memory in MiB with so many calls in flight, and how much of it they took."""
    await contender.acall(PROMPT)
    before = _status("VmRSS")
    await contender.abatch([f"{number} {PROMPT}" for number in range(count)], in_flight)
    peak = _status("VmHWM")
    return {"peak": peak, "growth": peak - before}


def _expect(pieces: int, count: int) -> None:
    if pieces < count:
        raise ValueError(f"{pieces} pieces came where {count} were sent")


def _status(name: str) -> float:
    with open("/proc/self/status") as lines:
        for line in lines:
            if line.startswith(name):
                return int(line.split()[1]) / 1024
    raise LookupError(name)


SYNC: dict[str, Callable[[Contender, int, int], Figures]] = {
    **OWN,
    **{each.__name__: each for each in (sync_call, sync_batch, sync_chunk, sync_first)},
}
ASYNC: dict[str, Callable[[Contender, int, int], Any]] = {
    each.__name__: each for each in (async_call, async_batch, async_chunk, async_first, memory)
}


@cache
def contender(name: str, base: str, kind: str) -> Contender:
    """Made once for each place that it is to ask in one way: awaited, it is closed after it."""
    return CONTENDERS[name](base)


def measure(name: str, wanted: dict[str, Any], runner: asyncio.Runner) -> Figures:
    """Carry one order out."""
    kind, count, in_flight = wanted["measure"], wanted["count"], wanted.get("in_flight", 1)
    client = contender(name, wanted["base"], kind)
    if kind in SYNC:
        return SYNC[kind](client, count, in_flight)

    async def run() -> Figures:
        async with client:
            figures: Figures = await ASYNC[kind](client, count, in_flight)
            return figures

    return runner.run(run())


def main() -> None:
    """Serve until standard input ends, in one event loop: some clients bear no second one."""
    runner = asyncio.Runner()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # some contenders print
    for line in sys.stdin:
        try:
            figures: dict[str, Any] = measure(sys.argv[1], json.loads(line), runner)
        except Exception as error:
            figures = {"error": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(figures), file=answers, flush=True)


if __name__ == "__main__":
    main()
