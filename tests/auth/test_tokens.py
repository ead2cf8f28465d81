"""A Token is fetched once for all who need it, kept until it runs out, and dropped when refused."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
from pydantic import SecretStr
from support.fault_server import whole
from support.tokens import JSON, SECRET, Hosts, asked, fetch_of, hosts, token_of

from lmgateway import LM
from lmgateway._layers.singleflight import flights
from lmgateway.errors import (
    APIError,
    AuthenticationError,
    LMGatewayError,
    PluginError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
)
from lmgateway.types import Blocking, Flow, HTTPRequest, Signed, Sleep, send
from lmgateway.wire.auth import Token

pytestmark = pytest.mark.loopback
WAYS = ["sync", "async", "threads", "stream"]


@pytest.fixture(autouse=True)
def _no_flight_is_left() -> Iterator[None]:
    yield
    assert not flights


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that tokens go by, in seconds; a test sets it."""
    now = [1000.0]
    monkeypatch.setattr("lmgateway.wire.auth.monotonic", lambda: now[0])
    return now


def until(true: Callable[[], bool]) -> None:
    end = monotonic() + 10
    while not true():
        assert monotonic() < end, "it never came to that"
        sleep(0.001)


def waiters() -> int:
    """How many calls wait for the one that fetches."""
    return sum(len(flight.future._done_callbacks) for flight in list(flights.values()))


@pytest.mark.parametrize("how", WAYS)
def test_a_token_is_fetched_once(how: str) -> None:
    with hosts() as there:
        for _ in range(3):
            with there.lm() as lm:
                assert asked(lm, how) == "hi"
        assert len(there.tokens.requests) == 1
        sent = [request.headers["authorization"] for request in there.service.requests]
    assert sent == [f"Bearer token-1-of-{there.account}"] * 3


def test_threads_and_tasks_share_one_request() -> None:
    async def tasks(lm: LM) -> list[list[str]]:
        return await asyncio.gather(*(lm.acall(f"task {n}") for n in range(50)))

    with hosts() as there, there.lm() as lm:
        there.before = lambda: until(lambda: waiters() >= 90)
        with ThreadPoolExecutor(51) as pool:
            threads = [pool.submit(lm, f"thread {n}") for n in range(50)]
            loop = pool.submit(lambda: asyncio.run(tasks(lm)))
            said = sorted(each.result(30)[0] for each in threads)
            assert said == sorted(f"thread {n}" for n in range(50))
            assert [each[0] for each in loop.result(30)] == [f"task {n}" for n in range(50)]
        assert len(there.tokens.requests) == 1


def test_accounts_have_tokens_of_their_own() -> None:
    with hosts() as there:
        for account in ("one", "two"):
            with there.lm(client_id=f"{account} of {there.account}") as lm:
                lm("hi")
        assert there.given == 2


# -- its time ----------------------------------------------------------------------------------

LIVES: list[tuple[Any, float, float]] = [  # as told, kept until, renewed from
    (3600, 3600, 3540),
    (100, 100, 90),
    ("3600", 3600, 3540),
    (" 1800.5 ", 1800, 1741),
    (1800.0, 1800, 1740),
    (None, 3600, 3540),
    ("soon", 3600, 3540),
    (float("nan"), 3600, 3540),
    (float("inf"), 3600, 3540),
    (10**400, 3600, 3540),
    (True, 3600, 3540),
    ([3600], 3600, 3540),
]


@pytest.mark.parametrize("told, ends, renewed", LIVES, ids=[str(row[0])[:9] for row in LIVES])
def test_a_token_holds_as_long_as_its_host_says(
    told: Any, ends: float, renewed: float, clock: list[float]
) -> None:
    token = Token(object(), lambda: ("the-token", told))
    fetch(token)
    start = clock[0]
    clock[0] = start + renewed - 1
    assert token.current() == "the-token"
    clock[0] = start + renewed + 1
    assert token.current() is None
    assert token.current(renewing=True) == "the-token"
    clock[0] = start + ends + 1
    assert token.current(renewing=True) is None


