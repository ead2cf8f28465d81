"""What a flow keeps as one, and what it does not keep at all: jobs that are created and polled."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from layers.flows import awaited
from support.service import CANARY, DONE, AsyncService, Service, World, says, streams

from lmgateway import errors
from lmgateway._call.attempt import attempt_step
from lmgateway._drive.loops import run
from lmgateway._layers.cache import cache
from lmgateway._layers.context import Attempt, Send
from lmgateway._layers.limit import Limits, limit
from lmgateway._layers.permits import RateLimiter
from lmgateway._store.recorder import record, replay
from lmgateway.types import (
    Answer,
    Blocking,
    Emit,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Kept,
    Request,
    kept,
    send,
)

POLLS = 3


def job(request: Request, result: Any = None) -> Flow[Any]:
    """Create, poll and fetch; the value of the flow is what was fetched."""
    yield from send(HTTPRequest("POST", None, "/jobs", json={"prompt": request.prompt}))
    for _ in range(POLLS):
        yield from send(HTTPRequest("GET", None, "/jobs/1", keep=False))
    fetched = yield from send(HTTPRequest("GET", None, "/jobs/1/result", keep=False))
    return json.loads(fetched.body) if result is None else result


def answer(text: str) -> Answer:
    return {"prompt": "", "choices": [{"text": text}]}


def keeping(request: Request) -> Flow[Answer]:
    done = yield from kept({"prompt": request.prompt}, job(request))
    return answer(done["choices"][0]["text"])


def creating(request: Request) -> Flow[Answer]:
    """The create exchange is kept by itself, the polls are not."""
    yield from send(HTTPRequest("POST", None, "/jobs", json={"prompt": request.prompt}))
    polled = yield from send(HTTPRequest("GET", None, "/jobs/1", keep=False))
    return answer(json.loads(polled.body)["choices"][0]["text"])


def polling_first(request: Request) -> Flow[Answer]:
    """A token before the exchange that is kept."""
    yield from send(HTTPRequest("POST", None, "/token", keep=False, json={"temperature": 0}))
    reply = yield from send(HTTPRequest("POST", None, "/ask", json={"prompt": request.prompt}))
    return answer(json.loads(reply.body)["choices"][0]["text"])


def paths(world: World) -> list[str]:
    return [f"{each.method} {each.path}" for each in world.service.requests]


@pytest.fixture
def jobs(world: World) -> World:
    world.provider = keeping
    world.service.answer = lambda request: says("done")
    return world


WHOLE = ["POST /jobs", *["GET /jobs/1"] * POLLS, "GET /jobs/1/result"]


# -- what is not kept ------------------------------------------------------------------------------


def test_a_poll_is_never_answered_from_the_cache(jobs: World) -> None:
    jobs.provider = creating
    assert [jobs.ask(cache=True)["cached"] for _ in range(2)] == [False, True]
    assert paths(jobs) == ["POST /jobs", "GET /jobs/1", "GET /jobs/1"]


def test_a_token_before_it_does_not_make_an_answer_new(jobs: World) -> None:
    jobs.provider = polling_first
    assert [jobs.ask(temperature=0)["cached"] for _ in range(2)] == [False, True]
    assert paths(jobs) == ["POST /token", "POST /ask", "POST /token"]


def test_a_poll_is_not_recorded(jobs: World, tmp_path: Path) -> None:
    jobs.provider = creating
    with record(tmp_path / "r.jsonl"):
        jobs.ask()
    lines = (tmp_path / "r.jsonl").read_text().splitlines()
    assert [json.loads(line)["request"]["path"] for line in lines] == ["/jobs"]


@pytest.mark.parametrize("provider", [creating, polling_first])
def test_under_replay_no_poll_is_sent(
    jobs: World, tmp_path: Path, provider: Callable[[Request], Any]
) -> None:
    jobs.provider = provider
    with record(tmp_path / "r.jsonl"):
        jobs.ask()
    jobs.service.requests.clear()
    with replay(tmp_path / "r.jsonl"), pytest.raises(errors.CacheMissError, match="keep=False"):
        jobs.ask()
    assert not paths(jobs)


@pytest.mark.parametrize("provider", [creating, polling_first])
def test_what_may_only_come_from_the_cache_sends_no_poll(
    jobs: World, provider: Callable[[Request], Any]
) -> None:
    jobs.provider = provider
    jobs.ask(cache=True)
    jobs.service.requests.clear()
    with pytest.raises(errors.CacheMissError, match="keep=False"):
        jobs.ask(cache="only")
    assert not paths(jobs)


def limited(jobs: World, limits: Limits) -> None:
    """Ask through the cache and the limits."""
    _, call = jobs.flow("q", {"cache": False})
    step = attempt_step(jobs.provider, call, (cache(), limit(limits)))
    run(step(Request("m", "q")), jobs.service, call.deadline)


@pytest.mark.parametrize("provider", [keeping, creating, polling_first])
def test_no_limit_counts_a_poll(
    jobs: World, monkeypatch: pytest.MonkeyPatch, provider: Callable[[Request], Any]
) -> None:
    reserved: list[RateLimiter] = []
    reserve = RateLimiter.reserve

    def counting(self: RateLimiter, *args: Any) -> Any:
        reserved.append(self)
        return reserve(self, *args)

    monkeypatch.setattr(RateLimiter, "reserve", counting)
    jobs.provider = provider
    limited(jobs, Limits(rpm=1000.0, tpm=100_000.0))
    assert len(reserved) == len({id(each) for each in reserved}) == 2  # once in each rate


def test_a_poll_does_not_wait_for_a_place_that_its_own_stream_holds(jobs: World) -> None:
    def provider(request: Request) -> Flow[Answer]:
        stream = HTTPRequest("POST", None, "/events", json={}, stream=True)
        head = yield from send(stream)
        assert head.source is not None
        polled = yield from send(HTTPRequest("GET", None, "/jobs/1", keep=False))
        return answer(json.loads(polled.body)["choices"][0]["text"])

    jobs.provider = provider
    jobs.service.answer = lambda request: streams(DONE) if request.stream else says("polled")
    limited(jobs, Limits(in_flight=1))
    assert paths(jobs) == ["POST /events", "GET /jobs/1"]


# -- what is kept as one ---------------------------------------------------------------------------


def test_a_stretch_is_kept_whole(jobs: World) -> None:
    first, second = jobs.ask(temperature=0), jobs.ask(temperature=0)
    assert (first.pop("cached"), second.pop("cached")) == (False, True)
    assert first == second
    assert paths(jobs) == WHOLE


def test_the_exchanges_within_are_not_kept_by_themselves(jobs: World) -> None:
    jobs.ask(temperature=0)
    jobs.provider = creating
    assert jobs.ask(temperature=0)["cached"] is False


@awaited
async def test_a_stretch_is_kept_in_async_calls(jobs: World) -> None:
    service = AsyncService(jobs.service)
    answers = [await jobs.aask("q", service) for _ in range(2)]
    assert [each["cached"] for each in answers] == [False, True]
    assert paths(jobs) == WHOLE


@pytest.mark.parametrize(
    "options, asked",
    [
        pytest.param({"temperature": 1}, 2, id="neither repeatable nor wanted"),
        pytest.param({"cache": True}, 1, id="wanted"),
        pytest.param({"temperature": 1, "seed": 1}, 1, id="repeatable"),
        pytest.param({"cache": False, "seed": 1}, 2, id="not wanted"),
    ],
)
def test_the_usual_rules_hold(jobs: World, options: dict[str, Any], asked: int) -> None:
    for _ in range(2):
        jobs.ask(**options)
    assert paths(jobs) == WHOLE * asked


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"prompt": "other"}, id="the key"),
        pytest.param({"sample": 1}, id="the sample"),
        pytest.param({"headers": {"X-Route": "b"}}, id="a header of the user's"),
        pytest.param({"base": "https://two.example"}, id="the host"),
        pytest.param({"provider": "two"}, id="the provider"),
    ],
)
def test_what_tells_two_stretches_apart(jobs: World, change: dict[str, Any]) -> None:
    jobs.ask(cache=True)
    jobs.where.base_url = change.pop("base", jobs.where.base_url)
    jobs.where.provider = change.pop("provider", jobs.where.provider)
    assert jobs.ask(change.pop("prompt", "q"), cache=True, **change)["cached"] is False


def test_one_line_records_a_stretch_and_no_network_replays_it(jobs: World, tmp_path: Path) -> None:
    with record(tmp_path / "r.jsonl"):
        first = jobs.ask()
    (line,) = (tmp_path / "r.jsonl").read_text().splitlines()
    assert json.loads(line) == {
        "request": {"provider": "one", "sample": 0, "stream": False, "kept": {"prompt": "q"}},
        "response": {"value": json.loads(says("done").body)},
    }
    jobs.service.requests.clear()
    with replay(tmp_path / "r.jsonl"):
        assert jobs.ask() == {**first, "cached": True}
        with pytest.raises(errors.CacheMissError, match=r"kept\.prompt"):
            jobs.ask("other")
    assert not paths(jobs)


@pytest.mark.parametrize(
    "result",
    [
        pytest.param({"text": "done"}, id="JSON"),
        pytest.param(["a", 1.5, None], id="a list"),
        pytest.param(b"\xff\x00", id="bytes"),
        pytest.param(HTTPResponse(200, {"content-type": "text/plain"}, b"done"), id="a response"),
    ],
)
def test_what_may_be_kept_comes_back_as_it_was(jobs: World, tmp_path: Path, result: Any) -> None:
    seen: list[Any] = []

    def provider(request: Request) -> Flow[Answer]:
        seen.append((yield from kept("k", job(request, result))))
        return answer("a")

    jobs.provider = provider
    with record(tmp_path / "r.jsonl"):
        jobs.ask(cache=True)
    jobs.ask(cache=True)
    with replay(tmp_path / "r.jsonl"):
        jobs.ask()
    assert seen == [result] * 3
    assert paths(jobs) == WHOLE


@pytest.mark.parametrize("result", [object(), {1, 2}, float("nan")], ids=["object", "set", "nan"])
def test_what_is_no_json_is_handed_on_and_not_kept(
    jobs: World, tmp_path: Path, result: Any
) -> None:
    def provider(request: Request) -> Flow[Answer]:
        got = yield from kept("k", job(request, result))
        return answer(str(got is result))

    jobs.provider = provider
    for _ in range(2):
        assert jobs.ask(cache=True)["choices"][0]["text"] == "True"
    assert paths(jobs) == WHOLE * 2
    lost = pytest.raises(errors.ConfigError, match="not everything was recorded")
    with lost, record(tmp_path / "r.jsonl"):
        jobs.ask()


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda done: {"prompt": "", "choices": []}, id="an answer that is none"),
        pytest.param(lambda done: 1 / 0, id="a fault of the plugin"),
    ],
)
def test_what_was_not_validated_is_not_kept(jobs: World, break_it: Callable[[Any], Any]) -> None:
    def provider(request: Request) -> Flow[Any]:
        return break_it((yield from kept("k", job(request))))

    jobs.provider = provider
    for _ in range(2):
        with pytest.raises(errors.PluginError):
            jobs.ask(cache=True)
    assert paths(jobs) == WHOLE * 2


def test_an_error_response_is_not_kept(jobs: World) -> None:
    def provider(request: Request) -> Flow[Answer]:
        response = yield from kept("k", job(request, HTTPResponse(500, {}, b"no")))
        return answer(str(response.status))

    jobs.provider = provider
    assert [jobs.ask(cache=True)["cached"] for _ in range(2)] == [False, False]


def test_a_key_in_what_is_kept_stays_out_of_every_file(jobs: World, tmp_path: Path) -> None:
    def provider(request: Request) -> Flow[Answer]:
        yield from kept("k", job(request, {"said": f"your key is {CANARY}"}))
        return answer("a")

    jobs.provider = provider
    lost = pytest.raises(errors.ConfigError, match="a key or a token")
    with lost, record(tmp_path / "r.jsonl"):
        jobs.ask(cache=True)
    assert CANARY not in (tmp_path / "r.jsonl").read_text()
    assert jobs.ask(cache=True)["cached"] is False


def test_pieces_come_live_and_not_from_the_store(jobs: World) -> None:
    def piecewise(request: Request) -> Flow[Any]:
        yield Emit("live")
        return (yield from job(request))

    def provider(request: Request) -> Flow[Answer]:
        done = yield from kept("k", piecewise(request))
        yield Emit("result")
        return answer(done["choices"][0]["text"])

    jobs.provider = provider
    assert [jobs.stream(cache=True)[0] for _ in range(2)] == [["live", "result"], ["result"]]


# -- errors and ends -------------------------------------------------------------------------------


def test_what_goes_wrong_within_reaches_the_inner_flow_first(jobs: World) -> None:
    met: list[str] = []

    def inner() -> Flow[Any]:
        try:
            yield from send(HTTPRequest("POST", None, "/jobs", json={}))
        except errors.ConnectionFailedError as error:
            met.append(type(error).__name__)
            raise KeyError("gone") from error

    def provider(request: Request) -> Flow[Answer]:
        try:
            yield from kept("k", inner())
        except errors.PluginError as error:  # its own fault, told as one
            met.append(type(error).__name__)
        return answer("all the same")

    def refuse(request: HTTPRequest) -> HTTPResponse:
        raise errors.ConnectionFailedError("no")

    jobs.provider, jobs.service.answer = provider, refuse
    jobs.ask(cache=True)
    assert met == ["ConnectionFailedError", "PluginError"]


@pytest.mark.parametrize("end", [KeyboardInterrupt, GeneratorExit])
def test_the_inner_flow_is_closed_before_the_outer_one(
    jobs: World, end: type[BaseException]
) -> None:
    ended: list[str] = []

    def inner() -> Flow[Any]:
        try:
            yield from send(HTTPRequest("POST", None, "/jobs", json={}))
        finally:
            ended.append("inner")

    def provider(request: Request) -> Flow[Answer]:
        try:
            yield from kept("k", inner())
        finally:
            ended.append("outer")
        return answer("never")

    jobs.provider = provider
    flow, _ = jobs.flow("q", {})
    next(flow)
    if end is GeneratorExit:
        flow.close()
    else:
        with pytest.raises(end):
            flow.throw(end())
    assert ended == ["inner", "outer"]


def begun() -> Flow[Any]:
    flow = job(Request("m", "q"))
    next(flow)
    return flow


def ended() -> Flow[Any]:
    flow = job(Request("m", "q"))
    flow.close()
    return flow


def within(request: Request) -> Flow[Any]:
    return (yield from kept("inner", job(request)))


@pytest.mark.parametrize(
    "key, flow, told",
    [
        pytest.param("k", begun, "wrong value", id="a flow that was begun"),
        pytest.param("k", ended, "wrong value", id="a flow that has ended"),
        pytest.param("k", lambda: [1, 2], "wrong value", id="a list"),
        pytest.param("k", lambda: job, "wrong value", id="a function"),
        pytest.param("k", lambda: iter([1]), "wrong value", id="an iterator"),
        pytest.param({1, 2}, lambda: job(Request("m", "q")), "wrong value", id="a set as key"),
        pytest.param(float("nan"), lambda: job(Request("m", "q")), "wrong value", id="nan as key"),
        pytest.param(None, lambda: job(Request("m", "q")), "wrong value", id="no key"),
        pytest.param("k", lambda: within(Request("m", "q")), "kept already", id="nested"),
    ],
)
@pytest.mark.parametrize("stored", [False, True], ids=["uncached", "cached"])
def test_what_cannot_be_kept_is_refused(
    jobs: World, key: Any, flow: Callable[[], Any], told: str, stored: bool
) -> None:
    def provider(request: Request) -> Flow[Any]:
        yield Kept(key, flow())

    jobs.provider = provider
    with pytest.raises(errors.PluginContractError, match=told):
        jobs.ask(cache=stored)
    assert not jobs.service.requests


def test_work_in_the_process_may_stand_in_a_stretch(jobs: World) -> None:
    runs: list[int] = []

    def work() -> str:
        runs.append(1)
        return "worked"

    def inner() -> Flow[Any]:
        return (yield from send(Blocking(work, key="own")))

    def provider(request: Request) -> Flow[Answer]:
        return answer((yield from kept("k", inner())))

    jobs.provider = provider
    texts = [jobs.ask(cache=True)["choices"][0]["text"] for _ in range(2)]
    assert (texts, runs) == (["worked"] * 2, [1])


def test_calls_that_ask_the_same_at_once_run_one_stretch(jobs: World) -> None:

    jobs.service.gate = threading.Event()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(jobs.ask, cache=True) for _ in range(4)]
        assert jobs.service.arrived.acquire(timeout=30)
        jobs.service.gate.set()
        texts = [each.result()["choices"][0]["text"] for each in asked]
    assert texts == ["done"] * 4
    assert paths(jobs) == WHOLE


def test_a_stretch_without_a_cache_runs(jobs: World) -> None:
    service = Service(lambda request: says("done"))
    _, call = jobs.flow("q", {"cache": False})
    step = attempt_step(keeping, call, (cache(),))
    done = run(step(Request("m", "q")), service, call.deadline)
    assert done["choices"][0]["text"] == "done"


def test_who_looks_at_exchanges_sees_those_within(jobs: World) -> None:
    """Without a cache, as in a plugin's tests, there is nobody who keeps a stretch."""
    seen: list[str] = []

    def layer(inner: Send, attempt: Attempt) -> Send:
        def look(exchange: Any) -> Flow[Any]:
            seen.append(f"{exchange.method} {exchange.path}")
            return inner(exchange)

        return look

    _, call = jobs.flow("q", {})
    step = attempt_step(keeping, call, (layer,))
    assert run(step(Request("m", "q")), jobs.service, call.deadline)["cached"] is False
    assert seen == paths(jobs) == WHOLE
