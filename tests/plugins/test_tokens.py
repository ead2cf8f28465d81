"""A token that must be fetched first: who sees it, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, SecretStr
from support.web import CALLING, Asked, Reply, Web, ask

import lmgateway
from lmgateway import LM, errors, hookimpl
from lmgateway._store.sqlite import close_all
from lmgateway.testing import lm_from, record_call
from lmgateway.types import HTTPRequest, Info, send
from lmgateway.wire.openai import check, load

pytestmark = pytest.mark.loopback

CLIENT_SECRET = "the-client-secret-of-acme"


class Bank:
    """A service that takes tokens, and the host that gives them, apart from each other."""

    def __init__(self) -> None:
        self.issued = 0
        self.good = 0
        self.expires_in = 3600
        self.service = Web(self._say)
        self.tokens = Web(self._token)

    def token(self, number: int) -> str:
        return f"ACCESS-TOKEN-{number}-ffffffff"

    def revoke(self) -> None:
        """No token that was given is good any more."""
        self.good = self.issued + 1

    def _token(self, asked: Asked) -> Reply:
        self.issued += 1
        self.good = self.issued
        body = {"access_token": self.token(self.issued), "expires_in": self.expires_in}
        return Reply(json.dumps(body).encode())

    def _say(self, asked: Asked) -> Reply:
        if asked.headers.get("authorization") == f"Bearer {self.token(self.good)}":
            return Reply(json.dumps({"said": "hello"}).encode())
        shown = asked.headers.get("authorization", "")  # a service that echoes what it was given
        return Reply(json.dumps({"error": {"message": f"expired: {shown}"}}).encode(), 401)


@pytest.fixture
def bank() -> Iterator[Bank]:
    made = Bank()
    with made.service, made.tokens:
        yield made


class Settings(BaseModel):
    api_base: str
    token_host: str
    client_id: str = "me"
    client_secret: SecretStr


def fetch(settings: Settings) -> Iterator[Any]:
    """One exchange with the token's host."""
    form = {
        "grant_type": "client_credentials",
        "client_id": settings.client_id,
        "client_secret": settings.client_secret.get_secret_value(),
    }
    asked = HTTPRequest("POST", settings.token_host, "/token", form=form, keep=False)
    response = yield from send(asked)
    check(response)
    return load(response.body)


def first(settings: Settings) -> Any:
    """In the call's own flow: one more ``send`` before the request, each time."""
    token = (yield from fetch(settings))["access_token"]
    return SecretStr(token)


def header(settings: Settings) -> Any:
    """In the call's own flow as well, and put among the request's headers."""
    token = (yield from fetch(settings))["access_token"]
    return {"authorization": f"Bearer {token}"}


def flow(settings: Settings) -> Any:
    """By the request's auth, each time that one is really sent."""
    yield from ()

    def auth() -> Iterator[Any]:
        return {"Authorization": f"Bearer {(yield from fetch(settings))['access_token']}"}

    return auth


def kept(settings: Settings) -> Any:
    """By a Token, which keeps it."""
    from lmgateway.wire.auth import Token

    yield from ()
    return Token((settings.token_host, settings.client_id), lambda: fetch(settings))


WAYS: dict[str, Callable[[Settings], Any]] = {
    "first": first, "header": header, "flow": flow, "kept": kept,
}  # fmt: skip


class Acme:
    def __init__(self, way: str) -> None:
        self.way = WAYS[way]

    @hookimpl
    def lmgateway_settings(self) -> Any:
        return Settings

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m", params=frozenset({"temperature"}))

    @hookimpl
    def lmgateway_complete(self, request: Any, settings: Settings) -> Iterator[Any]:
        auth = yield from self.way(settings)
        body = {"text": request.prompt}
        proof = {"headers": auth} if isinstance(auth, dict) else {"auth": auth}
        response = yield from send(
            HTTPRequest("POST", settings.api_base, "/say", json=body, **proof)
        )
        check(response, request)
        return {"prompt": request.input, "choices": [{"text": load(response.body)["said"]}]}


