"""The cache in whole calls, over real sockets: what the server saw is what counts."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support.fault_server import FaultServer, await_event, chunk, head, receive, reply, send

from lmgateway import LM, get_lm
from lmgateway._layers import singleflight
from lmgateway._store.recorder import record
from lmgateway._store.settings import CacheSettings
from lmgateway.errors import AuthenticationError, ConfigError, StreamInterruptedError

pytestmark = pytest.mark.loopback

CANARY = "sk-canary-0123456789abcdef"
JSON = {"Content-Type": "application/json"}


def answers(text: str) -> bytes:
    return json.dumps(
        {
            "id": "chat-1",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                }
            ],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
        }
    ).encode()


def events(*texts: str, end: bool = True) -> list[Any]:
    """A connection that streams these texts."""
    deltas = [{"index": 0, "delta": {"content": text}, "finish_reason": None} for text in texts]
    if end:
        deltas.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    lines = [
        b"data: " + json.dumps({"id": "c", "model": "m", "choices": [delta]}).encode() + b"\n\n"
        for delta in deltas
    ]
    if end:
        lines.append(b"data: [DONE]\n\n")
    headers = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    return [receive(), send(head(200, headers)), *(send(chunk(x)) for x in lines), send(chunk(b""))]


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer([reply(answers("yes"), 200, JSON)]) as server:
        yield server


def lm_of(server: FaultServer, **keywords: Any) -> LM:
    return get_lm(
        "openai",
        model="m",
        **{"api_base": server.url, "api_key": CANARY, "temperature": 0, "retries": 0, **keywords},
    )


def test_dotenv_turns_the_cache_off_unless_the_environment_turns_it_on(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(".env").write_text("LMGATEWAY_CACHE=off\n")
    lm = lm_of(server)
    assert [lm.complete("q")["cached"] for _ in range(2)] == [False, False]
    assert lm.copy(temperature=None, seed=1).complete("q", cache=True)["cached"] is False
    assert len(server.requests) == 3
    assert not CacheSettings().file.exists()

    monkeypatch.setenv("LMGATEWAY_CACHE", "on")
    lm = lm_of(server)
    assert [lm.complete("q")["cached"] for _ in range(2)] == [False, True]


def test_an_unknown_word_in_dotenv_is_told_with_its_line() -> None:
    Path(".env").write_text("\nLMGATEWAY_CACHE=never\n")
    with pytest.raises(ConfigError, match=r"LMGATEWAY_CACHE in .*\.env:2 is 'never'"):
        get_lm("echo")


def test_one_request_answers_sync_and_async_calls(server: FaultServer) -> None:
    lm = lm_of(server)
    assert lm("q") == ["yes"]
    again = lm.complete("q")
    assert again["cached"]
    assert again["usage"]["total_tokens"] == 2
    assert asyncio.run(lm.acomplete("q"))["cached"]
    assert len(server.requests) == 1


def test_thirty_two_threads_and_a_hundred_tasks_send_one_request() -> None:
    gate = threading.Event()
    with FaultServer([receive(), await_event(gate), send(whole(answers("yes")))]) as server:
        lm = lm_of(server)
        with ThreadPoolExecutor(32) as pool:
            futures = [pool.submit(lm, "q") for _ in range(32)]
            tasks = pool.submit(lambda: asyncio.run(many(lm)))
            server.await_requests(1)
            gate.set()
            assert {future.result()[0] for future in futures} == {"yes"}
            assert tasks.result() == [["yes"]] * 100
        assert len(server.requests) == 1
    assert not singleflight.flights


async def many(lm: LM) -> list[list[str]]:
    return list(await asyncio.gather(*(lm.acall("q") for _ in range(100))))


def whole(body: bytes) -> bytes:
    return head(200, JSON, length=len(body)) + body


def test_a_stream_replays_in_the_pieces_it_came_in() -> None:
    with FaultServer(events("o", "n", "e")) as server:
        lm = lm_of(server)
        first, second = lm.stream("q"), lm.stream("q")
        assert list(first) == list(second) == ["o", "n", "e"]
        assert (first.completion["cached"], second.completion["cached"]) == (False, True)
        assert len(server.requests) == 1


def test_a_stream_that_broke_is_not_replayed() -> None:
    with FaultServer(events("o", end=False), events("t", "w", "o")) as server:
        lm = lm_of(server)
        with pytest.raises(StreamInterruptedError):
            list(lm.stream("q"))
        assert list(lm.stream("q")) == ["t", "w", "o"]


def test_another_key_is_asked_when_the_first_is_refused() -> None:
    refusal = reply(b'{"error": {"message": "no"}}', 401, JSON)
    answer = reply(answers("yes"), 200, JSON)
    with FaultServer([refusal, answer], [answer]) as server:  # over one connection or two
        with pytest.raises(AuthenticationError):
            lm_of(server, api_key="wrong")("q")
        assert lm_of(server)("q") == ["yes"]


def test_the_key_is_in_no_file_of_the_cache_nor_in_a_recording(
    server: FaultServer, tmp_path: Path
) -> None:
    with record(tmp_path / "examples.jsonl"):
        lm_of(server)("q")
    assert CANARY.encode() in b"".join(request.raw for request in server.requests)
    files = [*CacheSettings().file.parent.iterdir(), tmp_path / "examples.jsonl"]
    assert len(files) >= 2
    assert [file.name for file in files if CANARY.encode() in file.read_bytes()] == []


HIT = """
import socket, sys
def refuse(*_, **__): raise AssertionError("a socket was opened")
socket.socket = refuse
from lmgateway import get_lm
lm = get_lm("openai", model="m", temperature=0, **{options})
answer = lm.complete("q")
assert answer["cached"] and answer["choices"][0]["text"] == "yes", answer
print(sorted({{"requests", "urllib3", "aiohttp", "asyncio", "httpx"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("kept_in", ["the cache", "a recording"])
def test_a_process_that_only_hits_needs_no_variable_and_loads_no_http(
    server: FaultServer, tmp_path: Path, kept_in: str
) -> None:
    options = {"api_base": server.url}
    if kept_in == "a recording":
        options = {"recordings": str(tmp_path / "examples.jsonl")}
        with record(tmp_path / "examples.jsonl"):
            lm_of(server, cache=False)("q")
    else:
        lm_of(server)("q")
    code = HIT.format(options=repr(options))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
