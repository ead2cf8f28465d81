"""What a row of a batch costs, beside a bare aiohttp loop, and whether memory stays flat.

The service is a process of its own; each contender is a fresh process, so that its peak of memory
is its own. Peers take part where they are installed: ``pip install litellm langchain-openai``.
Trust the ratios, not the microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

CONCURRENCY = 100
PROMPT = "Name the capital of the country with the number {} in one word, please."


def lmgateway(source: Path, output: Path, url: str) -> None:
    """This library's run: identity, resume, syncs and all."""
    from lmgateway.batch import run

    run(source, output, "openai", model="m", api_base=url, concurrency=CONCURRENCY)


def bare_aiohttp(source: Path, output: Path, url: str) -> None:
    """The floor: as many workers, a POST a row, the answer's text to a line."""
    import aiohttp

    async def work(session: aiohttp.ClientSession, rows: Any, out: Any) -> None:
        for row in rows:
            body = {"model": "m", "messages": [{"role": "user", "content": row["prompt"]}]}
            async with session.post(f"{url}/chat/completions", json=body) as response:
                out.write(json.dumps({"row": row, "response": await response.json()}) + "\n")

    async def main() -> None:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            with source.open() as file, output.open("w") as out:
                rows = map(json.loads, file)
                await asyncio.gather(*(work(session, rows, out) for _ in range(CONCURRENCY)))

    asyncio.run(main())


def litellm(source: Path, output: Path, url: str) -> None:
    """LiteLLM's batch_completion: threads, everything in memory."""
    import litellm as peer

    messages = [[{"role": "user", "content": json.loads(line)["prompt"]}] for line in source.open()]
    answers = peer.batch_completion(
        model="openai/m", messages=messages, api_base=url, api_key="k", max_workers=CONCURRENCY
    )
    output.write_text("".join(json.dumps(each.model_dump()) + "\n" for each in answers))


def langchain(source: Path, output: Path, url: str) -> None:
    """LangChain's batch: threads, everything in memory."""
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="m", base_url=url, api_key="k")  # type: ignore[arg-type]
    prompts = [json.loads(line)["prompt"] for line in source.open()]
    answers = model.batch(prompts, config={"max_concurrency": CONCURRENCY})
    output.write_text("".join(json.dumps(each.model_dump(mode="json")) + "\n" for each in answers))


CONTENDERS: dict[str, Callable[[Path, Path, str], None]] = {
    each.__name__: each for each in (bare_aiohttp, lmgateway, litellm, langchain)
}


def contend(name: str, source: Path, output: Path, url: str) -> None:
    """Run one contender in this process, and print its figures as JSON."""
    os.environ["OPENAI_API_KEY"] = "k"
    began = monotonic()
    try:
        CONTENDERS[name](source, output, url)
    except ImportError as error:
        print(json.dumps({"missing": error.name}))
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    figures = {
        "seconds": monotonic() - began,
        "cpu": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 1024,
        "rows": sum(1 for _ in output.open()),
    }
    print(json.dumps(figures))


def measure(name: str, rows: int, python: str, folder: Path) -> dict[str, Any]:
    """The figures of one contender over so many rows, against a service of its own."""
    from support.chat_server import serve_chat

    source, output = folder / f"{name}-{rows}.in.jsonl", folder / f"{name}-{rows}.jsonl"
    with source.open("w") as file:
        file.writelines(
            json.dumps({"prompt": PROMPT.format(number)}) + "\n" for number in range(rows)
        )
    with serve_chat() as server:
        command = [python, __file__, "--contend", name, str(source), str(output), server.url]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    source.unlink()
    output.unlink(missing_ok=True)
    return figures


def main() -> None:
    """Print one line a contender and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--many", type=int, default=1_000_000, help="rows, for flat memory; 0: no")
    parser.add_argument(
        "--python", default=sys.executable, help="an interpreter that has the peers"
    )
    parser.add_argument("--only", nargs="*", default=list(CONTENDERS))
    parser.add_argument("--contend", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        name, source, output, url = options.contend
        contend(name, Path(source), Path(output), url)
        return
    runs = [(name, options.rows) for name in options.only]
    runs += [("lmgateway", options.many)] if options.many else []
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in runs:
            python = options.python if name in ("litellm", "langchain") else sys.executable
            figures = measure(name, rows, python, Path(folder))
            if "missing" in figures:
                print(f"{name:14} not installed ({figures['missing']})")
                continue
            assert figures["rows"] == rows, f"{name} wrote {figures['rows']} of {rows} rows"
            print(
                f"{name:14} {rows:9,} rows  {rows / figures['seconds']:7,.0f} a second  "
                f"{figures['cpu'] / rows * 1e6:7,.0f} us of CPU a row  "
                f"{figures['peak']:7,.1f} MiB at its peak",
                flush=True,
            )


if __name__ == "__main__":
    main()
