"""A canary as key and as header: no public function shows it, whatever becomes of its call."""

from __future__ import annotations

import asyncio
import gc
import http.client
import inspect
import io
import json
import logging
import os
import pickle
import re
import signal
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr, model_validator
from support.every_kind import Service
from support.exposed import exposed, frames
from support.fault_server import (
    FaultServer,
    Script,
    Step,
    chunk,
    close,
    head,
    receive,
    reply,
    reset,
    send,
    stall,
)
from support.fault_server import signal as told

import lmgateway
from lmgateway import LM, get_lm, hookimpl
from lmgateway._drive.streams import AStream, Stream
from lmgateway._guard.tracebacks import door
from lmgateway.batch import aprocess_batch, arun, process_batch, row_runner, run
from lmgateway.errors import LMGatewayError
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, EmbedRequest, Emit, Flow, HTTPRequest, Info, Request
from lmgateway.types import send as ask

pytestmark = pytest.mark.loopback

KEY = "sk-canary-0123456789abcdefghij"
HEADER = "hd-canary-0123456789abcdefghij"
JSON = {"Content-Type": "application/json"}
EVENTS = {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
PIECE = b'data: {"choices": [{"index": 0, "delta": {"content": "hi"}}]}\n\n'
ENDS = (
    b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
ANSWER = json.dumps(
    {"choices": [{"index": 0, "message": {"content": "hi"}, "finish_reason": "stop"}]}
).encode()


RARE = {"LM.rerank", "LM.arerank", "LM.count", "LM.acount"}
JOBS = {"run", "arun", "process_batch", "aprocess_batch"}


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch gives a row up at once."""
    policy = row_runner.RetryPolicy(
        consecutive_failures=1, tries=1, overloads=1, outage=0.1, backoff=0.01
    )
    monkeypatch.setattr(row_runner, "RETRY_POLICY", policy)


def assert_clean(*texts: object) -> None:
    for text in texts:
        shown = str(text)
        for canary in ("sk-canary", "hd-canary", "canary-0123"):
            place = shown.find(canary)
            assert place < 0, f"shown: ...{shown[max(0, place - 300) : place + 40]}..."


def assert_hidden(error: BaseException) -> None:
    assert_clean(*exposed(error, __file__))


def lm_at(url: str, name: str = "", **more: Any) -> LM:
    """An LM of OpenAI; for what OpenAI does not offer, of a plugin that does."""
    given = {"api_key": KEY, "headers": {"X-Weird": SecretStr(HEADER)}, "retries": 0}
    given |= {"model": "m", "api_base": url, "cache": False, **more}
    return lm_from(Service(), "openai", **given) if name in RARE else get_lm("openai", **given)


# -- every public function ---------------------------------------------------------------------

Call = Callable[..., Any]


async def _listed(stream: AStream[str]) -> list[str]:
    return [piece async for piece in stream]


async def _given_to(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


#: What asks a service: takes an LM and further keywords of the call.
BLOCKING: dict[str, Call] = {
    "LM.__call__": lambda lm, **more: lm("hi", **more),
    "LM.complete": lambda lm, **more: lm.complete("hi", **more),
    "LM.stream": lambda lm, **more: list(lm.stream("hi", **more)),
    "LM.batch": lambda lm, **more: lm.batch(["hi", "ho"], concurrency=1, **more),
    "LM.models": lambda lm, **more: lm.models(**more),
    "LM.embed": lambda lm, **more: lm.embed("hi", **more),
    "LM.rerank": lambda lm, **more: lm.rerank("hi", ["ho"], **more),
    "LM.count": lambda lm, **more: lm.count("hi", **more),
    "process_batch": lambda lm, **more: process_batch(["hi"], lm, **more),
    "run": lambda lm, **more: run(["hi"], "answers.jsonl", lm, **more),
}
AWAITED: dict[str, Call] = {
    "LM.acall": lambda lm, **more: lm.acall("hi", **more),
    "LM.acomplete": lambda lm, **more: lm.acomplete("hi", **more),
    "LM.astream": lambda lm, **more: _listed(lm.astream("hi", **more)),
    "LM.abatch": lambda lm, **more: lm.abatch(["hi", "ho"], concurrency=1, **more),
    "LM.amodels": lambda lm, **more: lm.amodels(**more),
    "LM.aembed": lambda lm, **more: lm.aembed("hi", **more),
    "LM.arerank": lambda lm, **more: lm.arerank("hi", ["ho"], **more),
    "LM.acount": lambda lm, **more: lm.acount("hi", **more),
    "aprocess_batch": lambda lm, **more: aprocess_batch(["hi"], lm, **more),
    "arun": lambda lm, **more: arun(["hi"], "answers.jsonl", lm, **more),
}
#: What asks nobody.
LOCAL: dict[str, Call] = {
    "LM.preview": lambda lm, **more: lm.preview("hi", **more),
    "LM.copy": lambda lm, **more: lm.copy(wrong=1, **more),
    "get_lm": lambda lm, **more: get_lm("openai", model="m", wrong=1, **more),
}
#: What takes no keyword of a call, and is a TypeError.
NARROW: dict[str, Call] = {
    "record": lambda **more: lmgateway.record("calls.jsonl", **more),
    "replay": lambda **more: lmgateway.replay("calls.jsonl", **more),
    "on_call": lambda **more: lmgateway.on_call(print, **more),
}
#: What takes neither a key nor a prompt, and the halves of what is looked at above.
HARMLESS = {
    "LM.close", "LM.aclose", "LM.inspect_history",
    "LM.provider", "LM.model", "LM.params", "LM.options", "LM.settings", "LM.history",
    "Stream.close", "AStream.aclose",
}  # fmt: skip


def test_every_public_function_is_considered() -> None:
    found = {
        f"{owner.__name__}.{name}"
        for owner in (LM, Stream, AStream)
        for base in owner.__mro__[:-1]
        for name in vars(base)
        if (not name.startswith("_") or name == "__call__")
        and (callable(vars(base)[name]) or isinstance(vars(base)[name], property))
    }
    found |= {name for name in lmgateway.batch.__all__ if name[0].islower()} - {
        "status",
        "to_pandas",
    }
    found.add("get_lm")
    assert found == {*BLOCKING, *AWAITED, *LOCAL, *HARMLESS}


def test_every_keyword_of_a_public_function_can_be_given() -> None:
    for name, function in inspect.getmembers(LM, inspect.isfunction):
        if name.removeprefix("a") in ("embed", "models", "rerank", "count"):
            kinds = [each.kind for each in inspect.signature(function).parameters.values()]
            assert inspect.Parameter.VAR_KEYWORD in kinds, name


def _called(name: str, lm: LM, **more: Any) -> Any:
    if name in AWAITED:
        return asyncio.run(_given_to(AWAITED[name](lm, **more)), debug=True)
    return {**BLOCKING, **LOCAL}[name](lm, **more)


# -- a key as an argument ----------------------------------------------------------------------


@pytest.mark.parametrize("given", ["api_key", "headers", "auth_token"])
@pytest.mark.parametrize("name", [*BLOCKING, *AWAITED, *LOCAL])
def test_an_argument_that_is_refused_is_shown_nowhere(name: str, given: str) -> None:
    more: dict[str, Any] = {given: {"X-Weird": KEY} if given == "headers" else KEY}
    if name in JOBS:
        more["wrong"] = 1
    with lm_at("http://127.0.0.1:9/v1", name) as lm, pytest.raises(LMGatewayError) as caught:
        _called(name, lm, **more)
    assert_hidden(caught.value)


@pytest.mark.parametrize("given", ["api_key", "headers", "auth_token"])
@pytest.mark.parametrize("name", NARROW)
def test_an_argument_that_nothing_takes_is_shown_nowhere(name: str, given: str) -> None:
    with pytest.raises(TypeError) as caught:
        NARROW[name](**{given: KEY})
    assert_hidden(caught.value)


@pytest.mark.parametrize("name", ["LM.batch", "LM.abatch"])
@pytest.mark.parametrize("keep", [True, False], ids=["kept", "raised"])
def test_a_row_that_is_refused_is_shown_nowhere(name: str, *, keep: bool) -> None:
    rows = [{"prompt": "hi", "api_key": KEY}]
    with lm_at("http://127.0.0.1:9/v1") as lm:
        try:
            if name == "LM.batch":
                (error,) = lm.batch(rows, return_exceptions=keep)
            else:
                (error,) = asyncio.run(lm.abatch(rows, return_exceptions=keep))
        except LMGatewayError as raised:
            error = raised
    assert isinstance(error, LMGatewayError)
    assert_hidden(error)


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"api_key": KEY + " \n" + KEY}, id="a key with a line break"),
        pytest.param({"api_key": [KEY]}, id="a list"),
        pytest.param({"api_key": KEY, "api_base": "ftp://x"}, id="a bad base"),
        pytest.param({"api_key": KEY, "timeout": -1}, id="a bad option"),
        pytest.param({"apikey": KEY}, id="a name misspelt"),
        pytest.param({"headers": {"X-Weird": f"{HEADER}\r\nX: y"}}, id="a header with a break"),
        pytest.param({"headers": {"X-Weird": SecretStr(f"{HEADER}\n")}}, id="a wrapped one"),
        pytest.param({"headers": {"X-Weird": [HEADER]}}, id="a header that is a list"),
    ],
)
def test_get_lm_shows_nothing_of_what_it_refuses(given: dict[str, Any]) -> None:
    with pytest.raises(LMGatewayError) as caught:
        get_lm("openai", model="m", **given)
    assert_hidden(caught.value)


# -- a call that fails -------------------------------------------------------------------------

ECHO = f"no {KEY} nor {HEADER}"
LONG = "x" * 280 + f" {KEY} {HEADER}"
FAULTS: dict[str, Script] = {
    "401 that echoes": [reply(json.dumps({"error": {"message": ECHO}}).encode(), 401, JSON)],
    "401 cut": [reply(json.dumps({"error": {"message": LONG, "code": KEY}}).encode(), 401, JSON)],
    "500 as text": [reply(ECHO.encode(), 500, {"x-request-id": KEY})],
    "500 as HTML": [reply(b"<html>" + b"x" * 970 + ECHO.encode(), 500, {})],
    "garbage": [reply(b"x" * 270 + ECHO.encode(), 200, JSON)],
    "wrong fields": [reply(json.dumps({"choices": ECHO, "data": ECHO}).encode(), 200, JSON)],
    "no HTTP": [receive(), send(ECHO.encode() + b"\r\n\r\n"), close()],
    "a redirect": [reply(b"", 307, {"Location": f"http://{KEY}.example/{KEY}"})],
    "reset": [receive(), reset()],
    "a stall": [receive(), stall()],
    "half a body": [receive(), send(head(200, JSON, length=900) + ECHO.encode()), close()],
    "an error in a stream": [
        receive(),
        send(head(200, EVENTS), chunk(PIECE), chunk(f'data: {{"error": "{ECHO}"}}\n\n'.encode())),
    ],
}


@contextmanager
def _everything_logged(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """At DEBUG, http.client's and asyncio's own words too; at the end none shows a canary."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    debuglevel = http.client.HTTPConnection.debuglevel
    http.client.HTTPConnection.debuglevel = 9
    try:
        yield
    finally:
        http.client.HTTPConnection.debuglevel = debuglevel
        root.removeHandler(handler)
        root.setLevel(level)
    said = capfd.readouterr()
    assert_clean(log.getvalue(), said.out, said.err)


@pytest.mark.parametrize("name", [*BLOCKING, *AWAITED])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_that_fails_shows_nothing(
    fault: str, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    shown: list[Any] = []
    with _everything_logged(capfd), FaultServer(*[FAULTS[fault]] * 9) as server:
        seconds = 0.15 if fault == "a stall" else 20
        for transport in ("aiohttp", "threads") if name in AWAITED else (None,):
            with lm_at(server.url, name, timeout=seconds, transport=transport) as lm:
                try:
                    shown.append(_called(name, lm))
                except LMGatewayError as error:
                    assert_hidden(error)
                    shown.append(repr(error))
                shown += [*map(repr, lm.history), name in RARE or pickle.dumps(lm)]
                lm.inspect_history()
    assert_clean(*shown)


# -- a call that is given up -------------------------------------------------------------------


def _stalls(where: str, seen: threading.Event) -> list[Step]:
    if where == "before the head":
        return [receive(), told(seen), stall()]
    if where == "in the body":
        return [receive(), send(head(200, JSON, length=900) + b"{"), told(seen), stall()]
    return [receive(), send(head(200, EVENTS), chunk(PIECE)), told(seen), stall()]


async def _cancelled(call: Awaitable[Any], way: str, seen: threading.Event) -> None:
    """Give a call up once the server has come to where it stalls."""
    loop = asyncio.get_running_loop()
    waiting = loop.run_in_executor(None, seen.wait, 10)
    if way == "asyncio.timeout":
        async with asyncio.timeout(None) as limit:
            waiting.add_done_callback(lambda _: limit.reschedule(loop.time()))
            await call
    elif way == "a task group":

        async def fail() -> None:
            await waiting
            raise ValueError("another task")

        async with asyncio.TaskGroup() as group:
            group.create_task(_given_to(call))
            group.create_task(fail())
    else:
        task = asyncio.ensure_future(call)
        await waiting
        task.cancel()
        await task


WAYS = ("task.cancel", "asyncio.timeout", "a task group")
PLACES = [("LM.astream", "before the head"), ("LM.astream", "in a stream")] + [
    (n, w) for n in AWAITED for w in ("before the head", "in the body") if n != "LM.astream"
]


@pytest.mark.parametrize("transport", ["aiohttp", "threads"])
@pytest.mark.parametrize(
    "name, where, way",
    [(*place, way) for place in PLACES[:6] for way in WAYS]  # and of the others each by one way
    + [(*place, WAYS[number % 3]) for number, place in enumerate(PLACES[6:])],
)
def test_a_call_that_is_cancelled_shows_nothing(
    name: str, where: str, way: str, transport: str, capfd: pytest.CaptureFixture[str]
) -> None:
    seen = threading.Event()
    with (
        _everything_logged(capfd),
        FaultServer(_stalls(where, seen)) as server,
        lm_at(server.url, name, transport=transport) as lm,
        pytest.raises((asyncio.CancelledError, TimeoutError, ExceptionGroup)) as caught,
    ):
        asyncio.run(_cancelled(AWAITED[name](lm), way, seen), debug=True)
    assert_hidden(caught.value)


def test_an_error_that_nobody_retrieves_is_logged_without_a_canary(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(_given_to(lm.acomplete("hi")))
        await asyncio.wait([task])

    with _everything_logged(capfd), FaultServer(FAULTS["401 that echoes"]) as server:
        log = io.StringIO()
        handler = logging.StreamHandler(log)
        logging.getLogger("asyncio").addHandler(handler)
        with lm_at(server.url) as lm:
            asyncio.run(main(), debug=True)
            gc.collect()
        logging.getLogger("asyncio").removeHandler(handler)
    assert "never retrieved" in log.getvalue()


@pytest.mark.parametrize(
    "name, where",
    [(n, w) for n in BLOCKING for w in ("before the head", "in the body")
     if n not in JOBS and n != "LM.stream"]
    + [("LM.stream", "before the head"), ("LM.stream", "in a stream")],
)  # fmt: skip
def test_ctrl_c_shows_nothing(name: str, where: str) -> None:
    seen = threading.Event()

    def interrupt() -> None:
        if seen.wait(10):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    killer = threading.Thread(target=interrupt)
    # A signal in the instant before a system call blocks is noticed only when that returns.
    with FaultServer(_stalls(where, seen)) as server, lm_at(server.url, name, timeout=5) as lm:
        killer.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            BLOCKING[name](lm)
        killer.join()
    assert_hidden(caught.value)


@pytest.mark.parametrize("name", ["run", "process_batch"])
def test_ctrl_c_in_a_job_shows_nothing(name: str) -> None:
    seen = threading.Event()

    def interrupt() -> None:
        if seen.wait(10):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    killer = threading.Thread(target=interrupt)
    with (
        FaultServer(_stalls("before the head", seen)) as server,
        lm_at(server.url, timeout=0.5) as lm,  # the first Ctrl-C lets a call end
    ):
        killer.start()
        with pytest.raises(KeyboardInterrupt) as caught:
            BLOCKING[name](lm)
        killer.join()
    assert_hidden(caught.value)


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
def test_an_error_that_nobody_explains_shows_nothing(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        raise AssertionError(f"a library says Bearer {KEY}, of {HEADER}")

    for transport in ("requests.RequestsTransport", "aiohttp.AiohttpTransport"):
        monkeypatch.setattr(f"lmgateway._transports.{transport}.send", broken)
    with lm_at("http://127.0.0.1:9") as lm, pytest.raises(AssertionError) as caught:
        _asks(lm, how)
    assert str(caught.value) == "a library says ***, of ***"
    assert_hidden(caught.value)


INSIDE = (os.path.dirname(lmgateway.__file__), "urllib3", "http/client", "requests")
#: What an event loop runs beside its tasks, and what only tidies up.
OUTSIDE = re.compile(
    r"tracebacks|connector|watchdog|close|release|exit|settle|let_go|carry|cancel|stop_clock"
    r"|wait_for_item|abort|put|del"
)


@contextmanager
def _interrupted_at(number: int, place: list[str]) -> Iterator[None]:
    """Ctrl-C as the n-th function below a call begins; it goes into ``place`` which that is."""
    calls = count()

    def trace(frame: FrameType, event: str, _: object) -> None:
        file, name = frame.f_code.co_filename, frame.f_code.co_name
        if place or event != "call" or not any(part in file for part in INSIDE):
            return
        if not OUTSIDE.search(f"{os.path.basename(file)} {name}") and next(calls) >= number:
            place.append(f"{file}:{frame.f_lineno} {name}")
            raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


def _interrupted(name: str, url: str, number: int, place: list[str]) -> None:
    async def awaited(lm: LM) -> None:
        with _interrupted_at(number, place):
            await AWAITED[name](lm)

    with lm_at(url) as lm:
        if name in AWAITED:
            asyncio.run(awaited(lm))
        else:
            with _interrupted_at(number, place):
                lm_at(url).close() if name == "get_lm" else BLOCKING[name](lm)


# What is interrupted while it opens a connection may leave it to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("name", ["LM.complete", "LM.stream", "LM.acomplete", "get_lm"])
def test_ctrl_c_in_any_function_shows_nothing(name: str) -> None:
    answer = chunk(PIECE) + chunk(ENDS) + chunk(b"")
    streamed: list[Step] = [receive(), send(head(200, EVENTS) + answer), close()]
    script = streamed if name == "LM.stream" else [reply(ANSWER, 200, JSON), close()]
    interrupted = 0
    with FaultServer(script) as server:
        for number in count(0, 3):
            place: list[str] = []
            try:
                _interrupted(name, server.url, number, place)
            except KeyboardInterrupt as error:
                assert_hidden(error)
            if not place:
                break
            interrupted += 1
    gc.collect()  # what was left to it, while that is no warning
    assert interrupted > 10


# -- what a plugin does ------------------------------------------------------------------------


class Settings(BaseModel):
    api_base: str
    api_key: SecretStr


class Signing:
    """A plugin whose credentials are made by a function that does as a test wants."""

    def __init__(self, auth: Callable[[str], Any]) -> None:
        self.auth = auth

    @hookimpl
    def lmgateway_settings(self) -> type[Settings]:
        return Settings

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request, settings: Settings) -> Flow[Any]:
        key = settings.api_key.get_secret_value()
        asked = HTTPRequest("POST", settings.api_base, "/", json={}, auth=lambda: self.auth(key))
        response = yield from ask(asked)
        return {"prompt": request.input, "choices": [{"text": response.body.decode()}]}

    lmgateway_stream = lmgateway_complete


def signing(auth: Callable[[str], Any], url: str = "http://127.0.0.1:9", **more: Any) -> LM:
    given = {"api_base": url, "api_key": KEY, "retries": 0, **more}
    return lm_from(Signing(auth), "signs", model="m", **given)


def _raises(error: Callable[[str], BaseException]) -> Callable[[str], Any]:
    def auth(key: str) -> Any:
        try:
            raise LookupError(f"chained to {key}")
        except LookupError as first:
            raise error(key) from first

    return auth


class _Odd(Exception):  # noqa: N818 - a plugin may name it so
    def __init__(self, key: str) -> None:
        self.held = {"key": key}

    def __str__(self) -> str:
        return f"odd {self.held}"


class _Stop(BaseException):
    pass


class _Mute(Exception):  # noqa: N818
    def __str__(self) -> str:
        raise RuntimeError(KEY)


async def _token(key: str) -> dict[str, str]:
    return {"Authorization": key}


SIGNS: dict[str, Callable[[str], Any]] = {
    "ValueError": _raises(lambda key: ValueError(f"cannot sign with {key}")),
    "KeyError": _raises(KeyError),
    "OSError": _raises(lambda key: OSError(2, "no such file", f"/tokens/{key}")),
    "SystemExit": _raises(SystemExit),
    "StopIteration": _raises(StopIteration),
    "GeneratorExit": _raises(GeneratorExit),
    "CancelledError": _raises(asyncio.CancelledError),
    "what is no Exception": _raises(lambda key: _Stop(key)),
    "an error of its own": _raises(_Odd),
    "an error that cannot be shown": _raises(lambda key: _Mute(key)),
    "a group": _raises(lambda key: ExceptionGroup("several", [ValueError(key)])),
    "a typed error": _raises(lambda key: lmgateway.ConfigError(f"no token for {key}")),
    "None": lambda key: None,
    "a str": lambda key: key,
    "bytes": lambda key: {"Authorization": key.encode()},
    "a line break": lambda key: {"Authorization": f"Bearer {key}\r\nX: y"},
    "a name with a break": lambda key: {f"X-{key}\r\nX": "y"},
    "a name that is no str": lambda key: {1: key},
    "a coroutine": _token,
    "a list": lambda key: [("Authorization", key)],
}


def _asks(lm: LM, how: str) -> Any:
    if how == "preview":
        return lm.preview("hi")
    if how == "stream":
        return list(lm.stream("hi"))
    return lm("hi") if how == "sync" else asyncio.run(lm.acall("hi"))


@pytest.mark.parametrize("how", ["sync", "async", "stream", "preview"])
@pytest.mark.parametrize("auth", SIGNS)
def test_an_auth_that_fails_is_one_typed_error(auth: str, how: str) -> None:
    with signing(SIGNS[auth]) as lm, pytest.raises(LMGatewayError) as caught:
        _asks(lm, how)
    error = caught.value
    if auth != "a typed error":
        assert isinstance(error, lmgateway.PluginError)
        assert "plugin 'signs'" in str(error)
    assert error.provider == "signs"
    assert_hidden(error)


@pytest.mark.parametrize("auth", [name for name in SIGNS if name != "a typed error"])
def test_a_fallback_is_asked_when_an_auth_fails(auth: str) -> None:
    with signing(SIGNS[auth], fallbacks=["echo"]) as lm:
        completion = lm.complete("hi")
    assert completion["provider"] == "echo"
    assert_clean(completion)


class Failing(Signing):
    """A plugin that fails with the key in its hands, and in its words."""

    def __init__(self, where: str) -> None:
        self.where = where

    def fail(self, settings: Any, where: str) -> None:
        key = settings.api_key.get_secret_value()
        if self.where == where:
            raise ValueError(f"failed with {key}")

    @hookimpl
    def lmgateway_complete(self, request: Request, settings: Settings) -> Any:
        self.fail(settings, "in the hook")
        return self.flow(settings)

    def flow(self, settings: Any) -> Flow[Any]:
        self.fail(settings, "in the flow")
        yield from ask(Blocking(lambda: self.fail(settings, "in a worker")))
        raise AssertionError("it should have failed")

    lmgateway_stream = lmgateway_complete

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest, settings: Settings) -> Any:
        return self.lmgateway_complete(None, settings)  # type: ignore[arg-type]

    lmgateway_rerank = lmgateway_count = lmgateway_embed

    @hookimpl
    def lmgateway_models(self, settings: Settings) -> Any:
        return self.lmgateway_complete(None, settings)  # type: ignore[arg-type]

    @hookimpl
    def lmgateway_close(self, settings: Settings) -> None:
        self.fail(settings, "when it is closed")


def failing(where: str) -> LM:
    given = {"api_base": "http://127.0.0.1:9", "api_key": KEY, "retries": 0}
    return lm_from(Failing(where), "fails", model="m", **given)


@pytest.mark.parametrize("name", [*BLOCKING, *AWAITED, "LM.preview"])
@pytest.mark.parametrize("where", ["in the hook", "in the flow", "in a worker"])
def test_a_plugin_that_fails_shows_where_and_not_with_what(where: str, name: str) -> None:
    if name == "LM.preview" and where == "in a worker":
        return  # it runs nothing
    with failing(where) as lm, pytest.raises(lmgateway.PluginError, match="'fails'") as caught:
        _called(name, lm)
    error: Any = caught.value
    assert_hidden(error)
    assert "fail" in [frame.f_code.co_name for frame in frames(error.__cause__.__traceback__)]
    for frame in frames(error.__cause__.__traceback__):  # those of this file as well
        assert not frame.f_locals


def test_a_plugin_that_fails_to_close_shows_nothing() -> None:
    with pytest.warns(RuntimeWarning, match=r"failed with \*\*\*"):
        failing("when it is closed").close()


class Clinging(Signing):
    """A plugin that fails, with the key in its words, where its answer is left or its LM closed."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    @hookimpl
    def lmgateway_stream(self, request: Request, settings: Settings) -> Flow[Any]:
        key = settings.api_key.get_secret_value()
        try:
            while True:
                yield Emit("piece")
        finally:
            raise self.error(key)

    @hookimpl
    def lmgateway_close(self, settings: Settings) -> None:
        raise self.error(settings.api_key.get_secret_value())


def _with(lm: LM, prompt: str) -> None:
    with suppress(ZeroDivisionError), lm.stream(prompt) as stream:
        next(stream)
        raise ZeroDivisionError


def _dropped(lm: LM, prompt: str) -> None:
    next(lm.stream(prompt))
    gc.collect()


def _closed(lm: LM, prompt: str) -> None:
    stream = lm.stream(prompt)
    next(stream)
    stream.close()


async def _aclosed(lm: LM, prompt: str) -> None:
    async with lm.astream(prompt) as stream:
        await anext(stream)


LEAVES: dict[str, Callable[[LM, str], Any]] = {
    "close": _closed,
    "a block that fails": _with,
    "dropped": _dropped,
    "aclose": lambda lm, prompt: asyncio.run(_aclosed(lm, prompt)),
    "the LM closed": lambda lm, prompt: lm.close(),
}


@pytest.mark.parametrize("error", [ValueError, KeyError, SystemExit, asyncio.CancelledError, _Stop])
@pytest.mark.parametrize("way", LEAVES)
def test_what_a_plugin_raises_at_an_end_is_a_warning_without_the_key(
    way: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", unraisable.append)
    given = {"api_base": "http://127.0.0.1:9", "api_key": KEY, "retries": 0}
    lm = lm_from(Clinging(error), "clings", model="m", **given)
    with pytest.warns(RuntimeWarning, match=f"plugin 'clings' raised {error.__name__}") as warned:
        LEAVES[way](lm, "hi")
    assert_clean(*(each.message for each in warned))
    assert not unraisable
    with pytest.warns(RuntimeWarning) if way != "the LM closed" else nullcontext():
        lm.close()


def test_a_callback_that_fails_is_logged_without_the_frames_of_the_call(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(event: object) -> None:
        raise ValueError("no collector")

    with (
        FaultServer([reply(ANSWER, 200, JSON)]) as server,
        lm_at(server.url) as lm,
        lmgateway.on_call(fail),
        pytest.warns(RuntimeWarning, match="no collector"),
    ):
        lm(KEY)
    (error,) = [each.exc_info[1] for each in caplog.records if each.exc_info]
    assert error is not None
    assert_hidden(error)
    assert [frame.f_code.co_name for frame in frames(error.__traceback__)][-1] == "fail"


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError])
def test_settings_that_refuse_a_key_do_not_show_it(error: type[Exception]) -> None:
    class Choosy(Settings):
        @model_validator(mode="after")
        def _check(self) -> Any:
            raise error(f"no good: {self.api_key.get_secret_value()}")

    class Plugin(Signing):
        @hookimpl
        def lmgateway_settings(self) -> type[Settings]:
            return Choosy

    plugin = Plugin(lambda key: {})
    with pytest.raises((LMGatewayError, error)) as caught:
        lm_from(plugin, "choosy", model="m", api_base="http://127.0.0.1:9", api_key=KEY)
    assert_clean(caught.value, repr(caught.value), repr(caught.value.args))


def test_no_frame_leads_back_to_what_was_hidden() -> None:
    class Held:
        pass

    alive: list[weakref.ref[Held]] = []

    def fail() -> None:
        held = Held()
        alive.append(weakref.ref(held))
        raise KeyboardInterrupt

    gc.disable()
    try:
        try:
            door(fail)()
        except KeyboardInterrupt as error:
            blank = list(frames(error.__traceback__))[1:]
        assert [frame.f_code.co_name for frame in blank] == ["called", "fail"]
        assert [frame.f_back for frame in blank] == [None, None]
        assert alive[0]() is None  # nobody waits for the collector
    finally:
        gc.enable()


def test_ctrl_c_in_an_auth_is_itself() -> None:
    def auth(key: str) -> Any:
        raise KeyboardInterrupt

    with signing(auth) as lm, pytest.raises(KeyboardInterrupt) as caught:
        lm("hi")
    assert_hidden(caught.value)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_token_that_was_made_for_the_call_is_masked_in_its_error(how: str) -> None:
    def made(key: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {HEADER}"}

    refusal = json.dumps({"error": {"message": f"{HEADER} has expired"}}).encode()

    class Checked(Signing):
        @hookimpl
        def lmgateway_complete(self, request: Request, settings: Settings) -> Flow[Any]:
            from lmgateway.wire.openai import check

            asked = HTTPRequest("POST", settings.api_base, "/", json={}, auth=lambda: made(""))
            check((yield from ask(asked)))

    with FaultServer([reply(refusal, 401, JSON)]) as server:
        given = {"api_base": server.url, "api_key": KEY, "retries": 0}
        with (
            lm_from(Checked(made), "signs", model="m", **given) as lm,
            pytest.raises(lmgateway.AuthenticationError, match=r"\*\*\* has expired") as caught,
        ):
            _asks(lm, how)
    assert_hidden(caught.value)


# -- what is written and watched ---------------------------------------------------------------

PLAIN = json.loads(ANSWER)
CHOICE = PLAIN["choices"][0]
#: Answers that repeat what they were asked with.
REPEATS: dict[str, Script] = {
    "the id of the request": [reply(ANSWER, 200, {**JSON, "x-request-id": KEY})],
    "the id": [reply(json.dumps({**PLAIN, "id": KEY}).encode(), 200, JSON)],
    "the model": [reply(json.dumps({**PLAIN, "model": f"m-{KEY}"}).encode(), 200, JSON)],
    "a wrapped header": [reply(json.dumps({**PLAIN, "id": HEADER}).encode(), 200, JSON)],
    "a reason": [
        reply(
            json.dumps({**PLAIN, "choices": [{**CHOICE, "finish_reason": KEY}]}).encode(), 200, JSON
        )
    ],
    "the text": [
        reply(
            json.dumps({**PLAIN, "choices": [{**CHOICE, "message": {"content": KEY}}]}).encode(),
            200,
            JSON,
        )
    ],
    "a field that nobody knows": [
        reply(json.dumps({**PLAIN, "debug": {KEY: f"Bearer {KEY}"}}).encode(), 200, JSON)
    ],
}


def _assert_nothing_kept(*paths: Path) -> None:
    for file in (*Path.home().rglob("*"), *paths):
        if file.is_file():
            assert b"canary-0123" not in file.read_bytes(), file


@pytest.mark.parametrize("how", ["sync", "async", "asked with it"])
@pytest.mark.parametrize("where", REPEATS)
def test_an_answer_that_repeats_a_key_is_not_kept_and_not_told(
    where: str, how: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path, events = tmp_path / "calls.jsonl", list[Any]()
    script = [reply(ANSWER, 200, JSON)] if how == "asked with it" else REPEATS[where]
    more = {"extra_body": {"key": KEY}} if how == "asked with it" else {}
    with (
        _everything_logged(capfd),
        FaultServer(*[script] * 2) as server,
        lm_at(server.url, cache=True, **more) as lm,
        lmgateway.on_call(events.append),
        pytest.raises(lmgateway.ConfigError, match="not everything was recorded") as caught,
        lmgateway.record(path),
    ):
        assert _asks(lm, how)
    assert_hidden(caught.value)
    assert_clean(*map(repr, events))
    _assert_nothing_kept(path)


def test_a_stream_that_repeats_a_key_is_not_kept(tmp_path: Path) -> None:
    piece = PIECE.replace(b'"hi"', json.dumps(KEY).encode())
    script = [receive(), send(head(200, EVENTS), chunk(piece), chunk(ENDS), chunk(b""))]
    path = tmp_path / "calls.jsonl"
    with (
        FaultServer(script) as server,
        lm_at(server.url, cache=True) as lm,
        pytest.raises(lmgateway.ConfigError, match="not everything was recorded"),
        lmgateway.record(path),
    ):
        assert list(lm.stream("hi")) == [KEY]
    _assert_nothing_kept(path)


def test_what_an_auth_says_beside_its_token_may_stand_in_an_answer(tmp_path: Path) -> None:
    def auth(key: str) -> dict[str, str]:
        return {"Authorization": key, "Accept": "application/json", "X-Time": "1700000000"}

    answer = json.dumps({"created": 1700000000, "at": "application/json"}).encode()
    with (
        FaultServer([reply(answer, 200, JSON)], [reset()]) as server,
        signing(auth, server.url, cache=True) as lm,
        lmgateway.record(tmp_path / "calls.jsonl"),
    ):
        assert [lm.complete("hi")["cached"] for _ in range(2)] == [False, True]


def test_an_answer_that_holds_a_word_given_for_a_key_is_kept(tmp_path: Path) -> None:
    answer = json.dumps({**PLAIN, "model": "a placeholder"}).encode()
    headers = {"X-Plain": "a placeholder 0123456789"}
    with (
        FaultServer([reply(answer, 200, JSON)], [reset()]) as server,
        lm_at(server.url, cache=True, api_key="placeholder", headers=headers) as lm,
        lmgateway.record(tmp_path / "calls.jsonl"),
    ):
        assert [lm.complete("hi")["cached"] for _ in range(2)] == [False, True]


def test_recordings_and_spans_show_nothing(tmp_path: Path) -> None:
    pytest.importorskip("opentelemetry.sdk", reason="needs opentelemetry-sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    from lmgateway.otel import instrument

    exporter, traces, events = InMemorySpanExporter(), TracerProvider(), list[Any]()
    traces.add_span_processor(SimpleSpanProcessor(exporter))
    path = tmp_path / "calls.jsonl"
    good, bad = reply(ANSWER, 200, JSON), FAULTS["401 that echoes"]
    vectors = reply(json.dumps({"data": [{"index": 0, "embedding": [1.0]}]}).encode(), 200, JSON)
    with (
        FaultServer([good, vectors, *bad]) as server,
        instrument(traces),
        lmgateway.on_call(events.append),
        lm_at(server.url, cache=True) as lm,
    ):
        with lmgateway.record(path):
            lm("hi")
            lm.embed("hi")
            with suppress(LMGatewayError):
                lm("ho")
        with lmgateway.replay(path), pytest.raises(lmgateway.CacheMissError) as caught:
            lm("hi " + KEY)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 2
    assert_clean(path.read_text(encoding="utf-8"), *map(repr, events))
    assert_clean(*(span.to_json() for span in exporter.get_finished_spans()))
    assert_hidden(caught.value)
    _assert_nothing_kept()
