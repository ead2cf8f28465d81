"""What is sent: a conversation in OpenAI's form, as the Messages API wants it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr
from support.claude_requests import REQUESTS

from lmgateway._store.serialization import describe, identify
from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import Message, Request
from lmgateway_anthropic.build import DEFAULT_MAX_TOKENS, build, prepare
from lmgateway_anthropic.settings import Settings

SETTINGS = Settings(api_key=SecretStr("a-made-up-key"))
CALL = {
    "id": "call_1",
    "type": "function",
    "function": {"name": "look_up", "arguments": '{"word": "a"}'},
}
PNG = "data:image/png;base64,iVBORw0KGgo="


def body(
    *messages: Message,
    params: dict[str, Any] | None = None,
    system: str | None = None,
    model: str = "m",
) -> dict[str, Any]:
    request = Request(model, messages=messages, params=params or {}, system=system)
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


@pytest.mark.parametrize("name", ["temperature", "top_p", "top_k"])
@pytest.mark.parametrize("version, takes", [("2023-06-01", True), ("2026-10-21", False)])
def test_sampling_is_taken_by_older_versions(version: str, takes: bool, name: str) -> None:
    settings = Settings(api_key=SecretStr("a-made-up-key"), api_version=version)
    request = Request("m", prompt="Hi", params={name: 1})
    if takes:
        assert build(request, settings).json[name] == 1
        return
    with pytest.raises(UnsupportedError, match="2026-10-21") as caught:
        build(request, settings)
    assert caught.value.param == name


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
        pytest.param([{"role": "system", "content": "b"}], "only", id="no turn"),
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
    ],
)
def test_what_has_no_form_is_refused_by_its_place(messages: list[Message], place: str) -> None:
    with pytest.raises(InputError, match=place):
        body(*messages)


@pytest.mark.parametrize(
    "messages, param",
    [
        pytest.param(
            [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}],
            "messages[1].role",
            id="a late system text",
        ),
        pytest.param(
            [{"role": "user", "content": "a", "name": "bo"}], "messages[0].name", id="a name"
        ),
        pytest.param(
            [
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}}],
                }
            ],
            "messages[0].content[0].image_url.detail",
            id="the detail of an image",
        ),
    ],
)
def test_what_may_be_said_in_another_way_is_refused_by_its_name(
    messages: list[Message], param: str
) -> None:
    with pytest.raises(UnsupportedError) as caught:
        body(*messages, model="claude-sonnet-4-5")
    assert caught.value.param == param


RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "first"}
CALLS = {"role": "assistant", "tool_calls": [CALL]}
USER = {"role": "user", "content": "Hi"}


@pytest.mark.parametrize(
    "messages, problem",
    [
        pytest.param([USER, CALLS, USER], r"messages\[1\].*call_1.*result", id="no result"),
        pytest.param([USER, RESULT], r"messages\[1\].*no turn before", id="no call"),
        pytest.param([USER, RESULT, CALLS], r"messages\[1\].*no turn", id="a result before"),
        pytest.param([USER, CALLS, RESULT, RESULT], r"messages\[3\].*already", id="two results"),
        pytest.param(
            [USER, {**CALLS, "tool_calls": [CALL, {**CALL, "id": "call_2"}]}, RESULT],
            r"messages\[1\].*call_2",
            id="one of two results",
        ),
        pytest.param(
            [USER, {**CALLS, "state": {"format": "anthropic.messages", "turn": "a"}}],
            r"messages\[1\]\.state\.turn",
            id="a state that is none",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "file", "file": {"file_data": "AAAA"}}]}],
            "media_type",
            id="a file of no known kind",
        ),
        pytest.param(
            [{"role": "user", "content": [{"type": "file", "file": {}}]}],
            "without data",
            id="a file that is none",
        ),
    ],
)
def test_calls_and_results_that_belong_to_nothing_are_refused(
    messages: list[Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        body(*messages)


def test_a_turn_of_its_own_goes_back_with_the_ids_that_it_had() -> None:
    blocks = [{"type": "tool_use", "id": "made:by/another host", "name": "f", "input": {}}]
    state = {"format": "anthropic.messages", "turn": blocks}
    result = {"role": "tool", "tool_call_id": "made:by/another host", "content": "a"}
    sent = body(USER, {"role": "assistant", "state": state}, result)["messages"]  # type: ignore[arg-type,typeddict-item]
    assert sent[1]["content"] == blocks
    assert sent[2]["content"][0]["tool_use_id"] == "made:by/another host"


def test_a_conversation_may_end_with_a_call() -> None:
    sent = body({"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [CALL]})
    assert sent["messages"][-1]["content"][0]["id"] == "call_1"


PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}


@pytest.mark.parametrize(
    "part, block",
    [
        (
            {
                "type": "file",
                "file": {
                    "filename": "a.pdf",
                    "file_data": "data:application/pdf;base64,JVBERi0=",
                },
            },
            {"type": "document", "source": PDF, "title": "a.pdf"},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": "JVBERi0="}},
            {"type": "document", "source": PDF, "title": "a.pdf"},
        ),
        (
            {"type": "file", "file": {"file_id": "file_1"}},
            {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            {"type": "file", "media_type": "application/pdf", "data": "JVBERi0="},
            {"type": "document", "source": PDF},
        ),
        (
            {"type": "file", "media_type": "text/markdown", "data": "w6Q=", "name": "a.md"},
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "ä"},
                "title": "a.md",
            },
        ),
        (
            {"type": "input_file", "file_url": "https://a.example/a.pdf"},
            {"type": "document", "source": {"type": "url", "url": "https://a.example/a.pdf"}},
        ),
        (
            {"type": "file", "media_type": "image/png", "id": "file_1"},
            {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        ),
        (
            {"type": "document", "source": PDF, "citations": {"enabled": True}},
            {"type": "document", "source": PDF, "citations": {"enabled": True}},
        ),
        (
            {
                "type": "image_url",
                "image_url": {"url": PNG},
                "cache_control": {"type": "ephemeral"},
            },
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                "cache_control": {"type": "ephemeral"},
            },
        ),
    ],
    ids=["data URL", "by its name", "id", "our own", "text", "url", "image", "own", "marked"],
)
def test_a_file_is_a_block(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert body({"role": "user", "content": [part]})["messages"][0]["content"] == [block]


@pytest.mark.parametrize("effort", ["none", "minimal"])
def test_an_effort_that_it_has_not_may_be_thinking(effort: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        body({"role": "user", "content": "Hi"}, params={"reasoning_effort": effort})
    assert caught.value.param == "reasoning_effort"


@pytest.mark.parametrize("given", ["thinking", "extra_body"])
def test_thinking_is_left_out_wherever_it_was_given(given: str) -> None:
    thinking = {"type": "enabled", "budget_tokens": 1024}
    params = {"extra_body": {"thinking": thinking}} if given == "extra_body" else {given: thinking}
    request = Request("m", messages=[USER, CALLS, RESULT], params=params)  # type: ignore[list-item]
    http_request, (warning,) = prepare(request, SETTINGS)
    assert "thinking" not in http_request.json
    assert (warning["kind"], warning["name"]) == ("adapted", "thinking")
    assert "messages[1]" in warning["detail"]


MARK = {"type": "ephemeral", "ttl": "1h"}
MARKED = [name for name in REQUESTS if "marked " in name]


@pytest.mark.parametrize("name", MARKED)
def test_every_mark_for_the_cache_is_sent(name: str) -> None:
    request = REQUESTS[name]
    given = json.dumps([request.messages, dict(request.params)])
    marks = given.count('"cache_control"') + given.count('"prompt_cache_breakpoint"')
    assert marks
    assert json.dumps(build(request, SETTINGS).json).count('"cache_control"') == marks


def test_a_mark_ends_the_last_block_that_can_hold_one() -> None:
    thought = {"type": "thinking", "thinking": "", "signature": "s"}
    own = {"format": "anthropic.messages", "turn": [{"type": "text", "text": "a"}, thought]}
    sent = body(USER, {"role": "assistant", "state": own, "cache_control": MARK}, USER)  # type: ignore[arg-type,typeddict-unknown-key,typeddict-item]
    assert sent["messages"][1]["content"] == [
        {"type": "text", "text": "a", "cache_control": MARK}, thought,
    ]  # fmt: skip
    blank = [{"type": "text", "text": "a"}, {"type": "text", "text": " ", "cache_control": MARK}]
    sent = body({"role": "user", "content": blank})
    assert sent["messages"][0]["content"] == [{"type": "text", "text": "a", "cache_control": MARK}]
    assert body(USER, params={"cache_control": True})["cache_control"] == {"type": "ephemeral"}  # type: ignore[arg-type]


BLANK = {"type": "text", "text": " ", "cache_control": MARK}
BRIEF = {"type": "ephemeral"}


@pytest.mark.parametrize(
    "messages, lost",
    [
        ([{"role": "system", "content": "", "cache_control": MARK}, USER], "messages[0]"),
        ([{"role": "user", "content": [BLANK, {"type": "text", "text": "a"}]}],
         "messages[0].content[0]"),
        ([USER, CALLS, {**RESULT, "content": [BLANK]}],
         "messages[2].content[0]"),
        ([{"role": "user", "cache_control": BRIEF, "content": [
            {"type": "text", "text": "a", "cache_control": MARK}]}], "messages[0]"),
    ],
    ids=["an empty turn", "an empty text", "an empty result", "two of one block"],
)  # fmt: skip
def test_a_mark_that_has_no_place_is_told(messages: Any, lost: str) -> None:
    _, (warning,) = prepare(Request("m", messages=messages), SETTINGS)
    assert (warning["kind"], warning["name"]) == ("dropped", f"{lost}.cache_control")


@pytest.mark.parametrize(
    "file, kind, media_type",
    [
        ({"name": "a.PDF", "data": "data:;base64,JVBERi0="}, "document", "application/pdf"),
        ({"name": "a.pdf", "data": "data:application/octet-stream;base64,JVBERi0="},
         "document", "application/pdf"),
        ({"name": "a.png", "media_type": "application/octet-stream", "data": "JVBERi0="},
         "image", "image/png"),
        ({"url": "https://a.example/b.png"}, "image", None),
        ({"url": "https://a.example/b?c=d.html"}, "document", None),
    ],
)  # fmt: skip
def test_a_file_is_what_its_name_says_where_its_type_says_nothing(
    file: Any, kind: str, media_type: str | None
) -> None:
    (block,) = body({"role": "user", "content": [{"type": "file", **file}]})["messages"][0][
        "content"
    ]
    assert (block["type"], block["source"].get("media_type")) == (kind, media_type)
    assert "JVBERi0=" in block["source"].values() or "url" in block["source"]


def test_a_file_whose_content_cannot_be_read_is_never_sent_empty() -> None:
    file = {"type": "file", "name": "a.pdf", "data": "data:application/pdf,raw"}
    with pytest.raises(InputError, match=r"messages\[0\]\.content\[0\] must be a PDF"):
        body({"role": "user", "content": [file]})


def test_what_extra_body_says_instead_of_a_parameter_is_told() -> None:
    extra = {"tools": [{"name": "g"}], "speed": "fast", "temperature": 1}
    params: Any = {"tools": [], "temperature": 1, "extra_body": extra}
    request, (warning,) = prepare(Request("m", "Hi", params=params), SETTINGS)
    assert {name: request.json[name] for name in extra} == extra
    assert (warning["kind"], warning["name"]) == ("dropped", "tools")


@pytest.mark.parametrize(
    "message, problem",
    [
        ({**USER, "weight": 1}, r"messages\[0\]\.weight"),
        ({**USER, "function_call": {"name": "f"}}, r"messages\[0\]\.function_call"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": PNG}}]},
         r"messages\[0\]\.content may hold text only"),
        ({"role": "assistant", "content": "a", "thinking_blocks": "b"}, "thinking_blocks"),
        ({"role": "assistant", "cache_control": MARK, "state": {
            "format": "anthropic.messages",
            "turn": [{"type": "thinking", "thinking": "", "signature": "s"}]}},
         r"messages\[0\] ends in thinking"),
    ],
    ids=["a key of nobody's", "an old call", "a picture of the system's", "no blocks", "a thought"],
)  # fmt: skip
def test_what_cannot_be_sent_is_refused(message: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        body(message, USER)  # type: ignore[arg-type]


def test_what_openai_says_of_its_own_answers_is_left_out_and_told() -> None:
    cited = {"role": "assistant", "content": "a", "annotations": [{"type": "url_citation"}]}
    request = Request("m", messages=[USER, {**cited, "audio": None}, USER])  # type: ignore[list-item]
    http_request, (warning,) = prepare(request, SETTINGS)
    assert http_request.json["messages"][1] == {"role": "assistant", "content": "a"}
    assert (warning["kind"], warning["name"]) == ("dropped", "messages[1].annotations")


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_what_another_model_thought_is_sent_as_a_text(key: str) -> None:
    said = {"role": "assistant", "content": "a", key: "hm"}
    sent = body(USER, said, USER)["messages"][1]["content"]  # type: ignore[arg-type]
    thought = {"type": "text", "text": "<thinking>\nhm\n</thinking>"}
    assert sent == [thought, {"type": "text", "text": "a"}]


def test_a_tool_that_takes_a_free_text_is_refused() -> None:
    with pytest.raises(InputError, match="free text"):
        body(USER, params={"tools": [{"type": "custom", "custom": {"name": "f"}}]})  # type: ignore[arg-type]