def fetch(token: Token) -> str:
    """What the core does where nothing needs to be awaited."""
    flow = token.fetched()
    value = None
    while True:
        try:
            effect = flow.send(value)
        except StopIteration as stop:
            return str(stop.value)
        assert isinstance(effect, Blocking)
        value = effect.fn()


@pytest.mark.parametrize("told", [0, -1, "-5", 0.0])
def test_a_token_that_has_run_out_already_is_used_once(told: Any) -> None:
    with hosts() as there, there.lm() as lm:
        there.life = told
        assert [lm(each)[0] for each in "ab"] == ["a", "b"]
        assert there.given == 2


def test_a_token_that_ran_out_is_fetched_anew(clock: list[float]) -> None:
    with hosts() as there, there.lm() as lm:
        lm("hi")
        clock[0] += 3700
        lm("hi")
        sent = [request.headers["authorization"] for request in there.service.requests]
    assert sent == [f"Bearer token-{n}-of-{there.account}" for n in (1, 2)]


def test_while_one_call_renews_it_the_others_go_on_with_the_old_one(clock: list[float]) -> None:
    held, began = threading.Event(), threading.Event()

    def hold() -> None:
        began.set()
        assert held.wait(10)

    with hosts() as there, there.lm() as lm, ThreadPoolExecutor(1) as pool:
        lm("hi")
        clock[0] += 3550
        there.before = hold
        renewing = pool.submit(lm, "renewed")
        assert began.wait(10)
        assert lm("old") == ["old"]
        held.set()
        assert renewing.result(10) == ["renewed"]
        sent = [request.headers["authorization"][:14] for request in there.service.requests]
    assert sent == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_the_old_token_serves_while_its_host_is_down(clock: list[float]) -> None:
    with hosts() as there, there.lm() as lm:
        lm("hi")
        there.refuse = whole(b"down", 503)
        clock[0] += 3550
        assert [lm(each)[0] for each in "ab"] == ["a", "b"]
        assert len(there.tokens.requests) == 2  # it is not asked by every call
        clock[0] += 60
        with pytest.raises(ServerError):
            lm("hi")
        assert len(there.tokens.requests) == 3


def test_a_wall_clock_that_jumps_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with hosts() as there, there.lm() as lm:
        lm("hi")
        for jump in (-1e9, 1e12):
            monkeypatch.setattr("time.time", lambda jump=jump: jump)
            lm("hi")
        assert there.given == 1


# -- refused -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
def test_a_refused_token_is_dropped_and_asked_for_once_more(how: str) -> None:
    with hosts() as there:
        with there.lm() as lm:
            assert asked(lm, how) == "hi"
        there.good.clear()
        with there.lm() as lm:
            assert asked(lm, how) == "hi"
        assert there.given == 2
        assert len(there.service.requests) == 3


@pytest.mark.parametrize("how", WAYS)
def test_a_token_that_is_refused_twice_is_an_error(how: str) -> None:
    with hosts() as there, there.lm() as lm:
        there.refuses_all = True
        with pytest.raises(AuthenticationError) as caught:
            asked(lm, how)
        assert "token-" not in str(caught.value)
        assert caught.value.host == there.service.host
        assert len(there.service.requests) == 2
        assert there.given == 2


def test_only_the_token_that_was_refused_is_dropped(clock: list[float]) -> None:
    token = Token(object(), lambda: "new-token")
    fetch(token)
    token.refused({"Authorization": "Bearer old-token"})
    assert token.current() == "new-token"
    token.refused({"Authorization": "Bearer new-token"})
    assert token.current() is None