def lm_of(bank: Bank, way: str, **keywords: Any) -> LM:
    places = {"api_base": bank.service.url, "token_host": bank.tokens.url}
    common = {"client_secret": CLIENT_SECRET, "retries": 0, "temperature": 0, "timeout": 20}
    return lm_from(Acme(way), **{**places, **common, **keywords})


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("way", WAYS)
def test_no_token_is_on_the_disk(
    bank: Bank, way: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In no cache, no recording, and no file of recorded calls."""
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    with lm_of(bank, way) as lm:
        assert ask(lm, how, "one")["cached"] is False
        assert ask(lm, how, "one")["cached"] is True
        with lmgateway.record(tmp_path / "tape.jsonl"):
            ask(lm, how, "two", cache=False)
        record_call(tmp_path / "calls.jsonl", lm, prompt="three")
    close_all()
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 3
    for path in files:
        assert b"ACCESS-TOKEN" not in path.read_bytes(), path
        assert CLIENT_SECRET.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("way", WAYS)
def test_a_cached_answer_needs_no_token_unless_the_flow_fetches_it_first(
    bank: Bank, way: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    with lm_of(bank, way) as lm:
        for _ in range(3):
            ask(lm, how, "one")
    close_all()
    assert bank.issued == (3 if way in ("first", "header") else 1)
    assert len(bank.service.asked) == 1


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("way", WAYS)
def test_a_token_that_the_service_refuses_is_fetched_anew(bank: Bank, way: str, how: str) -> None:
    with lm_of(bank, way, cache=False) as lm:
        ask(lm, how, "one")
        bank.revoke()
        assert ask(lm, how, "two")["choices"][0]["text"] == "hello"
        bank.revoke()
        assert ask(lm, how, "three")["choices"][0]["text"] == "hello"
    assert bank.issued == 3


@pytest.mark.parametrize("how", CALLING)
def test_a_token_is_fetched_once_for_many_calls(bank: Bank, how: str) -> None:
    with lm_of(bank, "kept", cache=False) as lm, lm_of(bank, "kept", cache=False) as other:
        for each in (lm, other, lm):
            ask(each, how, "q")
    assert bank.issued == 1


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("way", WAYS)
def test_the_token_host_sees_what_the_plugin_put_there(bank: Bank, way: str, how: str) -> None:
    """No header of the LM's and no key."""
    headers = {"X-Of-The-User": "1", "Authorization-Of-Acme": "a-key-of-the-user"}
    with lm_of(bank, way, cache=False, headers=headers) as lm:
        ask(lm, how, "q")
    [token], [said] = bank.tokens.asked, bank.service.asked
    assert said.headers["x-of-the-user"] == "1"
    usual = {"host", "user-agent", "accept", "accept-encoding", "connection"}
    assert set(token.headers) - usual == {"content-type", "content-length"}
    assert token.headers["content-type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_masked_in_what_the_service_says(bank: Bank, way: str, how: str) -> None:
    with lm_of(bank, way, cache=False) as lm:
        ask(lm, how, "one")
        bank.good = 99  # whatever is fetched, it is not this one

        def refuse(asked: Asked) -> Reply:
            shown = asked.headers["authorization"]
            return Reply(json.dumps({"error": {"message": f"no: {shown}"}}).encode(), 401)

        bank.service.answer = refuse
        with pytest.raises(errors.AuthenticationError) as caught:
            ask(lm, how, "two")
        assert "ACCESS-TOKEN" not in str(caught.value)
        assert "ACCESS-TOKEN" not in repr(vars(caught.value))
        assert "ACCESS-TOKEN" not in repr(lm.history)


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("way", WAYS)
def test_a_token_host_that_fails_is_told_and_a_fallback_is_asked(
    bank: Bank, way: str, how: str
) -> None:
    status = 401

    def refuse(asked: Asked) -> Reply:
        said = {"error": "invalid_client", "error_description": f"not {CLIENT_SECRET}"}
        return Reply(json.dumps(said).encode(), status)

    bank.tokens.answer = refuse
    with lm_of(bank, way, cache=False) as lm, pytest.raises(errors.AuthenticationError) as caught:
        ask(lm, how, "q")
    assert CLIENT_SECRET not in str(caught.value)
    if way in ("first", "header"):  # the hook's own exchange: its 401 is that of the call
        status = 503
    with lm_of(bank, way, cache=False, fallbacks=["echo"]) as lm:
        assert ask(lm, how, "q")["provider"] == "echo"
    assert bank.service.asked == []
