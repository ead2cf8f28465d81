"""A service that answers whoever shows a good token, the host that gives tokens, and a plugin."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import BaseModel, SecretStr

from lmgateway import LM, hookimpl
from lmgateway.testing import lm_from
from lmgateway.types import Flow, HTTPRequest, Info, Request, send
from lmgateway.wire.auth import Token
from lmgateway.wire.openai import check, load
from support.fault_server import FaultServer, ReceivedRequest, answer, whole

__all__ = ["JSON", "SECRET", "Fetching", "Hosts", "asked", "fetch_of", "hosts", "token_of"]

SECRET = "the-client-secret-0123456789"
JSON = {"Content-Type": "application/json"}
_accounts = itertools.count()


class Settings(BaseModel):
    api_base: str
    token_host: str
    client_id: str = "me"
    client_secret: SecretStr


def fetch_of(settings: Any) -> Callable[[], Flow[Any]]:
    """The flow that asks the host for a token."""

    def fetch() -> Flow[Any]:
        secret = settings.client_secret.get_secret_value()
        body = {"grant_type": "client_credentials", "client_secret": secret}
        request = HTTPRequest("POST", settings.token_host, "/oauth/token", json=body, keep=False)
        response = yield from send(request)
        check(response)
        return load(response.body)

    return fetch


def token_of(settings: Any) -> Token:
    """What the plugin gives as auth, where a test does not say otherwise."""
    return Token((settings.token_host, settings.client_id), fetch_of(settings))


class Fetching:
    """A plugin whose ``auth`` is what a test makes of its settings."""

    def __init__(self, auth: Callable[[Any], Any] = token_of) -> None:
        self.auth = auth

    @hookimpl
    def lmgateway_settings(self) -> type[Settings]:
        return Settings

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request, settings: Any) -> Flow[Any]:
        asked = HTTPRequest(
            "POST", settings.api_base, "/say", json={"q": request.prompt}, auth=self.auth(settings)
        )
        response = yield from send(asked)
        check(response)
        return {"prompt": request.input, "choices": [{"text": load(response.body)["said"]}]}

    lmgateway_stream = lmgateway_complete


class Hosts:
    """The service and the host of its tokens.

    Attributes:
        service: Answers ``/say``, and 401 to a token that is not good.
        tokens: Gives ``token-1``, ``token-2``, ...
        good: The tokens that the service takes.
        life: The ``expires_in`` that the host states; None for none.
        given: How many tokens were given.
        refuse: What the host answers instead, if it is set.
        refuses_all: Whether no token is good.
        more: What else the host says of each token.
        before: Is called before the host answers.
    """

    def __init__(self) -> None:
        self.good: set[str] = set()
        self.life: Any = 3600
        self.given = 0
        self.refuse: bytes | None = None
        self.refuses_all = False
        self.more: Mapping[str, Any] = {}
        self.before: Callable[[], object] = lambda: None
        self.service = FaultServer([answer(self._say)])
        self.tokens = FaultServer([answer(self._give)])
        self.account = f"account-{next(_accounts)}"

    def _say(self, request: ReceivedRequest) -> bytes:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        if self.refuses_all or token not in self.good:
            refusal = {"error": {"message": f"bad {request.headers.get('authorization')}"}}
            return whole(json.dumps(refusal).encode(), 401, JSON)
        return whole(json.dumps({"said": json.loads(request.body)["q"]}).encode(), 200, JSON)

    def _give(self, request: ReceivedRequest) -> bytes:
        self.before()
        if self.refuse is not None:
            return self.refuse
        self.given += 1
        token = f"token-{self.given}-of-{self.account}"
        self.good.add(token)
        told = {"access_token": token, "token_type": "Bearer", "expires_in": self.life, **self.more}
        return whole(json.dumps(told).encode(), 200, JSON)

    def lm(self, auth: Callable[[Any], Any] = token_of, **keywords: Any) -> LM:
        given = {
            "api_base": self.service.url,
            "token_host": self.tokens.url,
            "client_id": self.account,
            "client_secret": SECRET,
            "retries": 0,
            **keywords,
        }
        return lm_from(Fetching(auth), **given)


@contextmanager
def hosts() -> Iterator[Hosts]:
    made = Hosts()
    with made.service, made.tokens:
        yield made


def asked(lm: LM, how: str, prompt: str = "hi") -> str:
    """The answer to a prompt, asked in one of the ways there are."""
    if how == "sync":
        return lm(prompt)[0]
    if how == "stream":
        return "".join(lm.stream(prompt)) or "hi"
    if how == "threads":
        return asyncio.run(lm.copy(transport="threads").acall(prompt))[0]
    return asyncio.run(_acall(lm, prompt))


async def _acall(lm: LM, prompt: str) -> str:
    async with lm:
        return (await lm.acall(prompt))[0]