def test_a_function_of_the_plugins_own_may_be_told_too() -> None:
    class Own:
        def __init__(self) -> None:
            self.keys = ["stale", "fresh"]

        def __call__(self) -> dict[str, str]:
            return {"Authorization": f"Bearer {self.keys[0]}"}

        def refused(self, headers: Any) -> None:
            assert headers == {"Authorization": "Bearer stale"}
            del self.keys[0]

    for auth in (Own(), _signed_by(Own())):
        with hosts() as there, there.lm(partial(_given, auth)) as lm:
            there.good.add("fresh")
            assert lm("hi") == ["hi"]


def _given(auth: Any, settings: Any) -> Any:
    return auth


def _signed_by(own: Any) -> Signed:
    class Sign:
        refused = own.refused

        def __call__(self, outgoing: Any) -> Any:
            return own()

    return Signed(Sign())


def test_what_it_raises_when_told_is_the_plugins_fault() -> None:
    class Own:
        def __call__(self) -> dict[str, str]:
            return {"Authorization": "Bearer stale"}

        def refused(self, headers: Any) -> None:
            raise LookupError("stale")

    says = "LookupError when its credentials had been refused"
    with (
        hosts() as there,
        there.lm(lambda settings: Own()) as lm,
        pytest.raises(PluginError, match=says),
    ):
        lm("hi")


# -- who fails, and who waits ------------------------------------------------------------------


def test_an_error_of_its_host_is_given_to_all_who_wait() -> None:
    with hosts() as there, there.lm() as lm, ThreadPoolExecutor(8) as pool:
        message = {"error": "invalid_client", "error_description": f"not {SECRET}"}
        there.refuse = whole(json.dumps(message).encode(), 401, JSON)
        there.before = lambda: until(lambda: waiters() >= 7)
        calls = [pool.submit(lm, f"{n}") for n in range(8)]
        errors = [call.exception(30) for call in calls]
        assert len(there.tokens.requests) == 1
    for error in errors:
        assert isinstance(error, AuthenticationError)
        assert "got no credentials: invalid_client" in str(error)
        assert SECRET not in str(error)
        assert error.host == there.tokens.host
    assert len({id(error) for error in errors}) == 8


def test_of_those_who_wait_another_fetches_when_the_first_is_cancelled() -> None:
    held = threading.Event()

    async def main(there: Hosts) -> None:
        async with there.lm() as lm:
            first = asyncio.ensure_future(lm.acall("first"))
            await asyncio.to_thread(there.tokens.await_requests, 1)
            second = asyncio.ensure_future(lm.acall("second"))
            while not waiters():
                await asyncio.sleep(0)
            first.cancel()
            held.set()
            assert await second == ["second"]
            with pytest.raises(asyncio.CancelledError):
                await first

    with hosts() as there:
        there.before = lambda: held.wait(10)
        asyncio.run(main(there))
        assert len(there.tokens.requests) == 2


def test_of_those_who_wait_another_fetches_when_the_firsts_time_is_up() -> None:
    held = threading.Event()
    with hosts() as there, there.lm() as lm, ThreadPoolExecutor(2) as pool:
        there.before = lambda: held.wait(10)
        first = pool.submit(lambda: lm("first", timeout=0.5))
        there.tokens.await_requests(1)
        second = pool.submit(lm, "second")
        with pytest.raises(RequestTimeoutError):
            first.result(10)
        held.set()
        assert second.result(10) == ["second"]
        assert len(there.tokens.requests) == 2


def test_who_waits_has_a_deadline_of_its_own() -> None:
    held = threading.Event()
    with hosts() as there, there.lm() as lm, ThreadPoolExecutor(1) as pool:
        there.before = lambda: held.wait(10)
        first = pool.submit(lm, "first")
        there.tokens.await_requests(1)
        with pytest.raises(RequestTimeoutError):
            lm("second", timeout=0.2)
        held.set()
        assert first.result(10) == ["first"]


