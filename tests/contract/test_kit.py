"""The kit itself: how checks are opted out of, and what recorded calls may look like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from support.fault_server import FaultServer, answer, whole

from lmgateway import get_lm, hookimpl
from lmgateway._call.outgoing import _secrets_of
from lmgateway.errors import InputError
from lmgateway.testing import ProviderContract, lm_from, read_calls, record_call
from lmgateway.testing.bench import Bench
from lmgateway.testing.objects import plugin_from
from lmgateway.testing.shape import flaws_of
from lmgateway.types import (
    Answer,
    EmbedRequest,
    Emit,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Info,
    Request,
    Signed,
    kept,
    read,
    send,
)
from lmgateway.wire.auth import Token


def subclass(**attributes: object) -> type:
    return type("TestIt", (ProviderContract,), {"provider": "echo", **attributes})


@pytest.mark.parametrize(
    "attributes, message",
    [
        pytest.param({"test_it_loads": None}, "replaces the check test_it_loads", id="replaced"),
        pytest.param({"xfails": {"test_it_loads": " "}}, "no reason", id="no reason"),
        pytest.param({"xfails": {"test_it_laods": "so"}}, "no check", id="misspelt"),
    ],
)
def test_a_check_cannot_be_left_out_quietly(attributes: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        subclass(**attributes)


def test_a_subclass_may_have_tests_of_its_own() -> None:
    assert subclass(test_mine=lambda self: None)


def test_what_curl_printed_is_a_recorded_call(tmp_path: Path) -> None:
    text = "HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nContent-Type: text/plain\r\n\r\nslow down"
    (tmp_path / "slow.http").write_bytes(text.encode())
    (call,) = read_calls(tmp_path)
    (response,) = call.answers()
    assert (call.name, call.is_error, call.body) == ("slow", True, b"slow down")
    assert response.headers["retry-after"] == "7"


def test_a_recording_of_record_is_a_recorded_call(tmp_path: Path) -> None:
    request = {"provider": "acme", "sample": 0, "stream": True, "method": "POST", "path": "/x"}
    line = {
        "request": {**request, "body": {"n": 2}},
        "response": {"status": 200, "headers": {}, "chunks": ["data: a\n\n", "data: b\n\n"]},
    }
    path = tmp_path / "tape.jsonl"
    path.write_text(json.dumps(line) + "\n\n")
    (call,) = read_calls(path)
    assert (call.stream, call.call["n"], call.requests) == (True, 2, ())
    assert call.body == b"data: a\n\ndata: b\n\n"


@pytest.mark.parametrize("text", ["{", "[]", '{"call": {}}', '{"request": {}, "response": 1}'])
def test_a_line_that_is_no_call_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text(f"\n{text}\n")
    with pytest.raises(InputError, match=r"line 2 of .*calls\.jsonl"):
        read_calls(path)


def test_what_was_recorded_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    with pytest.raises(InputError, match="asked for nothing"):
        record_call(path, get_lm("echo"), prompt="Hi")
    assert not path.exists()


class Asking:
    """Sends a form, and a token that it has got by itself."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Any]:
        asked = HTTPRequest(
            "POST", self.base, "/x", query={"v": 1}, form={"q": request.prompt, "f": b"x"},
            headers={"Authorization": "Bearer fetched-0123456789", "X-Version": "2"},
            vary=("x-version",),
        )  # fmt: skip
        response = yield from send(asked)
        return {"choices": [{"text": response.body.decode()}]}

    base = ""


@pytest.mark.loopback
def test_a_recorded_call_holds_all_that_was_asked_and_no_secret(tmp_path: Path) -> None:
    path, plugin, said = tmp_path / "calls.jsonl", Asking(), [b"fetched-0123456789", b"hi"]
    with FaultServer([answer(lambda _: whole(said.pop()))]) as server:
        plugin.base = server.url
        lm = lm_from(plugin)
        record_call(path, lm, prompt="Hi")
        with pytest.raises(InputError, match="a key or a token"):
            record_call(path, lm, prompt="Hi")
    (call,) = read_calls(path)
    (asked,) = call.requests
    assert asked["query"] == [["v", 1]]
    assert asked["headers"] == {"x-version": "2"}
    assert str(asked["form"]).startswith("sha256 ")


