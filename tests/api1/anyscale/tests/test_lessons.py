"""What DSPy 2.4's client got wrong, row by row of docs/explanation/lessons-of-dspys-client.md."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.fault_server import FaultServer, receive, reply, stall

from lmgateway import errors, get_lm

pytestmark = pytest.mark.loopback

LLAMA = "meta-llama/Llama-2-70b-chat-hf"
JSON = {"Content-Type": "application/json"}


def answer(*texts: str) -> Any:
    choices = [{"index": i, "text": t, "finish_reason": "stop"} for i, t in enumerate(texts)]
    usage = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    body = {"id": "cmpl-1", "model": LLAMA, "choices": choices, "usage": usage}
    return reply(json.dumps(body).encode(), 200, JSON)


def error(status: int, **headers: str) -> Any:
    return reply(b'{"error": {"message": "no"}}', status, {**JSON, **headers})


def sent(server: FaultServer, number: int = 0) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(server.requests[number].body)
    return body


def test_an_argument_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANYSCALE_API_BASE", "http://127.0.0.1:9/elsewhere")
    monkeypatch.setenv("ANYSCALE_API_KEY", "from-the-environment")
    with FaultServer([answer("hi")]) as server:
        get_lm("anyscale", model=LLAMA, api_base=server.url, api_key="given")("q")
    assert server.requests[0].headers["authorization"] == "Bearer given"


def test_without_a_key_nothing_is_said_of_one() -> None:
    with FaultServer([answer("hi")]) as server:
        get_lm("anyscale", model=LLAMA, api_base=server.url)("q")
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize("slash", ["", "/", "//"])
def test_a_trailing_slash_means_nothing(slash: str) -> None:
    with FaultServer([answer("hi")]) as server:
        get_lm("anyscale", model=LLAMA, api_base=f"{server.url}/v1{slash}")("q")
    assert server.requests[0].path == "/v1/completions"


def test_all_parameters_are_sent() -> None:
    params = {"temperature": 0.3, "max_tokens": 9, "top_p": 0.5, "stop": ["x"], "seed": 4}
    with FaultServer([answer("hi")]) as server:
        get_lm("anyscale", model=LLAMA, api_base=server.url, **params)("q", top_k=7, cache=False)
    assert sent(server).items() >= {**params, "top_k": 7}.items()


def test_n_choices_are_one_request() -> None:
    with FaultServer([answer("a", "b", "c")]) as server:
        texts = get_lm("anyscale", model=LLAMA, api_base=server.url)("q", n=3)
    assert texts == ["a", "b", "c"]
    assert len(server.requests) == 1
    assert sent(server)["n"] == 3


@pytest.mark.parametrize(
    "model, begins",
    [
        pytest.param(LLAMA, "<s>[INST] q", id="llama-2"),
        pytest.param("meta-llama/Meta-Llama-3-8B-Instruct", "<|begin_of_text|>", id="llama-3"),
        pytest.param("Qwen/Qwen2.5-7B-Instruct", "<|im_start|>system", id="qwen"),
        pytest.param("google/gemma-2-9b-it", "<bos><start_of_turn>user", id="gemma"),
    ],
)
def test_each_model_has_its_own_template(model: str, begins: str) -> None:
    with FaultServer([answer("hi")]) as server:
        get_lm("anyscale", model=model, api_base=server.url)("q")
    assert sent(server)["prompt"].startswith(begins)


@pytest.mark.parametrize(
    "status, kind",
    [
        (429, errors.RateLimitError),
        (401, errors.AuthenticationError),
        (404, errors.NotFoundError),
        (400, errors.InvalidRequestError),
        (500, errors.ServerError),
    ],
)
def test_an_error_is_reported_as_what_it_is(status: int, kind: type[errors.APIError]) -> None:
    with FaultServer([error(status)]) as server:
        lm = get_lm("anyscale", model=LLAMA, api_base=server.url, retries=0)
        with pytest.raises(kind) as caught:
            lm("q")
    assert caught.value.status == status


def test_a_server_that_says_nothing_does_not_hang_the_program() -> None:
    with FaultServer([receive(), stall()]) as server:
        lm = get_lm("anyscale", model=LLAMA, api_base=server.url, timeout=0.3)
        with pytest.raises(errors.RequestTimeoutError):
            lm("q")


def test_a_failure_that_may_pass_is_tried_again() -> None:
    busy = error(503, **{"Retry-After": "0"})
    with FaultServer([busy, busy, answer("hi")]) as server:
        assert get_lm("anyscale", model=LLAMA, api_base=server.url)("q") == ["hi"]
    assert len(server.requests) == 3


def test_usage_and_finish_reason_are_told() -> None:
    with FaultServer([answer("hi")]) as server:
        completion = get_lm("anyscale", model=LLAMA, api_base=server.url).complete("q")
    assert completion["usage"] == {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}
    assert completion["choices"][0]["finish_reason"] == "stop"


def test_a_copy_works() -> None:
    with FaultServer([answer("hi")]) as server:
        lm = get_lm("anyscale", model=LLAMA, api_base=server.url, temperature=0.0)
        assert lm.copy(temperature=0.7)("q") == ["hi"]
    assert sent(server)["temperature"] == 0.7
