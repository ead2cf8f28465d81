"""What vectors cost in CPU and memory, beside the openai SDK's client, over real sockets.

The service is a process of its own that writes prepared bytes. Each contender runs in a fresh
process, in turns, with numpy and without; a figure is the median of the rounds. Memory is the peak
of one call, less what the process held before it. Trust the ratios, not the milliseconds.

The second part embeds many texts at once: what the peak is above the vectors themselves should not
depend on how many there are.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import re
import socket
import statistics
import subprocess
import sys
import threading
from array import array
from base64 import b64encode
from collections.abc import Callable
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from random import Random
from time import process_time
from typing import Any

SHAPES = ((1000, 1536), (2048, 3072))
MANY = (50_000, 100_000, 200_000)  # texts, of which each vector has so many dimensions:
MANY_WIDE = 256
CONTENDERS = ("lmgateway", "openai", "lmgateway awaited", "openai awaited")
CALLS = 5
AIMS = {"cpu": 1.0, "peak": 0.7}
BEGIN, END = "<!-- embeddings -->", "<!-- end of embeddings -->"
MODEL = "text-embedding-3-large"


# -- the service ---------------------------------------------------------------------------------


@lru_cache
def _row(wide: int, base64: bool) -> str:
    floats = array("f", (Random(0).uniform(-1, 1) for _ in range(wide)))
    return f'"{b64encode(floats.tobytes()).decode()}"' if base64 else json.dumps(floats.tolist())


@lru_cache
def _answer(count: int, wide: int, base64: bool) -> bytes:
    row = _row(wide, base64)
    rows = ",".join(
        f'{{"object":"embedding","index":{index},"embedding":{row}}}' for index in range(count)
    )
    usage = f'{{"prompt_tokens":{count},"total_tokens":{count}}}'
    return f'{{"object":"list","data":[{rows}],"model":"{MODEL}","usage":{usage}}}'.encode()


def _serve_one(connection: socket.socket) -> None:
    reader = connection.makefile("rb")
    while first := reader.readline():
        length = 0
        while (header := reader.readline()).strip():
            if header.lower().startswith(b"content-length:"):
                length = int(header.split(b":")[1])
        asked = json.loads(reader.read(length))
        wide = int(first.split(b"/")[1])  # the path is /1536/v1/embeddings
        texts = asked["input"]
        count = len(texts) if isinstance(texts, list) else 1
        body = _answer(count, wide, asked.get("encoding_format") == "base64")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        connection.sendall(head.encode() + b"\r\n\r\n")
        connection.sendall(body)


def serve() -> None:
    """Answer until the process that started this one goes."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(target=_serve_one, args=(connection,), daemon=True).start()


# -- a contender ---------------------------------------------------------------------------------


class _NoNumpy:
    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "numpy":
            raise ImportError("this run is without numpy")


def _asking(who: str, base: str) -> Callable[[list[str]], Any]:
    """What asks for vectors, and gives all of them."""
    loop = asyncio.new_event_loop()
    if who.startswith("lmgateway"):
        from lmgateway import get_lm

        lm = get_lm(f"openai/{MODEL}", api_base=base, api_key="k", cache=False)
        if "awaited" in who:
            return lambda texts: loop.run_until_complete(lm.aembed(texts))["embeddings"]
        return lambda texts: lm.embed(texts)["embeddings"]
    import openai

    if "awaited" in who:
        awaited = openai.AsyncOpenAI(base_url=base, api_key="k").embeddings
        return lambda texts: [
            each.embedding
            for each in loop.run_until_complete(awaited.create(model=MODEL, input=texts)).data
        ]
    client = openai.OpenAI(base_url=base, api_key="k").embeddings
    return lambda texts: [e.embedding for e in client.create(model=MODEL, input=texts).data]


