"""The rows of input that cannot be sent: refused in every mode before a socket opens."""

from __future__ import annotations

import json
from typing import Any

import pytest
from faults.play import KEY, MODES, NATIVE, PROMPT, Mode, fine, lm_at, row
from support.fault_server import FaultServer

from lmgateway import get_lm
from lmgateway.errors import InputError, InvalidSettingError, UnknownParameterError

pytestmark = pytest.mark.loopback

BAD_KEY = "sk-never-shown"

# What a call is given, and what the message says.
CALLS: dict[str, list[tuple[str, dict[str, Any], str]]] = {
    "not a str": [
        ("bytes", {"prompt": b"hi"}, "bytes"),
        ("a number", {"prompt": 3}, "int"),
        ("a list", {"prompt": ["hi"]}, "messages="),
    ],
    "a lone surrogate": [
        ("in the prompt", {"prompt": "abc\ud800"}, "offset 3"),
        ("in a message", {"messages": [{"role": "user", "content": "a\udfff"}]}, "offset 1"),
        ("in a parameter", {"prompt": "a", "stop": ["\ud800"]}, "surrogate"),
    ],
    "NaN temperature": [
        ("NaN", {"prompt": "a", "temperature": float("nan")}, "nan"),
        ("infinite", {"prompt": "a", "temperature": float("inf")}, "inf"),
    ],
    "n of 0, -1 or True": [
        (repr(n), {"prompt": "a", "n": n}, "at least 1") for n in (0, -1, True, 1.5, "2")
    ],
    "a negative max_tokens": [("", {"prompt": "a", "max_tokens": -1}, "max_tokens")],
    "prompt and messages together": [
        ("both", {"prompt": "a", "messages": [{"role": "user", "content": "b"}]}, "not both"),
        ("neither", {}, "messages="),
    ],
    "an unknown parameter": [("", {"prompt": "a", "temperatur": 1}, "'temperature'")],
}

# What get_lm is given beside the model, and what the message says.
SETTINGS: dict[str, list[tuple[str, dict[str, Any], str]]] = {
    "a model id with a newline": [("", {"model": "a\nb"}, "one line")],
    "a base without scheme, with userinfo, or file://": [
        ("no scheme", {"api_base": "host/v1"}, "http"),
        ("no host", {"api_base": "https:///v1"}, "host"),
        ("userinfo", {"api_base": f"https://me:{BAD_KEY}@host/v1"}, "password"),
        ("file", {"api_base": "file:///etc/passwd"}, "http"),
        ("a query", {"api_base": f"https://host/v1?key={BAD_KEY}"}, "query"),
        ("a line break", {"api_base": "https://host/v1\n/x"}, "URL|white space"),
        ("a port that is none", {"api_base": "https://host:99999/v1"}, "api_base"),
        ("an IPv6 address that is none", {"api_base": "https://[::1/v1"}, "api_base"),
    ],
    "a key that no header can hold": [
        ("a newline", {"api_key": f"{BAD_KEY}\nX: y"}, "character 15"),
        ("a space", {"api_key": f"{BAD_KEY} y"}, "character 15"),
        ("not latin-1", {"api_key": f"{BAD_KEY}\u2014"}, "character 15"),
    ],
}


def table(rows: dict[str, list[tuple[str, dict[str, Any], str]]], modes: Any) -> list[Any]:
    return [
        pytest.param(
            given,
            mention,
            mode,
            id="-".join(filter(None, (case, what, mode.name))),
            marks=pytest.mark.row("Input", case, mode.name),
        )
        for case, each in rows.items()
        for what, given, mention in each
        for mode in modes
    ]


@pytest.mark.parametrize("given, mention, mode", table(CALLS, NATIVE))
def test_a_call_is_refused(given: dict[str, Any], mention: str, mode: Mode) -> None:
    keywords = {"prompt": None, **given}
    with FaultServer([fine()]) as server, lm_at(server.url, mode) as lm:
        with pytest.raises(InputError, match=mention) as caught:
            mode.ask(lm, keywords.pop("prompt"), **keywords)
        assert server.peers == []
    assert isinstance(caught.value, ValueError)
    assert not caught.value.retryable


@pytest.mark.parametrize("given, mention, mode", table(SETTINGS, MODES[:1]))
def test_get_lm_refuses(given: dict[str, Any], mention: str, mode: Mode) -> None:
    with pytest.raises(InputError, match=mention) as caught:
        get_lm("openai", **{"model": "m", **given})
    assert BAD_KEY not in str(caught.value) + repr(caught.value) + repr(vars(caught.value))


@row("Input", "a key that no header can hold", MODES[:1])
def test_a_bad_key_in_the_environment_is_named(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{BAD_KEY}\u2014")
    with pytest.raises(InvalidSettingError, match="OPENAI_API_KEY") as caught:
        get_lm("openai/m")
    assert BAD_KEY not in str(caught.value)


def test_an_unknown_parameter_is_unsupported_as_well() -> None:
    with pytest.raises(UnknownParameterError):
        get_lm("openai/m", temperatur=1)


@row("Input", "a 10 MB prompt and a NUL pass")
def test_a_large_prompt_and_a_nul_pass(mode: Mode) -> None:
    prompt = "\u00e9" * 5_000_000 + "\0"
    with FaultServer([fine()]) as server, lm_at(server.url, mode, history=0) as lm:
        mode.ask(lm, prompt)
        (request,) = server.requests
    assert json.loads(request.body)["messages"][0]["content"] == prompt


def test_the_key_that_is_good_is_sent() -> None:
    with FaultServer([fine()]) as server, lm_at(server.url, MODES[0]) as lm:
        MODES[0].ask(lm, PROMPT)
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
