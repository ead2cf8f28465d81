"""Calls without pause against a service that fails one request in five: what must hold, counted.

``python tests/soak/in_flight.py --seconds 600 --in-flight 200`` spends five sixths of the time in
tasks of one event loop and the rest in threads. It prints the figures, and exits with 1 if a call
was lost, an answer was another's or came twice, or memory, files or threads grew.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

from failing_server import answer_to

from lmgateway import LMGatewayError, get_lm

TIMEOUT = 5.0
SLACK = 1.0  # seconds over the timeout, and over what the machine itself came late
TICK = 0.05
PAGE = os.sysconf("SC_PAGE_SIZE")
MIB = 1 << 20


@dataclass
class Tally:
    """What became of the calls of one part."""

    outcomes: Counter[str] = field(default_factory=Counter)
    begun: int = 0
    ended: int = 0
    wrong: int = 0
    slowest: float = 0.0
    latest: float = 0.0
    queued: float = 0.0
    left_over: int = 0
    samples: list[tuple[int, int, int]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def call(self) -> Iterator[None]:
        """One call: it ends in an answer or in one of our errors, in time."""
        began = time.monotonic()
        with self.lock:
            self.begun += 1
        try:
            yield
            outcome = "answered"
        except LMGatewayError as error:
            outcome = type(error).__name__
        except BaseException as error:
            outcome = f"NOT OURS: {error!r:.200}"
        took = time.monotonic() - began  # before the lock, for which 200 threads may queue
        with self.lock:
            self.ended += 1
            self.outcomes[outcome] += 1
            self.slowest = max(self.slowest, took)

    def check(self, prompt: str, texts: list[str]) -> None:
        """Note an answer that is not the one."""
        if texts != [answer_to(prompt)]:
            with self.lock:
                self.wrong += 1

    def sample(self) -> None:
        """Resident bytes, open files and threads of this process."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        files = len(os.listdir("/proc/self/fd"))
        self.samples.append((pages * PAGE, files, threading.active_count()))


def open_files() -> int:
    """Of this process, when all that nobody holds any more is gone."""
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


def queued() -> float:
    """Seconds that this thread was ready to run and was given no processor, so far."""
    return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9


class Lateness:
    """How late a timer of this thread comes at worst: no call can keep its time better.

    How much of that the machine is to blame for, because it was busy with others, is told apart.
    """

    def __init__(self, tally: Tally) -> None:
        self.tally = tally

    def begin(self) -> None:
        """The timer is set."""
        self.due, self.before = time.monotonic() + TICK, queued()

    def end(self) -> None:
        """It has come."""
        late = time.monotonic() - self.due
        if late > self.tally.latest:
            self.tally.latest, self.tally.queued = late, queued() - self.before


def ask(lm: Any, prompt: str, tally: Tally, *, stream: bool) -> None:
    """One call, blocking."""
    with tally.call():
        if not stream:
            tally.check(prompt, lm(prompt))
            return
        with lm.stream(prompt) as pieces:
            tally.check(prompt, ["".join(pieces)])


async def aask(lm: Any, prompt: str, tally: Tally, *, stream: bool) -> None:
    """One call, awaited."""
    with tally.call():
        if not stream:
            tally.check(prompt, await lm.acall(prompt))
            return
        async with lm.astream(prompt) as pieces:
            tally.check(prompt, ["".join([piece async for piece in pieces])])


async def in_tasks(lm: Any, seconds: float, in_flight: int, numbers: Iterator[int]) -> Tally:
    """Keep so many tasks at work."""
    tally, end = Tally(), time.monotonic() + seconds

    async def work() -> None:
        while time.monotonic() < end:
            number = next(numbers)
            await aask(lm, f"prompt {number}", tally, stream=number % 3 == 0)

    async def watch() -> None:
        lateness, sampled = Lateness(tally), time.monotonic()
        while (now := time.monotonic()) < end:
            lateness.begin()
            await asyncio.sleep(TICK)
            lateness.end()
            if now - sampled > min(1.0, seconds / 40):
                tally.sample()
                sampled = now

    await asyncio.gather(watch(), *(work() for _ in range(in_flight)))
    return tally


