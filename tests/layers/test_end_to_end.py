"""The layers around a real provider, over real sockets: what the server saw is what counts."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from layers.flows import notes
from support.distributions import SitePackages
from support.fault_server import FaultServer, chunk, head, receive, reply, reset, send, stall

from lmgateway import LM, get_lm
from lmgateway._call import flow as flows
from lmgateway._layers.limit import Limits, limit, limiter_for, limiters
from lmgateway._layers.observe import CallEvent, on_call
from lmgateway._layers.permits import Permit
from lmgateway._layers.retry import budgets
from lmgateway._transports.protocols import BodySource
from lmgateway.errors import (
    ConnectionFailedError,
    InvalidRequestError,
    LMGatewayError,
    RateLimitError,
    RequestTimeoutError,
    ServerError,
)
from lmgateway.lm import spec_of

pytestmark = pytest.mark.loopback

ANSWER = json.dumps(
    {
        "id": "chat-1",
        "model": "m-1",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "yes"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()
JSON = {"Content-Type": "application/json"}
BUSY = [reply(b'{"error": {"message": "busy"}}', 503, JSON)]
FINE = [reply(ANSWER, 200, JSON)]


def event(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, **more}
    data = json.dumps({"id": "chat-1", "model": "m-1", "choices": [choice]})
    return chunk(f"data: {data}\n\n".encode())


OPEN = head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
END = event("", finish_reason="stop") + chunk(b"data: [DONE]\n\n") + chunk(b"")
STREAM = [receive(), send(OPEN + event("ye") + event("s") + END)]

Mode = Callable[[Any, str], Any]


def plain(lm: Any, prompt: str) -> Any:
    return lm.complete(prompt)


def plain_async(lm: Any, prompt: str) -> Any:
    return asyncio.run(lm.acomplete(prompt))


def streamed(lm: Any, prompt: str) -> Any:
    with lm.stream(prompt) as stream:
        assert "".join(stream) == "yes"
    return stream.completion


def streamed_async(lm: Any, prompt: str) -> Any:
    async def main() -> Any:
        async with lm.astream(prompt) as stream:
            assert "".join([piece async for piece in stream]) == "yes"
        return stream.completion

    return asyncio.run(main())


MODES = [
    pytest.param(plain, FINE, id="sync"),
    pytest.param(plain_async, FINE, id="async"),
    pytest.param(streamed, STREAM, id="stream"),
    pytest.param(streamed_async, STREAM, id="async-stream"),
]


@pytest.fixture(autouse=True)
def fresh_and_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    budgets.clear()
    limiters.clear()
    monkeypatch.setattr("lmgateway._layers.retry.FIRST_BACKOFF", 0.01)


@pytest.fixture
def events() -> Iterator[list[CallEvent]]:
    seen: list[CallEvent] = []
    with on_call(seen.append):
        yield seen


def lm_at(server: FaultServer, *, limits: Limits | None = None, **keywords: Any) -> Any:
    lm = get_lm("openai/m", api_base=server.url, api_key="sk-not-real", cache=False, **keywords)
    if limits:
        lm = LM(spec_of(lm).with_layers(limit(limits)))
    return lm


# -- retries -----------------------------------------------------------------------------------


@pytest.mark.parametrize("ask, fine", MODES)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(BUSY, id="503"),
        pytest.param([receive(), reset()], id="reset-before-the-head"),
        pytest.param([receive(), send(head(200, JSON, length=99) + b'{"'), reset()], id="in-body"),
    ],
)
def test_two_failures_and_an_answer_are_an_answer(
    ask: Mode, fine: Any, fault: Any, events: list[CallEvent]
) -> None:
    with FaultServer(fault, fault, fine) as server, lm_at(server) as lm:
        completion = ask(lm, "Hi")
        assert completion["choices"][0]["text"] == "yes"
        assert len(server.requests) == 3
    (seen,) = events
    assert (seen.outcome, seen.attempts, seen.endpoint) == ("ok", 3, "chat/completions")


@pytest.mark.parametrize("ask, fine", MODES)
def test_attempts_are_counted_over_the_whole_stack(ask: Mode, fine: Any) -> None:
    with FaultServer([receive(), reset()]) as server, lm_at(server) as lm:
        with pytest.raises(ConnectionFailedError, match="attempt 3 of 3") as caught:
            ask(lm, "Hi")
        assert len(server.requests) == 3
    assert "attempt 2 failed" in notes(caught.value)


@pytest.mark.parametrize("ask, fine", MODES)
def test_a_refusal_is_asked_once(ask: Mode, fine: Any) -> None:
    with FaultServer([reply(b"{}", 400, JSON)]) as server, lm_at(server) as lm:
        with pytest.raises(InvalidRequestError):
            ask(lm, "Hi")
        assert len(server.requests) == 1


@pytest.mark.parametrize("ask, fine", MODES)
def test_retry_after_is_waited(ask: Mode, fine: Any) -> None:
    slow = [reply(b"{}", 429, {**JSON, "Retry-After": "1"})]
    with FaultServer(slow, fine) as server, lm_at(server) as lm:
        ask(lm, "Hi")
        first, second = server.requests
    assert 1.0 <= second.at - first.at < 5.0


@pytest.mark.parametrize("ask, fine", MODES)
def test_a_retry_after_beyond_the_deadline_is_raised_at_once(ask: Mode, fine: Any) -> None:
    slow = [reply(b"{}", 429, {**JSON, "Retry-After": "50"})]
    with FaultServer(slow) as server, lm_at(server, timeout=20) as lm:
        with pytest.raises(RateLimitError) as caught:
            ask(lm, "Hi")
        assert len(server.requests) == 1
    assert caught.value.retry_after == 50


def test_nothing_is_attempted_again_after_a_piece() -> None:
    cut = [receive(), send(OPEN + event("ye")), reset()]
    with FaultServer(cut, STREAM) as server, lm_at(server) as lm:
        stream = lm.stream("Hi")
        assert next(stream) == "ye"
        with pytest.raises(LMGatewayError) as caught:
            next(stream)
        assert len(server.requests) == 1
    assert caught.value.partial == "ye"
    assert not caught.value.retryable


# -- fallbacks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("ask, fine", MODES)
def test_a_dead_provider_falls_back_and_the_answer_says_so(
    ask: Mode, fine: Any, events: list[CallEvent], monkeypatch: pytest.MonkeyPatch
) -> None:
    with FaultServer(BUSY) as dead, FaultServer(fine) as alive:
        monkeypatch.setenv("OPENAI_API_BASE", alive.url)
        with lm_at(dead, retries=1, fallbacks=["openai/other"]) as lm:
            completion = ask(lm, "Hi")
        assert (len(dead.requests), len(alive.requests)) == (2, 1)
    assert completion["choices"][0]["text"] == "yes"
    (failure,) = completion["fallback_from"]
    assert (failure["provider"], failure["error"]) == ("openai", "ServerError")
    (seen,) = events
    assert seen.outcome == "ok"
    assert seen.host == alive.host
    assert seen.attempts == 3


def test_a_fallback_may_be_a_name() -> None:
    with FaultServer(BUSY) as dead, lm_at(dead, retries=0, fallbacks=["echo"]) as lm:
        completion = lm.complete("Hi")
    assert (completion["provider"], completion["choices"][0]["text"]) == ("echo", "Hi")


def test_the_options_of_a_call_hold_for_its_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    with FaultServer(BUSY) as dead, FaultServer([*FINE, *FINE, *FINE, *FINE]) as alive:
        monkeypatch.setenv("OPENAI_API_BASE", alive.url)
        with lm_at(dead, retries=0, fallbacks=["openai/other"], temperature=0) as lm:
            once, again = (lm.complete("Hi", cache=False) for _ in range(2))
            stored, sample = (lm.complete("Hi", cache=True, sample=number) for number in (0, 1))
            found = lm.complete("Hi", cache=True)
    answers = (once, again, stored, sample, found)
    assert [answer["cached"] for answer in answers] == [False, False, False, False, True]
    assert len(alive.requests) == 4


def test_a_fallbacks_own_options_yield_to_arguments_alone(tmp_path: Path) -> None:
    with FaultServer(BUSY) as dead, FaultServer(BUSY) as other:
        config = tmp_path / "lmgateway.toml"
        config.write_text(
            f"""
            [models.first]
            provider = "a"
            model = "m"
            retries = 0
            fallbacks = ["second"]
            [models.second]
            provider = "b"
            model = "m"
            retries = 1
            [providers.a]
            plugin = "openai"
            api_base = "{dead.url}"
            [providers.b]
            plugin = "openai"
            api_base = "{other.url}"
            """,
            encoding="utf-8",
        )
        with get_lm("first", config=str(config), headers={"Authorization": "none"}) as lm:
            with pytest.raises(ServerError) as caught:
                lm("Hi")
            assert (len(dead.requests), len(other.requests)) == (1, 2)
            assert "attempt 1 of 1" in str(caught.value)
            assert "attempt 2 of 2" in notes(caught.value)
            with pytest.raises(ServerError):
                lm("Hi", retries=0)
            assert (len(dead.requests), len(other.requests)) == (2, 3)


CLOSED = """
from pydantic import BaseModel
from lmgateway import hookimpl