def test_of_those_who_wait_another_fetches_when_the_first_has_a_fault() -> None:
    faults = iter([True, False])
    lock = threading.Lock()

    def auth_of(settings: Any) -> Token:
        def fetch() -> Flow[Any]:
            with lock:
                faulty = next(faults)
            if faulty:
                yield Sleep(0)
                until(lambda: waiters() >= 1)
                raise ValueError("a fault")
            return (yield from fetch_of(settings)())

        return Token(settings.client_id, fetch)

    with hosts() as there, there.lm(auth_of) as lm, ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(lm, f"{n}") for n in range(2)]
        errors = [call.exception(10) for call in calls]
    assert sorted(type(error).__name__ for error in errors) == ["NoneType", "PluginError"]


def test_a_call_within_the_loop_that_fetches_does_not_wait_for_itself() -> None:
    async def main(there: Hosts) -> None:
        there.before = lambda: there.tokens.await_requests(2)  # both ask
        async with there.lm() as lm:
            first = asyncio.ensure_future(lm.acall("first"))
            await asyncio.to_thread(there.tokens.await_requests, 1)
            assert lm("blocking, on the thread of the loop") is not None
            assert await first == ["first"]

    with hosts() as there:
        asyncio.run(main(there))


def test_ctrl_c_while_it_is_fetched_leaves_nothing_behind() -> None:
    interrupts = iter([True, False])

    def auth_of(settings: Any) -> Token:
        def fetch() -> Flow[Any]:
            yield Sleep(0)
            if next(interrupts):
                raise KeyboardInterrupt
            return (yield from fetch_of(settings)())

        return Token(settings.client_id, fetch)

    with hosts() as there, there.lm(auth_of) as lm:
        with pytest.raises(KeyboardInterrupt):
            lm("hi")
        assert not flights
        assert lm("hi") == ["hi"]


