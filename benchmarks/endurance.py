"""What must stay flat: memory over a long stream, what is in flight in a batch, sockets over loops.

``python -W error benchmarks/endurance.py`` prints the figures; a warning about anything left open
ends it with an error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "speed"))

from server import Answering

from lmgateway import LM, get_lm

PIECES = 100_000
CALLS = int(os.environ.get("CALLS", 100_000))
IN_FLIGHT = 100
LOOPS, CALLS_A_LOOP = 10, 1_000


class _Counting(Answering):
    """The service of the benchmark, which says how many connections it had at once."""

    open = most = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        _Counting.open += 1
        _Counting.most = max(_Counting.most, _Counting.open)

    def connection_lost(self, error: Exception | None) -> None:
        _Counting.open -= 1


async def _serve(write: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Counting, "127.0.0.1", 0, backlog=4096)
    os.write(write, b"%d\n" % server.sockets[0].getsockname()[1])
    done = asyncio.Event()
    loop.add_reader(0, done.set)
    await done.wait()
    server.close()
    os.write(write, b"%d %d\n" % (_Counting.most, _Counting.open))


@contextlib.contextmanager
def served() -> Iterator[tuple[str, Any]]:
    """The address of the service in a process of its own, and what asks it to end and to tell."""
    command_end, end = os.pipe()
    answers, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(end)
        os.dup2(command_end, 0)
        asyncio.run(_serve(write))
        os._exit(0)
    os.close(command_end)
    os.close(write)
    with os.fdopen(answers) as lines:
        try:
            address = f"http://127.0.0.1:{lines.readline().strip()}"
            yield address, lambda: (os.close(end), lines.readline().strip())[1]
        finally:
            with contextlib.suppress(OSError):
                os.close(end)
            os.waitpid(child, 0)


def resident() -> float:
    """MiB of memory in use now."""
    gc.collect()
    found = re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def long_stream(lm: LM) -> None:
    """A stream of many pieces; only the text of the answer may grow."""
    figures = []
    began = process_time()
    with lm.stream("Hi") as pieces:
        for number, _ in enumerate(pieces):
            if number in (1_000, PIECES // 2, PIECES - 1):
                figures.append(resident())
    spent = (process_time() - began) / PIECES * 1e6
    shown = " > ".join(f"{each:.1f}" for each in figures)
    text = len(pieces.completion["choices"][0]["text"]) / 1e6 if pieces.completion else 0
    print(
        f"stream of {PIECES:,} pieces: {shown} MiB, {text:.1f} MB of text, {spent:.1f} us a piece"
    )


async def big_batch(lm: LM) -> None:
    """Many calls through abatch."""
    before = resident()
    began = perf_counter()
    inputs = (f"prompt {number}" for number in range(CALLS))
    completions = await lm.abatch(inputs, concurrency=IN_FLIGHT)
    assert len(completions) == CALLS
    seconds = perf_counter() - began
    held = resident() - before
    print(
        f"abatch of {CALLS:,}, {IN_FLIGHT} in flight: {seconds:.1f} s, "
        f"{held:.0f} MiB for all answers ({held * 1024 / CALLS:.1f} KiB each)"
    )


def many_loops(lm: LM) -> None:
    """Calls over several event loops, one after the other."""

    async def calls() -> None:
        await lm.abatch([f"prompt {number}" for number in range(CALLS_A_LOOP)], concurrency=50)

    figures = []
    for _ in range(LOOPS):
        asyncio.run(calls())
        figures.append((resident(), len(os.listdir("/proc/self/fd"))))
    (first, opened), (last, left) = figures[0], figures[-1]
    print(
        f"{LOOPS} loops of {CALLS_A_LOOP:,} calls: {first:.1f} MiB and {opened} descriptors after "
        f"the first, {last:.1f} and {left} after the last"
    )


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder, served() as (address, tell):
        os.environ["LMGATEWAY_CACHE_DIR"] = folder
        options = {"model": "m", "api_key": "k", "temperature": 0.5}
        with get_lm("openai", api_base=f"{address}/chunks/{PIECES}/v1", **options) as lm:
            long_stream(lm)
        with get_lm("openai", api_base=f"{address}/v1", **options) as lm:
            many_loops(lm)
            asyncio.run(big_batch(lm))
        most, left = tell().split()
        print(f"the service had {most} connections at most, and {left} at the end")
    gc.collect()


if __name__ == "__main__":
    main()
