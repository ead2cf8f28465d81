"""Requests to OpenAI-compatible hosts: every parameter sent, or refused by name."""

from __future__ import annotations

import json

import pytest

from lmgateway._base.values import TypeSchema
from lmgateway.errors import InputError, UnsupportedError
from lmgateway.types import EmbedRequest, Request
from lmgateway.wire.openai import (
    CHAT,
    OPENAI,
    TEXT,
    VLLM,
    Dialect,
    Service,
    body_params,
    chat_request,
    completion_request,
    embed_request,
    models_request,
)

HERE = Service("http://service.example/v1", headers={"x-a": "b"}, dialect=VLLM)


def chat(prompt="hi", *, dialect=VLLM, stream=False, schema=None, **params):
    request = Request("m", prompt=prompt, params=params, stream=stream, schema=schema)
    return chat_request(request, Service(None, dialect=dialect)).json


def text(prompt="hi", *, dialect=VLLM, stream=False, schema=None, **params):
    request = Request("m", prompt=prompt, params=params, stream=stream, schema=schema)
    return completion_request(request, Service(None, dialect=dialect), text=prompt).json


def test_a_prompt_is_one_user_message():
    request = chat_request(Request("m", prompt="hi"), HERE)
    assert (request.method, request.url) == ("POST", "http://service.example/v1/chat/completions")
    assert request.json == {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
    assert request.headers == {"x-a": "b"}
    assert not request.stream


def test_system_goes_before_a_conversation_and_leaves_it_alone():
    turns = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    request = chat_request(Request("m", messages=turns, system="Be terse."), HERE)
    assert request.json["messages"] == [{"role": "system", "content": "Be terse."}, *turns]
    assert len(turns) == 1


def test_a_text_is_sent_as_it_is():
    request = completion_request(Request("m", prompt="hi"), HERE, text="<s>hi")
    assert (request.path, request.json) == ("/completions", {"model": "m", "prompt": "<s>hi"})


def test_a_stream_asks_for_its_usage():
    request = chat_request(Request("m", prompt="hi", stream=True), HERE)
    assert request.stream
    assert request.json["stream"] is True
    assert request.json["stream_options"] == {"include_usage": True}


def test_a_host_that_refuses_stream_options_is_not_asked():
    assert "stream_options" not in chat(
        stream=True, dialect=Dialect("x", frozenset(), frozenset(), stream_usage=False)
    )


def test_the_users_stream_options_stay():
    body = chat(stream=True, stream_options={"include_usage": False})
    assert body["stream_options"] == {"include_usage": False}


def test_stream_options_without_a_stream_are_refused():
    with pytest.raises(InputError, match="stream_options is for streams"):
        chat(stream_options={"include_usage": True})


SAMPLES = {
    "temperature": 0.5, "top_p": 1, "top_k": 3, "min_p": 0.1, "max_tokens": 5,
    "max_completion_tokens": 5, "stop": ["a"], "seed": 1, "n": 2, "presence_penalty": -1,
    "frequency_penalty": 0.5, "repetition_penalty": 1.1, "logit_bias": {"1": -100},
    "response_format": {"type": "json_object"}, "tools": [{"type": "function"}],
    "tool_choice": "auto", "echo": True, "suffix": "x", "user": "u", "priority": 1,
    "structured_outputs": {"regex": "a+"}, "bad_words": ["x"], "ignore_eos": True,
    "add_special_tokens": False, "chat_template_kwargs": {"enable_thinking": False},
}  # fmt: skip


@pytest.mark.parametrize("dialect", [OPENAI, VLLM], ids=lambda dialect: dialect.name)
@pytest.mark.parametrize("endpoint", [CHAT, TEXT])
@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_parameter_is_sent_or_refused(name, endpoint, dialect):
    params = {name: SAMPLES[name]}
    if name in dialect.of(endpoint):
        assert body_params(params, dialect, endpoint) == params
    else:
        with pytest.raises(UnsupportedError, match=rf"/{endpoint} of .* no parameter {name};"):
            body_params(params, dialect, endpoint)


@pytest.mark.parametrize(
    "build, params, offer",
    [
        (text, {"max_completion_tokens": 5}, "the nearest is max_tokens"),
        (text, {"tools": []}, "/chat/completions takes it"),
        (text, {"best_of": 2}, "the nearest is n;"),
        (chat, {"suffix": "x"}, "/completions takes it"),
        (chat, {"guided_json": {}}, "the nearest is structured_outputs"),
        (chat, {"temprature": 1}, "the nearest is temperature"),
        (chat, {"messages": []}, "takes no parameter messages; give them as messages="),
        (chat, {"mirostat": 1}, "extra_body={'mirostat': ...} sends it as it is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_refusal_says_what_to_do(build, params, offer):
    with pytest.raises(UnsupportedError) as caught:
        build(**params)
    assert offer in str(caught.value)


def test_a_host_without_completions_says_so():
    with pytest.raises(UnsupportedError, match="x has no /completions endpoint"):
        text(temperature=0, dialect=Dialect("x", OPENAI.chat, frozenset()))


@pytest.mark.parametrize(
    "params, in_chat, in_text",
    [
        ({"logprobs": True}, {"logprobs": True}, {"logprobs": 1}),
        ({"logprobs": False}, {"logprobs": False}, {}),
        ({"logprobs": 3}, {"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": 0}, {"logprobs": True, "top_logprobs": 0}, {"logprobs": 1}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}, {"logprobs": 3}),
        ({"logprobs": True, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2},
         {"logprobs": 2}),
        ({"logprobs": 2, "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2},
         {"logprobs": 2}),
        ({"logprobs": None}, {}, {}),
    ],
    ids=str,
)  # fmt: skip
def test_logprobs_have_one_spelling_for_both_endpoints(params, in_chat, in_text):
    assert body_params(params, OPENAI, CHAT) == in_chat
    assert body_params(params, OPENAI, TEXT) == in_text


@pytest.mark.parametrize(
    "params",
    [{"logprobs": False, "top_logprobs": 2}, {"logprobs": 1, "top_logprobs": 2}, {"logprobs": -5}],
    ids=str,
)
def test_logprobs_that_contradict_themselves_are_refused(params):
    with pytest.raises(InputError, match="logprobs"):
        chat(**params)


@pytest.mark.parametrize(
    "name, value",
    [
        ("temperature", "hot"), ("temperature", True), ("max_tokens", 1.5), ("n", True),
        ("stop", 4), ("stop", ["a", 4]), ("stop", b"a"), ("seed", "1"), ("echo", 1),
        ("user", 5), ("tools", {"type": "function"}), ("tool_choice", 1), ("logprobs", "yes"),
        ("logprobs", 1.0), ("top_logprobs", True), ("response_format", "json"),
        ("logit_bias", [1]), ("extra_body", [1]), ("suffix", b"x"), ("bad_words", "x"),
    ],
)  # fmt: skip
def test_a_value_of_the_wrong_type_is_refused_by_name(name, value):
    endpoint = CHAT if name in VLLM.chat else TEXT
    with pytest.raises(InputError, match=f"^{name} must be .*, not {type(value).__name__}$"):
        body_params({name: value}, VLLM, endpoint)


def test_none_means_not_given():
    assert body_params({"stop": None, "unknown": None}, OPENAI, CHAT) == {}


def test_extra_body_is_merged_last():
    assert chat(temperature=0, extra_body={"temperature": 1, "mirostat": 2}) == {
        **chat(),
        "temperature": 1,
        "mirostat": 2,
    }


@pytest.mark.parametrize("name", ["stream", "model", "messages", "prompt"])
def test_extra_body_cannot_hold_what_has_its_place(name):
    with pytest.raises(InputError, match=f"extra_body cannot hold {name}"):
        chat(extra_body={name: "x"})


def test_token_ids_of_a_logit_bias_become_strings():
    assert chat(logit_bias={50256: -100})["logit_bias"] == {"50256": -100}


SCHEMA = {"type": "object", "title": "A person!", "properties": {"age": {"type": "integer"}}}


@pytest.mark.parametrize(
    "more, strict",
    [
        ({}, False),
        ({"required": ["age"]}, False),
        ({"additionalProperties": False}, False),
        ({"required": ["age"], "additionalProperties": False}, True),
        ({"required": ["age"], "additionalProperties": False, "$defs": {"a": SCHEMA}}, False),
    ],
    ids=["open", "required", "closed", "both", "open_inside"],
)
def test_a_schema_is_strict_where_nothing_is_left_open(more, strict):
    schema = {**SCHEMA, **more}
    assert chat(schema=schema)["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "A_person_", "schema": schema, "strict": strict},
    }


INNER = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
NAMED = {
    "type": "object",
    "properties": {"b": {"type": "array", "items": {"$ref": "#/$defs/I"}}},
    "required": ["b"],
    "$defs": {"I": INNER},
}


@pytest.mark.parametrize(
    "more, strict",
    [
        ({}, True),
        ({"required": []}, False),
        ({"additionalProperties": {"type": "integer"}}, False),
        ({"properties": {"b": {"$ref": "#/$defs/I", "description": "B."}}}, False),
        ({"properties": {"b": {"oneOf": [INNER]}}}, False),
        ({"properties": {"b": {"type": "string", "maxLength": 3}}}, False),
        ({"properties": {"b": {"type": "string", "format": "phone"}}}, False),
        ({"properties": {"b": {"title": "Anything"}}}, False),
        ({"properties": {"b": {"type": "array", "items": {}}}}, False),
        ({"properties": {"b": {"anyOf": [INNER, {"type": "null"}]}}}, True),
    ],
    ids=["plain", "optional", "any_names", "beside_a_ref", "one_of", "length", "format",
         "any_value", "any_items", "any_of"],
)  # fmt: skip
def test_the_schema_of_a_type_is_closed_where_that_makes_it_strict(more, strict):
    schema = TypeSchema({**NAMED, **more})
    request = chat_request(Request("m", "Hi", schema=schema), Service("http://h/v1"))
    sent = request.json["response_format"]["json_schema"]
    assert sent["strict"] is strict
    if not strict:
        assert (sent["schema"], request.kept_as) == (schema, None)
        return
    assert sent["schema"]["additionalProperties"] is False
    assert sent["schema"]["$defs"]["I"]["additionalProperties"] is False
    kept = request.kept_as["response_format"]["json_schema"]
    assert (kept["schema"], kept["strict"]) == (schema, False)


def test_a_response_format_of_extra_body_goes_before_the_schema_of_a_type():
    extra = {"response_format": {"type": "json_object"}}
    request = Request("m", "Hi", schema=TypeSchema(NAMED), params={"extra_body": extra})
    sent = chat_request(request, Service("http://h/v1"))
    assert (sent.json["response_format"], sent.kept_as) == ({"type": "json_object"}, None)


def test_a_schema_on_completions_is_sent_by_vllm_and_refused_by_openai():
    assert text(schema=SCHEMA)["response_format"]["json_schema"]["schema"] == SCHEMA
    with pytest.raises(UnsupportedError, match="takes no JSON schema; /chat/completions does"):
        text(schema=SCHEMA, dialect=OPENAI)


def test_a_schema_beside_response_format_is_refused():
    with pytest.raises(InputError, match="say the same thing"):
        chat(schema=SCHEMA, response_format={"type": "json_object"})


def test_embeddings_go_out_in_one_request():
    request = embed_request(EmbedRequest("m", ["a", "b"], {"dimensions": 3, "user": None}), HERE)
    assert (request.path, request.json) == (
        "/embeddings",
        {"model": "m", "input": ["a", "b"], "dimensions": 3},
    )


@pytest.mark.parametrize("params", [{"encoding_format": "bytes"}, {"extra_body": {"input": 1}},
    {"encoding_format": "base64", "output_dtype": "int8"}])  # fmt: skip
def test_what_would_change_the_vectors_is_refused(params):
    with pytest.raises((UnsupportedError, InputError)):
        embed_request(EmbedRequest("m", ["a"], params), HERE)


def test_models_are_asked_with_a_get():
    request = models_request(HERE)
    assert (request.method, request.path, request.json) == ("GET", "/models", None)


def test_a_service_shows_no_headers():
    assert "secret" not in repr(Service("http://x", headers={"x-key": "secret"}))


def test_a_body_is_plain_json():
    body = chat(stop=("a", "b"), logit_bias={1: 2}, schema=SCHEMA)
    assert json.loads(json.dumps(body))["stop"] == ["a", "b"]