CHILD = """
import os, sys
from lmgateway._layers.singleflight import flights, join
from lmgateway.types import Blocking
from lmgateway.wire.auth import Token

token = Token("kept", lambda: "a-token")
try:
    flow = token.fetched()
    flow.send(next(flow).fn())
except StopIteration:
    pass
join((Token, "under way"))
child = os.fork()
if not child:
    os._exit(0 if token.current() == "a-token" and not flights else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_the_token_and_waits_for_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.stdout.strip() == "0", done.stderr


# -- what fetch may be -------------------------------------------------------------------------


def _flow() -> Flow[Any]:
    yield Sleep(0)
    return "the-token"


FETCHES: dict[str, Callable[[], Any]] = {
    "a flow": _flow,
    "a function that returns a flow": lambda: _flow(),
    "a text": lambda: "the-token",
    "a text with white space around it": lambda: "  the-token\n",
    "a secret": lambda: SecretStr("the-token"),
    "a token and its seconds": lambda: ("the-token", 60),
    "a token without them": lambda: ("the-token", None),
    "an answer": lambda: {"access_token": "the-token", "expires_in": "60"},
}


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("fetch", FETCHES)
def test_a_fetch_gives_a_token_in_any_of_these_ways(fetch: str, how: str) -> None:
    with hosts() as there, there.lm(lambda settings: Token(object(), FETCHES[fetch])) as lm:
        there.good.add("the-token")
        assert asked(lm, how) == "hi"


def test_a_plain_fetch_blocks_no_loop() -> None:
    ticked = threading.Event()

    def fetch() -> str:
        assert ticked.wait(10)
        return "the-token"

    async def main(there: Hosts) -> None:
        async with there.lm(lambda settings: Token(object(), fetch)) as lm:
            call = asyncio.ensure_future(lm.acall("hi"))
            for _ in range(5):
                await asyncio.sleep(0)
            ticked.set()
            assert await call == ["hi"]

    with hosts() as there:
        there.good.add("the-token")
        asyncio.run(main(there))


async def _coroutine() -> str:
    return "the-token"


def _raises() -> str:
    raise OSError(f"no {SECRET}")


WRONG: dict[str, tuple[Callable[..., Any], type[LMGatewayError], str]] = {
    "None": (lambda: None, PluginError, "returned a NoneType"),
    "bytes": (lambda: b"token", PluginError, "returned a bytes"),
    "a list": (lambda: ["token", 3], PluginError, "returned a list"),
    "three": (lambda: ("token", 3, 4), PluginError, "returned a tuple"),
    "a coroutine": (_coroutine, PluginError, "returned a coroutine"),
    "an argument": (lambda x: x, PluginError, "raised TypeError"),
    "it raises": (_raises, PluginError, "raised OSError"),
    "no token": (lambda: {"expires_in": 3}, ResponseFormatError, "has no access_token"),
    "a null": (lambda: {"access_token": None}, ResponseFormatError, "has no access_token"),
    "a number": (lambda: {"access_token": 7}, ResponseFormatError, "no text but a int"),
    "empty": (lambda: {"access_token": " "}, ResponseFormatError, "is empty"),
    "a line break": (lambda: f"{SECRET}\r\nX: y", ResponseFormatError, "cannot stand in a header"),
    "an umlaut": (lambda: ("t\u00f6ken", 3), ResponseFormatError, "cannot stand in a header"),
    "an error": (
        lambda: {"error": "bad_code", "error_description": f"{SECRET} is wrong"},
        AuthenticationError,
        "got no credentials: bad_code: .* is wrong",
    ),
}


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_token_is_one_typed_error(wrong: str, how: str) -> None:
    fetch, kind, says = WRONG[wrong]
    with hosts() as there, there.lm(lambda settings: Token(object(), fetch)) as lm:
        with pytest.raises(kind, match=f"plugin 'acme' .*{says}") as caught:
            asked(lm, how)
        assert SECRET not in str(caught.value)
        assert not there.service.requests


@pytest.mark.parametrize("arguments", [([], _flow), ("key", None), ("key", _flow())])
def test_a_token_of_what_makes_no_sense(arguments: Any) -> None:
    with pytest.raises(TypeError, match="a Token's"):
        Token(*arguments)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_token_for_its_own_sake_is_the_plugins_fault(how: str) -> None:
    def auth_of(settings: Any) -> Token:
        def fetch() -> Flow[Any]:
            host, again = settings.token_host, auth_of(settings)
            yield from send(HTTPRequest("POST", host, "/t", keep=False, auth=again))

        return Token(settings.client_id, fetch)

    says = "to get the same credentials"
    with hosts() as there, there.lm(auth_of) as lm, pytest.raises(PluginError, match=says):
        asked(lm, how)


# -- where it is put ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_token_stands_in_the_header_that_the_plugin_names(how: str) -> None:
    def auth_of(settings: Any) -> Any:
        return Token(object(), lambda: "the-token", header="X-Token", scheme="")

    with hosts() as there, there.lm(auth_of) as lm:
        with pytest.raises(APIError):
            asked(lm, how)
        assert there.service.requests[0].headers["x-token"] == "the-token"
        assert "authorization" not in there.service.requests[0].headers
        assert lm.preview("hi")["headers"]["X-Token"] == "<fetched when sent>"


@pytest.mark.parametrize("how", ["sync", "async"])
def test_a_signature_may_need_a_token(how: str) -> None:
    def auth_of(settings: Any) -> Signed:
        def sign(outgoing: Any) -> Flow[Any]:
            token = yield from token_of(settings).get()
            return {"Authorization": f"Bearer {token}", "X-Length": str(len(outgoing.body))}

        return Signed(sign)

    with hosts() as there:
        for _ in range(2):
            with there.lm(auth_of) as lm:
                assert asked(lm, how) == "hi"
        assert there.given == 1
        assert there.service.requests[0].headers["x-length"] == "10"


def test_no_look_at_a_token_shows_it(tmp_path: Path) -> None:
    with hosts() as there, there.lm() as lm:
        lm("hi")
        token = Token((there.tokens.url, there.account), lambda: "x")
        assert token.current() is not None
        from lmgateway.wire import auth

        text = repr((token, list(auth._current.values()), lm.preview("hi"), lm.history))
        assert f"token-1-of-{there.account}" not in text