class Settings(BaseModel):
    size: int = 1

answered, closed = set(), []

@hookimpl
def lmgateway_settings():
    return Settings

@hookimpl
def lmgateway_complete(request, settings):
    answered.add(id(settings))
    return {"prompt": request.prompt, "choices": [{"text": "ok"}]}

@hookimpl
def lmgateway_close(settings):
    closed.append(id(settings))
"""


def test_the_close_of_an_lm_is_told_to_the_plugins_of_its_fallbacks(
    site_packages: SitePackages,
) -> None:
    name = site_packages.install("embedded", CLOSED)
    with FaultServer(BUSY) as dead, lm_at(dead, retries=0, fallbacks=["embedded/m"]) as lm:
        assert [lm("Hi") for _ in range(3)] == [["ok"]] * 3
        plugin = sys.modules[name]
        assert (len(plugin.answered), plugin.closed) == (1, [])
    assert plugin.closed == list(plugin.answered)


def test_a_plugin_that_fails_to_close_hides_no_error_and_keeps_no_other_open(
    site_packages: SitePackages,
) -> None:
    site_packages.install("broken", CLOSED.replace("closed.append(id(settings))", "closed.nope()"))
    name = site_packages.install("embedded", CLOSED)
    lm = get_lm("broken", model="m", fallbacks=["embedded/m"])
    flows._resolved("embedded/m", spec_of(lm))
    with (
        pytest.warns(RuntimeWarning, match=r"lmgateway-broken 1\.0 raised AttributeError while"),
        pytest.raises(LookupError, match="the user's own"),
        lm,
    ):
        raise LookupError("the user's own")
    assert len(sys.modules[name].closed) == 1


def test_a_parameter_that_a_fallback_would_drop_passes_it_over() -> None:
    with (
        FaultServer(BUSY) as dead,
        lm_at(dead, retries=0, fallbacks=["echo"]) as lm,
        pytest.raises(ServerError) as caught,
    ):
        lm.complete("Hi", top_p=0.5)
    assert "fallback echo failed" in notes(caught.value)
    assert "top_p" in notes(caught.value)


# -- limits ------------------------------------------------------------------------------------


def flying(limits: Limits) -> int:
    semaphore = limiter_for("openai", limits).in_flight
    assert semaphore is not None
    assert not semaphore.queued
    return len(semaphore.held)


def test_threads_and_a_loop_never_have_more_at_the_server_than_the_limit() -> None:
    limits = Limits(in_flight=3)
    lock, inside, most = threading.Lock(), 0, 0

    def count(step: int) -> Callable[[Any], None]:
        def change(_peer: Any) -> None:
            nonlocal inside, most
            with lock:
                inside += step
                most = max(most, inside)

        return change

    pause = threading.Event()
    script = [
        receive(),
        count(+1),
        lambda peer: pause.wait(0.02),
        count(-1),
        send(head(200, {**JSON, "Connection": "close"}, length=len(ANSWER)) + ANSWER),
    ]
    with FaultServer(script) as server, lm_at(server, limits=limits) as lm:

        def many() -> None:
            for _ in range(5):
                lm("Hi")

        async def amany() -> None:
            await asyncio.gather(*(lm.acall("Hi") for _ in range(20)))

        threads = [threading.Thread(target=many) for _ in range(6)]
        threads.append(threading.Thread(target=lambda: asyncio.run(amany())))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert len(server.requests) == 50
    assert most == 3
    assert flying(limits) == 0


@pytest.mark.parametrize("how", ["left", "dropped", "failed", "read"])
def test_a_stream_gives_its_place_back_however_it_ends(how: str) -> None:
    limits = Limits(in_flight=1)
    rest = {"failed": [reset()], "read": [send(event("s") + END)]}.get(how, [stall()])
    with (
        FaultServer([receive(), send(OPEN + event("ye")), *rest], FINE) as server,
        lm_at(server, limits=limits) as lm,
    ):
        stream = lm.stream("Hi")
        assert next(stream) == "ye"
        assert flying(limits) == 1
        if how == "left":
            stream.close()
        elif how == "read":
            assert list(stream) == ["s"]
        elif how == "failed":
            with pytest.raises(LMGatewayError):
                next(stream)
        del stream
        assert flying(limits) == 0
        assert lm("Hi") == ["yes"]


@pytest.mark.parametrize("transport", ["aiohttp", "threads"])
def test_a_cancelled_task_gives_its_place_back(transport: str) -> None:
    limits = Limits(in_flight=1)

    async def main(server: FaultServer, lm: Any) -> None:
        task = asyncio.create_task(lm.acall("Hi"))
        await asyncio.to_thread(server.await_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        if transport == "aiohttp":
            assert flying(limits) == 0  # a thread takes a moment to notice
        assert await lm.acall("Hi") == ["yes"]

    with (
        FaultServer([receive(), stall()], FINE) as server,
        lm_at(server, limits=limits, transport=transport) as lm,
    ):
        asyncio.run(main(server, lm))
    assert flying(limits) == 0


def test_a_call_in_a_stream_of_the_same_thread_is_no_deadlock() -> None:
    with (
        FaultServer([receive(), send(OPEN + event("ye")), stall()]) as server,
        lm_at(server, limits=Limits(in_flight=1), timeout=None) as lm,
        lm.stream("Hi") as stream,
    ):
        next(stream)
        with pytest.raises(RequestTimeoutError, match="this very thread"):
            lm("Hi")


# -- observation -------------------------------------------------------------------------------


def test_a_stream_that_is_left_early_is_abandoned(events: list[CallEvent]) -> None:
    with (
        FaultServer([receive(), send(OPEN + event("ye")), stall()]) as server,
        lm_at(server) as lm,
        lm.stream("Hi") as stream,
    ):
        next(stream)
    (seen,) = events
    assert (seen.outcome, seen.streamed, seen.host) == ("abandoned", True, server.host)
    assert seen.time_to_first_piece is not None


def test_a_cancelled_task_is_told_of(events: list[CallEvent]) -> None:
    async def main(server: FaultServer, lm: Any) -> None:
        task = asyncio.create_task(lm.acall("Hi"))
        await asyncio.to_thread(server.await_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with FaultServer([receive(), stall()]) as server, lm_at(server) as lm:
        asyncio.run(main(server, lm))
    assert [seen.outcome for seen in events] == ["cancelled"]


def test_no_event_and_no_log_line_holds_the_key_or_the_prompt(
    events: list[CallEvent], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG", "lmgateway")
    echoing = [reply(b'{"error": {"message": "no: a secret prompt"}}', 503, JSON)]
    with FaultServer(echoing) as server, lm_at(server, fallbacks=["echo"]) as lm:
        lm("a secret prompt")
    text = caplog.text + repr(events)
    assert "asking echo instead" in text
    assert "sk-not-real" not in text
    assert "secret prompt" not in text


def test_a_stream_that_is_closed_from_elsewhere_before_its_first_piece_asks_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, read = threading.Event(), BodySource.read

    def told(source: BodySource) -> Any:
        reading.set()
        return read(source)

    monkeypatch.setattr(BodySource, "read", told)
    with FaultServer([receive(), send(OPEN), stall()]) as server, lm_at(server) as lm:
        stream = lm.stream("Hi")
        pieces: list[str] = []
        reader = threading.Thread(target=lambda: pieces.extend(stream))
        reader.start()
        server.await_requests(1)
        reading.wait(10)
        stream.close()
        reader.join(10)
        assert not reader.is_alive()
        assert len(server.requests) == 1
    assert pieces == []


def waits_for_the_head(server: FaultServer, lm: Any) -> None:
    server.await_requests(1)


def waits_for_a_place(server: FaultServer, lm: Any) -> None:
    """Somebody else's call has the only one."""
    semaphore = limiter_for("openai", ONE).in_flight
    assert semaphore is not None
    while not semaphore.queued:
        threading.Event().wait(0.005)


