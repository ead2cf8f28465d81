"""Answers of OpenAI-compatible hosts: read in full, or refused by the field's name."""

from __future__ import annotations

import copy
import inspect
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.exchanges import exchanges

from lmgateway import errors
from lmgateway.types import EmbedRequest, HTTPResponse, Request, derived_id
from lmgateway.wire.openai import CHAT, TEXT, parse, parse_embeddings, parse_models

REQUEST = Request("m", prompt="hi")
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}


def answer(body, endpoint=CHAT, *, headers=None, **params):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = Request("m", prompt="hi", params=params)
    return parse(request, HTTPResponse(200, headers or {}, body), endpoint)


def chat(**message):
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}
    return {"id": "1", "model": "m", "choices": [choice]}


def endless(**message):
    """An answer that ended for no reason that was told."""
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}}]}


def text(**choice):
    return {"choices": [{"index": 0, "text": "a", **choice}]}


def test_an_answer_has_all_that_the_service_said():
    body = chat(content="a", reasoning_content="b", refusal=None)
    body["usage"] = {
        "prompt_tokens": 1,
        "completion_tokens": 2,
        "total_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
        "completion_tokens_details": {"reasoning_tokens": 5, "other": None},
    }
    assert answer(body, headers={"Request-Id": "r"}) == {
        "prompt": "hi",
        "choices": [
            {
                "text": "a",
                "index": 0,
                "finish_reason": "stop",
                "reasoning": "b",
                "state": {
                    "format": "openai.chat",
                    "turn": {"role": "assistant", "content": "a", "reasoning_content": "b"},
                },
            }
        ],
        "endpoint": "chat/completions",
        "model": "m",
        "id": "1",
        "request_id": "r",
        "usage": {
            "prompt_tokens": 1,
            "completion_tokens": 2,
            "total_tokens": 3,
            "cached_tokens": 4,
            "reasoning_tokens": 5,
        },
    }


def test_the_prompt_is_what_the_user_gave():
    turns = [{"role": "user", "content": "hi"}]
    response = HTTPResponse(200, {}, json.dumps(chat(content="a")).encode())
    assert parse(Request("m", messages=turns), response, CHAT)["prompt"] == turns


def test_choices_come_ordered_by_index():
    body = {"choices": [{"index": i, "text": str(i)} for i in (2, 0, 1)]}
    assert [c["text"] for c in answer(body, TEXT, n=3)["choices"]] == ["0", "1", "2"]


@pytest.mark.parametrize(
    "n", [{"n": 3}, {"extra_body": {"n": 3}}, {"n": 1, "extra_body": {"n": 3}}]
)
def test_fewer_choices_than_asked_for_are_never_padded(n):
    body = {"choices": [{"index": i, "text": "a"} for i in range(2)]}
    with pytest.raises(errors.ResponseFormatError, match=r"choices .* holds 2 of the 3"):
        answer(body, TEXT, **n)


@pytest.mark.parametrize(
    "message",
    [{"tool_calls": [CALL]}, {"refusal": "no"}, {"reasoning": "hm"}],
    ids=["tool_calls", "refusal", "reasoning"],
)
def test_null_content_is_empty_beside_something_else(message):
    [choice] = answer(chat(content=None, **message))["choices"]
    assert choice["text"] == ""


@pytest.mark.parametrize("arguments, parsed", [
    ('{"a": 1}', {"a": 1}), ("", {}), (" ", {}), ('"Paris"', "Paris"), ("[1]", [1]),
    ('"{\\"a\\": 1}"', {"a": 1}), ('"5"', "5"), ("null", None), (None, {}),
])  # fmt: skip
def test_arguments_of_a_tool_call_are_parsed_beside_their_text(arguments, parsed):
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    [choice] = answer(chat(content="", tool_calls=[call]))["choices"]
    [read] = choice["tool_calls"]
    assert read["parsed"] == parsed
    assert read["function"] == {"name": "f", "arguments": arguments or ""}


@pytest.mark.parametrize("arguments", ["{", "NaN", "{'a': 1}", "[" * 9000], ids=lambda a: a[:9])
def test_arguments_that_are_no_json_are_left_as_text(arguments):
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    [choice] = answer(chat(content="", tool_calls=[call]))["choices"]
    assert choice["tool_calls"] == [{**CALL, "function": {"name": "f", "arguments": arguments}}]


