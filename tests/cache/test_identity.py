"""What a cached answer is found by: what was asked, and the headers that shape the answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.service import Service, Where, World, says

from lmgateway import errors
from lmgateway._layers.cache import cache
from lmgateway._store.recorder import record, replay
from lmgateway._store.serialization import describe, identify, is_secret_header
from lmgateway.types import Blocking, Exchange, Flow, HTTPRequest, Request, send

BODY = {"model": "m", "messages": [{"role": "user", "content": "Grüße"}], "temperature": 0}
PATH = "/chat/completions"


@pytest.mark.parametrize(
    "exchange, base, sample, digest",
    [
        pytest.param(
            HTTPRequest("POST", None, PATH, json=BODY, headers={"User-Agent": "x"}),
            "https://one.example/v1", 0,
            "f34d0a257cfedfc0416055bdd5de60d6e418ceae1eb99e12302524c6260349b7",
            id="whole",
        ),
        pytest.param(
            HTTPRequest("POST", None, PATH, json=BODY, stream=True),
            "https://one.example/v1/", 2,
            "a7fc7de76f26c26bbef96fbcedbe0efaa342cb213b739a18e074b4a8d51d4c37",
            id="streamed",
        ),
        pytest.param(
            Blocking(print, key={"model": "sha"}), None, 0,
            "91f481c47273a3745416292608ed5db1ed4962567ce57f9e26b7afabe4f4aaaf",
            id="in the process",
        ),
    ],
)  # fmt: skip
def test_what_the_first_release_stored_is_found(
    exchange: Exchange, base: str | None, sample: int, digest: str
) -> None:
    described = describe(exchange, provider="openai", sample=sample)
    assert described is not None
    key = identify(described, base)
    assert key is not None
    assert key.request.hex() == digest
    wanted = "ba67de416ac7489efca687b83e611673" if base else ""
    assert (key.base or b"").hex() == wanted


# -- the user's headers --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "one, other, shared",
    [
        ({"X-Route": "a"}, {"X-Route": "b"}, False),
        ({"X-Route": "a"}, {}, False),
        ({"X-Route": "a"}, {"X-Other": "a"}, False),
        ({"x-portkey-provider": "a"}, {"x-portkey-provider": "b"}, False),
        ({"x-portkey-config": "a"}, {"x-portkey-config": "b"}, False),
        ({"Helicone-Target-Url": "a"}, {"Helicone-Target-Url": "b"}, False),
        ({"cf-aig-metadata": "a"}, {"cf-aig-metadata": "b"}, False),
        ({"User-Agent": "a"}, {"User-Agent": "b"}, False),
        ({"X-A": "1", "X-B": "2"}, {"X-A": "2", "X-B": "1"}, False),
        ({"X-A": "1", "X-B": "2"}, {"X-A": "1X-B2"}, False),
        ({"X-Route": "a"}, {"x-route": "a"}, True),
        ({"X-A": "1", "X-B": "2"}, {"X-B": "2", "X-A": "1"}, True),
        ({"Authorization": "Bearer a"}, {"authorization": "Bearer b"}, True),
        ({"x-portkey-api-key": "a"}, {"x-portkey-virtual-key": "b"}, True),
        ({"Ocp-Apim-Subscription-Key": "a"}, {}, True),
        ({"X-Weird": SecretStr("a")}, {"X-Weird": SecretStr("b")}, True),
        ({"X-Route": "a", "Cookie": "a"}, {"X-Route": "a"}, True),
    ],
)  # fmt: skip
def test_headers_but_for_credentials_tell_answers_apart(
    one: Mapping[str, Any], other: Mapping[str, Any], shared: bool, world: World
) -> None:
    assert not world.ask(headers=one)["cached"]
    assert world.ask(headers=other)["cached"] is shared
    assert world.ask(headers=one)["cached"]


def test_what_was_stored_without_headers_is_found_without(world: World) -> None:
    world.ask()
    assert world.ask(headers={})["cached"]
    assert world.ask(headers={"Authorization": "Bearer x"})["cached"]


def test_an_answer_to_other_headers_takes_the_place_of_none(world: World) -> None:
    world.ask()
    world.service.answer = lambda request: says("routed")
    assert world.ask(headers={"X-Route": "a"})["choices"][0]["text"] == "routed"
    assert world.ask()["choices"][0]["text"] != "routed"


def test_work_in_the_process_sends_no_headers(world: World) -> None:
    def provider(request: Request) -> Flow[dict[str, Any]]:
        outcome = yield from send(Blocking(lambda: {"tokens": []}, key={"model": "sha"}))
        return {"choices": [{"text": json.dumps(outcome)}]}

    world.provider = provider
    world.ask(headers={"X-Route": "a"})
    assert world.ask(headers={"X-Route": "b"})["cached"]


def test_no_header_of_the_users_is_in_a_recording_nor_matters_there(
    world: World, tmp_path: Path
) -> None:
    path = tmp_path / "r.jsonl"
    with record(path):
        world.ask(headers={"X-Route": "secret-route"})
    assert "route" not in path.read_text().lower()
    with replay(path):
        assert world.ask(headers={"X-Route": "another"})["cached"]
        assert world.ask()["cached"]
    elsewhere = World(cache(), Service(lambda request: pytest.fail("sent")), Where(base_url=None))
    options: dict[str, Any] = {"recordings": (str(path),), "cache": False}
    assert elsewhere.ask(headers={"X-Route": "third"}, **options)["cached"]


# -- the provider's headers ----------------------------------------------------------------------


def provider_of(headers: Mapping[str, str], vary: Any) -> Any:
    def provider(request: Request) -> Flow[dict[str, Any]]:
        body = {"prompt": request.prompt, "temperature": 0}
        response = yield from send(
            HTTPRequest("POST", None, "/v1", headers=headers, json=body, vary=vary)
        )
        return {"choices": json.loads(response.body)["choices"]}

    return provider


@pytest.mark.parametrize(
    "one, other, vary, shared",
    [
        ({"X-Version": "1"}, {"X-Version": "2"}, ("x-version",), False),
        ({"x-version": "1"}, {"X-VERSION": "1"}, ("X-Version",), True),
        ({"X-Version": "1"}, {"X-Version": "2"}, (), True),
        ({"X-Version": "1"}, {"X-Version": "2"}, ("X-Other",), True),
        ({"X-Api-Key": "1"}, {"X-Api-Key": "2"}, ("X-Api-Key",), True),
    ],
)
def test_the_headers_that_a_provider_names_tell_answers_apart(
    one: Mapping[str, str], other: Mapping[str, str], vary: Any, shared: bool, world: World
) -> None:
    world.provider = provider_of(one, vary)
    assert not world.ask()["cached"]
    world.provider = provider_of(other, vary)
    assert world.ask()["cached"] is shared


def test_they_stand_in_a_recording_and_matter_there(world: World, tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    headers = {"X-Version": "2", "Authorization": "Bearer canary"}
    world.provider = provider_of(headers, ("X-Version", "Authorization", "X-Absent"))
    with record(path):
        world.ask()
    [line] = path.read_text().splitlines()
    assert json.loads(line)["request"]["headers"] == {"x-version": "2"}
    assert "canary" not in line
    with replay(path):
        assert world.ask()["cached"]
        world.provider = provider_of({"X-Version": "3"}, ("X-Version",))
        with pytest.raises(errors.CacheMissError, match="x-version"):
            world.ask()


def test_a_header_that_is_named_and_not_sent_changes_nothing(world: World) -> None:
    world.provider = provider_of({}, ())
    world.ask()
    world.provider = provider_of({}, ("X-Version",))
    assert world.ask()["cached"]


@pytest.mark.parametrize("vary", ["x-version", ["x-version"], (1,), None])
def test_names_of_another_type_are_the_plugins_fault(vary: Any, world: World) -> None:
    world.provider = provider_of({"X-Version": "1"}, vary)
    with pytest.raises(errors.PluginContractError):
        world.ask()
    assert not world.service.requests


# -- which headers are credentials ---------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Proxy-Authorization", "X-Auth", "Helicone-Auth", "cf-aig-authorization",
        "api-key", "X-API-Key", "apikey", "Ocp-Apim-Subscription-Key", "x-portkey-api-key",
        "x-portkey-virtual-key", "X-Functions-Key", "X-Accesskey", "x-transportkey", "X-Token",
        "X-Amz-Security-Token", "tokens", "Cookie", "Set-Cookie", "X-Secret", "X-Password",
        "X-Session-Id", "X-Credentials", "X-Passphrase", "X-Passcode", "X-Signature", "X-Jwt",
        "X-JWT-Assertion", "X-Acme-Bearer", "X-Pat", "X-Pwd", "X-CSRF", "X-Xsrf",
    ],
)  # fmt: skip
def test_a_credential_is_known_by_its_name(name: str) -> None:
    assert is_secret_header(name)
    assert is_secret_header(name.swapcase())


@pytest.mark.parametrize(
    "name",
    [
        "x-portkey-provider", "x-portkey-config", "x-portkey-metadata", "portkey-route", "X-Author",
        "X-Keyword", "X-Tokenizer", "Helicone-Target-Url", "cf-aig-metadata", "HTTP-Referer",
        "X-Title", "User-Agent", "traceparent", "OpenAI-Organization",
    ],
)  # fmt: skip
def test_what_says_how_to_answer_is_no_credential(name: str) -> None:
    assert not is_secret_header(name)
