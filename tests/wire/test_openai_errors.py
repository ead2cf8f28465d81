"""Errors of OpenAI-compatible hosts, in every shape they come in."""

from __future__ import annotations

import copy
import json
import pickle
from email.utils import formatdate
from time import monotonic

import pytest
from support.exchanges import run

from lmgateway import errors
from lmgateway.types import EmbedRequest, HTTPRequest, HTTPResponse, Request, RerankRequest
from lmgateway.wire.openai import CHAT, check, complete, parse, retry_after

REQUEST = Request("m", prompt="hi")
SECRET = "The launch code of the silo is 0000, tell nobody about it."


def error_of(status, body, headers=None, request=REQUEST):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(errors.APIError) as caught:
        check(HTTPResponse(status, headers or {}, body), request)
    return caught.value


@pytest.mark.parametrize(
    "status, kind, retryable",
    [
        (400, "InvalidRequestError", False), (401, "AuthenticationError", False),
        (402, "QuotaExceededError", False), (403, "PermissionDeniedError", False),
        (404, "NotFoundError", False), (405, "InvalidRequestError", False),
        (408, "InvalidRequestError", True), (409, "InvalidRequestError", True),
        (413, "InvalidRequestError", False), (418, "InvalidRequestError", False),
        (422, "InvalidRequestError", False), (429, "RateLimitError", True),
        (500, "ServerError", True), (503, "ServerError", True), (529, "ServerError", True),
        (599, "ServerError", True), (302, "APIError", False), (304, "APIError", False),
    ],
)  # fmt: skip
@pytest.mark.parametrize("body", [b"", b"{}", b'{"error": "no"}'], ids=["empty", "object", "error"])
def test_a_status_is_its_class_whatever_the_body(status, kind, retryable, body):
    error = error_of(status, body)
    assert (type(error).__name__, error.retryable, error.status) == (kind, retryable, status)
    assert error.message


@pytest.mark.parametrize(
    "body, message, code",
    [
        ({"error": {"message": "no", "type": "t", "code": "c"}}, "no", "c"),
        ({"error": {"message": "no", "type": "t", "code": 400}}, "no", "t"),
        ({"error": {"message": "no", "type": None, "code": 400}}, "no", "400"),
        ({"error": {"message": "no", "type": "t", "code": "400"}}, "no", "t"),
        ({"error": {"message": ["a", {"msg": "b"}]}}, "a; b", None),
        ({"error": {"message": {"message": "no"}}}, "no", None),
        ({"error": {"code": "c"}}, "Bad Request, without a word of explanation", "c"),
        ({"error": "Unauthorized"}, "Unauthorized", None),
        ({"detail": "Not Found"}, "Not Found", None),
        ({"detail": [{"loc": ["body", "n"], "msg": "bad", "input": "x"}]}, "body.n: bad", None),
        ({"object": "error", "message": "no", "type": "t", "code": 400}, "no", "t"),
        ({"message": "no"}, "no", None),
        (["no"], "no", None),
        ("no", "no", None),
        (5, "Bad Request, without a word of explanation", None),
        (b"upstream is down", "upstream is down", None),
        (b"\xff\xfe", "\ufffd\ufffd", None),
        (b"<html><head><title>502</title><style>b{}</style></head><body><h1>Bad &amp; gone</h1>"
         b"<script>x</script></body></html>", "Bad & gone", None),
        (b"<html><head><title>Blocked</title></head><body></body></html>", "Blocked", None),
        ({"error": "<html><body>No</body></html>"}, "No", None),
        (b'{"error": {"message": "cut o', '{"error": {"message": "cut o', None),
        (b"[" * 100_000, None, None),
        (b"1" * 100_000, None, None),
    ],
)  # fmt: skip
def test_the_services_words_are_found(body, message, code):
    error = error_of(400, body)
    assert message is None or error.message == message
    assert error.code == code
    assert len(error.message) <= 300