def in_threads(lm: Any, seconds: float, in_flight: int, numbers: Iterator[int]) -> Tally:
    """Keep so many threads at work."""
    tally, end = Tally(), time.monotonic() + seconds

    def work() -> None:
        while time.monotonic() < end:
            number = next(numbers)
            ask(lm, f"prompt {number}", tally, stream=number % 3 == 0)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(in_flight)]
    for thread in threads:
        thread.start()
    lateness, sampled = Lateness(tally), time.monotonic()
    while (now := time.monotonic()) < end:
        lateness.begin()
        time.sleep(TICK)
        lateness.end()
        if now - sampled > min(1.0, seconds / 40):
            tally.sample()
            sampled = now
    for thread in threads:
        thread.join(TIMEOUT + 60)
    return tally


def growth(tally: Tally) -> tuple[list[str], bool]:
    """Second and last quarter compared: the first is for warming up.

    Open files come and go with the calls in flight; what counts is what is left of them.
    """
    quarter = len(tally.samples) // 4
    early, late = tally.samples[quarter : 2 * quarter], tally.samples[-quarter:]
    words, grew = [], tally.left_over > 0
    for place, (name, unit) in enumerate([("resident MiB", MIB), ("files", 1), ("threads", 1)]):
        before = median(sample[place] for sample in early)
        after = median(sample[place] for sample in late)
        highest = max(sample[place] for sample in tally.samples)
        grew = grew or (name != "files" and after > before * 1.05 + 4 * unit)
        words.append(f"{name} {before / unit:.0f} -> {after / unit:.0f} (max {highest / unit:.0f})")
    return [*words, f"files left over {tally.left_over}"], grew


def report(name: str, tally: Tally, seconds: float) -> bool:
    """Print the figures of a part; whether all is as it must be."""
    words, grew = growth(tally)
    outcomes = ", ".join(f"{kind} {number}" for kind, number in tally.outcomes.most_common())
    print(f"{name}: {tally.ended} calls in {seconds:.0f} s: {outcomes}")
    print(f"{name}: lost {tally.begun - tally.ended}, wrong {tally.wrong}; slowest call "
          f"{tally.slowest:.2f} s of {TIMEOUT:g}, slowest timer of this process "
          f"{tally.latest:.2f} s late ({tally.queued:.2f} s of it waiting for a processor); "
          f"{'; '.join(words)}", flush=True)  # fmt: skip
    strange = any(kind.startswith("NOT OURS") for kind in tally.outcomes)
    # Between its deadline and its end a call needs a turn of the interpreter some ten times.
    late = tally.slowest > TIMEOUT + SLACK + 10 * tally.latest
    return not (tally.begun != tally.ended or tally.wrong or strange or late or grew)


def main() -> int:
    """Run both parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--in-flight", type=int, default=200)
    given = parser.parse_args()
    warnings.simplefilter("error")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("failing_server.py"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    base = f"http://127.0.0.1:{int(server.stdout.readline())}"
    numbers = count()
    options: dict[str, Any] = {"timeout": TIMEOUT, "cache": False, "api_key": "sk-soak"}
    seconds = (given.seconds * 5 / 6, given.seconds / 6)
    files = open_files()
    with get_lm("openai/m", api_base=base, **options) as lm:
        awaited = asyncio.run(in_tasks(lm, seconds[0], given.in_flight, numbers))
    awaited.left_over = open_files() - files
    good = report("tasks", awaited, seconds[0])
    with get_lm("openai/m", api_base=base, **options) as lm:
        blocking = in_threads(lm, seconds[1], given.in_flight, numbers)
    blocking.left_over = open_files() - files
    good = report("threads", blocking, seconds[1]) and good
    figures = json.loads(server.communicate()[0])
    print("service:", ", ".join(f"{name} {number}" for name, number in figures.items()))
    answered = awaited.outcomes["answered"] + blocking.outcomes["answered"]
    asked = awaited.begun + blocking.begun
    print(f"answered {answered} of {asked}; answered twice by the service "
          f"{figures['answered twice']}")  # fmt: skip
    doubled = figures["answered twice"] > 0
    print("all is well" if good and not doubled else "SOMETHING IS WRONG")
    return 0 if good and not doubled else 1


if __name__ == "__main__":
    sys.exit(main())
