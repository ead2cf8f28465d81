"""What differs from model to model: parameters, how thinking is asked for, late system turns."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

import lmgateway_anthropic
from lmgateway import get_lm
from lmgateway.cli.doctor import _examine_secrets
from lmgateway.errors import InputError, UnsupportedError
from lmgateway.lm import spec_of
from lmgateway.testing import lm_from
from lmgateway.types import Request
from lmgateway_anthropic.build import prepare
from lmgateway_anthropic.models import UNKNOWN, traits
from lmgateway_anthropic.settings import Settings

OLD = "claude-3-5-haiku-20241022"
SONNET = "claude-sonnet-4-5-20250929"
USER: Any = {"role": "user", "content": "Hi"}
TOOLS: Any = [{"type": "function", "function": {"name": "f"}}]


def settings(**keys: Any) -> Settings:
    return Settings(api_key=SecretStr("a-made-up-key"), **keys)


def sent(model: str, *messages: Any, **params: Any) -> dict[str, Any]:
    request = Request(model, messages=list(messages) or [USER], params=params)
    body: dict[str, Any] = prepare(request, settings())[0].json
    return body


@pytest.mark.parametrize(
    "name, like",
    [
        ("claude-opus-4-20250514", "claude-opus-4-0"),
        ("claude-opus-4-5-20251101", "claude-opus-4-5"),
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("us.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
        ("claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("anthropic/claude-opus-4.8", "claude-opus-4-8"),
        ("claude-3-7-sonnet-latest", "claude-3-7-sonnet-20250219"),
        ("claude-fable-5-2", "claude-fable-5-1"),
    ],
)
def test_a_model_is_known_by_any_of_its_names(name: str, like: str) -> None:
    assert traits(name) == traits(like)
    assert traits(name).is_known


@pytest.mark.parametrize("name", ["m", "claude-x", "claude-1", "claude-2.1", "kimi-k2", ""])
def test_of_another_name_nothing_is_assumed(name: str) -> None:
    assert traits(name) is UNKNOWN


@pytest.mark.parametrize(
    "model, version, lacks",
    [
        ("m", "2023-06-01", set()),
        ("m", "2026-10-21", {"temperature", "top_p", "top_k"}),
        (OLD, "2023-06-01", {"thinking", "reasoning_effort"}),
        (SONNET, "2023-06-01", set()),
        (SONNET, "2026-10-21", {"temperature", "top_p", "top_k"}),
        ("claude-opus-4-8", "2023-06-01", {"temperature", "top_p", "top_k"}),
        ("claude-fable-5", "2023-06-01", {"temperature", "top_p", "top_k"}),
    ],
)
def test_the_info_of_a_model_names_the_parameters_that_it_takes(
    model: str, version: str, lacks: set[str]
) -> None:
    info = lmgateway_anthropic.lmgateway_info(settings(api_version=version), model)
    assert lmgateway_anthropic.lmgateway_info(None, None).params - info.params == lacks


@pytest.mark.parametrize(
    "model, lacks",
    [
        ("m", set()),
        (OLD, {"reasoning", "schema"}),
        ("claude-opus-4-1", set()),
        ("claude-opus-4-0", {"schema"}),
        ("claude-opus-4-6", {"prefill"}),
        ("claude-haiku-5-5", {"prefill"}),
    ],
)
def test_the_info_of_a_model_names_what_it_can_do(model: str, lacks: set[str]) -> None:
    info = lmgateway_anthropic.lmgateway_info(settings(), model)
    assert lmgateway_anthropic.lmgateway_info(None, None).capabilities - info.capabilities == lacks


ADAPTIVE, DISABLED = {"type": "adaptive"}, {"type": "disabled"}


def budget(tokens: int) -> dict[str, Any]:
    return {"type": "enabled", "budget_tokens": tokens}


@pytest.mark.parametrize(
    "model, effort, thinking, output",
    [
        ("m", "high", None, {"effort": "high"}),
        (SONNET, "none", DISABLED, None),
        (SONNET, "minimal", budget(1024), None),
        (SONNET, "high", budget(16384), None),
        ("claude-opus-4-5", "low", None, {"effort": "low"}),
        ("claude-opus-4-6", "max", ADAPTIVE, {"effort": "max"}),
        ("claude-opus-4-8", "none", DISABLED, None),
        ("claude-opus-4-8", "xhigh", ADAPTIVE, {"effort": "xhigh"}),
        ("claude-mythos-5", "medium", ADAPTIVE, {"effort": "medium"}),
    ],
)
def test_an_effort_is_said_in_the_models_own_way(
    model: str, effort: str, thinking: Any, output: Any
) -> None:
    body = sent(model, reasoning_effort=effort)
    assert (body.get("thinking"), body.get("output_config")) == (thinking, output)


@pytest.mark.parametrize(
    "model, params, param",
    [
        ("m", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("claude-fable-5", {"reasoning_effort": "none"}, "reasoning_effort"),
        ("claude-opus-4-8", {"reasoning_effort": "minimal"}, "reasoning_effort"),
        ("claude-opus-4-6", {"reasoning_effort": "xhigh"}, "reasoning_effort"),
        (SONNET, {"reasoning_effort": "huge"}, "reasoning_effort"),
        (SONNET, {"reasoning_effort": "low", "max_tokens": 1200}, "reasoning_effort"),
        (SONNET, {"reasoning_effort": "low", "thinking": DISABLED}, "reasoning_effort"),
        (SONNET, {"thinking": ADAPTIVE}, "thinking"),
        ("claude-opus-4-7", {"thinking": budget(2048)}, "thinking"),
        ("claude-fable-5", {"thinking": DISABLED}, "thinking"),
        (SONNET, {"thinking": budget(2048), "temperature": 0}, "temperature"),
        (SONNET, {"reasoning_effort": "low", "top_k": 3}, "top_k"),
        (SONNET, {"thinking": budget(2048), "top_p": 0.5}, "top_p"),
        ("claude-opus-4-8", {"temperature": 0}, "temperature"),
        ("m", {"metadata": {"user_id": "u", "team": "t"}}, "metadata"),
        ("m", {"service_tier": "flex"}, "service_tier"),
    ],
)
def test_what_a_model_lacks_is_refused_by_its_name(
    model: str, params: dict[str, Any], param: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        sent(model, **params)
    assert caught.value.param == param


@pytest.mark.parametrize(
    "model, given, told",
    [
        ("claude-opus-4-8", {"temperature": 0}, {("dropped", "temperature")}),
        ("claude-opus-4-8", {"thinking": budget(2048)}, {("adapted", "thinking")}),
        ("claude-fable-5", {"reasoning_effort": "none"},
         {("adapted", "reasoning_effort"), ("dropped", "thinking")}),
        (SONNET, {"thinking": budget(2048), "temperature": 0}, {("dropped", "temperature")}),
        (OLD, {"reasoning_effort": "high"}, {("dropped", "reasoning_effort")}),
    ],
)  # fmt: skip
def test_one_line_adapts_what_a_model_lacks(model: str, given: Any, told: Any) -> None:
    class Echo:
        """The plugin, answered from here."""

        lmgateway_settings = staticmethod(lmgateway_anthropic.lmgateway_settings)
        lmgateway_info = staticmethod(lmgateway_anthropic.lmgateway_info)

        @staticmethod
        @lmgateway_anthropic.hookimpl
        def lmgateway_complete(request: Request, settings: Settings) -> Any:
            http_request, warnings = prepare(request, settings)
            choice = {"text": str(http_request.json), "index": 0}
            return {"prompt": request.input, "choices": [choice], "warnings": warnings}
            yield

    with lm_from(Echo(), "anthropic", model=model, api_key="k", unsupported="adapt") as lm:
        answer = lm.complete("Hi", **given)
    assert {(each["kind"], each["name"]) for each in answer["warnings"]} == told


# -- room to think -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, limit, warned",
    [
        ({"thinking": budget(2000)}, 4096, False),
        ({"thinking": budget(4096)}, 8192, True),
        ({"thinking": budget(2000), "max_tokens": 2001}, 2001, False),
        ({"reasoning_effort": "high"}, 16384 + 4096, True),
        ({"reasoning_effort": "high", "max_tokens": 2000}, 2000, False),
    ],
)
def test_the_limit_leaves_room_beside_thinking(
    params: dict[str, Any], limit: int, warned: bool
) -> None:
    request, warnings = prepare(Request(SONNET, "Hi", params=params), settings())
    assert request.json["max_tokens"] == limit
    assert request.json["thinking"]["budget_tokens"] < limit
    assert [w["name"] for w in warnings] == ["max_tokens"] * warned


@pytest.mark.parametrize("given", ["params", "extra_body"])
@pytest.mark.parametrize("limit", [2048, 100])
def test_a_limit_that_leaves_no_room_is_refused(given: str, limit: int) -> None:
    params: dict[str, Any] = {"thinking": budget(2048), "max_tokens": limit}
    if given == "extra_body":
        params = {"extra_body": params}
    with pytest.raises(InputError, match="max_tokens"):
        sent("m", **params)


def test_thinking_between_calls_may_take_more_than_the_limit() -> None:
    request = Request(SONNET, "Hi", params={"thinking": budget(9000), "max_tokens": 5000})
    beta = settings(beta="interleaved-thinking-2025-05-14")
    assert prepare(request, beta)[0].json["max_tokens"] == 5000


def test_a_budget_below_the_least_is_refused() -> None:
    with pytest.raises(InputError, match="1024"):
        sent(SONNET, thinking=budget(100))


@pytest.mark.parametrize("params", [{"reasoning_effort": "low"}, {"thinking": budget(2048)}])
def test_a_model_that_thinks_cannot_be_made_to_call_a_tool(params: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedError, match="call a tool") as caught:
        sent(SONNET, tools=TOOLS, tool_choice="required", **params)
    assert caught.value.param in params


def test_a_tool_that_must_be_called_is_called_without_thinking() -> None:
    body = sent("claude-opus-4-8", reasoning_effort="low", tools=TOOLS, tool_choice="required")
    assert "thinking" not in body
    assert body["output_config"] == {"effort": "low"}


# -- turns ---------------------------------------------------------------------------------------

LATE = {"role": "system", "content": "New rule."}
SAID = {"role": "assistant", "content": "ok"}
CALLS = {
    "role": "assistant",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}
RESULT = {"role": "tool", "tool_call_id": "a", "content": "r"}


@pytest.mark.parametrize("model", ["m", "claude-opus-4-8", "claude-sonnet-5"])
@pytest.mark.parametrize(
    "messages, roles",
    [
        ([USER, LATE], "us"),
        ([USER, LATE, SAID, USER], "usau"),
        ([USER, SAID, LATE, USER], "uaus"),
        ([USER, LATE, USER, SAID, USER], "uusau"),
        ([USER, LATE, LATE, SAID, USER], "usau"),
        ([USER, CALLS, RESULT, LATE], "uaus"),
        ([USER, CALLS, LATE, RESULT], "uaus"),
        ([LATE, USER, LATE], "us"),
    ],
)
def test_a_late_system_turn_stands_where_the_api_takes_it(
    model: str, messages: list[Any], roles: str
) -> None:
    body = sent(model, *messages, tools=TOOLS)
    assert "".join(turn["role"][0] for turn in body["messages"]) == roles
    assert "New rule." in str([turn for turn in body["messages"] if turn["role"] == "system"])


@pytest.mark.parametrize("order, told", [((LATE,), []), ((SAID, LATE, USER), ["messages[2]"])])
def test_a_system_turn_that_is_moved_is_told(order: Any, told: list[str]) -> None:
    _, warnings = prepare(Request("m", messages=[USER, *order]), settings())
    assert [each["name"] for each in warnings] == told


@pytest.mark.parametrize(
    "model, messages, param",
    [
        (SONNET, [USER, LATE, SAID, USER], "messages[1].role"),
        ("claude-opus-4-8", [USER, SAID, LATE], "messages[2].role"),
        ("claude-opus-4-8", [USER, SAID], "messages[1]"),
    ],
)
def test_a_turn_that_a_model_does_not_take_is_refused_by_its_place(
    model: str, messages: list[Any], param: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        sent(model, *messages)
    assert caught.value.param == param


@pytest.mark.parametrize("form", ["state", "content"])
def test_a_paused_turn_is_gone_on_with_by_models_that_take_no_beginning(form: str) -> None:
    blocks = [
        {"type": "text", "text": "I search."},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
    ]
    turn: dict[str, Any] = {"role": "assistant", "content": blocks}
    if form == "state":
        turn = {"role": "assistant", "state": {"format": "anthropic.messages", "turn": blocks}}
    assert sent("claude-opus-4-8", USER, turn)["messages"][-1]["content"] == blocks


# -- where it is, and as whom --------------------------------------------------------------------


@pytest.mark.parametrize(
    "base",
    ["https://a.example", "https://a.example/", "https://a.example/v1", "https://a.example/v1/"],
)
@pytest.mark.parametrize("path", ["", "/proxy/anthropic"])
def test_the_address_may_hold_the_version(base: str, path: str) -> None:
    base = base.replace("a.example", f"a.example{path}")
    request, _ = prepare(Request("m", "Hi"), settings(api_base=base))
    assert request.url == f"https://a.example{path}/v1/messages"


@pytest.mark.parametrize(
    "given, headers",
    [
        ({"api_key": "k"}, {"x-api-key": "k"}),
        ({"auth_token": "t"}, {"authorization": "Bearer t"}),
        ({"api_key": "k", "auth_token": "t"}, {"x-api-key": "k", "authorization": "Bearer t"}),
    ],
)
@pytest.mark.parametrize("how", ["arguments", "variables"])
def test_a_key_or_a_token_is_sent(
    how: str, given: Any, headers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("api_key", "auth_token"):
        monkeypatch.delenv(f"ANTHROPIC_{name.upper()}", raising=False)
    if how == "variables":
        for name, value in given.items():
            monkeypatch.setenv(f"ANTHROPIC_{name.upper()}", value)
        given = {}
    seen: list[Any] = []

    class Plugin:
        lmgateway_settings = staticmethod(lmgateway_anthropic.lmgateway_settings)
        lmgateway_info = staticmethod(lmgateway_anthropic.lmgateway_info)

        @staticmethod
        @lmgateway_anthropic.hookimpl
        def lmgateway_complete(request: Request, settings: Settings) -> Any:
            seen.append(prepare(request, settings)[0].auth())  # type: ignore[operator,misc]
            return {"prompt": request.input, "choices": [{"text": "a"}]}
            yield

    with lm_from(Plugin(), "anthropic", model="m", **given) as lm:
        lm("Hi")
    assert seen == [headers]


@pytest.mark.parametrize("given, failed", [({}, True), ({"auth_token": "t"}, False)])
def test_the_doctor_misses_no_key_beside_a_token(
    given: Any, failed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("API_KEY", "AUTH_TOKEN"):
        monkeypatch.delenv(f"ANTHROPIC_{name}", raising=False)
    spec = spec_of(get_lm("anthropic/m", **given))
    assert any(finding.ok is False for finding in _examine_secrets(spec)) == failed
