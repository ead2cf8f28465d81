"""Ray, in a process of its own, since it must look beyond the loopback to know its own address."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import serve_chat

pytestmark = [pytest.mark.ray, pytest.mark.loopback, pytest.mark.slow]

RUN = r"""
import json, os, sys, threading, time
import lmgateway.batch.ray as actors
from lmgateway.batch.plan import Plan
from lmgateway.batch.runs import conduct

url, output, workers, kill = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "kill"
rows = [{"custom_id": str(n), "prompt": f"prompt {n}"} for n in range(int(sys.argv[5]))]
keywords = {"model": "m", "api_base": url, "retries": 0}

import ray
ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
if kill:
    make = actors.RayRunner.__init__
    def making(self, *arguments):
        make(self, *arguments)
        threading.Thread(target=killing, args=self.actors[:1]).start()
    def killing(actor):
        while not (os.path.exists(output) and os.path.getsize(output) > 50_000):
            time.sleep(0.01)
        ray.kill(actor, no_restart=False)
    actors.RayRunner.__init__ = making
plan = Plan(rows, output, "openai", concurrency=50, workers=workers, keywords=keywords)
print("\nJSON", json.dumps({"seconds": conduct(plan).seconds}))
"""

ENDS = r"""
import json, sys, threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from lmgateway.batch.plan import Plan
from lmgateway.batch.runs import conduct

class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        text = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        said = text["messages"][-1]["content"]
        message = {"role": "assistant", "content": said}
        answer = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        body = json.dumps(answer).encode()
        self.send_response(500 if said == "prompt 7" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
import ray
ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
rows = [{"custom_id": str(n), "prompt": f"prompt {n}"} for n in range(100)]
url = f"http://127.0.0.1:{server.server_port}"
keywords = {"model": "m", "api_base": url, "retries": 0}
plan = Plan(rows, sys.argv[1], "openai", concurrency=10, workers=2, patience=60, keywords=keywords)
print("\nJSON", json.dumps(conduct(plan).errors))
"""

PIPELINE = r"""
import json, sys
import ray
from lmgateway.batch.ray import Answerer

ray.init(num_cpus=2, log_to_driver=False, include_dashboard=False)
rows = ray.data.from_items(
    [{"custom_id": str(n), "prompt": f"prompt {n}" if n else None, "label": n} for n in range(40)]
)
answered = rows.map_batches(
    Answerer,
    fn_constructor_args=("openai",),
    fn_constructor_kwargs={"model": "m", "api_base": sys.argv[1]},
    batch_size=10,
    compute=ray.data.ActorPoolStrategy(size=1),
)
print("\nJSON", json.dumps(answered.take_all()))
"""


def carried_out(program: str, *arguments: str) -> Any:
    # No hook of pytest's own, and no proxy, in Ray's processes.
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "HOME": "/tmp"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        env=environment,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (told,) = (line for line in done.stdout.splitlines() if line.startswith("JSON "))
    return json.loads(told.removeprefix("JSON "))


def ids(output: Path) -> list[str]:
    rows = map(json.loads, output.read_text().splitlines())
    return sorted((row["custom_id"] for row in rows if row["error"] is None), key=int)


@pytest.fixture(autouse=True)
def _ray() -> None:
    pytest.importorskip("ray", reason="needs the extra [ray]")


def test_two_workers_do_nearly_twice_as_much(tmp_path: Path) -> None:
    seconds = {}
    for workers in (1, 2):
        output = tmp_path / f"{workers}.jsonl"
        with serve_chat("--delay", "0.5") as server:
            carried_out(RUN, server.url, str(output), str(workers), "leave", "2000")
            seconds[workers] = server.stats()["span"]
        assert ids(output) == [str(n) for n in range(2000)]
    print(f"2,000 rows at 0.5 s, 50 in flight each: {seconds}")
    assert seconds[1] / seconds[2] >= 1.7


def test_an_actor_that_is_killed_costs_no_row(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    with serve_chat("--delay", "0.5", "--keep") as server:
        carried_out(RUN, server.url, str(output), "2", "kill", "1500")
        prompts = server.stats()["prompts"]
    assert ids(output) == [str(n) for n in range(1500)]
    twice = sum(prompts.values()) - 1500
    print(f"paid twice after the kill: {twice}")
    assert 0 < twice <= 200


def test_a_row_that_always_fails_keeps_no_job_from_ending(tmp_path: Path) -> None:
    output = tmp_path / "answers.jsonl"
    assert carried_out(ENDS, str(output)) == {"ServerError": 1}
    assert ids(output) == [str(n) for n in range(100) if n != 7]


def test_a_pipeline_has_errors_as_a_column() -> None:
    with serve_chat("--keep") as server:
        rows = carried_out(PIPELINE, server.url)
    assert {row["custom_id"] for row in rows} == {str(n) for n in range(40)}
    for row in rows:
        if row["label"]:
            assert (row["answer"], row["error"]) == (row["prompt"], None)
        else:
            assert row["answer"] is None
            assert json.loads(row["error"])["type"] == "InputError"
