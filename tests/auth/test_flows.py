"""An auth that is a flow: what it asks for, what a token host sees, what becomes of errors."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretBytes, SecretStr
from support.exposed import exposed
from support.fault_server import whole
from support.tokens import JSON, SECRET, Hosts, asked, fetch_of, hosts

import lmgateway
from lmgateway.errors import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidRequestError,
    LMGatewayError,
    PluginContractError,
    PluginError,
    RequestTimeoutError,
    ResponseFormatError,
    ServerError,
)
from lmgateway.types import Blocking, Emit, Flow, HTTPRequest, Kept, Signed, Sleep, Wait, send
from lmgateway.wire.openai import check, load

pytestmark = pytest.mark.loopback
WAYS = ["sync", "async", "threads", "stream"]
Auth = Callable[[Any], Any]


def bearer(settings: Any) -> Callable[[], Flow[Any]]:
    """An auth that fetches a token for each request."""
    fetch = fetch_of(settings)

    def auth() -> Flow[Any]:
        answer = yield from fetch()
        return {"Authorization": f"Bearer {answer['access_token']}"}

    return auth


def through_blocking(settings: Any) -> Callable[[], Flow[Any]]:
    def auth() -> Flow[Any]:
        token = yield from send(Blocking(lambda: "a-token-of-an-sdk"))
        return {"Authorization": f"Bearer {token}"}

    return auth


def signed(settings: Any) -> Signed:
    fetch = fetch_of(settings)

    def sign(outgoing: Any) -> Flow[Any]:
        assert outgoing.body == b'{"q":"hi"}'
        answer = yield from fetch()
        return {"Authorization": f"Bearer {answer['access_token']}"}

    return Signed(sign)


def waits(settings: Any) -> Callable[[], Flow[Any]]:
    def auth() -> Flow[Any]:
        yield Sleep(0.0)
        return (yield from bearer(settings)())

    return auth


FLOWS: dict[str, Auth] = {
    "a flow": bearer,
    "a function that returns a flow": lambda settings: lambda: bearer(settings)(),
    "a partial": lambda settings: partial(bearer(settings)),
    "signed": signed,
    "it sleeps first": waits,
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("auth", FLOWS)
def test_a_flow_fetches_what_a_request_needs(auth: str, how: str) -> None:
    with hosts() as there, there.lm(FLOWS[auth]) as lm:
        assert asked(lm, how) == "hi"
    assert [request.path for request in there.tokens.requests] == ["/oauth/token"]
    assert len(there.service.requests) == 1


@pytest.mark.parametrize("how", WAYS)
def test_what_blocks_runs_in_a_worker(how: str) -> None:
    with hosts() as there, there.lm(through_blocking) as lm:
        there.good.add("a-token-of-an-sdk")
        assert asked(lm, how) == "hi"


def test_a_loop_goes_on_while_work_blocks() -> None:
    ticked = threading.Event()

    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            done = yield from send(Blocking(lambda: ticked.wait(10)))
            return {"Authorization": f"Bearer {done}"}

        return auth

    async def main(there: Hosts) -> list[str]:
        async with there.lm(auth_of) as lm:
            call = asyncio.ensure_future(lm.acall("hi"))
            for _ in range(5):
                await asyncio.sleep(0)
            ticked.set()  # it would never be, if the loop stood still
            return await call

    with hosts() as there:
        there.good.add("True")
        assert asyncio.run(main(there)) == ["hi"]


# -- what a token host sees --------------------------------------------------------------------


@pytest.mark.parametrize("how", WAYS)
def test_a_token_host_sees_what_the_plugin_put_there_and_nothing_else(how: str) -> None:
    with hosts() as there:
        own = {"X-Team": "blue", "X-Gateway-Key": "the-gateway-key-1234"}
        with there.lm(bearer, headers=own) as lm:
            assert asked(lm, how) == "hi"
        (seen,) = there.tokens.requests
    assert json.loads(seen.body) == {"grant_type": "client_credentials", "client_secret": SECRET}
    beyond_http = set(seen.headers) - {
        "host", "user-agent", "accept", "accept-encoding", "connection", "content-type",
        "content-length",
    }  # fmt: skip
    assert beyond_http == set()


@pytest.mark.parametrize("how", WAYS)
def test_a_user_who_says_who_asks_needs_no_token(how: str) -> None:
    with hosts() as there:
        there.good.add("of-the-user")
        with there.lm(bearer, headers={"authorization": "Bearer of-the-user"}) as lm:
            assert asked(lm, how) == "hi"
        assert not there.tokens.requests


def basic(settings: Any) -> dict[str, str]:
    secret = settings.client_secret.get_secret_value()
    return {"Authorization": "Basic " + b64encode(f"me:{secret}".encode()).decode()}


INNER: dict[str, Auth] = {
    "a function": lambda settings: lambda: basic(settings),
    "a secret": lambda settings: SecretStr("another-secret-1234"),
    "a setting": lambda settings: settings.client_secret,
    "signed": lambda settings: Signed(lambda outgoing: {"X-Body": str(len(outgoing.body))}),
    "a flow of its own": lambda settings: bearer(settings),
}


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("inner", INNER)
def test_a_request_for_a_token_may_have_an_auth_of_its_own(inner: str, how: str) -> None:
    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            request = HTTPRequest(
                "POST", settings.token_host, "/t", json={}, keep=False, auth=INNER[inner](settings)
            )
            response = yield from send(request)
            check(response)
            return {"Authorization": f"Bearer {load(response.body)['access_token']}"}

        return auth

    with hosts() as there, there.lm(auth_of) as lm:
        assert asked(lm, how) == "hi"
        seen = next(r for r in there.tokens.requests if r.path == "/t").headers
    sent = {
        "a function": ("authorization", "Basic " + b64encode(f"me:{SECRET}".encode()).decode()),
        "a secret": ("authorization", "Bearer another-secret-1234"),
        "a setting": ("authorization", f"Bearer {SECRET}"),
        "signed": ("x-body", "2"),
        "a flow of its own": ("authorization", f"Bearer token-1-of-{there.account}"),
    }
    name, value = sent[inner]
    assert seen[name] == value


@pytest.mark.parametrize("how", ["sync", "async"])
def test_an_auth_that_waits_for_itself_is_the_plugins_fault(how: str) -> None:
    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            request = HTTPRequest("POST", settings.token_host, "/t", keep=False, auth=auth)
            yield from send(request)

        return auth

    def anew(settings: Any) -> Any:  # another function each time
        def auth() -> Flow[Any]:
            request = HTTPRequest(
                "POST", settings.token_host, "/t", keep=False, auth=anew(settings)
            )
            yield from send(request)

        return auth

    for made in (auth_of, anew):
        with hosts() as there, there.lm(made) as lm:
            with pytest.raises(PluginContractError, match="to get the same credentials"):
                asked(lm, how)
            assert not there.tokens.requests


# -- what makes no sense -----------------------------------------------------------------------


def yields(effect: Callable[[Any], Any]) -> Auth:
    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            yield effect(settings)
            return {"Authorization": "Bearer x"}

        return auth

    return auth_of


SENSELESS: dict[str, Auth] = {
    "a piece": yields(lambda settings: Emit("x")),
    "what may be kept": yields(lambda settings: HTTPRequest("GET", settings.token_host, "/")),
    "a stream": yields(
        lambda settings: HTTPRequest("GET", settings.token_host, "/", keep=False, stream=True)
    ),
    "a stream of a worker": yields(lambda settings: Blocking(lambda push: None, stream=True)),
    "an exchange of several": yields(lambda settings: Kept("k", send(Blocking(lambda: 1)))),
    "no effect": yields(lambda settings: 7),
    "a wrong value": yields(lambda settings: HTTPRequest("GET", 7, "/", keep=False)),  # type: ignore[arg-type]
    "a wait for nothing": yields(lambda settings: Wait(None)),  # type: ignore[arg-type]
    "headers that are none": lambda settings: lambda: (yield Sleep(0)),
    "a generator, not its function": lambda settings: bearer(settings)(),
    "signed by no function": lambda settings: Signed("key"),  # type: ignore[arg-type]
    "a secret that no header can hold": lambda settings: SecretStr("\u65e5\u672c"),
    "a secret with a line break": lambda settings: SecretStr("a\r\nX: y"),
    "bytes for a secret": lambda settings: SecretBytes(b"abc"),
}


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
@pytest.mark.parametrize("auth", SENSELESS)
def test_what_makes_no_sense_is_the_plugins_fault(auth: str, how: str) -> None:
    with hosts() as there, there.lm(SENSELESS[auth]) as lm:
        with pytest.raises(PluginContractError, match="plugin 'acme'"):
            asked(lm, how)
        assert not there.service.requests
        assert not there.tokens.requests


def test_the_flow_is_told_what_it_may_not_do() -> None:
    told: list[BaseException] = []

    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            try:
                yield Emit("x")
            except PluginContractError as error:
                told.append(error)
            return (yield from bearer(settings)())

        return auth

    with hosts() as there, there.lm(auth_of) as lm:
        assert lm("hi") == ["hi"]
    assert len(told) == 1


# -- errors ------------------------------------------------------------------------------------

REFUSAL = {"error": "invalid_client", "error_description": f"{SECRET} is not for this"}
REFUSALS: dict[str, tuple[bytes, type[LMGatewayError], str]] = {
    "401": (whole(json.dumps(REFUSAL).encode(), 401, JSON), AuthenticationError, "invalid_client"),
    "400": (whole(json.dumps(REFUSAL).encode(), 400, JSON), InvalidRequestError, "invalid_client"),
    "503": (whole(b"down", 503), ServerError, "down"),
    "a page": (whole(b"<html><title>Sign in</title></html>", 200), ResponseFormatError, ""),
    "nothing": (whole(b"", 200), ResponseFormatError, ""),
}


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refused_token_is_told_with_its_host_and_without_the_secret(
    refusal: str, how: str
) -> None:
    answer, kind, says = REFUSALS[refusal]
    with hosts() as there, there.lm(bearer) as lm:
        there.refuse = answer
        with pytest.raises(kind, match="plugin 'acme' got no credentials: ") as caught:
            asked(lm, how)
        assert caught.value.host == there.tokens.host
        assert caught.value.provider == "acme"
        assert says in str(caught.value)
        assert not there.service.requests
    for text in exposed(caught.value, __file__):
        assert SECRET not in text


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_fallback_is_asked_when_a_token_host_fails(refusal: str, how: str) -> None:
    with hosts() as there, there.lm(bearer, fallbacks=["echo"], retries=1) as lm:
        there.refuse = REFUSALS[refusal][0]
        assert asked(lm, how) == "hi"
        tried_again = refusal not in ("400", "401")
        assert len(there.tokens.requests) == 1 + tried_again


def test_a_token_host_that_is_down_is_named() -> None:
    with hosts() as there:
        there.tokens.__exit__(None, None, None)
        with there.lm(bearer) as lm, pytest.raises(ConnectionFailedError) as caught:
            lm("hi")
        assert caught.value.host == there.tokens.host
        there.tokens = there.service  # closed once


@pytest.mark.parametrize("how", WAYS)
def test_the_deadline_holds_for_a_slow_token_host(how: str) -> None:
    slow = threading.Event()
    with hosts() as there, there.lm(bearer, timeout=0.3) as lm:
        there.before = lambda: slow.wait(10)
        with pytest.raises(RequestTimeoutError, match="got no credentials"):
            asked(lm, how)
        slow.set()


def failing(raises: Callable[[], Any], first: bool) -> Auth:
    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            if not first:
                yield Sleep(0)
            raise raises()
            yield

        return auth

    return auth_of


class _Stop(BaseException):
    pass


RAISED: dict[str, Callable[[], BaseException]] = {
    "ValueError": lambda: ValueError(f"cannot sign with {SECRET}"),
    "SystemExit": lambda: SystemExit(SECRET),
    "CancelledError": lambda: asyncio.CancelledError(SECRET),
    "StopIteration": lambda: StopIteration(SECRET),
    "GeneratorExit": lambda: GeneratorExit(SECRET),
    "what is no Exception": lambda: _Stop(SECRET),
}


@pytest.mark.parametrize("how", ["sync", "async", "stream"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("raised", RAISED)
def test_what_a_flow_raises_is_one_typed_error(raised: str, first: bool, how: str) -> None:
    with hosts() as there:
        lm = there.lm(failing(RAISED[raised], first))
        with lm, pytest.raises(PluginError, match="plugin 'acme' raised") as caught:
            asked(lm, how)
        for text in exposed(caught.value, __file__):
            assert SECRET not in text
        with there.lm(failing(RAISED[raised], first), fallbacks=["echo"]) as with_fallback:
            assert asked(with_fallback, how) == "hi"


@pytest.mark.parametrize("made", [lambda fn: fn, lambda fn: Signed(lambda outgoing: fn())])
def test_a_typed_error_of_a_function_says_that_there_are_no_credentials(made: Any) -> None:
    def fail() -> Any:
        raise ConnectionFailedError("the vault is down")

    none = pytest.raises(ConnectionFailedError, match="plugin 'acme' got no credentials: the va")
    with hosts() as there, there.lm(lambda settings: made(fail)) as lm, none:
        lm("hi")


def test_what_its_work_raises_is_the_plugins_fault() -> None:
    def work() -> None:
        raise OSError(2, f"no file for {SECRET}")

    def auth_of(settings: Any) -> Any:
        return lambda: send(Blocking(work))

    with hosts() as there, there.lm(auth_of) as lm:
        with pytest.raises(
            PluginError, match="raised FileNotFoundError when it was asked"
        ) as caught:
            lm("hi")
        assert SECRET not in str(caught.value)


def test_ctrl_c_in_a_flow_is_itself() -> None:
    auth = failing(KeyboardInterrupt, first=False)
    with hosts() as there, there.lm(auth) as lm, pytest.raises(KeyboardInterrupt):
        lm("hi")


def test_a_cancelled_call_closes_the_flow() -> None:
    closed = threading.Event()
    stalled = threading.Event()

    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            try:
                return (yield from bearer(settings)())
            finally:
                closed.set()

        return auth

    async def main(there: Hosts) -> None:
        async with there.lm(auth_of) as lm:
            call = asyncio.ensure_future(lm.acall("hi"))
            await asyncio.to_thread(there.tokens.await_requests, 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert closed.is_set()

    with hosts() as there:
        there.before = lambda: stalled.wait(10)
        asyncio.run(main(there))
        stalled.set()


# -- secrets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["sync", "async"])
def test_what_came_with_the_token_is_masked_in_the_services_own_words(how: str) -> None:
    refresh = "the-refresh-token-0123456789"

    def auth_of(settings: Any) -> Any:
        def auth() -> Flow[Any]:
            form = {"assertion": "an-assertion-made-by-the-plugin"}
            request = HTTPRequest("POST", settings.token_host, "/t", json=form, keep=False)
            load((yield from send(request)).body)
            return {"Authorization": f"{refresh} an-assertion-made-by-the-plugin"}

        return auth

    with hosts() as there, there.lm(auth_of) as lm:
        there.more = {"refresh_token": refresh, "nested": [{"id_token": "the-id-token-01234"}]}
        with pytest.raises(AuthenticationError) as caught:
            asked(lm, how)
    assert "***" in str(caught.value)
    for text in exposed(caught.value, __file__):
        for secret in (refresh, "an-assertion-made-by-the-plugin", "the-id-token-01234", SECRET):
            assert secret not in text


def test_no_token_reaches_the_cache_a_recording_or_the_history(tmp_path: Path) -> None:
    with hosts() as there, there.lm(bearer, cache=True) as lm:
        with lmgateway.record(tmp_path / "calls.jsonl"):
            first = lm.complete("hi")
        assert lm.complete("hi")["cached"]
        kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert kept
        assert not any(b"token-1" in each or SECRET.encode() in each for each in kept)
        assert "token-1" not in repr((first, lm.history))
    assert len(there.tokens.requests) == 1  # a cached answer needs none


def test_a_preview_fetches_and_signs_nothing() -> None:
    def forbidden(*_: object) -> Any:
        raise AssertionError("it was asked")

    def flow() -> Flow[Any]:
        yield from ()
        forbidden()

    shown = {
        "<fetched when sent>": (bearer, lambda settings: flow, lambda settings: lambda: flow()),
        "<signed when sent>": (signed, lambda settings: Signed(forbidden)),
    }
    with hosts() as there:
        for text, auths in shown.items():
            for auth in auths:
                with there.lm(auth) as lm:
                    assert lm.preview("hi")["headers"]["Authorization"] == text
        assert not there.tokens.requests
