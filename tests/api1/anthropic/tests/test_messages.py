"""What is sent: a conversation in OpenAI's form, as the Messages API wants it."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import SecretStr

from lmgateway.errors import InputError
from lmgateway.store.exchange import describe, identify
from lmgateway.types import Message, Request
from lmgateway_anthropic.build import DEFAULT_MAX_TOKENS, build
from lmgateway_anthropic.settings import Settings

SETTINGS = Settings(api_key=SecretStr("a-made-up-key"))
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"word": "a"}'},
}
PNG = "data:image/png;base64,iVBORw0KGgo="


def body(
    *messages: Message, params: dict[str, Any] | None = None, system: str | None = None
) -> dict[str, Any]:
    request = Request("m", messages=messages, params=params or {}, system=system)
    sent: dict[str, Any] = build(request, SETTINGS).json
    return sent


def test_system_texts_stand_apart() -> None:
    sent = body(
        {"role": "developer", "content": "Two."}, {"role": "user", "content": "Hi"}, system="One."
    )
    assert sent["system"] == "One.\n\nTwo."
    assert sent["messages"] == [{"role": "user", "content": "Hi"}]


def test_max_tokens_has_a_default() -> None:
    assert body({"role": "user", "content": "Hi"})["max_tokens"] == DEFAULT_MAX_TOKENS


@pytest.mark.parametrize(
    "settings, vary",
    [
        ({}, ()),
        ({"api_version": "2023-06-01"}, ()),
        ({"api_version": "2024-01-01"}, ("anthropic-version",)),
        ({"beta": "a,b"}, ("anthropic-beta",)),
        ({"api_version": "2024-01-01", "beta": "a"}, ("anthropic-version", "anthropic-beta")),
    ],
)
def test_version_and_beta_tell_answers_apart_where_they_are_set(
    settings: dict[str, str], vary: tuple[str, ...]
) -> None:
    request = build(
        Request("m", prompt="Hi"), Settings(api_key=SecretStr("a-made-up-key"), **settings)
    )
    assert request.vary == vary
    assert set(vary) <= set(request.headers)


def test_what_the_first_release_stored_is_found() -> None:
    request = build(Request("claude-x", prompt="Hi", params={"temperature": 0}), SETTINGS)
    described = describe(request, provider="anthropic", sample=0)
    key = identify(described or {}, request.base_url)
    assert key is not None
    digest = "2b6d8fb44df9bd0737783960bf5097db08635654f3182c74a19e1fa5d6d466f2"
    assert (key.request.hex(), (key.base or b"").hex()) == (
        digest,
        "85f13dfe69cdbb330d13438aeb5c3242",
    )


def test_the_results_of_one_turn_stand_in_one_turn() -> None:
    second = {**CALL, "id": "call_2"}
    sent = body(
        {"role": "user", "content": "Look up a, twice."},
        {"role": "assistant", "content": "Yes.", "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "call_1", "content": "first"},
        {"role": "tool", "tool_call_id": "call_2", "content": "second"},
    )
    use = {"type": "tool_use", "name": "look_up", "input": {"word": "a"}}
    assert sent["messages"][1:] == [
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Yes."},
                {**use, "id": "call_1"},
                {**use, "id": "call_2"},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "first"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "second"},
            ],
        },
    ]


@pytest.mark.parametrize(
    "url, source",
    [
        pytest.param(
            PNG, {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}, id="data"
        ),
        pytest.param(
            "https://a.example/b.png", {"type": "url", "url": "https://a.example/b.png"}, id="url"
        ),
    ],
)
def test_an_image_is_a_block(url: str, source: dict[str, str]) -> None:
    sent = body({"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]})
    assert sent["messages"][0]["content"] == [{"type": "image", "source": source}]


@pytest.mark.parametrize(
    "choice, parallel, expected",
    [
        pytest.param("auto", None, {"type": "auto"}, id="auto"),
        pytest.param("required", None, {"type": "any"}, id="required"),
        pytest.param("none", False, {"type": "none"}, id="none"),
        pytest.param(
            {"type": "function", "function": {"name": "f"}},
            None,
            {"type": "tool", "name": "f"},
            id="named",
        ),
        pytest.param(
            None, False, {"type": "auto", "disable_parallel_tool_use": True}, id="one at a time"
        ),
    ],
)
def test_a_tool_choice_is_renamed(choice: Any, parallel: Any, expected: Any) -> None:
    params = {"tools": [{"type": "function", "function": {"name": "f"}}]}
    params |= {"tool_choice": choice} if choice is not None else {}
    params |= {"parallel_tool_calls": parallel} if parallel is not None else {}
    assert body({"role": "user", "content": "Hi"}, params=params)["tool_choice"] == expected


@pytest.mark.parametrize(
    "messages, place",
    [
        pytest.param(
            [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}],
            r"messages\[1\].*before",
            id="a late system text",
        ),
        pytest.param([{"role": "system", "content": "b"}], "only", id="no turn"),
        pytest.param([{"role": "user", "content": "a", "name": "bo"}], "name", id="a name"),
        pytest.param([{"role": "function", "content": "a"}], "function", id="a role it lacks"),
        pytest.param([{"role": "assistant", "content": None}], "empty", id="an empty turn"),
        pytest.param([{"role": "tool", "content": "a"}], "tool_call_id", id="no call's result"),
        pytest.param(
            [{"role": "user", "content": [{"type": "input_audio"}]}],
            r"content\[0\]",
            id="a part it lacks",
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "file:///a.png"}}],
                }
            ],
            "data:image",
            id="an image of another kind",
        ),
        pytest.param(
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "["}}],
                }
            ],
            "JSON object",
            id="arguments that are no JSON",
        ),
    ],
)
def test_what_has_no_form_is_refused_by_its_place(messages: list[Message], place: str) -> None:
    with pytest.raises(InputError, match=place):
        body(*messages)
