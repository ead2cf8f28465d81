from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.service import BASE, CANARY, DONE, Where, World, embedded, says, streams

from lmgateway import errors
from lmgateway._drive.loops import advance
from lmgateway._layers import cache as cache_module
from lmgateway._layers.cache import cache
from lmgateway._store.settings import CacheSettings
from lmgateway._store.sqlite import Store
from lmgateway.types import Emit, HTTPRequest, HTTPResponse, Request, send


def test_the_second_answer_is_the_first_and_says_so(world: World) -> None:
    first, second = world.ask(), world.ask()
    assert (first.pop("cached"), second.pop("cached")) == (False, True)
    assert first == second
    assert second["usage"] == {"prompt_tokens": 3, "completion_tokens": 5}
    assert len(world.service.requests) == 1


def test_a_hit_shares_nothing_with_the_one_before(world: World) -> None:
    world.ask()
    world.ask()["choices"][0]["text"] = "spoilt"
    assert world.ask()["choices"][0]["text"].startswith("answer")


def test_a_hit_needs_neither_key_nor_base(world: World) -> None:
    world.ask()
    world.where.base_url = None
    assert world.ask()["cached"]


@pytest.mark.parametrize(
    "options, repeated",
    [
        pytest.param({"temperature": 0}, True, id="temperature 0"),
        pytest.param({"temperature": 0.0}, True, id="temperature 0.0"),
        pytest.param({"temperature": 0.7}, False, id="temperature 0.7"),
        pytest.param({"temperature": 0.7, "seed": 0}, True, id="a seed"),
        pytest.param({"temperature": None}, False, id="neither"),
        pytest.param({"temperature": 0.7, "cache": True}, True, id="cache=True"),
        pytest.param({"cache": False}, False, id="cache=False"),
        pytest.param({"cache": "refresh"}, False, id="cache=refresh"),
    ],
)
def test_what_is_repeatable_or_wanted_is_cached(
    world: World, options: dict[str, Any], repeated: bool
) -> None:
    assert [world.ask(**options)["cached"] for _ in range(2)] == [False, repeated]


def test_refresh_asks_anew_and_stores(world: World) -> None:
    world.ask()
    world.service.answer = lambda request: says("newer")
    assert world.ask(cache="refresh")["choices"][0]["text"] == "newer"
    assert world.ask()["choices"][0]["text"] == "newer"


def test_only_answers_or_raises_and_never_sends(world: World) -> None:
    with pytest.raises(errors.CacheMissError, match="nothing is stored"):
        world.ask(cache="only", temperature=0.7)
    assert not world.service.requests
    world.ask(cache=True, temperature=0.7)
    assert world.ask(cache="only", temperature=0.7)["cached"]


@pytest.mark.parametrize("value", ["off", "OFF", "0", "false", " no "])
def test_the_environment_turns_it_off(
    world: World, value: str, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE", value)
    assert [world.ask(cache=True)["cached"] for _ in range(2)] == [False, False]
    assert not file.parent.exists()


def test_an_unknown_word_in_the_environment_is_an_error(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMGATEWAY_CACHE", "offf")
    with pytest.raises(errors.ConfigError, match="LMGATEWAY_CACHE is 'offf'"):
        world.ask()


def test_the_configuration_turns_it_off(world: World, file: Path) -> None:
    world.layer = cache(CacheSettings(enabled=False))
    assert [world.ask()["cached"] for _ in range(2)] == [False, False]
    assert not file.exists()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"prompt": "other"}, id="prompt"),
        pytest.param({"max_tokens": 9}, id="parameter"),
        pytest.param({"temperature": 0.0}, id="another spelling on the wire"),
        pytest.param({"sample": 1}, id="sample"),
    ],
)
def test_different_requests_never_share(world: World, change: dict[str, Any]) -> None:
    world.ask()
    assert not world.ask(**change)["cached"]


def test_two_bases_never_share_and_a_trailing_slash_does(world: World) -> None:
    world.ask()
    world.where.base_url = "https://two.example/v1"
    assert not world.ask()["cached"]
    world.where.base_url = BASE + "/"
    assert world.ask()["cached"]


def test_two_providers_never_share(world: World) -> None:
    world.ask()
    world.where.provider = "two"
    assert not world.ask()["cached"]