@pytest.mark.parametrize("depth, there", [(99, True), (100, False), (600, False), (5000, False)])
def test_arguments_are_parsed_down_to_a_depth_of_100(depth, there):
    arguments = '{"a": ' + "[" * depth + "]" * depth + "}"
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    [choice] = answer(chat(content="", tool_calls=[call]))["choices"]
    assert choice["tool_calls"][0]["function"]["arguments"] == arguments
    assert ("parsed" in choice["tool_calls"][0]) is there


@pytest.mark.parametrize(
    "arguments",
    ['{"a": 1e999}', '{"a": -1e999}', '"{\\"a\\": NaN}"', '{"a": "\\ud83d"}', "1" * 5000],
)
def test_arguments_that_could_not_be_written_again_are_left_as_text(arguments):
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    [choice] = answer(chat(content="", tool_calls=[call]))["choices"]
    [read] = choice["tool_calls"]
    assert read["function"]["arguments"] == arguments
    json.dumps(read, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize("used", [850, 900])
def test_a_depth_is_the_same_wherever_the_caller_stands(used):
    """Python counts the decoder's depth with the caller's own frames."""
    arguments = '{"a": ' + "[" * 90 + "]" * 90 + "}"
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    body = {**chat(content="", tool_calls=[call]), "extra": json.loads("[" * 300 + "]" * 300)}

    expected = answer(body)
    outer = len(inspect.stack(0))
    encoded = json.dumps(body).encode()

    def deeper(left):
        return deeper(left - 1) if left else answer(encoded)

    assert deeper(used - outer) == expected
    assert "parsed" in expected["choices"][0]["tool_calls"][0]


def test_arguments_that_come_as_an_object_and_a_call_without_an_id():
    call = {"function": {"name": "f", "arguments": {"a": "ü"}}}
    [choice] = answer(chat(content="", tool_calls=[call]))["choices"]
    assert choice["tool_calls"] == [
        {
            "id": derived_id(REQUEST, 0, 0),
            "type": "function",
            "function": {"name": "f", "arguments": '{"a": "ü"}'},
            "parsed": {"a": "ü"},
        }
    ]


LEGACY = {
    "tokens": ["a", "b"],
    "token_logprobs": [None, -1.5],
    "top_logprobs": [None, {"b": -1.5, "c": -2}],
    "text_offset": [0, 1],
}
MODERN = {"content": [{"token": "b", "logprob": -1.5, "bytes": [98], "id": 7,
                       "top_logprobs": [{"token": "c", "logprob": -2}]}]}  # fmt: skip


@pytest.mark.parametrize("endpoint, body", [(CHAT, chat(content="b")), (TEXT, text())])
@pytest.mark.parametrize("raw, expected", [
    (LEGACY, [{"token": "a", "logprob": None, "top_logprobs": []},
              {"token": "b", "logprob": -1.5,
               "top_logprobs": [{"token": "b", "logprob": -1.5}, {"token": "c", "logprob": -2}]}]),
    ({**LEGACY, "top_logprobs": None}, [{"token": "a", "logprob": None, "top_logprobs": []},
                                        {"token": "b", "logprob": -1.5, "top_logprobs": []}]),
    (MODERN, [{"token": "b", "logprob": -1.5, "bytes": [98],
               "top_logprobs": [{"token": "c", "logprob": -2}]}]),
    ({"content": []}, []),
], ids=["legacy", "legacy_without_top", "chat", "empty"])  # fmt: skip
def test_logprobs_have_one_shape(endpoint, body, raw, expected):
    body = copy.deepcopy(body)
    body["choices"][0]["logprobs"] = raw
    assert answer(body, endpoint)["choices"][0]["logprobs"] == expected


@pytest.mark.parametrize("raw", [None, {"content": None}])
def test_no_logprobs_are_no_key(raw):
    assert "logprobs" not in answer(text(logprobs=raw), TEXT)["choices"][0]


MALFORMED = {
    "choices_missing": (CHAT, {"id": "1"}, "choices"),
    "choices_null": (CHAT, {"choices": None}, "choices"),
    "choices_object": (CHAT, {"choices": {}}, "choices"),
    "choices_empty": (CHAT, {"choices": []}, "choices"),
    "choice": (CHAT, {"choices": ["a"]}, r"choices\[0\]"),
    "message_missing": (CHAT, {"choices": [{"index": 0}]}, r"choices\[0\]\.message"),
    "message_text": (CHAT, {"choices": [{"message": "a"}]}, r"choices\[0\]\.message"),
    "content_missing": (CHAT, endless(), r"choices\[0\]\.message\.content"),
    "content_null": (CHAT, endless(content=None), r"choices\[0\]\.message\.content"),
    "content_number": (CHAT, chat(content=5), r"choices\[0\]\.message\.content"),
    "content_list": (CHAT, chat(content=["a"]), r"choices\[0\]\.message\.content"),
    "content_number_beside_refusal": (CHAT, chat(content=5, refusal="x"), "message.content"),
    "no_tool_calls_after_all": (CHAT, endless(content=None, tool_calls=[]), "message.content"),
    "nothing_beside_it": (CHAT, endless(content=None, images=[], audio=None), "message.content"),
    "reasoning": (CHAT, chat(content="", reasoning=5), "message.reasoning"),
    "refusal": (CHAT, chat(content="", refusal=["x"]), "message.refusal"),
    "tool_calls": (CHAT, chat(content="", tool_calls={"a": 1}), "message.tool_calls"),
    "tool_call": (CHAT, chat(content="", tool_calls=["x"]), r"tool_calls\[0\]"),
    "function": (CHAT, chat(content="", tool_calls=[{"id": "1"}]), r"\[0\]\.function"),
    "name": (CHAT, chat(content="", tool_calls=[{"function": {}}]), r"function\.name"),
    "arguments": (CHAT, chat(content="", tool_calls=[{"function": {"name": "f", "arguments": 5}}]),
                  r"function\.arguments"),
    "call_id": (CHAT, chat(content="", tool_calls=[{**CALL, "id": 5}]), r"tool_calls\[0\]\.id"),
    "text_missing": (TEXT, {"choices": [{"index": 0}]}, r"choices\[0\]\.text"),
    "text_null": (TEXT, text(text=None), r"choices\[0\]\.text"),
    "chat_on_completions": (TEXT, chat(content="a"), r"choices\[0\]\.text"),
    "index_text": (TEXT, text(index="0"), r"choices\[0\]\.index"),
    "index_bool": (TEXT, text(index=False), r"choices\[0\]\.index"),
    "index_negative": (TEXT, text(index=-1), r"choices\[0\]\.index"),
    "index_twice": (TEXT, {"choices": [{"index": 0, "text": "a"}] * 2}, r"choices\[\]\.index"),
    "finish_reason": (TEXT, text(finish_reason=1), "finish_reason"),
    "logprobs": (TEXT, text(logprobs=[]), "logprobs"),
    "logprobs_empty": (TEXT, text(logprobs={"x": 1}), "logprobs"),
    "logprobs_uneven": (TEXT, text(logprobs={**LEGACY, "tokens": ["a"]}), "logprobs"),
    "logprobs_token": (TEXT, text(logprobs={"content": [{"logprob": 1}]}), "logprobs.*token"),
    "logprobs_infinite": (TEXT, b'{"choices": [{"text": "a", "logprobs": {"content": '
                          b'[{"token": "a", "logprob": 1e999}]}}]}', "logprob"),
    "list": (TEXT, [], "the body"),
    "null": (TEXT, b"null", "the body"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_a_field_that_is_not_as_it_must_be_is_named(case):
    endpoint, body, field = MALFORMED[case]
    with pytest.raises(errors.ResponseFormatError, match=field) as caught:
        answer(body, endpoint, headers={"x-request-id": "r1"}, logprobs=1)
    assert not caught.value.retryable
    assert caught.value.request_id == "r1"


@pytest.mark.parametrize(
    "body",
    [b"", b" \n", b"{", b"OK", b"\xff", b"<html>No</html>", b'{"a": 1} x', b"[" * 99_999,
     b"1" * 9999, b'{"choices": [{"text": "' + b"a" * 99],
    ids=lambda body: body[:9].decode("latin-1"),
)  # fmt: skip
def test_an_answer_that_is_no_json_is_worth_another_try(body):
    with pytest.raises(errors.ResponseFormatError) as caught:
        answer(body)
    assert caught.value.retryable
    assert len(str(caught.value)) < 1200


def test_a_204_is_never_an_empty_answer():
    with pytest.raises(errors.ResponseFormatError, match="empty"):
        parse(REQUEST, HTTPResponse(204), CHAT)


def test_a_filtered_answer_is_an_error_of_its_own():
    body = text(finish_reason="content_filter")
    with pytest.raises(errors.ContentFilteredError) as caught:
        answer(body, TEXT, headers={"x-request-id": "r1"})
    assert (caught.value.retryable, caught.value.request_id) == (False, "r1")


def test_an_answer_cut_at_its_length_is_an_answer():
    assert answer(text(finish_reason="length"), TEXT)["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("said, read", [('"\\ud83d\\ude42"', "🙂"), ('"a\\ud83d"', "a\ufffd")])
def test_half_characters_are_joined_or_replaced(said, read):
    body = b'{"choices": [{"index": 0, "text": %s}]}' % said.encode()
    assert answer(body, TEXT)["choices"][0]["text"] == read


def test_a_byte_order_mark_is_no_part_of_the_json():
    assert answer(b"\xef\xbb\xbf" + json.dumps(text()).encode(), TEXT)["choices"][0]["text"] == "a"


def embeddings(data, texts=2):
    body = json.dumps({"data": data, "model": "m", "usage": {"prompt_tokens": 2}}).encode()
    return parse_embeddings(EmbedRequest("m", ["x"] * texts), HTTPResponse(200, {}, body))


def test_vectors_come_in_the_order_of_the_texts():
    data = [{"index": 1, "embedding": [2, 0.5]}, {"index": 0, "embedding": [1, 0.5]}]
    assert embeddings(data) == {
        "embeddings": [[1, 0.5], [2, 0.5]],
        "model": "m",
        "usage": {"prompt_tokens": 2},
    }


@pytest.mark.parametrize(
    "data",
    [None, [], [{"index": 0, "embedding": [1]}], [{"index": 0, "embedding": [1]}] * 2,
     [{"embedding": []}, {"embedding": []}], [{"embedding": "x"}, {"embedding": [1]}],
     [{"embedding": [True]}, {"embedding": [1]}], [{"embedding": [1, 2]}, {"embedding": [1]}],
     ["x", "y"], [{"index": 2, "embedding": [1]}, {"index": 0, "embedding": [1]}]],
)  # fmt: skip
def test_vectors_that_do_not_fit_the_texts_are_refused(data):
    with pytest.raises(errors.ResponseFormatError, match="data"):
        embeddings(data)


@pytest.mark.parametrize("data", [None, {}, ["x"], [{}], [{"id": 5}], [{"id": ""}]])
def test_a_list_of_models_that_is_none_is_refused(data):
    with pytest.raises(errors.ResponseFormatError, match="data"):
        parse_models(HTTPResponse(200, {}, json.dumps({"data": data}).encode()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["choices", "message", "content", "text", "index", "error", "logprobs",
                         "tool_calls", "function", "name", "usage", "data", "id", "tokens",
                         "finish_reason", "token", "logprob", "embedding", "object", "code"]),
        inner, max_size=5),
    max_leaves=25,
)  # fmt: skip


def assert_right_or_typed(body: bytes, status: int = 200) -> None:
    response = HTTPResponse(status, {}, body)
    for read in (
        lambda: parse(REQUEST, response, CHAT),
        lambda: parse(REQUEST, response, TEXT),
        lambda: parse_models(response),
        lambda: parse_embeddings(EmbedRequest("m", ["a"]), response),
    ):
        try:
            json.dumps(read(), allow_nan=False).encode()
        except errors.LMGatewayError as error:
            assert error.message and str(error).encode()  # noqa: PT017, PT018


@given(st.binary(max_size=200), st.sampled_from([200, 204, 302, 400, 401, 429, 500]))
def test_any_bytes_are_an_answer_or_a_typed_error(body, status):
    assert_right_or_typed(body, status)


@settings(max_examples=300)
@given(JSON, st.sampled_from([200, 400]))
def test_any_json_is_an_answer_or_a_typed_error(value, status):
    assert_right_or_typed(json.dumps(value).encode(), status)


def paths(value, path=()):
    """Each place in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from paths(value[key], (*path, key))


@pytest.mark.parametrize(
    "name", ["vllm/chat_n2", "rayserve/chat_tools_required", "vllm/completion_logprobs",
             "llamacpp/chat_logprobs", "llamacpp/models", "rayserve/err_max_tokens_string"]
)  # fmt: skip
@pytest.mark.parametrize("wrong", [None, 5, "x", [], {}, True], ids=repr)
def test_a_recorded_answer_with_any_field_wrong_is_right_or_typed(name, wrong):
    [recorded] = [recorded for recorded in exchanges() if recorded.name == name]
    whole = json.loads(recorded.body)
    for path in paths(whole):
        if not path:
            continue
        value = copy.deepcopy(whole)
        inner = value
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = wrong
        assert_right_or_typed(json.dumps(value).encode(), recorded.status)
