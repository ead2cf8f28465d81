"""Ctrl-C at random moments of blocking calls: nothing stays taken, nothing hangs, all counted.

``python tests/soak/interrupts.py --interrupts 10000`` prints the figures and exits with 1 if a
place in flight, a flight, a lock, a connection of the cache or a pool was lost, or an answer was
another's. Signals of a timer do what the terminal's Ctrl-C does.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from failing_server import answer_to

from lmgateway import LMGatewayError, get_lm
from lmgateway._drive.futures import start
from lmgateway._layers import singleflight
from lmgateway._layers.limit import limiters
from lmgateway._store import sqlite
from lmgateway._transports import leases

TIMEOUT = 20.0  # seconds for a call; it takes milliseconds
DRAIN_SECONDS = 10.0  # until what other threads are at has ended
LONGEST = 0.004  # seconds until an interrupt


class Checks:
    """What is counted, and the answers that must be right."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def answer(self, prompt: str, text: str) -> None:
        """Note an answer that is not the one."""
        if text != answer_to(prompt):
            self.counts["WRONG ANSWER"] += 1

    def state(self, lm: Any) -> None:
        """Note what has not come back in time."""
        end = time.monotonic() + DRAIN_SECONDS
        while (left := taken()) and time.monotonic() < end:
            time.sleep(0.001)
        for what in left:
            self.counts[f"LOST: {what}"] += 1


def taken() -> list[str]:
    """What is in use at this moment."""
    semaphores = [each.in_flight for each in list(limiters.values()) if each.in_flight]
    found = {
        "a place in flight": any(each.held for each in semaphores),
        "a place in the queue": any(each.queued for each in semaphores),
        "a flight": singleflight.flights,
        "a connection of the cache": any(store._out for store in list(sqlite._stores)),
    }
    return [what for what, there in found.items() if there]


# -- calls that are interrupted ----------------------------------------------------------------


def whole(lm: Any, prompt: str, checks: Checks) -> None:
    """One answer."""
    checks.answer(prompt, lm(prompt)[0])


def stream(lm: Any, prompt: str, checks: Checks) -> None:
    """An answer in pieces."""
    checks.answer(prompt, "".join(lm.stream(prompt)))


def left(lm: Any, prompt: str, checks: Checks) -> None:
    """A stream that is left after its first piece."""
    with lm.stream(prompt) as pieces:
        next(pieces)


def followed(lm: Any, prompt: str, checks: Checks) -> None:
    """The same as another thread asks, which may lead or follow, and must get its answer."""

    def ask() -> None:
        try:
            checks.answer(prompt, lm(prompt)[0])
        except BaseException as error:
            checks.counts[f"THE OTHER'S {type(error).__name__}: {error}"] += 1

    thread = threading.Thread(target=ask, daemon=True)
    threads.append(thread)  # first: it may run although its start was interrupted
    start(thread)
    whole(lm, prompt, checks)


def batch(lm: Any, prompt: str, checks: Checks) -> None:
    """Four answers in threads."""
    prompts = [f"{prompt} {number}" for number in range(4)]
    for each, completion in zip(prompts, lm.batch(prompts), strict=True):
        checks.answer(each, completion["choices"][0]["text"])


WAYS: dict[str, Callable[[Any, str, Checks], None]] = {
    "whole": whole,
    "stream": stream,
    "left": left,
    "followed": followed,
    "batch": batch,
}
threads: list[threading.Thread] = []
armed = False


def strike(*_: object) -> None:
    """What Ctrl-C does, from the timer; it may come late."""
    if armed:
        raise KeyboardInterrupt


def round_of(way: str, lm: Any, number: int, checks: Checks) -> None:
    """One call that is interrupted, if it takes long enough, and a look at what it left."""
    global armed
    prompt = f"{way} {number} {os.getpid()}"
    try:
        armed = True
        signal.setitimer(signal.ITIMER_REAL, random.uniform(2e-5, LONGEST))
        WAYS[way](lm, prompt, checks)
        armed = False
        checks.counts["finished"] += 1
    except KeyboardInterrupt:
        armed = False
        checks.counts["interrupted"] += 1
    except LMGatewayError as error:
        armed = False
        checks.counts[f"RAISED {type(error).__name__}: {error}"] += 1
    while threads:
        thread = threads.pop()
        try:
            thread.join(DRAIN_SECONDS)
        except RuntimeError:  # it is about to begin, or never will
            time.sleep(0.1)
        checks.counts["HUNG: the other thread"] += thread.is_alive()
    checks.state(lm)
    if number % 20 == 0:
        whole(lm, f"{prompt} again", checks)


def main() -> int:
    """Interrupt as often as was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interrupts", type=int, default=10_000)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    os.environ["LMGATEWAY_CACHE_DIR"] = str(folder)
    config = folder / "lmgateway.toml"
    config.write_text("[limits.openai]\nin_flight = 1\nrpm = 1e7\ntpm = 1e9\n")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("failing_server.py")), "--share", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    base = f"http://127.0.0.1:{int(server.stdout.readline())}"
    signal.signal(signal.SIGALRM, strike)
    checks, number = Checks(), 0
    lm = get_lm(
        "openai/m", api_base=base, api_key="sk-soak", config=str(config), timeout=TIMEOUT,
        retries=0, temperature=0, history=2,
    )  # fmt: skip
    with lm:
        while checks.counts["interrupted"] < given.interrupts:
            faulthandler.dump_traceback_later(120, exit=True)
            number += 1
            round_of(random.choice(list(WAYS)), lm, number, checks)
    faulthandler.cancel_dump_traceback_later()
    checks.counts["LOST: a pool"] += len(leases.shared.open)
    server.communicate()
    counts = +checks.counts
    print(", ".join(f"{what} {often}" for what, often in counts.items()))
    good = counts.keys() <= {"finished", "interrupted"}
    print("all is well" if good else "SOMETHING IS WRONG")
    sys.stdout.flush()
    os._exit(not good)  # without waiting for threads of a batch


if __name__ == "__main__":
    sys.exit(main())
