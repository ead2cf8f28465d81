"""What a cached answer is found by: what was asked, and the headers that shape the answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.service import Service, Where, World, says

from lmgateway import errors, hookimpl
from lmgateway._drive.loops import run
from lmgateway._layers.cache import cache
from lmgateway._store.recorder import record, replay
from lmgateway._store.serialization import describe, identify, is_secret_header
from lmgateway.testing import lm_from
from lmgateway.types import (
    Blocking,
    Exchange,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Info,
    Request,
    send,
)

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


# -- the fields of a request ---------------------------------------------------------------------

PLAIN: dict[str, Any] = {"json": BODY}
CONTENT: dict[str, Any] = {"content": b"RIFF"}
FORM: dict[str, Any] = {"form": {"model": "m", "file": ("a.wav", b"RIFF", "audio/wav")}}


def key_of(method: str = "POST", path: str = PATH, **fields: Any) -> str | None:
    exchange = HTTPRequest(method, None, path, **fields)
    described = describe(exchange, provider="openai", sample=0)
    key = identify(described, "https://one.example/v1") if described is not None else None
    return None if key is None else key.request.hex()


def first_key(body: Any, **more: Any) -> str:
    """The digest as version 0.1 computed it, spelt out."""
    asked = {
        "body": body, "method": "POST", "path": PATH, "provider": "openai", "sample": 0,
        "stream": False, **more,
    }  # fmt: skip
    text = json.dumps(asked, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(b"lmgateway exchange 1\n" + text.encode()).hexdigest()


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="nothing more"),
        pytest.param({"query": {}}, id="an empty query"),
        pytest.param({"query": {"api-version": None}}, id="a query that is left out"),
        pytest.param({"headers": {"X-A": "1"}}, id="a header"),
        pytest.param({"headers": {"X-A": "1"}, "vary": ("x-b",)}, id="another header named"),
        pytest.param({"content": None, "form": None, "keep": True}, id="the defaults"),
        pytest.param({"auth": SecretStr(f"sk-{'0' * 20}")}, id="a key"),
        pytest.param({"auth": lambda: {"X-Api-Key": "k"}}, id="an auth"),
    ],
)
def test_what_is_not_set_leaves_the_key_of_the_first_release(fields: dict[str, Any]) -> None:
    assert key_of(**PLAIN, **fields) == first_key(BODY)


DIFFERENT: dict[str, dict[str, Any]] = {
    "as it is": PLAIN,
    "path": {**PLAIN, "path": "/other"},
    "a query in the path": {**PLAIN, "path": f"{PATH}?a=1"},
    "json": {"json": {**BODY, "top_p": 1}},
    "no body": {},
    "stream": {**PLAIN, "stream": True},
    "query": {**PLAIN, "query": {"a": "1"}},
    "another value": {**PLAIN, "query": {"a": "2"}},
    "another name": {**PLAIN, "query": {"b": "1"}},
    "two values": {**PLAIN, "query": {"a": ["1", "2"]}},
    "two names": {**PLAIN, "query": {"a": "1", "b": "2"}},
    "two names the other way round": {**PLAIN, "query": {"b": "2", "a": "1"}},
    "vary": {**PLAIN, "headers": {"X-A": "1"}, "vary": ("x-a",)},
    "content": CONTENT,
    "other content": {"content": b"RIFX"},
    "content of no bytes": {"content": b""},
    "form": FORM,
    "an empty form": {"form": {}},
    "another field": {"form": {**FORM["form"], "model": "n"}},
    "bytes without a name": {"form": {"model": "m", "file": b"RIFF"}},
    "the same as a text": {"form": {"model": "m", "file": "RIFF"}},
    "name": {"form": {"model": "m", "file": ("b.wav", b"RIFF", "audio/wav")}},
    "type": {"form": {"model": "m", "file": ("a.wav", b"RIFF", "audio/mp3")}},
    "bytes": {"form": {"model": "m", "file": ("a.wav", b"RIFX", "audio/wav")}},
    "without a type": {"form": {"model": "m", "file": ("a.wav", b"RIFF")}},
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_each_field_alone_tells_two_requests_apart(name: str) -> None:
    key = key_of(**DIFFERENT[name])
    assert key is not None
    assert [other for other, fields in DIFFERENT.items() if key_of(**fields) == key] == [name]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({**PLAIN, "keep": False}, id="what is not kept"),
        pytest.param({"method": "GET"}, id="GET"),
        pytest.param({**PLAIN, "method": "PUT"}, id="PUT"),
        pytest.param({"json": {"a": float("nan")}}, id="a body that is no JSON"),
        pytest.param({**PLAIN, "query": {"a": {1}}}, id="a query that is no JSON"),
        pytest.param({"form": {"a": object()}}, id="a form that cannot be sent"),
        pytest.param({"form": {"a": b"", "b": float("nan")}}, id="a number that is none"),
    ],
)
def test_what_has_no_key(fields: dict[str, Any]) -> None:
    assert key_of(**fields) is None


@pytest.mark.parametrize("fields", [CONTENT, FORM], ids=["content", "form"])
def test_a_recording_shows_a_digest_of_a_body_and_not_its_bytes(
    fields: dict[str, Any], world: World, tmp_path: Path
) -> None:
    def provider(request: Request) -> Flow[dict[str, Any]]:
        query = {"language": "de"}
        response = yield from send(HTTPRequest("POST", None, "/audio", query=query, **fields))
        return {"choices": json.loads(response.body)["choices"]}

    world.provider = provider
    with record(tmp_path / "r.jsonl"):
        world.ask()
    [line] = (tmp_path / "r.jsonl").read_text().splitlines()
    assert "RIFF" not in line
    asked = json.loads(line)["request"]
    assert (asked["body"], asked["query"]) == (None, [["language", "de"]])
    assert asked[next(iter(fields))].startswith("sha256 ")
    with replay(tmp_path / "r.jsonl"):
        assert world.ask()["cached"]


# -- the headers of a response -------------------------------------------------------------------


@pytest.mark.parametrize(
    "name, value, kept",
    [
        ("X-Shape", "1, 2", True),
        ("Content-Type", "audio/wav", True),
        ("Set-Cookie", "a=b", False),
        ("X-Session-Id", "s-1", False),
        ("X-Auth-Token", "t-1", False),
        ("X-RateLimit-Remaining-Requests", "9", False),
        ("anthropic-ratelimit-requests-limit", "9", False),
        ("RateLimit", "9", False),
        ("Retry-After", "9", False),
    ],
)
def test_a_header_that_decides_is_kept_unless_it_is_secret_or_of_the_moment(
    name: str, value: str, kept: bool, world: World, tmp_path: Path
) -> None:
    seen: list[str | None] = []

    def provider(request: Request) -> Flow[dict[str, Any]]:
        response = yield from send(HTTPRequest("POST", None, "/v1", json={}))
        seen.append(response.headers.get(name))
        return {"choices": json.loads(response.body)["choices"]}

    def ask() -> None:
        flow, call = world.flow("q", {"temperature": 0})
        call.info = Info(headers=frozenset({name}))
        run(flow, world.service, call.deadline)

    world.provider = provider
    world.service.answer = lambda request: HTTPResponse(200, {name: value}, says("a").body)
    with record(tmp_path / "r.jsonl"):
        ask()
    ask()
    with replay(tmp_path / "r.jsonl"):
        ask()
    later = value if kept else None
    assert seen == [value, later, later]
    assert (value in (tmp_path / "r.jsonl").read_text()) is kept


def test_a_plugin_names_the_headers_that_decide(tmp_path: Path) -> None:
    class Plugin:
        @hookimpl
        def lmgateway_info(self) -> Info:
            return Info(headers=frozenset({"X-Shape"}), default_model="m")

        @hookimpl
        def lmgateway_complete(self, request: Request) -> Any:
            response = yield from send(HTTPRequest("POST", "http://acme.test", "/v1", json={}))
            shape = response.headers.get("x-shape", "lost")
            return {"choices": [{"text": f"{response.status} {shape}"}]}

    line = {
        "request": {
            "provider": "acme", "sample": 0, "stream": False, "method": "POST", "path": "/v1",
            "body": {},
        },
        "response": {"status": 200, "headers": {"x-shape": "2x2"}, "json": {}},
    }  # fmt: skip
    (tmp_path / "r.jsonl").write_text(json.dumps(line) + "\n")
    with replay(tmp_path / "r.jsonl"), record(tmp_path / "again.jsonl"):
        assert lm_from(Plugin())("q") == ["200 2x2"]
    assert json.loads((tmp_path / "again.jsonl").read_text()) == line


# -- answers that say nothing --------------------------------------------------------------------


@pytest.mark.parametrize(
    "options, kept",
    [
        pytest.param({}, False, id="repeatable"),
        pytest.param({"cache": "refresh"}, False, id="refreshed"),
        pytest.param({"cache": True}, True, id="wanted"),
    ],
)
@pytest.mark.parametrize("kind", ["empty", "dropped"])
def test_an_empty_answer_is_stored_only_where_that_is_wanted(
    options: dict[str, Any], kept: bool, kind: str, world: World, tmp_path: Path
) -> None:
    warning = {"kind": kind, "name": "choices[0]", "detail": "It says nothing."}

    def provider(request: Request) -> Flow[dict[str, Any]]:
        yield from send(HTTPRequest("POST", None, "/v1", json={"temperature": 0}))
        text = "" if kind == "empty" else "fine"
        return {"choices": [{"text": text}], "warnings": [warning]}

    world.provider = provider
    with record(tmp_path / "r.jsonl"):
        world.ask(**options)
    assert (tmp_path / "r.jsonl").read_text()  # who records wants all that came
    assert world.ask()["cached"] is (kept or kind != "empty")


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


def test_what_a_body_is_kept_as_stands_in_its_place() -> None:
    plain = HTTPRequest("POST", None, PATH, json=BODY)
    anew = HTTPRequest("POST", None, PATH, json={**BODY, "better": True}, kept_as=BODY)
    described = [describe(each, provider="p", sample=0) for each in (plain, anew)]
    assert described[0] == described[1]
    other = HTTPRequest("POST", None, PATH, json=BODY, kept_as={**BODY, "model": "o"})
    assert describe(other, provider="p", sample=0) != described[0]
