"""What a cached answer costs, against a bare SQLite select and against the field's caches.

All contenders run in one process, in turns, a few hundred look-ups each; the figure is the median
of the rounds, in microseconds of CPU. Peers take part where they are installed:
``pip install diskcache dspy langchain-community``. Trust the ratios, not the microseconds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sqlite3
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from time import process_time
from typing import Any

PROMPT = "What is the capital of France? Answer in one word, and say why. " * 6
BODY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "m",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Paris, because it is. " * 20},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 90, "completion_tokens": 120, "total_tokens": 210},
}
TEXT = json.dumps(BODY)

Contender = Callable[[], object]


def bare_select(folder: str) -> Contender:
    """The floor: one indexed row by its key, and json.loads."""
    db = sqlite3.connect(os.path.join(folder, "bare.sqlite3"))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE answers (key TEXT PRIMARY KEY, value TEXT)")
    db.execute("INSERT INTO answers VALUES ('k', ?)", (TEXT,))
    db.commit()

    def hit() -> object:
        [(text,)] = db.execute("SELECT value FROM answers WHERE key = ?", ("k",))
        return json.loads(text)

    return hit


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(TEXT)))
        self.end_headers()
        self.wfile.write(TEXT.encode())

    def log_message(self, *_: object) -> None: ...


@contextlib.contextmanager
def served() -> Iterator[str]:
    """The base URL of a service that gives the one answer."""
    server = HTTPServer(("127.0.0.1", 0), _Answers)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def lmgateway_call(folder: str) -> Contender:
    """A whole call: input checks, layers, the provider's parse, history."""
    os.environ["LMGATEWAY_CACHE_DIR"] = os.path.join(folder, "lmgateway")
    from lmgateway import get_lm

    with served() as base:
        lm = get_lm("openai", model="m", api_base=base, api_key="k", temperature=0)
        lm.complete(PROMPT)
    assert lm.complete(PROMPT)["cached"]
    return lambda: lm.complete(PROMPT)


def lmgateway_look_up(folder: str) -> Contender:
    """The cache's own part: key, row, digest, response; and json.loads, as the floor has it."""
    from pathlib import Path

    from lmgateway._store.serialization import decode, describe, encode, identify
    from lmgateway._store.sqlite import Store
    from lmgateway.types import HTTPRequest, HTTPResponse

    store = Store(Path(folder, "store.sqlite3"))
    asked = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0}
    response = HTTPResponse(200, {"content-type": "application/json"}, TEXT.encode())

    def look_up() -> Any:
        request = HTTPRequest("POST", "http://one.example/v1", "/chat/completions", json=asked)
        described = describe(request, provider="openai", sample=0)
        key = identify(described, request.base_url) if described else None
        assert key is not None
        value = store.get(key)
        if value is None:
            store.put(key, encode(response) or b"")
            return look_up()
        return json.loads(decode(value).body)

    look_up()
    return look_up


def diskcache_get(folder: str) -> Contender:
    """Diskcache: a get by a ready key, JSON inside."""
    import diskcache

    cache = diskcache.Cache(os.path.join(folder, "diskcache"))
    cache["k"] = TEXT
    return lambda: json.loads(cache["k"])


def _dspy(folder: str, *, memory: bool) -> Contender:
    from dspy.clients.cache import Cache

    cache = Cache(
        enable_disk_cache=not memory,
        enable_memory_cache=memory,
        disk_cache_dir=os.path.join(folder, f"dspy-{memory}"),
    )
    request = {"model": "m", "messages": [{"role": "user", "content": PROMPT}], "temperature": 0}
    cache.put(request, BODY)
    assert cache.get(request) is not None
    return lambda: cache.get(request)


def dspy_memory(folder: str) -> Contender:
    """DSPy's cache in memory."""
    return _dspy(folder, memory=True)


def dspy_disk(folder: str) -> Contender:
    """DSPy's cache on disk."""
    return _dspy(folder, memory=False)


def langchain_sqlite(folder: str) -> Contender:
    """LangChain's SQLiteCache."""
    import warnings

    warnings.simplefilter("ignore")
    from langchain_community.cache import SQLiteCache
    from langchain_core.outputs import Generation

    cache = SQLiteCache(os.path.join(folder, "langchain.sqlite3"))
    cache.update(PROMPT, "m", [Generation(text=BODY["choices"][0]["message"]["content"])])  # type: ignore[index]
    assert cache.lookup(PROMPT, "m")
    return lambda: cache.lookup(PROMPT, "m")


CONTENDERS = (
    bare_select,
    lmgateway_look_up,
    lmgateway_call,
    diskcache_get,
    dspy_memory,
    dspy_disk,
    langchain_sqlite,
)


def main() -> None:
    """Print one line a contender."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--calls", type=int, default=200, help="look-ups in a round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        ready: dict[str, Contender] = {}
        for prepare in CONTENDERS:
            try:
                ready[prepare.__name__] = prepare(folder)
            except ImportError as error:
                print(f"{prepare.__name__:20} not installed ({error.name})")
        spent: dict[str, list[float]] = {name: [] for name in ready}
        for _ in range(options.rounds):
            for name, hit in ready.items():
                hit()
                began = process_time()
                for _ in range(options.calls):
                    hit()
                spent[name].append((process_time() - began) / options.calls * 1e6)
    floor = statistics.median(spent["bare_select"])
    for name, rounds in spent.items():
        median = statistics.median(rounds)
        print(f"{name:20} {median:8.1f} us  {median / floor:6.1f} x  (least {min(rounds):.1f})")


if __name__ == "__main__":
    main()