def _memory(name: str) -> float:
    """VmHWM or VmRSS of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not tell the memory of a process")


def measure(who: str, base: str, count: int, numpy: bool, calls: int) -> dict[str, float]:
    """The peak of the first call in MiB, and the CPU of one of the next in seconds."""
    if not numpy:
        sys.meta_path.insert(0, _NoNumpy())
    else:
        import numpy as _  # as in a program that uses it
    ask = _asking(who, base)
    ask(["a text to begin with"])
    texts = [f"the text with the number {number}" for number in range(count)]
    Path("/proc/self/clear_refs").write_text("5")
    before = _memory("VmRSS")
    came = ask(texts)
    peak, kept = _memory("VmHWM") - before, len(came) * len(came[0]) * 4 / 2**20
    del came
    if not calls:
        return {"peak": peak, "vectors": kept}
    began = process_time()
    for _ in range(calls):
        ask(texts)
    return {"cpu": (process_time() - began) / calls, "peak": peak, "vectors": kept}


# -- the run -------------------------------------------------------------------------------------


def _measured(port: str, who: str, count: int, wide: int, numpy: bool, calls: int) -> Any:
    base = f"http://127.0.0.1:{port}/{wide}/v1"
    command = [sys.executable, __file__, "measure", who, base, str(count), str(int(numpy))]
    return json.loads(subprocess.check_output([*command, str(calls)], text=True))


def _table(port: str, rounds: int) -> list[str]:
    lines = [
        "| vectors | numpy | measure | aim | lmgateway | openai | awaited: lmgateway | openai |"
    ]
    lines.append("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for count, wide in SHAPES:
        for numpy in (False, True):
            found: dict[str, list[Any]] = {who: [] for who in CONTENDERS}
            for _ in range(rounds):
                for who in CONTENDERS:
                    found[who].append(_measured(port, who, count, wide, numpy, CALLS))
            for field, name, scale, unit in (("cpu", "CPU", 1e3, "ms"), ("peak", "peak", 1, "MiB")):
                middle = {w: statistics.median(each[field] for each in found[w]) for w in found}
                cells = []
                for ours, theirs in (CONTENDERS[:2], CONTENDERS[2:]):
                    ratio = middle[ours] / middle[theirs]
                    cells.append(f"**{ratio:.2f}** ({middle[ours] * scale:,.0f})")
                    cells.append(f"{middle[theirs] * scale:,.0f} {unit}")
                has = "there" if numpy else "absent"
                shape = f"{count:,} x {wide:,}"
                row = f"| {shape} | {has} | {name} | <= {AIMS[field]} | {' | '.join(cells)} |"
                print(row, flush=True)
                lines.append(row)
    return lines


def _many(port: str) -> str:
    parts = []
    for count in MANY:
        found = _measured(port, "lmgateway", count, MANY_WIDE, False, 0)
        above = found["peak"] - found["vectors"]
        parts.append(
            f"{count:,} texts: {found['peak']:,.0f} MiB at the peak, {above:,.0f} MiB above the "
            f"vectors' own {found['vectors']:,.0f}"
        )
    return f"Many texts in one call, {MANY_WIDE} dimensions each. {'; '.join(parts)}."


def main() -> None:
    """Measure, print, and write the page if one is named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="the page to write the figures into")
    arguments = parser.parse_args()
    command = [sys.executable, __file__, "serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            port = server.stdout.readline().strip()
            _measured(port, "lmgateway", 2048, 3072, False, 0)  # the service has its answers now
            lines = _table(port, arguments.rounds)
            many = _many(port)
        finally:
            server.kill()
    print(many)
    measured = (
        f"Measured {date.today()} with Python {platform.python_version()}: openai "
        f"{version('openai')}, the median of {arguments.rounds} rounds in turns."
    )
    if arguments.page:
        text = arguments.page.read_text("utf-8")
        block = "\n\n".join([f"{BEGIN}\n{measured}", "\n".join(lines), f"{many}\n{END}"])
        pattern = re.escape(BEGIN) + ".*" + re.escape(END)
        new, found = re.subn(pattern, lambda _: block, text, flags=re.DOTALL)
        if not found:
            sys.exit(f"{arguments.page} has no {BEGIN}")
        arguments.page.write_text(new, "utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        serve()
    elif sys.argv[1:2] == ["measure"]:
        who, base, count, numpy, calls = sys.argv[2:]
        print(json.dumps(measure(who, base, int(count), numpy == "1", int(calls))))
    else:
        main()
