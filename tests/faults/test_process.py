"""The rows of threads, forks, loops, clocks and cancelled tasks."""

from __future__ import annotations

import asyncio
import os
import pickle
import threading
import time
import traceback
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from faults.play import (
    CHUNKED,
    JSON,
    KEY,
    MODES,
    PROMPT,
    SSE,
    STREAMS,
    TEXT,
    Mode,
    answer,
    chunk,
    event,
    events,
    fine,
    lm_at,
    respond,
    row,
    streamed,
    whole,
)
from support.fault_server import FaultServer, Step, head, receive, send, stall

from lmgateway.errors import LMGatewayError

pytestmark = pytest.mark.loopback

THREADS = 32


def echoing(times: int = 1) -> list[Step]:
    """An answer that only the asker may get, so many times on one connection."""

    def echo(asked: dict[str, Any]) -> bytes:
        text = f"to {asked['messages'][0]['content']}"
        return streamed(*events(text)) if asked.get("stream") else whole(answer(text))

    return [respond(echo)] * times


def text_of(completion: Any) -> str:
    return str(completion["choices"][0]["text"])


@row("Process", "32 threads on one LM")
def test_32_threads_on_one_lm(mode: Mode) -> None:
    wrong: list[str] = []

    def work(number: int) -> None:
        for turn in range(4):
            prompt = f"{number}.{turn}"
            text = text_of(mode.ask(lm, prompt))
            if text != f"to {prompt}":
                wrong.append(f"{prompt}: {text}")

    with FaultServer(echoing(4)) as server, lm_at(server.url, mode) as lm:
        threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(server.requests) == THREADS * 4
    assert wrong == []


@row("Process", "fork after use")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_after_use(mode: Mode) -> None:
    with FaultServer(echoing(9)) as server, lm_at(server.url, mode) as lm:
        assert text_of(mode.ask(lm, "parent before")) == "to parent before"
        children = []
        for number in range(3):
            child = os.fork()
            if not child:
                right = [text_of(mode.ask(lm, f"{number}.{turn}")) for turn in range(3)]
                os._exit(0 if right == [f"to {number}.{turn}" for turn in range(3)] else 1)
            children.append(child)
        assert text_of(mode.ask(lm, "parent meanwhile")) == "to parent meanwhile"
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        assert text_of(mode.ask(lm, "parent after")) == "to parent after"
        assert codes == [0, 0, 0]
        assert len(server.requests) == 12


@row("Process", "fork after use", STREAMS[:1])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_fork_in_the_middle_of_a_stream(mode: Mode) -> None:
    go_on = threading.Event()
    first, *rest = events()
    script = [
        receive(),
        send(head(200, SSE | CHUNKED), chunk(first)),
        lambda peer: go_on.wait(10),
        send(*map(chunk, [*rest, b""])),
    ]
    with FaultServer(script, echoing()) as server, lm_at(server.url, mode) as lm:
        stream = lm.stream(PROMPT)
        assert next(stream) == TEXT[:2]
        child = os.fork()
        if not child:
            stream.close()
            os._exit(0 if lm("child") == ["to child"] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        assert "".join(stream) == TEXT[2:]


@row("Process", "a second event loop works", MODES[1:3])
def test_a_second_event_loop(mode: Mode) -> None:
    with FaultServer(echoing(9)) as server, lm_at(server.url, mode) as lm:
        for number in range(3):
            assert text_of(mode.ask(lm, f"loop {number}")) == f"to loop {number}"


@row("Process", "the clock jumps back")
def test_the_clock_jumps_back(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    now, steps = time.time(), count()
    monkeypatch.setattr(time, "time", lambda: now - 3600.0 * next(steps))
    slow = [receive(), send(whole({}, 503, {"retry-after-ms": "20"}))]
    with FaultServer(slow, [fine()]) as server, lm_at(server.url, mode, cache=True) as lm:
        assert text_of(mode.ask(lm, PROMPT, timeout=10)) == TEXT
        assert mode.ask(lm, PROMPT, timeout=10)["cached"]
        assert len(server.requests) == 2


CANCELLED = {"async": MODES[1], "async-stream": MODES[4]}


@pytest.mark.parametrize(
    "mode",
    [
        pytest.param(each, id=name, marks=pytest.mark.row("Process", "asyncio cancel", name))
        for name, each in CANCELLED.items()
    ],
)
def test_a_cancelled_call_hangs_up_and_writes_no_cache(mode: Mode) -> None:
    piece = head(200, SSE | CHUNKED) + chunk(event(TEXT[:2]))

    async def main(server: FaultServer, lm: Any) -> None:
        task = asyncio.create_task(_consume(lm, mode))
        await asyncio.to_thread(server.await_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.to_thread(server.await_hang_up)

    script = [receive(), *([send(piece)] if mode.shape == "stream" else []), stall()]
    with FaultServer(script, [fine()]) as server, lm_at(server.url, mode, cache=True) as lm:
        asyncio.run(main(server, lm))
        assert mode.ask(lm, PROMPT)["cached"] is False
        assert len(server.requests) == 2


async def _consume(lm: Any, mode: Mode) -> None:
    if mode.shape == "plain":
        await lm.acomplete(PROMPT)
    async for _ in lm.astream(PROMPT):
        pass


def refusal_that_echoes() -> list[Step]:
    echo = {"error": {"message": f"bad key {KEY}", "code": KEY, "type": KEY}}
    return [receive(), send(whole(echo, 401, {**JSON, "X-Request-Id": KEY}))]


@row("Process", "a key is in no repr, log, traceback, pickle, cache file or recording")
def test_a_key_is_nowhere(mode: Mode, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level("DEBUG")
    server = FaultServer(refusal_that_echoes(), [fine()])
    with server, lm_at(server.url, mode, cache=True) as lm:
        with pytest.raises(LMGatewayError) as caught:
            mode.ask(lm, PROMPT)
        mode.ask(lm, PROMPT)
        shown = [repr(lm), repr(vars(lm)), repr(lm.settings), repr(list(lm.history)), caplog.text]
        pickles = pickle.dumps([lm, caught.value])
        server.requests.clear()
    told = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert KEY not in "".join([*shown, *told.format()])
    assert KEY.encode() not in pickles
    files = [each for each in tmp_path.rglob("*") if each.is_file()]
    assert any("answers" in each.name for each in files)
    assert not [each for each in files if KEY.encode() in each.read_bytes()]