@pytest.mark.parametrize(
    "status, error, kind",
    [
        (400, {"code": "context_length_exceeded"}, errors.ContextLengthError),
        (400, {"type": "exceed_context_size_error", "code": 400}, errors.ContextLengthError),
        (400, {"type": "BadRequestError", "param": "input_tokens"}, errors.ContextLengthError),
        (400, {"message": "x " * 999 + "(parameter=input_tokens, v"}, errors.ContextLengthError),
        (429, {"code": "insufficient_quota"}, errors.QuotaExceededError),
        (400, {"code": "content_filter"}, errors.ContentFilteredError),
        (500, {"code": "context_length_exceeded"}, errors.ServerError),
        (401, {"code": "insufficient_quota"}, errors.AuthenticationError),
        (400, {"message": "context_length_exceeded"}, errors.InvalidRequestError),
    ],
)
def test_a_machine_code_refines_the_status_and_prose_does_not(status, error, kind):
    assert type(error_of(status, {"error": error})) is kind


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 210000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 198317 + 20000 > 200000",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count exceeds the maximum number of tokens allowed 1048576.",
        "This model's maximum context length is 131072 tokens. However, you requested 140000",
        "Message: This endpoint's maximum context length is 32768 tokens.",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        "litellm.BadRequestError: litellm.ContextWindowExceededError: too much",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000",
        "Input is too long for requested model.",
    ],
)
def test_a_context_that_is_too_long_is_told_in_prose_too(message):
    kinds = [type(error_of(status, {"error": {"message": message}})) for status in STATUSES]
    wanted = [errors.ContextLengthError] * 3
    assert kinds == [*wanted, errors.RateLimitError, errors.ServerError, errors.NotFoundError]


STATUSES = (400, 413, 422, 429, 500, 404)


@pytest.mark.parametrize(
    "message",
    ["the context is too long", "max_tokens is too large", "prompt is too long for my taste"],
)
def test_no_other_prose_decides(message):
    assert type(error_of(400, {"error": {"message": message}})) is errors.InvalidRequestError


def test_a_param_that_is_the_users_own_text_is_no_code():
    error = error_of(400, {"error": {"message": "no", "param": SECRET, "code": None}})
    assert error.code is None
    assert "launch" not in str(error)


@pytest.mark.parametrize(
    "message",
    [
        f"1 validation error:\n  {{'msg': 'bad', 'input': '{SECRET}'}}",
        f"1 validation error:\n  {{'msg': 'bad', 'input': \"{SECRET}\"}}",
        f"bad value {SECRET}",
        f"bad value {json.dumps(SECRET)[:40]}",
        f"bad value {SECRET[:30]}...",
        f"got {[{'role': 'user', 'content': SECRET}]!r}",
    ],
)
@pytest.mark.parametrize(
    "request_of",
    [
        lambda text: Request("m", prompt=text),
        lambda text: Request("m", messages=[{"role": "user", "content": text}]),
        lambda text: Request("m", prompt="x", system=text),
        lambda text: Request(
            "m", messages=[{"role": "user", "content": [{"type": "text", "text": text}]}]
        ),
    ],
    ids=["prompt", "message", "system", "part"],
)
def test_the_echo_of_what_the_user_said_is_cut(message, request_of):
    error = error_of(400, {"error": {"message": message}}, request=request_of(SECRET))
    assert "launch" not in str(error)
    assert "…" in error.message


def test_an_echo_with_line_ends_is_cut_in_each_spelling():
    text = "line one\nline two\nline three is long"
    for echo in (text, repr(text), json.dumps(text)):
        error = error_of(400, {"error": {"message": f"bad: {echo}"}}, request=Request("m", text))
        assert "line" not in error.message


@pytest.mark.parametrize(
    "headers, seconds",
    [
        ({"retry-after": "3"}, 3.0), ({"retry-after": "0.5"}, 0.5), ({"retry-after": "0"}, 0.0),
        ({"retry-after-ms": "1500"}, 1.5), ({"Retry-After-MS": "20", "Retry-After": "9"}, 0.02),
        ({"retry-after-ms": "x", "retry-after": "9"}, 9.0), ({}, None),
        ({"retry-after": "-1"}, None), ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None), ({"retry-after": "1e400"}, None),
        ({"retry-after": "soon"}, None), ({"retry-after": "1_0"}, None),
        ({"retry-after": ""}, None), ({"retry-after": "٣"}, None),
        ({"retry-after": "Sun, 06 Nov 1994 08:49:37 GMT"}, None),
        ({"retry-after": "Sun, 99 Nov 9999 99:99:99 GMT"}, None),
        ({"retry-after": "9" * 400}, None),
    ],
    ids=str,
)  # fmt: skip
def test_retry_after(headers, seconds):
    assert retry_after(HTTPResponse(429, headers).headers) == seconds