def waits_to_try_again(server: FaultServer, lm: Any) -> None:
    server.await_requests(1)
    threading.Event().wait(0.05)  # it need not have come to its pause yet


ONE = Limits(in_flight=1)
PAUSE = [reply(b"{}", 503, {**JSON, "Retry-After": "50"})]
WAITS = [
    pytest.param([receive(), stall()], waits_for_the_head, id="for the head"),
    pytest.param([receive(), stall()], waits_for_a_place, id="for a place"),
    pytest.param(PAUSE, waits_to_try_again, id="to try again"),
]


@pytest.mark.parametrize("script, until", WAITS)
def test_a_stream_that_is_closed_from_elsewhere_ends_whatever_its_reader_waits_for(
    script: Any, until: Any
) -> None:
    with FaultServer(script) as server, lm_at(server, limits=ONE, timeout=60) as lm:
        other = occupied(until)
        stream = lm.stream("Hi")
        pieces: list[str] = []
        reader = threading.Thread(target=lambda: pieces.extend(stream))
        reader.start()
        until(server, lm)
        stream.close()
        reader.join(10)
        assert not reader.is_alive()
        if until is waits_for_the_head:
            server.await_hang_up()
        assert len(server.requests) == (other is None)
        if other is not None:
            other.release()
    assert pieces == []
    assert flying(ONE) == 0


