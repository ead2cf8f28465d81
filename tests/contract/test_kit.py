"""The kit itself: how checks are opted out of, and what recorded calls may look like."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fault_server import FaultServer, answer, whole

from lmgateway import get_lm, hookimpl
from lmgateway.errors import InputError
from lmgateway.testing import ProviderContract, lm_from, read_calls, record_call
from lmgateway.testing.bench import Bench
from lmgateway.testing.objects import plugin_from
from lmgateway.testing.shape import flaws_of
from lmgateway.types import (
    Answer,
    Flow,
    HTTPRequest,
    HTTPResponse,
    Info,
    Request,
    Signed,
    kept,
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
