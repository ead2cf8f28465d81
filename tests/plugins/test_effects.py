"""What a plugin may ask of the network, end to end: the same over each transport."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from pydantic import SecretStr
from support.web import CALLING, Asked, Reply, Web, ask

from lmgateway import LM, errors, hookimpl
from lmgateway.testing import lm_from
from lmgateway.types import Blocking, HTTPRequest, Info, Sleep, Wait, send

pytestmark = pytest.mark.loopback


class Acme:
    """A provider whose call is a function of the base URL."""

    def __init__(self, base: str, flow: Callable[[str, Any], Any]) -> None:
        self.base = base
        self.flow = flow

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m", params=frozenset({"temperature"}))

    @hookimpl
    def lmgateway_complete(self, request: Any) -> Iterator[Any]:
        said = yield from self.flow(self.base, request)
        return {"prompt": request.input, "choices": [{"text": str(said)}]}


def acme(base: str, flow: Callable[[str, Any], Any], **keywords: Any) -> LM:
    return lm_from(Acme(base, flow), **{"retries": 0, "cache": False, "timeout": 20, **keywords})


@pytest.fixture(scope="module")
def shared() -> Iterator[Web]:
    with Web() as web:
        yield web


@pytest.fixture
def web(shared: Web) -> Web:
    shared.asked.clear()
    shared.answer = lambda asked: Reply()
    return shared


def sent_by(web: Web, how: str, flow: Callable[[str, Any], Any]) -> tuple[str, Asked]:
    """What the flow returned, and what arrived."""
    with acme(web.url, flow) as lm:
        [text] = [choice["text"] for choice in ask(lm, how, "q")["choices"]]
    return text, web.asked[-1]


# -- the path ----------------------------------------------------------------------------------

PATHS = {
    "/model/anthropic.claude-3%3A0/converse": None,
    "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123%3Ainference-profile%2Fus.x/converse": None,
    "/a/../b": None,
    "/a%20b": None,
    "/a b": "/a%20b",
    "/x%2Fy": None,
    "/x%7Ey": None,
    "/x~y": None,
    "/x?q=a%3Ab&r=a%2Bb&s=a+b": None,
    "/x?q=%2F%3F": None,
    "/x%21": None,
    "/é": "/%C3%A9",
    "/a%25b": None,
    "/x?q=a;b": None,
    "/x?empty=&k": None,
    "/x%2e%2e/y": None,
    "/p//q": None,
    "/models/x:generateContent": None,
    "/models/x:streamGenerateContent?alt=sse": None,
    "/x?key=a=b": None,
    "/m%40latest": None,
    "/m@latest": None,
    "/m%2Cn": None,
    "/x?a=%27": None,
    "/x?a='": None,
    "/%e4": None,
}


@pytest.mark.parametrize("how", CALLING)
def test_a_path_is_sent_as_it_is(web: Web, how: str) -> None:
    """What is encoded stays so, and only what no URL can hold is encoded."""

    def flow(base: str, request: Any) -> Iterator[Any]:
        for path in PATHS:
            yield from send(HTTPRequest("POST", base, path, json={}))

    sent_by(web, how, flow)
    assert [each.path for each in web.asked] == [sent or path for path, sent in PATHS.items()]


# -- bodies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize(
    "given, content_type, body",
    [
        pytest.param({"content": b"raw\x00\xff"}, None, b"raw\x00\xff", id="bytes"),
        pytest.param(
            {"content": b"raw", "headers": {"Content-Type": "audio/wav"}},
            "audio/wav",
            b"raw",
            id="bytes of a type",
        ),
        pytest.param(
            {"form": {"grant_type": "a b", "scope": "ü&="}},
            "application/x-www-form-urlencoded",
            b"grant_type=a+b&scope=%C3%BC%26%3D",
            id="a form",
        ),
        pytest.param({"json": {"a": "ü"}}, "application/json", None, id="json"),
        pytest.param(
            {"json": {"a": 1}, "headers": {"content-type": "application/vnd.api+json"}},
            "application/vnd.api+json",
            None,
            id="json of another type",
        ),
    ],
)
def test_a_body_is_of_its_type(
    web: Web, how: str, given: dict[str, Any], content_type: str | None, body: bytes | None
) -> None:
    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from send(HTTPRequest("POST", base, "/a", **given))

    _, asked = sent_by(web, how, flow)
    if content_type is not None:
        assert asked.headers["content-type"] == content_type
    if body is not None:
        assert asked.body == body
    assert int(asked.headers["content-length"]) == len(asked.body) > 0


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"json": b"raw"}, id="bytes as json"),
        pytest.param({"json": {}, "content": b""}, id="two bodies"),
        pytest.param({"content": "text"}, id="content as a text"),
        pytest.param({"form": [1]}, id="a form that is none"),
    ],
)
def test_a_body_that_is_none_is_told_as_the_plugins(
    web: Web, how: str, given: dict[str, Any]
) -> None:
    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from send(HTTPRequest("POST", base, "/a", **given))

    with acme(web.url, flow) as lm, pytest.raises(errors.LMGatewayError) as caught:
        ask(lm, how, "q")
    assert "acme" in str(caught.value)
    assert web.asked == []


# -- answers -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", CALLING)
def test_an_answer_of_bytes_comes_whole_with_its_headers(web: Web, how: str) -> None:
    headers = [("Content-Type", "audio/mpeg"), ("X-RateLimit-Remaining", "7")]
    web.answer = lambda asked: Reply(bytes(range(256)), headers=headers)

    def flow(base: str, request: Any) -> Iterator[Any]:
        response = yield from send(HTTPRequest("POST", base, "/a", json={}))
        assert response.body == bytes(range(256))
        return response.headers["x-ratelimit-remaining"], response.headers["Content-TYPE"]

    text, _ = sent_by(web, how, flow)
    assert text == "('7', 'audio/mpeg')"


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_by_nobody(web: Web, how: str, status: int) -> None:
    web.answer = lambda asked: Reply(status=status, headers=[("Location", "/other")])

    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from send(HTTPRequest("GET", base, "/redirect"))

    with acme(web.url, flow) as lm, pytest.raises(errors.APIError, match="redirect") as caught:
        ask(lm, how, "q")
    assert caught.value.status == status
    assert [each.path for each in web.asked] == ["/redirect"]


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_any_method_may_be_asked(web: Web, how: str, method: str) -> None:
    def flow(base: str, request: Any) -> Iterator[Any]:
        body = {"json": {}} if method in ("PUT", "PATCH") else {}
        response = yield from send(HTTPRequest(method, base, "/a?x=1&y=%2F", **body))
        return response.body

    text, asked = sent_by(web, how, flow)
    assert (asked.method, asked.path) == (method, "/a?x=1&y=%2F")
    assert text == str(b"" if method == "HEAD" else b"{}")


@pytest.mark.parametrize("how", CALLING)
def test_a_flow_waits_and_asks_more_than_once(web: Web, how: str) -> None:
    def flow(base: str, request: Any) -> Iterator[Any]:
        yield Sleep(0.001)
        done: Future[int] = Future()
        done.set_result(1)
        waited = [(yield Wait(done)), (yield Wait(Future(), timeout=0.01))]
        yield from send(HTTPRequest("GET", base, "/a"))
        worked = yield from send(Blocking(lambda: {"n": 1}))
        yield from send(HTTPRequest("GET", base, "/b"))
        return waited, worked

    text, _ = sent_by(web, how, flow)
    assert text == "([True, False], {'n': 1})"
    assert [each.path for each in web.asked] == ["/a", "/b"]


# -- what an answer may hold -------------------------------------------------------------------


@pytest.mark.parametrize("how", CALLING)
def test_fields_of_an_answer_that_have_a_place_come_through(web: Web, how: str) -> None:
    answer = {
        "choices": [
            {
                "text": "x",
                "finish_reason": "pause",
                "finish_reason_raw": "pause_turn",
                "extra": {"safety": []},
            }
        ],
        "usage": {"prompt_tokens": 1, "audio_tokens": 2, "cost": 0.1, "details": {"a": 1}},
        "rate_limit": {"requests": {"remaining": 7}},
        "extra": {"service_tier": "flex"},
        "warnings": [{"kind": "defaulted", "name": "max_tokens", "detail": "It is 4096."}],
    }

    class Whole(Acme):
        @hookimpl
        def lmgateway_complete(self, request: Any) -> Any:
            return {"prompt": request.input, **answer}

    completion = ask(lm_from(Whole(web.url, lambda *_: None), cache=False), how, "q")
    for key, value in answer.items():
        if key == "choices":
            assert completion["choices"][0].items() >= value[0].items()  # type: ignore[index]
        else:
            assert completion[key] == value


# -- errors of a plugin's own --------------------------------------------------------------------


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("limit, attempts", [(0, 1), (1, 2), (None, 4)])
def test_an_error_says_how_often_it_is_worth_another_attempt(
    web: Web, how: str, limit: int | None, attempts: int
) -> None:
    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from send(HTTPRequest("GET", base, "/a"))
        error = errors.ServerError("warming up", status=503, retry_after=0.001)
        error.max_retries = limit
        raise error

    with acme(web.url, flow, retries=3) as lm, pytest.raises(errors.ServerError):
        ask(lm, how, "q")
    assert len(web.asked) == attempts


@pytest.mark.parametrize("how", CALLING)
def test_a_class_of_errors_of_the_plugins_own_comes_through(web: Web, how: str) -> None:
    class TeapotError(errors.APIError):
        pass

    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from ()
        raise TeapotError("short and stout", status=418)

    with acme(web.url, flow) as lm, pytest.raises(TeapotError, match=r"stout .*provider acme"):
        ask(lm, how, "q")


# -- auth --------------------------------------------------------------------------------------


async def _awaited() -> dict[str, str]:
    return {"x-proof": "1"}


def _raising() -> dict[str, str]:
    raise ValueError("cannot sign with the-secret-of-acme")


def _raising_flow() -> Iterator[Any]:
    yield from ()
    raise ValueError("cannot sign with the-secret-of-acme")


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("calling", ["alone", "with a fallback"])
@pytest.mark.parametrize(
    "auth",
    [
        pytest.param(_awaited, id="awaited"),
        pytest.param(_raising, id="raises"),
        pytest.param(_raising_flow, id="a flow that raises"),
        pytest.param(lambda: None, id="nothing"),
        pytest.param(lambda: ["x"], id="a list"),
        pytest.param(lambda: {"a": 1}, id="a number"),
        pytest.param(lambda: {"a": "b\r\nc: d"}, id="two lines"),
        pytest.param(lambda wanted: {}, id="an argument too many"),
    ],
)
def test_an_auth_that_fails_is_told_as_the_plugins_and_a_fallback_is_asked(
    web: Web, how: str, calling: str, auth: Any
) -> None:
    class Secretive(Acme):
        @hookimpl
        def lmgateway_settings(self) -> Any:
            from pydantic import BaseModel

            return type("S", (BaseModel,), {"__annotations__": {"api_key": SecretStr}})

        @hookimpl
        def lmgateway_complete(self, request: Any, settings: Any) -> Iterator[Any]:
            yield from send(HTTPRequest("POST", web.url, "/a", json={}, auth=auth))
            return {"prompt": request.input, "choices": [{"text": "x"}]}

    fallbacks = ["echo"] if calling == "with a fallback" else []
    options = {"api_key": "the-secret-of-acme", "fallbacks": fallbacks, "retries": 0}
    with lm_from(Secretive(web.url, lambda *_: None), cache=False, **options) as lm:
        if fallbacks:
            completion = ask(lm, how, "q")
            assert completion["provider"] == "echo"
            assert "the-secret" not in str(completion)
        else:
            with pytest.raises(errors.PluginError) as caught:
                ask(lm, how, "q")
            assert "acme" in str(caught.value)
            told = [str(caught.value), *getattr(caught.value, "__notes__", ())]
            assert "the-secret" not in "".join(told)
    assert web.asked == []


def test_a_slow_auth_holds_up_no_other_task(web: Web) -> None:
    """Four calls wait in their auth, which works in threads, until another task lets them go."""
    gate, waiting = threading.Event(), threading.Semaphore(0)

    def block() -> dict[str, str]:
        waiting.release()
        assert gate.wait(10)
        return {"x-proof": "1"}

    def auth() -> Iterator[Any]:
        return (yield Blocking(block))

    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from send(HTTPRequest("POST", base, "/a", json={}, auth=auth))

    async def main() -> None:
        with acme(web.url, flow) as lm:
            calls = [asyncio.create_task(lm.acomplete("q")) for _ in range(4)]
            while waiting._value < 4:
                await asyncio.sleep(0.001)
            gate.set()
            await asyncio.gather(*calls)

    asyncio.run(asyncio.wait_for(main(), 10))
    assert [each.headers["x-proof"] for each in web.asked] == ["1"] * 4


# -- what a plugin can do ------------------------------------------------------------------------

PARTS = {
    "images": {"type": "image_url", "image_url": {"url": "https://acme.example/a.png"}},
    "audio": {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
    "files": {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg=="}},
}


@pytest.mark.parametrize("how", CALLING)
@pytest.mark.parametrize("word", PARTS)
@pytest.mark.parametrize("has", [False, True], ids=["without", "with"])
def test_a_part_reaches_who_has_the_word_for_it(web: Web, how: str, word: str, has: bool) -> None:
    """Of API 2; test_shapes.py in api1 has what API 1 is given."""
    words = frozenset({"messages"} | ({word} if has else set()))

    class Able(Acme):
        @hookimpl
        def lmgateway_info(self) -> Info:
            return Info(api=2, default_model="m", capabilities=words)

    def flow(base: str, request: Any) -> Iterator[Any]:
        yield from send(HTTPRequest("POST", base, "/a", json=request.messages[0]))

    messages = [{"role": "user", "content": [{"type": "text", "text": "q"}, PARTS[word]]}]
    with lm_from(Able(web.url, flow), cache=False) as lm:
        if has:
            ask(lm, how, messages=messages)
            assert len(web.asked) == 1
        else:
            with pytest.raises(errors.UnsupportedError):
                ask(lm, how, messages=messages)
            assert web.asked == []


def test_later_kinds_are_hooks_and_a_misspelt_one_is_not() -> None:
    class Ranking(Acme):
        @hookimpl
        def lmgateway_rerank(self, request: Any) -> Any:
            return {"results": [{"index": 1, "score": 0.9}, {"index": 0, "score": 0.1}]}

        @hookimpl
        def lmgateway_count(self, request: Any) -> Any:
            return {"prompt_tokens": 3}

    lm = lm_from(Ranking("", lambda *_: None), cache=False)
    ranked, aranked = lm.rerank("q", ["a", "b"]), asyncio.run(lm.arerank("q", ["a", "b"]))
    assert [each["index"] for each in ranked["results"]] == [1, 0]
    assert ranked == aranked
    assert lm.count("q")["prompt_tokens"] == asyncio.run(lm.acount("q"))["prompt_tokens"] == 3

    class Misspelt(Acme):
        @hookimpl
        def lmgateway_rerankk(self, request: Any) -> Any: ...

    with pytest.raises(errors.PluginContractError, match="lmgateway_rerank"):
        lm_from(Misspelt("", lambda *_: None))
