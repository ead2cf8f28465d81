"""Kill a batch at random moments and resume it: every row exactly once, and what that cost.

``python tests/soak/kill_batch.py --kills 100`` prints the figures and exits with 1 if a row is
missing or doubled, or if more calls were paid twice than had been in flight at the kills. With
``--rewrite``, another tool rewrites the output between two runs, each in its turn.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from rewriters import REWRITERS, rows_of
from support.chat_server import ChatServer, serve_chat

CONCURRENCY = 50


def ask(source: str, output: str, url: str) -> None:
    """One run of the job."""
    from lmgateway.batch import run

    run(source, output, "openai", model="m", api_base=url, concurrency=CONCURRENCY)


def start(source: Path, output: Path, server: ChatServer) -> subprocess.Popen[bytes]:
    """One run of the job, in a process that can be killed."""
    return subprocess.Popen(
        [sys.executable, __file__, "--ask", str(source), str(output), server.url]
    )


def written(output: Path) -> int:
    """Whole rows in the output."""
    return len(rows_of(output.read_text("utf-8"))) if output.exists() else 0


def rewrite(output: Path, turn: int) -> None:
    """Have a tool rewrite the output; half a row at its end is gone then."""
    if not output.exists():
        return
    names = list(REWRITERS)
    rows = rows_of(output.read_text("utf-8"))
    output.write_bytes(REWRITERS[names[turn % len(names)]](rows).encode())


def main() -> int:
    """Run what the command line asks for; 0 if every row came once and nothing was wasted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rewrite", action="store_true")
    parser.add_argument("--ask", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        ask(*options.ask)
        return 0
    chance = random.Random(options.seed)
    with (
        tempfile.TemporaryDirectory() as folder,
        serve_chat("--delay", "0.02", "--keep") as server,
    ):
        source, output = Path(folder, "prompts.jsonl"), Path(folder, "answers.jsonl")
        prompts = [f"prompt {number}" for number in range(options.rows)]
        source.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
        in_flight, worst, landed = 0, 0, 0
        for turn in range(options.kills):
            calls, process = server.stats()["calls"], start(source, output, server)
            while server.stats()["calls"] == calls and process.poll() is None:
                time.sleep(0.01)  # it starts up; a kill before its first call is no test
            time.sleep(chance.uniform(0, 0.2))
            landed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait()
            lost = server.stats()["calls"] - written(output) - in_flight
            in_flight, worst = in_flight + lost, max(worst, lost)
            if options.rewrite:
                rewrite(output, turn)
        last = start(source, output, server)
        last.wait()
        calls = server.stats()["calls"]
        rows = rows_of(output.read_text("utf-8"))
    ids = {row["custom_id"] for row in rows}
    answers = sorted(row["response"]["body"]["choices"][0]["message"]["content"] for row in rows)
    whole = len(ids) == len(rows) == options.rows and answers == sorted(prompts)
    twice = calls - options.rows
    print(
        f"{landed} kills in the middle of {options.rows} rows: {len(rows)} rows, {len(ids)} ids, "
        f"{'each prompt answered once' if whole else 'NOT each once'}\n"
        f"{calls} calls, so {twice} paid twice; {in_flight} were in flight at the kills "
        f"({worst} at most at one, of {CONCURRENCY} allowed)"
    )
    return int(not whole or twice > in_flight or worst > CONCURRENCY or last.returncode != 0)


if __name__ == "__main__":
    sys.exit(main())