def test_the_doubles_do_without_pytest() -> None:
    script = (
        "import sys; sys.modules['pytest'] = None\n"
        "from lmgateway.testing import ScriptedLM\n"
        "assert ScriptedLM(['Paris.'])('Where?') == ['Paris.']\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], check=True, timeout=60)


class Jobs:
    """Signs with a token that it fetches; keeps a job and its result as one."""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m")

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Answer]:
        done = yield from kept({"asked": request.prompt}, self.job())
        said = yield from send(self.post("/say"))
        parts = [{"type": "text", "text": each.body.decode()} for each in (done, said)]
        return {"prompt": request.input, "choices": [{"parts": parts, "finish_reason": "other"}]}  # type: ignore[list-item, typeddict-item]

    def job(self) -> Flow[HTTPResponse]:
        yield from send(self.post("/jobs"))
        return (yield from send(self.post("/results")))

    def post(self, path: str) -> HTTPRequest:
        def fetch() -> Flow[str]:
            asked = HTTPRequest("POST", "https://login.example", path, form={"a": "b"}, keep=False)
            return (yield from send(asked)).body.decode()

        def sign(outgoing: object) -> Flow[dict[str, str]]:
            return {"X-Token": (yield from Token("of the kit's test", fetch).get())}

        return HTTPRequest("POST", "https://acme.example", path, json={}, auth=Signed(sign))


def test_a_token_is_no_exchange_and_what_is_kept_is_one() -> None:
    bench = Bench(plugin_from(Jobs(), name="acme", described="acme"), "m", {}, ())
    result = bench.ask({"prompt": "Hi"}, *(HTTPResponse(200, {}, body) for body in (b"a", b"b")))
    assert result.completion["choices"][0]["text"] == "ab"
    assert [type(each).__name__ for each in result.wire.asked] == ["Stretch", "HTTPRequest"]
    assert (len(result.wire.sent), result.wire.fetched) == (1, 1)
    assert bench.first({"prompt": "Hi"})["kept"] == {"asked": "Hi"}


@pytest.mark.parametrize(
    "choice, flaws",
    [
        pytest.param({"parts": [{"type": "text", "text": "a"}]}, 0, id="parts"),
        pytest.param({"text": "", "finish_reason": "length"}, 0, id="length"),
        pytest.param({"text": "a", "finish_reason": "pause"}, 0, id="pause"),
        pytest.param({"text": ""}, 1, id="nothing"),
        pytest.param({"finish_reason": "stop"}, 1, id="no-text"),
    ],
)
def test_the_shape_of_a_choice(choice: dict[str, object], flaws: int) -> None:
    usage = {"prompt_tokens": 1, "cost": 0.5, "details": {"in": 1}}
    answer = {"prompt": "Hi", "choices": [choice], "usage": usage}
    assert len(flaws_of(answer, "Hi", 1)) == flaws