def test_retry_after_as_a_date(monkeypatch):
    monkeypatch.setattr("time.time", lambda: 1_000_000.0)
    assert retry_after({"retry-after": formatdate(1_000_007, usegmt=True)}) == 7.0


@pytest.mark.parametrize(
    "status, header, retryable",
    [(429, "false", False), (400, "true", True), (500, "FALSE", False), (500, "maybe", True)],
)
def test_x_should_retry_is_obeyed(status, header, retryable):
    assert error_of(status, {}, {"x-should-retry": header}).retryable is retryable


@pytest.mark.parametrize(
    "error, kind, status",
    [
        ({"message": "no", "code": 429}, errors.RateLimitError, 429),
        ({"message": "no", "code": "503"}, errors.ServerError, 503),
        ({"message": "no", "type": "rate_limit_error"}, errors.RateLimitError, 429),
        ({"message": "no", "type": "invalid_request_error"}, errors.InvalidRequestError, 400),
        ({"message": "no", "code": "insufficient_quota"}, errors.QuotaExceededError, 429),
        ({"message": "no", "code": "context_length_exceeded"}, errors.ContextLengthError, 400),
        ({"message": "no", "code": 200}, errors.ServerError, 500),
        ({"message": "no"}, errors.ServerError, 500),
        ("no", errors.ServerError, 500),
        (["no"], errors.ServerError, 500),
    ],
    ids=str,
)
def test_an_error_object_in_a_200_is_raised_as_its_kind(error, kind, status):
    response = HTTPResponse(200, {"x-request-id": "r1"}, json.dumps({"error": error}).encode())
    with pytest.raises(errors.APIError) as caught:
        parse(REQUEST, response, CHAT)
    assert (type(caught.value), caught.value.status) == (kind, status)
    assert (caught.value.message, caught.value.request_id) == ("no", "r1")


def test_an_error_survives_pickle_and_copy():
    error = error_of(429, {"error": {"message": "no", "code": "c"}}, {"retry-after": "2"})
    for other in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(other), other.retry_after, other.code) == (str(error), 2.0, "c")


def test_a_redirect_is_no_answer():
    with pytest.raises(errors.APIError) as caught:
        run(complete(REQUEST, HTTPRequest("POST", "http://x", "/completions")), HTTPResponse(302))
    assert type(caught.value) is errors.APIError


LONG = {
    "white space": b'{"error": {"message": "' + b" " * 65_000 + b'"}}',
    "beginnings of tags": b"<" * 65_000,
    "beginnings of scripts": b"<script" * 9000,
    "beginnings of titles": b"<title" * 10_000,
    "scripts that do not end": b"<script>" * 8000,
    "the word input": b'{"error": {"message": "' + b"input " * 10_000 + b'"}}',
    "names of entities": b"&amp" * 16_000,
    "a list": b'{"detail": [' + b"[" * 90 + b"]" * 90 + b"]}",
    "a place that is no place": b'{"detail": [{"msg": "no", "loc": ['
    + b"[" * 600
    + b"]" * 600
    + b"]}]}",
}


@pytest.mark.parametrize("name", LONG)
def test_a_long_body_of_an_error_is_read_at_once(name):
    began = monotonic()
    error = error_of(500, LONG[name])
    assert len(error.message) <= 300
    assert monotonic() - began < 5


def test_scripts_and_styles_of_a_page_are_no_words_of_it():
    page = b"<head><title>t</title></head><SCRIPT>if (a<b) {}</script >busy<style>x</style>"
    assert error_of(503, page).message == "busy"


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(EmbedRequest("m", [SECRET]), id="embed"),
        pytest.param(RerankRequest("m", "q", [SECRET]), id="rerank"),
    ],
)
def test_an_error_repeats_no_text_of_any_kind_of_call(request_):
    body = {"error": {"message": f"cannot read {SECRET}"}}
    assert SECRET not in str(error_of(400, body, request=request_))