def test_without_a_base_two_answers_are_none(world: World) -> None:
    world.ask()
    world.where.base_url = "https://two.example/v1"
    world.ask()
    world.where.base_url = None
    with pytest.raises(errors.MissingCredentialError):
        world.ask()


@pytest.mark.parametrize(
    "response, error",
    [
        pytest.param(says("x", 500), errors.ServerError, id="500"),
        pytest.param(says("x", 401), errors.AuthenticationError, id="401"),
        pytest.param(HTTPResponse(200, {}, b"{}"), errors.ResponseFormatError, id="a bad 200"),
        pytest.param(HTTPResponse(200, {}, b""), errors.ResponseFormatError, id="an empty 200"),
    ],
)
def test_what_is_no_valid_answer_is_not_kept(
    world: World, response: HTTPResponse, error: type[Exception]
) -> None:
    world.service.answer = lambda request: response
    with pytest.raises(error):
        world.ask()
    world.service.answer = lambda request: says("good")
    assert not world.ask()["cached"]


def test_too_few_choices_are_not_kept(world: World) -> None:
    for _ in range(2):
        with pytest.raises(errors.ResponseFormatError, match="2 choices"):
            world.ask(n=2)
    assert len(world.service.requests) == 2


def test_an_entry_the_provider_no_longer_reads_is_asked_anew(world: World) -> None:
    world.ask()
    reads = world.provider

    def stricter(request: Request) -> Any:
        completion = yield from reads(request)
        if "good" not in completion["choices"][0]["text"]:
            raise errors.ResponseFormatError("not good")
        return completion

    world.provider = stricter
    world.service.answer = lambda request: says("good")
    with pytest.raises(errors.ResponseFormatError):
        world.ask(cache="only")
    assert [world.ask()["cached"] for _ in range(2)] == [False, True]


def test_an_entry_that_another_failure_met_is_kept(world: World) -> None:
    def twice(request: Request) -> Any:
        yield from send(HTTPRequest("POST", None, "/first", json={"p": request.prompt}))
        body = {"p": request.prompt, "again": request.params.get("again")}
        response = yield from send(HTTPRequest("POST", None, "/second", json=body))
        if response.status != 200:
            raise errors.ServerError("no")
        return {"choices": [{"text": "x"}]}

    world.provider = twice
    world.ask()
    world.service.answer = lambda request: says("x", 503)
    for again in (1, 2):
        with pytest.raises(errors.ServerError):
            world.ask(again=again)
    paths = [request.path for request in world.service.requests]
    assert paths == ["/first", "/second", "/second", "/second"]


# -- streams -----------------------------------------------------------------------------------


def test_a_stream_replays_as_the_stream_it_was(world: World) -> None:
    world.service.answer = lambda request: streams(b"one ", b"two", DONE)
    first = world.stream()
    again = world.stream()
    assert first[0] == again[0] == ["one ", "two"]
    assert (first[1]["cached"], again[1]["cached"]) == (False, True)
    assert len(world.service.requests) == 1


def test_a_stream_and_a_whole_answer_never_share(world: World) -> None:
    world.service.answer = lambda request: streams(DONE) if request.stream else says("whole")
    world.stream()
    assert not world.ask()["cached"]


def test_a_stream_without_its_end_is_not_kept(world: World) -> None:
    world.service.answer = lambda request: streams(b"one ")
    with pytest.raises(errors.StreamInterruptedError):
        world.stream()
    world.service.answer = lambda request: streams(b"two", DONE)
    assert not world.stream()[1]["cached"]


def test_a_stream_that_is_left_is_not_kept(world: World) -> None:
    world.service.answer = lambda request: streams(b"one ", b"two", DONE)
    flow, call = world.flow("q", {"temperature": 0}, stream=True)
    advance(flow, world.service, call.deadline)
    flow.close()
    assert not world.stream()[1]["cached"]


def test_a_replayed_stream_that_is_left_stays(world: World) -> None:
    world.service.answer = lambda request: streams(b"one ", b"two", DONE)
    world.stream()
    flow, call = world.flow("q", {"temperature": 0}, stream=True)
    advance(flow, world.service, call.deadline)
    flow.close()
    assert world.stream()[1]["cached"]


