"""What a call from DSPy costs through lmgateway, against ``dspy.LM`` on its default engine.

Both talk to one server on loopback, in a process of its own, that answers at once. They take
turns within one run; the figures are medians over the rounds: microseconds of this process's CPU
and of the wall for one call, and their ratios. Trust the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from multiprocessing.connection import Connection
from time import perf_counter, process_time

ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Paris, because it is. " * 20},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 90, "completion_tokens": 120, "total_tokens": 210},
    }
).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
PROMPT = "What is the capital of France? Answer in one word, and say why. " * 6


class Answering(asyncio.Protocol):
    """Answers every request that has come whole, whatever it asks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing read."""
        self.transport = transport
        self.read = b""

    def data_received(self, data: bytes) -> None:
        """Read on, and answer what is complete."""
        self.read += data
        while b"\r\n\r\n" in self.read:
            head, _, rest = self.read.partition(b"\r\n\r\n")
            fields = [line.split(b":", 1) for line in head.split(b"\r\n")[1:]]
            length = next((int(v) for k, v in fields if k.lower() == b"content-length"), 0)
            if len(rest) < length:
                return
            self.read = rest[length:]
            self.transport.write(HEAD % len(ANSWER) + ANSWER)  # type: ignore[attr-defined]


def serve(ready: Connection) -> None:
    """Serve until killed; tells its port first."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(Answering, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


Ask = Callable[[], object]
AskAsync = Callable[[], Awaitable[object]]


def contenders(url: str, model: str) -> dict[str, object]:
    """The LMs that take part, and a DSPy program's module on each."""
    import dspy

    from lmgateway.dspy import LM

    theirs = dspy.LM(f"openai/{model}", api_base=url, api_key="sk-benchmark", cache=False)
    ours = LM("openai", model=model, api_base=url, api_key="sk-benchmark", cache=False)
    return {"dspy.LM": theirs, "lmgateway": ours}


def measure(lms: dict[str, object], rounds: int, calls: int) -> dict[str, list[tuple[float, ...]]]:
    """CPU and wall of one call, a round: all contenders in turn, sync and async."""
    found: dict[str, list[tuple[float, ...]]] = {}
    with asyncio.Runner() as runner:
        for _ in range(rounds):
            for name, lm in lms.items():
                for mode, step in (("sync", _sync), ("async", _async)):
                    began = process_time(), perf_counter()
                    step(lm, calls, runner)
                    ended = process_time(), perf_counter()
                    spent = [(e - b) / calls * 1e6 for b, e in zip(began, ended, strict=True)]
                    found.setdefault(f"{name} {mode}", []).append(tuple(spent))
    return found


def _sync(lm: Callable[[str], object], calls: int, runner: asyncio.Runner) -> None:
    for _ in range(calls):
        lm(PROMPT)


def _async(lm: object, calls: int, runner: asyncio.Runner) -> None:
    async def run() -> None:
        for _ in range(calls):
            await lm.acall(PROMPT)  # type: ignore[attr-defined]

    runner.run(run())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument(
        "--model",
        default="meta-llama/Llama-2-70b-chat-hf",
        help="DSPy looks for the price of each call: gpt-4o-mini is one it finds at once",
    )
    parser.add_argument("--calls", type=int, default=100, help="calls of a round")
    arguments = parser.parse_args()
    os.environ["DSPY_CACHEDIR"] = tempfile.mkdtemp()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"  # no download in the background
    here, there = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True)
    server.start()
    try:
        lms = contenders(f"http://127.0.0.1:{here.recv()}/v1", arguments.model)
        measure(lms, 2, arguments.calls)  # pools, imports and caches warm up
        found = measure(lms, arguments.rounds, arguments.calls)
    finally:
        server.kill()
    print(f"{'us a call':<18}{'CPU':>8}{'wall':>8}")
    middle = {
        name: [statistics.median(x) for x in zip(*all_, strict=False)]
        for name, all_ in found.items()
    }
    for name, (cpu, wall) in middle.items():
        print(f"{name:<18}{cpu:>8.0f}{wall:>8.0f}")
    for mode in ("sync", "async"):
        ours, theirs = middle[f"lmgateway {mode}"], middle[f"dspy.LM {mode}"]
        ratios = [our / their for our, their in zip(ours, theirs, strict=True)]
        print(f"{'ratio ' + mode:<18}{ratios[0]:>8.2f}{ratios[1]:>8.2f}")


if __name__ == "__main__":
    main()
