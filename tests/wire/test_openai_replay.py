"""Every recorded exchange of three real servers, replayed into its answer or its error."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest
from support.exchanges import Recorded, exchanges, run

from lmgateway.errors import (
    APIError,
    AuthenticationError,
    ContextLengthError,
    InvalidRequestError,
    NotFoundError,
    ServerError,
)
from lmgateway.types import EmbedRequest
from lmgateway.wire.openai import Service, complete, embed, models, stream

RECORDED = {recorded.name: recorded for recorded in exchanges()}
SERVICE = Service("http://service.example")

# The texts, the first finish_reason and the total of tokens, read off the files.
ANSWERS = {
    "llamacpp/chat": (["Allez, bonjour. France, mon livre, est la femme"], "length", 42),
    "llamacpp/chat_json_object": (['{\n    "name": "John",\n    "age": 30,\n   '], "length", 58),
    "llamacpp/chat_json_schema": (['{"name": "Anna", "age": 31}'], "stop", 57),
    "llamacpp/chat_logprobs": (["L'"], "length", 39),
    "llamacpp/chat_n2": (
        ["The color I mentioned is a", "Sure, there are several colors"],
        "length",
        40,
    ),
    "llamacpp/chat_stop": (["1. 1\n2. 2\n3. 3\n"], "stop", 55),
    "llamacpp/chat_stream_usage": (["1. 1\n2"], "length", 44),
    "llamacpp/chat_tools_auto": (
        [
            "Paris, the City of Light, the capital of art and culture. The weather in "
            "Paris is indeed quite unique. The",
        ],
        "length",
        61,
    ),
    "llamacpp/chat_tools_required": (
        [
            "Paris, the City of Light, the capital of art and culture. The weather in "
            "Paris is indeed quite unique. The city is known for its warm and sunny days, "
            "with temperatures ranging from 22°C to 28°C (72°F to 82°F",
        ],
        "length",
        97,
    ),
    "llamacpp/completion": ([" Paris.\n\nThe United States has"], "length", 13),
    "llamacpp/completion_echo": ([" Paris."], "length", 7),
    "llamacpp/completion_logprobs": ([" Paris."], "length", 7),
    "llamacpp/completion_stream": ([" or three, and"], "length", 8),
    "llamacpp/err_bad_role": (["hi there"], "length", 34),
    "llamacpp/err_temperature_range": (["Hello there"], "length", 33),
    "llamacpp/err_unknown_model": (["Hello!"], "length", 33),
    "llamacpp/unknown_param": (["wow"], "length", 33),
    "rayserve/chat": (["The capital of France is Paris."], "stop", 34),
    "rayserve/chat_json_object": (
        ['{\n    "name": "John",\n    "age": 30,\n    "gender":'],
        "length",
        58,
    ),
    "rayserve/chat_json_schema": (['{"name": "Anna", "age": 31}'], "stop", 54),
    "rayserve/chat_logprobs": (["The capital"], "length", 39),
    "rayserve/chat_stop": (["1. 1\n2. 2\n3. 3\n"], "stop", 55),
    "rayserve/chat_stream": (["1. 1\n2. 2\n"], "length", None),
    "rayserve/chat_tools_required": ([""], "tool_calls", 85),
    "rayserve/completion": ([" Paris.\n\nThe answer is:"], "length", 13),
    "rayserve/completion_echo": (["The capital of France is Paris."], "length", 7),
    "rayserve/completion_n2_list": (
        [" often used to indicate", " a function with a", " often used to indicate", " a 3D"],
        "length",
        20,
    ),
    "rayserve/err_bad_role": (["Hug"], "length", 34),
    "rayserve/err_no_key": (["Hi there"], "length", 33),
    "rayserve/err_wrong_key": (["Caro"], "length", 33),
    "rayserve/unknown_param": (["hi everyone"], "length", 33),
    "vllm/chat": (["The capital of France is Paris."], "stop", 34),
    "vllm/chat_json_object": (
        ['{\n    "name": "John",\n    "age": 30,\n    "gender":'],
        "length",
        58,
    ),
    "vllm/chat_json_schema": (['{"name": "Anna", "age": 31}'], "stop", 54),
    "vllm/chat_n2": (["Alright, no need to", "A colour is a shade of"], "length", 46),
    "vllm/chat_stop": (["1. 1\n2. 2\n3. 3\n"], "stop", 55),
    "vllm/chat_stream": (["1. 1\n2. 2\n"], "length", None),
    "vllm/chat_stream_usage": (["1. 1\n2"], "length", 44),
    "vllm/chat_tools_auto": (
        [
            "Paris, the City of Light, the capital of art and culture. The weather in "
            "Paris is indeed quite unique, with",
        ],
        "length",
        61,
    ),
    "vllm/completion": ([" Paris.\n\nThe answer is:"], "length", 13),
    "vllm/completion_echo": (["The capital of France is Paris."], "length", 7),
    "vllm/completion_logprobs": ([" Paris."], "length", 7),
    "vllm/completion_stream": ([" or three, and"], "length", 8),
    "vllm/err_bad_role": (["*l"], "length", 34),
    "vllm/unknown_param": (["hi there"], "length", 33),
}

# The class, the status and the most telling code.
ERRORS = {
    "llamacpp/models_nokey": (AuthenticationError, 401, "authentication_error"),
    "llamacpp/embeddings": (ServerError, 501, "not_supported_error"),
    "llamacpp/err_bad_content_type": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_empty_body": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_malformed_json": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_max_tokens_string": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_missing_prompt": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_n0": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_negative_max_tokens": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/err_no_key": (AuthenticationError, 401, "authentication_error"),
    "llamacpp/err_overflow_completion": (ContextLengthError, 400, "exceed_context_size_error"),
    "llamacpp/err_overflow_stream": (ContextLengthError, 400, "exceed_context_size_error"),
    "llamacpp/err_unknown_route": (NotFoundError, 404, "not_found_error"),
    "llamacpp/err_wrong_key": (AuthenticationError, 401, "authentication_error"),
    "llamacpp/err_wrong_method": (NotFoundError, 404, "not_found_error"),
    "llamacpp/err_wrong_type_messages": (InvalidRequestError, 400, "invalid_request_error"),
    "llamacpp/model_one": (NotFoundError, 404, "not_found_error"),
    "rayserve/chat_json_schema_bad": (InvalidRequestError, 400, "OpenAIHTTPException"),
    "rayserve/embeddings": (InvalidRequestError, 400, "OpenAIHTTPException"),
    "rayserve/err_bad_content_type": (InvalidRequestError, 400, "invalid_parameter"),
    "rayserve/err_max_tokens_string": (InvalidRequestError, 400, "invalid_parameter"),
    "rayserve/err_missing_messages": (InvalidRequestError, 400, "invalid_parameter"),
    "rayserve/err_missing_prompt": (InvalidRequestError, 400, "VLLMValidationError"),
    "rayserve/err_overflow_completion": (ContextLengthError, 400, "OpenAIHTTPException"),
    "rayserve/err_overflow_stream": (ContextLengthError, 400, "OpenAIHTTPException"),
    "rayserve/err_wrong_method": (InvalidRequestError, 405, None),
    "vllm/embeddings": (NotFoundError, 404, None),
    "vllm/err_empty_body": (InvalidRequestError, 400, "Bad Request"),
    "vllm/err_max_tokens_string": (InvalidRequestError, 400, "Bad Request"),
    "vllm/err_missing_messages": (InvalidRequestError, 400, "Bad Request"),
    "vllm/err_n0": (InvalidRequestError, 400, "BadRequestError"),
    "vllm/err_negative_max_tokens": (InvalidRequestError, 400, "BadRequestError"),
    "vllm/err_no_key": (AuthenticationError, 401, None),
    "vllm/err_overflow_chat": (ContextLengthError, 400, "BadRequestError"),
    "vllm/err_overflow_completion": (ContextLengthError, 400, "BadRequestError"),
    "vllm/err_temperature_range": (InvalidRequestError, 400, "BadRequestError"),
    "vllm/err_unknown_model": (NotFoundError, 404, "NotFoundError"),
    "vllm/err_unknown_route": (NotFoundError, 404, None),
    "vllm/err_wrong_key": (AuthenticationError, 401, None),
    "vllm/err_wrong_type_messages": (InvalidRequestError, 400, "Bad Request"),
    "vllm/model_one": (NotFoundError, 404, None),
}

MODELS = ("llamacpp/models", "vllm/models", "rayserve/models", "rayserve/models_nokey")
MANY = ("vllm/err_n99", "rayserve/err_n99")
STREAMS = [name for name, recorded in RECORDED.items() if recorded.is_stream]


def replay(recorded: Recorded, cuts=None):
    request, http_request = recorded.request(), recorded.http_request()
    if recorded.path.endswith("/embeddings"):
        flow = embed(EmbedRequest(request.model, ["hello", "world"]), SERVICE)
    elif recorded.path.endswith("/models"):
        flow = models(SERVICE)
    elif request.stream:
        flow = stream(request, http_request, needs_done=True)
    else:
        flow = complete(request, http_request)
    return run(flow, recorded.response(cuts))


def test_every_recorded_exchange_has_a_row():
    assert set(RECORDED) == {*ANSWERS, *ERRORS, *MODELS, *MANY}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_read(name):
    texts, reason, tokens = ANSWERS[name]
    completion, _ = replay(RECORDED[name])
    assert [choice["text"] for choice in completion["choices"]] == texts
    assert completion["choices"][0]["finish_reason"] == reason
    assert completion.get("usage", {}).get("total_tokens") == tokens
    assert completion["endpoint"] == RECORDED[name].path.removeprefix("/v1/")
    assert completion.get("request_id") == RECORDED[name].headers.get("x-request-id")


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_of_its_kind(name):
    kind, status, code = ERRORS[name]
    with pytest.raises(APIError) as caught:
        replay(RECORDED[name])
    assert (type(caught.value), caught.value.status, caught.value.code) == (kind, status, code)
    assert caught.value.message
    assert not re.search("'input'|'many'|word word", str(caught.value))  # what the user sent
    assert caught.value.request_id == RECORDED[name].headers.get("x-request-id")


@pytest.mark.parametrize("name", MANY)
def test_all_of_99_choices_come_in_order(name):
    completion, _ = replay(RECORDED[name])
    assert [choice["index"] for choice in completion["choices"]] == list(range(99))


@pytest.mark.parametrize("name", MODELS)
def test_models_are_listed_with_their_context(name):
    [card], _ = replay(RECORDED[name])
    assert (card["id"], card["context_length"]) == ("smollm2-135m-instruct", 2048)


@pytest.mark.parametrize("name", STREAMS)
def test_the_pieces_of_a_stream_make_its_answer(name):
    completion, deltas = replay(RECORDED[name])
    assert "".join(delta.text for delta in deltas) == completion["choices"][0]["text"]
    assert deltas[-1].finish_reason == completion["choices"][0]["finish_reason"]
    assert all(delta.text or delta.finish_reason for delta in deltas)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_at_random_places_reads_the_same(name):
    body, seed = RECORDED[name].body, random.Random(name)
    whole = replay(RECORDED[name])
    for _ in range(30):
        places = [0, *sorted(seed.sample(range(len(body)), seed.randrange(1, 60))), len(body)]
        cuts = [body[a:b] for a, b in pairwise(places)]
        assert replay(RECORDED[name], [cut for cut in cuts if cut]) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_cut_in_two_at_every_byte_reads_the_same(name):
    body = RECORDED[name].body
    whole = replay(RECORDED[name])
    for place in range(1, len(body)):
        assert replay(RECORDED[name], [body[:place], body[place:]]) == whole


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_comes_byte_by_byte_reads_the_same(name):
    body = RECORDED[name].body
    bytewise = [body[place : place + 1] for place in range(len(body))]
    assert replay(RECORDED[name], bytewise) == replay(RECORDED[name])