class Kinds:
    """Answers every kind of call, from one address, with a token that it fetches by itself."""

    base = ""

    @hookimpl
    def lmgateway_info(self) -> Info:
        return Info(api=2, default_model="m", headers=frozenset({"X-Shard"}))

    @hookimpl
    def lmgateway_complete(self, request: Request) -> Flow[Any]:
        fetched = yield from send(HTTPRequest("POST", self.base, "/token", keep=False))
        token = json.loads(fetched.body)["access_token"]
        response = yield from send(self.asked("/say", f"{token}"))
        return {"choices": [{"text": response.body.decode()}]}

    @hookimpl
    def lmgateway_stream(self, request: Request) -> Flow[Any]:
        head = yield from send(self.asked("/say", "none-needed", stream=True))
        text = ""
        while chunk := (yield from read(head)):
            text += chunk.decode()
            yield Emit(chunk.decode())
        return {"choices": [{"text": text + head.headers["x-shard"]}]}

    @hookimpl
    def lmgateway_embed(self, request: EmbedRequest) -> Flow[Any]:
        response = yield from send(self.asked("/embed", "none-needed", json=list(request.texts)))
        return {"embeddings": json.loads(response.body)}

    @hookimpl
    def lmgateway_models(self) -> Flow[Any]:
        response = yield from send(self.asked("/models", "none-needed"))
        return [{"id": response.body.decode()}]

    def asked(self, path: str, token: str, **more: Any) -> HTTPRequest:
        return HTTPRequest("POST", self.base, path, auth=SecretStr(token), **more)


TOKEN = "fetched-canary-77c0ffee"
RECORDED = [
    pytest.param({"prompt": "Hi", "stream": True}, b"hi", "complete", "hi7", id="stream"),
    pytest.param({"texts": ["a", "b"]}, b"[[1.0], [2.0]]", "embed", [[1.0], [2.0]], id="embed"),
    pytest.param({"kind": "models"}, b"m-1", "models", [{"id": "m-1"}], id="models"),
]


@pytest.mark.loopback
@pytest.mark.parametrize("call, body, kind, expected", RECORDED)
def test_each_kind_is_recorded_and_read_back(
    call: dict[str, Any], body: bytes, kind: str, expected: object, tmp_path: Path
) -> None:
    path, plugin = tmp_path / "calls.jsonl", Kinds()
    with FaultServer([answer(lambda _: whole(body, headers={"X-Shard": "7"}))]) as server:
        plugin.base = server.url
        record_call(path, lm_from(plugin), **call)
    (recorded,) = read_calls(path)
    assert (recorded.kind, recorded.stream) == (kind, "stream" in call)
    bench = Bench(plugin_from(plugin, name="acme", described="acme"), "m", {}, (), (recorded,))
    told: Any = bench.replay(recorded).completion
    found = told if kind == "models" else told.get("embeddings") or told["choices"][0]["text"]
    assert found == expected


@pytest.mark.loopback
def test_a_token_that_a_flow_fetches_is_recorded_as_another_one(tmp_path: Path) -> None:
    path, plugin = tmp_path / "calls.jsonl", Kinds()
    said = [b"hi", json.dumps({"access_token": TOKEN, "expires_in": 60}).encode()]
    with FaultServer([answer(lambda _: whole(said.pop()))]) as server:
        plugin.base = server.url
        record_call(path, lm_from(plugin), prompt="Hi")
    assert TOKEN not in path.read_text()
    (recorded,) = read_calls(path)
    bench = Bench(plugin_from(plugin, name="acme", described="acme"), "m", {}, (), (recorded,))
    assert bench.replay(recorded).completion["choices"][0]["text"] == "hi"
    assert [request.get("keep", True) for request in recorded.requests] == [False, True]


@pytest.mark.parametrize(
    "call, message",
    [
        pytest.param({"kind": "sing"}, "kind must be one of", id="no-kind"),
        pytest.param({"texts": ["a"], "stream": True}, "embed does not stream", id="no-stream"),
    ],
)
def test_what_cannot_be_recorded_is_refused(
    call: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        record_call(tmp_path / "calls.jsonl", get_lm("echo"), **call)


@pytest.mark.parametrize(
    "name, secret",
    [("pageToken", False), ("next_page_token", False), ("token", True), ("access_token", True)],
)
def test_a_token_of_a_page_is_no_secret(name: str, secret: bool) -> None:
    asked = HTTPRequest("GET", None, "/models", query={name: "kit-1"})
    assert bool(_secrets_of(asked)) is secret
