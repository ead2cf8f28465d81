"""``Cleanup``: what a flow that is left has sent, by a thread that was there before."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import aiohttp  # noqa: F401 - loaded before the clock of a call runs
import pytest
from pydantic import BaseModel, SecretStr
from support.fault_server import FaultServer, receive, reply, stall

from lmgateway import LM, hookimpl
from lmgateway._call import cleanup
from lmgateway._drive import loops
from lmgateway._store.recorder import record, replay
from lmgateway.errors import (
    ConnectionFailedError,
    LMGatewayError,
    PluginContractError,
    RequestTimeoutError,
)
from lmgateway.testing import lm_from
from lmgateway.types import Answer, Cleanup, Emit, Flow, HTTPRequest, Request, Sleep, kept, send

pytestmark = pytest.mark.loopback

LONG = 30.0
KEY = "sk-canary-0123456789"


class Settings(BaseModel):
    api_base: str
    api_key: SecretStr = SecretStr(KEY)


def cancel(settings: Settings, number: int = 1) -> HTTPRequest:
    return HTTPRequest("DELETE", None, f"/jobs/{number}", auth=settings.api_key)


class Jobs:
    """Creates a job, arms its cancelling, and goes on by ``rest``; kept as one if told so."""

    def __init__(self, rest: Callable[..., Any], *, keeps: bool = False) -> None:
        self.rest = rest
        self.keeps = keeps
        self.begun = threading.Event()

    @hookimpl
    def lmgateway_settings(self) -> type[Settings]:
        return Settings

    def job(self, request: Request, settings: Settings) -> Flow[str]:
        yield from send(HTTPRequest("POST", None, "/jobs", json={}, auth=settings.api_key))
        yield Cleanup(cancel(settings))
        self.begun.set()
        yield Emit("job")
        return (yield from self.rest(settings)) or "done"

    @hookimpl
    def lmgateway_stream(self, request: Request, settings: Settings) -> Flow[Answer]:
        flow = self.job(request, settings)
        text = yield from kept({"q": request.prompt}, flow) if self.keeps else flow
        return {"prompt": "", "choices": [{"text": text}]}

    lmgateway_complete = lmgateway_stream


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer([reply()] * 20) as server:
        yield server


def lm_of(server: FaultServer, plugin: Jobs, **options: Any) -> LM:
    return lm_from(plugin, model="m", api_base=server.url, **{"retries": 0, **options})


def lines(server: FaultServer) -> list[str]:
    return [each.raw.partition(b" HTTP")[0].decode() for each in server.requests]


def until_none_waits() -> None:
    """Wait until every thread of a clean-up has ended."""
    end = monotonic() + LONG
    while cleanup._waiting:
        assert monotonic() < end
        sleep(0.002)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    until_none_waits()


# -- how a flow is left ----------------------------------------------------------------------------


def hang(settings: Settings) -> Flow[None]:
    yield Sleep(LONG)


def fail(settings: Settings) -> Flow[None]:
    yield from ()
    raise KeyError("a fault")


def refuse(settings: Settings) -> Flow[None]:
    yield from ()
    raise ConnectionFailedError("typed")


def by_a_fault(lm: LM, plugin: Jobs) -> None:
    plugin.rest = fail
    with pytest.raises(LMGatewayError):
        lm("q")


def by_an_error(lm: LM, plugin: Jobs) -> None:
    plugin.rest = refuse
    with pytest.raises(ConnectionFailedError):
        lm("q")


def by_the_deadline(lm: LM, plugin: Jobs) -> None:
    with pytest.raises(RequestTimeoutError):
        lm("q", timeout=0.5)


def by_the_deadline_awaited(lm: LM, plugin: Jobs) -> None:
    async def ask() -> None:
        with pytest.raises(RequestTimeoutError):
            await lm.acall("q", timeout=0.5)

    asyncio.run(ask())


def by_cancelling_its_task(lm: LM, plugin: Jobs) -> None:
    async def ask() -> None:
        task = asyncio.ensure_future(lm.acall("q"))
        await asyncio.to_thread(plugin.begun.wait, LONG)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask())


def by_closing_its_stream(lm: LM, plugin: Jobs) -> None:
    with lm.stream("q") as stream:
        assert next(stream) == "job"


def by_closing_its_stream_awaited(lm: LM, plugin: Jobs) -> None:
    async def ask() -> None:
        async with lm.astream("q") as stream:
            assert await anext(stream) == "job"

    asyncio.run(ask())


def by_dropping_its_stream(lm: LM, plugin: Jobs) -> None:
    stream = lm.stream("q")
    assert next(stream) == "job"
    del stream
    gc.collect()


def by_closing_its_stream_from_elsewhere(lm: LM, plugin: Jobs) -> None:
    stream = lm.stream("q")
    reader = threading.Thread(target=list, args=(stream,))
    reader.start()
    assert plugin.begun.wait(LONG)
    stream.close()
    reader.join(LONG)


def by_ctrl_c(lm: LM, plugin: Jobs) -> None:
    wait = loops.wait

    def struck(*args: Any) -> bool:
        raise KeyboardInterrupt

    loops.wait = struck
    try:
        with pytest.raises(KeyboardInterrupt):
            lm("q")
    finally:
        loops.wait = wait


def by_closing_its_lm(lm: LM, plugin: Jobs) -> None:
    stream = lm.stream("q")
    assert next(stream) == "job"
    lm.close()
    stream.close()


WAYS = [
    by_a_fault,
    by_an_error,
    by_the_deadline,
    by_the_deadline_awaited,
    by_cancelling_its_task,
    by_closing_its_stream,
    by_closing_its_stream_awaited,
    by_dropping_its_stream,
    by_closing_its_stream_from_elsewhere,
    by_ctrl_c,
    by_closing_its_lm,
]


@pytest.mark.parametrize("keeps", [False, True], ids=["plain", "kept"])
@pytest.mark.parametrize("leave", WAYS)
def test_a_flow_that_is_left_has_its_job_cancelled(
    server: FaultServer, leave: Callable[[LM, Jobs], None], keeps: bool
) -> None:
    plugin = Jobs(hang, keeps=keeps)
    lm = lm_of(server, plugin)
    leave(lm, plugin)
    until_none_waits()
    assert lines(server) == ["POST /jobs", "DELETE /jobs/1"]
    assert server.requests[1].headers["authorization"] == f"Bearer {KEY}"


def nothing(settings: Settings) -> Flow[None]:
    yield from ()


def caught(settings: Settings) -> Flow[None]:
    with suppress(RequestTimeoutError):
        yield Sleep(LONG)


@pytest.mark.parametrize("keeps", [False, True], ids=["plain", "kept"])
@pytest.mark.parametrize("way", ["complete", "stream", "acomplete"])
def test_after_a_return_nothing_is_sent(server: FaultServer, way: str, keeps: bool) -> None:
    lm = lm_of(server, Jobs(nothing, keeps=keeps))
    if way == "complete":
        lm("q")
    elif way == "stream":
        list(lm.stream("q"))
    else:
        asyncio.run(lm.acall("q"))
    until_none_waits()
    assert lines(server) == ["POST /jobs"]


def test_a_flow_that_returns_after_an_error_has_returned(server: FaultServer) -> None:
    assert lm_of(server, Jobs(caught), timeout=0.5)("q") == ["done"]
    until_none_waits()
    assert lines(server) == ["POST /jobs"]


def test_an_answer_that_is_none_was_returned_all_the_same(server: FaultServer) -> None:
    def none(settings: Settings) -> Flow[Any]:
        yield from ()
        return 7

    with pytest.raises(LMGatewayError):
        lm_of(server, Jobs(none))("q")
    until_none_waits()
    assert lines(server) == ["POST /jobs"]


def rearmed(settings: Settings) -> Flow[None]:
    yield Cleanup(cancel(settings, 2))
    raise KeyError("a fault")


def disarmed(settings: Settings) -> Flow[None]:
    yield Cleanup(None)
    yield Cleanup(None)
    raise KeyError("a fault")


def armed_anew(settings: Settings) -> Flow[None]:
    yield Cleanup(None)
    yield Cleanup(cancel(settings, 3))
    raise KeyError("a fault")


@pytest.mark.parametrize(
    "rest, sent",
    [
        pytest.param(rearmed, ["DELETE /jobs/2"], id="another one"),
        pytest.param(disarmed, [], id="none"),
        pytest.param(armed_anew, ["DELETE /jobs/3"], id="none, and another one"),
    ],
)
def test_the_last_one_counts(server: FaultServer, rest: Any, sent: list[str]) -> None:
    with pytest.raises(LMGatewayError):
        lm_of(server, Jobs(rest))("q")
    until_none_waits()
    assert lines(server) == ["POST /jobs", *sent]


def test_each_attempt_has_its_own(server: FaultServer) -> None:
    numbers = iter((1, 2, 3))

    def rest(settings: Settings) -> Flow[str]:
        number = next(numbers)
        yield Cleanup(cancel(settings, number))
        if number < 3:
            raise ConnectionFailedError("again")
        return "done"

    class Plain(Jobs):
        @hookimpl
        def lmgateway_complete(self, request: Request, settings: Settings) -> Flow[Answer]:
            yield from send(HTTPRequest("POST", None, "/jobs", json={}))
            text = yield from self.rest(settings)
            return {"prompt": "", "choices": [{"text": text}]}

    assert lm_of(server, Plain(rest), retries=2)("q") == ["done"]
    until_none_waits()
    sent = lines(server)
    assert sent.count("POST /jobs") == 3
    assert sorted(each for each in sent if "DELETE" in each) == ["DELETE /jobs/1", "DELETE /jobs/2"]


# -- what is not there to cancel -------------------------------------------------------------------


def left(lm: LM) -> None:
    with pytest.raises(LMGatewayError):
        lm("q", cache=True)


@pytest.mark.parametrize("keeps", [False, True], ids=["create", "kept"])
def test_what_came_from_the_cache_has_no_job(server: FaultServer, keeps: bool) -> None:
    plugin = Jobs(nothing, keeps=keeps)
    lm = lm_of(server, plugin)
    lm("q", cache=True)
    plugin.rest = fail
    if keeps:
        lm("q", cache=True)
    else:
        left(lm)
    until_none_waits()
    assert lines(server) == ["POST /jobs"]


def test_under_replay_nothing_is_sent(server: FaultServer, tmp_path: Path) -> None:
    plugin = Jobs(nothing)
    lm = lm_of(server, plugin)
    with record(tmp_path / "r.jsonl"):
        lm("q")
    plugin.rest = fail
    with replay(tmp_path / "r.jsonl"):
        left(lm)
    until_none_waits()
    assert lines(server) == ["POST /jobs"]


class Early(Jobs):
    """Arms before it creates, for a job whose id it chooses itself."""

    def job(self, request: Request, settings: Settings) -> Flow[str]:
        yield Cleanup(cancel(settings))
        yield from send(HTTPRequest("POST", None, "/jobs", json={}))
        return (yield from self.rest(settings)) or "done"


def test_a_preview_cancels_nothing(server: FaultServer) -> None:
    for plugin in (Jobs(hang), Jobs(hang, keeps=True), Early(hang), Early(hang, keeps=True)):
        assert lm_of(server, plugin).preview("q")["url"] == f"{server.url}/jobs"
    until_none_waits()
    assert not server.requests


@pytest.mark.parametrize("keeps", [False, True], ids=["plain", "kept"])
def test_one_that_is_armed_early_waits_for_the_job(server: FaultServer, keeps: bool) -> None:
    plugin = Early(fail, keeps=keeps)
    lm = lm_of(server, plugin)
    left(lm)
    until_none_waits()
    assert lines(server) == ["POST /jobs", "DELETE /jobs/1"]
    plugin.rest = nothing
    lm("q", cache=True)
    plugin.rest = refuse
    if not keeps:
        left(lm)
        until_none_waits()
    assert lines(server) == ["POST /jobs", "DELETE /jobs/1", "POST /jobs"]


# -- what goes wrong with it -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    ["no", HTTPRequest(1, None, "/"), HTTPRequest("DELETE", None, "jobs/1")],  # type: ignore[arg-type]
    ids=["a text", "a method", "a path"],
)
def test_what_cannot_be_sent_is_refused_when_it_is_armed(server: FaultServer, wrong: Any) -> None:
    def rest(settings: Settings) -> Flow[None]:
        yield Cleanup(wrong)

    with pytest.raises(PluginContractError, match=r"Cleanup with a wrong value|cannot be sent"):
        lm_of(server, Jobs(rest))("q")
    until_none_waits()
    assert lines(server) == ["POST /jobs", "DELETE /jobs/1"]  # what was armed before


def test_what_comes_of_it_hides_no_error(server: FaultServer) -> None:
    def rest(settings: Settings) -> Flow[None]:
        def broken() -> dict[str, str]:
            raise RuntimeError(KEY)

        yield Cleanup(HTTPRequest("DELETE", None, "/jobs/1", auth=broken))
        raise ConnectionFailedError("the error of the call")

    with pytest.raises(ConnectionFailedError, match="the error of the call") as caught:
        lm_of(server, Jobs(rest))("q")
    until_none_waits()
    assert caught.value.host == server.host
    assert lines(server) == ["POST /jobs"]


def test_where_no_thread_can_be_started_the_answer_comes(
    server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse_it(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(cleanup, "start", refuse_it)
    assert lm_of(server, Jobs(nothing))("q") == ["done"]


def test_a_service_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cleanup, "SEND_SECONDS", 0.2)
    with FaultServer([reply(), receive(), stall()]) as server:
        with pytest.raises(LMGatewayError):
            lm_of(server, Jobs(fail))("q")
        until_none_waits()
        assert lines(server) == ["POST /jobs", "DELETE /jobs/1"]


# -- the end of the process ------------------------------------------------------------------------

PROGRAM = textwrap.dedent("""
    import os, signal, sys, threading
    import test_cleanup as t

    plugin = t.Jobs(t.hang)
    lm = t.lm_from(plugin, model="m", api_base=sys.argv[1], retries=0)
    way = sys.argv[2]
    if way == "ctrl-c":
        signal.signal(signal.SIGINT, signal.default_int_handler)
        plugin.rest = lambda settings: signal.raise_signal(signal.SIGINT)
        lm("q")
    stream = lm.stream("q")
    next(stream)
    if way == "fork":
        child = os.fork()
        if not child:
            stream.close()
            sys.exit()
        assert os.waitpid(child, 0)[1] == 0
        print(len(t.cleanup._waiting), flush=True)
        stream.close()
    elif way == "stalled":
        t.cleanup.SEND_SECONDS = 600.0
    elif way == "thread":
        threading.Thread(target=lambda: list(stream), daemon=True).start()
""")


def run_program(url: str, way: str) -> subprocess.CompletedProcess[str]:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here), str(here.parent)])}
    command = [sys.executable, "-c", PROGRAM, url, way]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=LONG, check=False
    )


@pytest.mark.parametrize(
    "way, status",
    [
        pytest.param("open", 0, id="an open stream"),
        pytest.param("thread", 0, id="a daemon thread"),
        pytest.param("ctrl-c", -signal.SIGINT, id="Ctrl-C"),
        pytest.param("fork", 0, id="a forked child"),
    ],
)
def test_the_end_of_the_interpreter_cancels_the_job(
    server: FaultServer, way: str, status: int
) -> None:
    ended = run_program(server.url, way)
    assert ended.returncode == status, ended.stderr
    assert lines(server) == ["POST /jobs", "DELETE /jobs/1"]
    if way == "fork":
        assert ended.stdout.split() == ["1"]


def test_the_end_of_the_interpreter_does_not_wait_for_long() -> None:
    with FaultServer([reply(), receive(), stall()]) as server:
        ended = run_program(server.url, "stalled")
        assert ended.returncode == 0, ended.stderr
        assert lines(server) == ["POST /jobs", "DELETE /jobs/1"]