@pytest.mark.parametrize("transport", ["aiohttp", "threads"])
@pytest.mark.parametrize("script, until", WAITS)
def test_an_async_stream_that_is_closed_from_elsewhere_ends_whatever_its_reader_waits_for(
    script: Any, until: Any, transport: str
) -> None:
    async def main(server: FaultServer, lm: Any) -> None:
        stream = lm.astream("Hi")

        async def read() -> tuple[list[str], int]:
            pieces = [piece async for piece in stream]
            await asyncio.sleep(0)  # it goes on, and nothing cancels it
            return pieces, asyncio.current_task().cancelling()  # type: ignore[union-attr]

        reader = asyncio.create_task(read())
        await asyncio.to_thread(until, server, lm)
        await stream.aclose()
        assert await asyncio.wait_for(reader, 10) == ([], 0)

    with (
        FaultServer(script) as server,
        lm_at(server, limits=ONE, timeout=60, transport=transport) as lm,
    ):
        other = occupied(until)
        asyncio.run(main(server, lm))
        if until is waits_for_the_head:
            server.await_hang_up()
        if other is not None:
            other.release()
    assert flying(ONE) == 0


@pytest.mark.parametrize("transport", ["aiohttp", "threads"])
def test_an_async_stream_can_be_closed_from_another_loop(transport: str) -> None:
    async def read(stream: Any) -> list[str]:
        return [piece async for piece in stream]

    with FaultServer([receive(), stall()]) as server, lm_at(server, transport=transport) as lm:
        stream = lm.astream("Hi")
        outcome: list[Any] = []
        reader = threading.Thread(target=lambda: outcome.append(asyncio.run(read(stream))))
        reader.start()
        server.await_requests(1)
        asyncio.run(stream.aclose())
        reader.join(10)
        assert outcome == [[]]


def test_a_reader_who_is_cancelled_while_its_stream_is_closed_stays_cancelled() -> None:
    async def main(server: FaultServer, lm: Any) -> None:
        stream = lm.astream("Hi")
        reader = asyncio.create_task(anext(stream))
        await asyncio.to_thread(server.await_requests, 1)
        await stream.aclose()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader

    with FaultServer([receive(), stall()]) as server, lm_at(server) as lm:
        asyncio.run(main(server, lm))


def occupied(until: Any) -> Permit | None:
    """The only place in flight, for somebody else; None if this test is about something else."""
    semaphore = limiter_for("openai", ONE).in_flight
    assert semaphore is not None
    return semaphore.acquire() if until is waits_for_a_place else None