def test_a_replayed_stream_that_is_left_stays_though_its_last_byte_was_read(world: World) -> None:
    def at_once(request: Request) -> Any:
        response = yield HTTPRequest("POST", None, "/completions", stream=True)
        both = yield from response.source.read()
        yield Emit("one ")
        yield Emit("two")
        return {"prompt": "q", "choices": [{"text": both.decode()}]}

    world.provider = at_once
    world.service.answer = lambda request: streams(b"one two")
    world.stream()
    for _ in range(2):
        flow, call = world.flow("q", {"temperature": 0}, stream=True)
        advance(flow, world.service, call.deadline)
        flow.close()
    assert world.stream()[1]["cached"]
    assert len(world.service.requests) == 1


def test_a_stream_over_the_cap_is_handed_on_and_not_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache_module, "STREAM_CAP", 100)
    world.service.answer = lambda request: streams(b"x" * 60, b"y" * 60, DONE)
    for _ in range(2):
        pieces, whole = world.stream()
        assert (pieces, whole["cached"]) == (["x" * 60, "y" * 60], False)


def test_a_replayed_stream_the_provider_no_longer_reads_is_asked_anew(world: World) -> None:
    world.service.answer = lambda request: streams(b"one ", b"two", DONE)
    world.stream()
    reads = world.provider

    def stricter(request: Request) -> Any:
        flow = reads(request)
        exchange = next(flow)
        response = yield exchange
        yield from response.source.read()  # the first piece of several
        if not world.service.requests[1:]:
            raise errors.ResponseFormatError("not good")
        return {"prompt": "q", "choices": [{"text": "good"}]}

    world.provider = stricter
    assert world.stream()[1]["cached"] is False
    assert len(world.service.requests) == 2


def test_a_replayed_stream_is_not_begun_again_after_a_piece(world: World) -> None:
    world.service.answer = lambda request: streams(b"one", DONE)
    world.stream()
    reads = world.provider

    def stricter(request: Request) -> Any:
        yield from reads(request)
        raise errors.ResponseFormatError("not good")

    world.provider = stricter
    with pytest.raises(errors.ResponseFormatError) as caught:
        world.stream()
    assert caught.value.partial == "one"
    assert len(world.service.requests) == 1


# -- work in the process -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param({"text": "hi", "scores": [1.5, None]}, id="JSON"),
        pytest.param(["a"], id="a list"),
    ],
)
def test_blocking_work_with_a_key_is_cached(world: World, outcome: Any) -> None:
    ran = []
    world.provider = embedded(lambda: ran.append(1) or outcome, {"model": "sha", "n": 1})
    first, second = world.ask(), world.ask()
    assert first["raw"] == second["raw"] == outcome  # type: ignore[typeddict-item]
    assert (len(ran), second["cached"]) == (1, True)


@pytest.mark.parametrize(
    "outcome, key",
    [
        pytest.param({"a": 1}, None, id="no key"),
        pytest.param({1: 2}, {"k": 1}, id="not JSON"),
        pytest.param({"a": 1}, {"k": float("nan")}, id="a key that is not JSON"),
    ],
)
def test_blocking_work_that_cannot_be_kept_runs_each_time(
    world: World, outcome: Any, key: Any
) -> None:
    ran = []
    world.provider = embedded(lambda: ran.append(1) or outcome, key)
    assert [world.ask()["cached"] for _ in range(2)] == [False, False]
    assert len(ran) == 2


# -- secrets -----------------------------------------------------------------------------------


def test_no_secret_reaches_the_files(world: World, file: Path, store: Store) -> None:
    world.where = Where(base_url=f"https://one.example/{CANARY}/v1")
    world.ask()
    world.service.answer = lambda request: streams(b"x", DONE)
    world.stream()
    files = [path for path in file.parent.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if CANARY.encode() in path.read_bytes()]


def test_only_harmless_headers_are_kept(world: World) -> None:
    seen = []
    reads = world.provider

    def looking(request: Request) -> Any:
        flow = reads(request)
        response = yield next(flow)
        seen.append(dict(response.headers))
        return {"choices": json.loads(response.body)["choices"]}

    world.provider = looking
    world.ask()
    world.ask()
    assert seen[1] == {"content-type": "application/json", "x-request-id": "r1"}
