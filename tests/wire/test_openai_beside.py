"""What stands beside the choices of an answer, and how choices end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.exchanges import Pieces, run

from lmgateway import errors
from lmgateway.types import HTTPResponse, Request
from lmgateway.wire.openai import (
    CHAT,
    TEXT,
    Service,
    chat_request,
    check,
    parse,
    rate_limit,
    stream,
)

HERE = Service("http://service.example/v1")
USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}


def choice(index: int = 0, reason: Any = "stop", text: str | None = "a", **more: Any) -> Any:
    return {"index": index, "finish_reason": reason, "message": {"content": text}, **more}


def plain(*choices: Any, n: int = 1, **fields: Any) -> Any:
    body = {"id": "1", "model": "m", "choices": choices, **fields}
    request = Request("m", prompt="hi", params={"n": n})
    return parse(request, HTTPResponse(200, {}, json.dumps(body).encode()), CHAT)


def streamed(*choices: Any, n: int = 1, done: bool = True, **fields: Any) -> Any:
    request = Request("m", prompt="hi", params={"n": n}, stream=True)
    usage = fields.pop("usage", None)
    chunks: list[Any] = []
    for each in choices:
        whole = {**each}
        begin = {"index": each["index"], "delta": whole.pop("message")}
        chunks += [{"choices": [begin], **fields}, {"choices": [{**whole, "delta": {}}], **fields}]
    if usage is not None:
        chunks.append({"choices": [], "usage": usage, **fields})
    lines = [b"data: " + json.dumps({"id": "1", "model": "m", **c}).encode() for c in chunks]
    body = b"\n\n".join([*lines, b"data: [DONE]" if done else b"", b""])
    head = HTTPResponse(200, source=Pieces([body]))
    return run(stream(request, chat_request(request, HERE)), head)[0]


BOTH = pytest.mark.parametrize("ask", [plain, streamed])


@BOTH
@pytest.mark.parametrize(
    "said, read",
    [
        ("eos", "stop"), ("eos_token", "stop"), ("stop_sequence", "stop"), ("end_turn", "stop"),
        ("STOP", "stop"), ("max_tokens", "length"), ("model_length", "length"),
        ("function_call", "tool_calls"), ("tool_use", "tool_calls"), ("pause_turn", "pause"),
        ("abort", "other"), ("ü", "other"),
    ],
)  # fmt: skip
def test_a_reason_is_told_in_one_word_and_as_the_service_said_it(
    ask: Any, said: str, read: str
) -> None:
    [got] = ask(choice(reason=said))["choices"]
    assert (got["finish_reason"], got["finish_reason_raw"]) == (read, said)


@BOTH
@pytest.mark.parametrize("word", ["stop", "length", "tool_calls"])
def test_openais_own_words_stand_alone(ask: Any, word: str) -> None:
    [got] = ask(choice(reason=word))["choices"]
    assert got["finish_reason"] == word
    assert "finish_reason_raw" not in got


@BOTH
@pytest.mark.parametrize("reason", [None, ""])
def test_no_reason_is_no_key(ask: Any, reason: Any) -> None:
    [got] = ask(choice(reason=reason))["choices"]
    assert "finish_reason" not in got


@BOTH
@pytest.mark.parametrize("reason", ["stop", "length", "eos"])
def test_an_answer_that_ended_for_a_reason_is_an_answer_without_a_text(
    ask: Any, reason: str
) -> None:
    [got] = ask(choice(reason=reason, text=None))["choices"]
    assert got["text"] == ""


@BOTH
def test_no_text_and_no_reason_is_no_answer(ask: Any) -> None:
    with pytest.raises(errors.ResponseFormatError, match=r"message\.content"):
        ask(choice(reason=None, text=None))


def test_a_text_completion_that_ended_for_a_reason_may_be_null() -> None:
    body = json.dumps({"choices": [{"text": None, "finish_reason": "length"}]}).encode()
    answer = parse(Request("m", prompt="hi"), HTTPResponse(200, {}, body), TEXT)
    assert answer["choices"][0]["text"] == ""


FAILED = {
    "filtered": ({"reason": "content_filter"}, errors.ContentFilteredError),
    "filtered, in another word": ({"reason": "SAFETY"}, errors.ContentFilteredError),
    "failed": ({"reason": "error"}, errors.ServerError),
    "failed, with an error": (
        {"reason": "error", "error": {"code": 429, "message": "slow down"}},
        errors.RateLimitError,
    ),
    "an error alone": (
        {"reason": None, "error": {"code": 502, "message": "died"}},
        errors.ServerError,
    ),
}


@BOTH
@pytest.mark.parametrize("name", FAILED)
def test_a_choice_that_failed_alone_is_an_error_that_holds_what_there_was(
    ask: Any, name: str
) -> None:
    fields, kind = FAILED[name]
    with pytest.raises(errors.APIError) as caught:
        ask(choice(**fields), usage=USAGE)
    assert type(caught.value) is kind
    assert (caught.value.partial, caught.value.usage) == ("a", USAGE)
    assert caught.value.completion is not None
    assert caught.value.completion["choices"][0]["text"] == "a"


@BOTH
@pytest.mark.parametrize("name", FAILED)
def test_a_choice_that_failed_beside_a_good_one_says_so(ask: Any, name: str) -> None:
    fields, _ = FAILED[name]
    good, bad = ask(choice(0), choice(1, **fields), n=2)["choices"]
    assert good["finish_reason"] == "stop"
    assert bad["finish_reason"] == ("content_filter" if "filtered" in name else "error")
    assert bad.get("extra", {}).get("error") == fields.get("error")


def test_a_stream_that_ends_with_a_failure_needs_no_mark() -> None:
    with pytest.raises(errors.ContentFilteredError) as caught:
        streamed(choice(reason="content_filter"), done=False)
    assert caught.value.partial == "a"


CALLING = {"index": 0, "id": "c", "function": {"name": "f", "arguments": "{"}}
# what came before the stream broke off, and what the error holds of it
CAME: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a text": ({"content": "a"}, {"text": "a"}),
    "a thought": ({"reasoning": "hm"}, {"reasoning": "hm"}),
    "half a call": (
        {"tool_calls": [CALLING]},
        {"tool_calls": [{"id": "c", "type": "function", "function": CALLING["function"]}]},
    ),
}
AFTER: dict[str, tuple[bytes, type[errors.LMGatewayError]]] = {
    "the end": (b"", errors.StreamInterruptedError),
    "an error": (b'data: {"error": {"message": "no", "code": 500}}\n\n', errors.ServerError),
    "no JSON": (b"data: {x\n\n", errors.ResponseFormatError),
    "no answer": (b'data: {"choices": 5}\n\n', errors.ResponseFormatError),
}


@pytest.mark.parametrize("after", AFTER)
@pytest.mark.parametrize("name", CAME)
def test_a_stream_that_breaks_off_leaves_what_came_on_its_error(name: str, after: str) -> None:
    delta, held = CAME[name]
    chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta}], "usage": USAGE}
    data, kind = AFTER[after]
    source = Pieces([b"data: " + json.dumps(chunk).encode() + b"\n\n" + data])
    request = Request("m", prompt="hi", params={"n": 2}, stream=True)
    head = HTTPResponse(200, {"x-ratelimit-limit-requests": "5"}, source=source)
    with pytest.raises(kind) as caught:
        run(stream(request, chat_request(request, HERE)), head)
    error = caught.value
    assert (error.usage, error.rate_limit) == (USAGE, {"requests": {"limit": 5}})
    assert error.completion is not None
    assert error.completion["choices"][0].items() >= held.items()


def test_an_answer_that_cannot_be_read_leaves_what_it_cost_on_its_error() -> None:
    with pytest.raises(errors.ResponseFormatError) as caught:
        plain(choice(text=5), usage=USAGE)  # type: ignore[arg-type]
    assert caught.value.usage == USAGE
    with pytest.raises(errors.ResponseFormatError) as caught:
        plain(choice(), n=2, usage=USAGE)
    assert caught.value.completion is not None
    assert caught.value.completion["choices"][0]["text"] == "a"


@BOTH
def test_what_stands_beside_the_heart_in_an_odd_form_is_kept(ask: Any) -> None:
    odd = {"content": ["a"]}
    spoken = {"content": [{"token": "a", "logprob": -1, "top_logprobs": []}],
              "refusal": [{"token": "b"}]}  # fmt: skip
    answer = ask(choice(logprobs=odd), choice(1, logprobs=spoken), n=2, usage="some")
    assert answer["extra"] == {"usage": "some"}
    first, second = answer["choices"]
    assert (first.get("logprobs"), first["extra"]) == (None, {"logprobs": odd})
    assert (second["logprobs"], second["extra"]) == (
        spoken["content"], {"logprobs": {"refusal": [{"token": "b"}]}},
    )  # fmt: skip


@BOTH
def test_fields_that_nothing_reads_are_kept_where_they_stood(ask: Any) -> None:
    more = {"system_fingerprint": "fp", "service_tier": "flex", "created": 7, "n": None,
            "nested": {"a": [1.5]}, "empty": [], "object": "x"}  # fmt: skip
    answer = ask(choice(matched_stop="x", token_ids=[1, 2], none=None), **more)
    assert answer["extra"] == {
        "system_fingerprint": "fp", "service_tier": "flex", "created": 7, "nested": {"a": [1.5]},
    }  # fmt: skip
    assert answer["choices"][0]["extra"] == {"matched_stop": "x", "token_ids": [1, 2]}


def test_what_cannot_be_written_again_is_mended_or_left_out() -> None:
    deep: Any = "x"
    for _ in range(150):
        deep = [deep]
    answer = plain(
        choice(), half="a\ud83d", nan=float("nan"), deep=deep, inner={"b\ud83d": [1e400]}
    )
    assert answer["extra"] == {"half": "a\ufffd", "inner": {"b\ufffd": [None]}}


COUNTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": (USAGE, USAGE),
    "floats": ({**USAGE, "prompt_tokens": 1.0}, USAGE),
    "odd": (
        ODD_USAGE := {**USAGE, "prompt_tokens": 1.5, "total_tokens": -1, "cost": "0.1"},
        {"completion_tokens": 2, "details": ODD_USAGE},
    ),
    "odd details": (
        ODD_DETAILS := {**USAGE, "prompt_tokens_details": "some"},
        {**USAGE, "details": ODD_DETAILS},
    ),
    "details of zeros": (
        {**USAGE, "prompt_tokens_details": {"cached_tokens": 0, "text_tokens": 0},
         "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0}},
        {**USAGE, "cached_tokens": 0, "reasoning_tokens": 0},
    ),
    "cache": (
        {**USAGE, "prompt_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 6}},
        {**USAGE, "cached_tokens": 5, "cache_write_tokens": 6},
    ),
    "DeepSeek": ({**USAGE, "prompt_cache_hit_tokens": 5}, {**USAGE, "cached_tokens": 5}),
    "audio and images": (
        {**USAGE, "prompt_tokens_details": {"audio_tokens": 3, "image_tokens": 4}},
        {**USAGE, "audio_tokens": 3, "image_tokens": 4},
    ),
    "audio both ways": (
        HEARD := {**USAGE, "prompt_tokens_details": {"audio_tokens": 3},
                  "completion_tokens_details": {"audio_tokens": 5}},
        {**USAGE, "audio_tokens": 8, "details": HEARD},
    ),
    "cost": ({**USAGE, "cost": 0.25}, {**USAGE, "cost": 0.25}),
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", COUNTS)
def test_usage_says_what_the_service_counted(ask: Any, name: str) -> None:
    raw, read = COUNTS[name]
    assert ask(choice(), usage=raw)["usage"] == read


@BOTH
def test_counts_without_a_name_here_are_kept_as_they_came(ask: Any) -> None:
    raw = {**USAGE, "cost_details": {"upstream": 0.1}}
    assert ask(choice(), usage=raw)["usage"] == {**USAGE, "details": raw}


DATE = "Fri, 27 Nov 2026 12:00:00 GMT"
LIMITS: dict[str, tuple[dict[str, str], dict[str, Any]]] = {
    "none": ({"Content-Type": "x"}, {}),
    "OpenAI": (
        {"X-RateLimit-Limit-Requests": "60", "x-ratelimit-remaining-requests": "59",
         "x-ratelimit-reset-requests": "1s", "x-ratelimit-limit-tokens": "150000",
         "x-ratelimit-remaining-tokens": "149984", "x-ratelimit-reset-tokens": "6m0s"},
        {"requests": {"limit": 60, "remaining": 59, "reset": 1.0},
         "tokens": {"limit": 150000, "remaining": 149984, "reset": 360.0}},
    ),
    "milliseconds": ({"x-ratelimit-reset-tokens": "20ms"}, {"tokens": {"reset": 0.02}}),
    "fractions": ({"x-ratelimit-reset-tokens": "1h2m1.5s"}, {"tokens": {"reset": 3721.5}}),
    "seconds": ({"x-ratelimit-reset-tokens": "1.5"}, {"tokens": {"reset": 1.5}}),
    "Anthropic": (
        {"anthropic-ratelimit-requests-limit": "50", "anthropic-ratelimit-requests-remaining": "49",
         "anthropic-ratelimit-requests-reset": "2026-11-27T12:00:30Z",
         "anthropic-ratelimit-input-tokens-remaining": "1",
         "anthropic-ratelimit-tokens-remaining": "9", "date": DATE},
        {"requests": {"limit": 50, "remaining": 49, "reset": 30.0}, "tokens": {"remaining": 9}},
    ),
    "Mistral": (
        {"x-ratelimit-limit-req-minute": "5", "x-ratelimit-remaining-tokens-minute": "7"},
        {"requests": {"limit": 5}, "tokens": {"remaining": 7}},
    ),
    "Mistral by size": (
        {"x-ratelimitbysize-limit-minute": "9", "x-ratelimit-limit-req-minute": "5"},
        {"requests": {"limit": 5}, "tokens": {"limit": 9}},
    ),
    "written otherwise": (
        {"X-RateLimit-Limit-Tokens": "1,000", "x-ratelimit-reset-tokens": "1M2S"},
        {"tokens": {"reset": 62.0}},
    ),
    "OpenRouter": (
        {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0",
         "X-RateLimit-Reset": "1795780860000", "date": DATE},
        {"requests": {"limit": 20, "remaining": 0, "reset": 60.0}},
    ),
    "the shortest name counts": (
        {"x-ratelimit-limit-tokens-day": "9", "x-ratelimit-limit-tokens": "1"},
        {"tokens": {"limit": 1}},
    ),
    "the standard": ({"ratelimit-limit": "100, 100;w=60"}, {"requests": {"limit": 100}}),
    "gone by": (
        {"x-ratelimit-reset-requests": "2026-11-27T11:00:00Z", "date": DATE},
        {"requests": {"reset": 0.0}},
    ),
    "nonsense": (
        {"x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "soon",
         "x-ratelimit-remaining-tokens": "-1", "x-ratelimit": "5"}, {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_told_in_numbers_and_seconds(name: str) -> None:
    headers, expected = LIMITS[name]
    assert rate_limit(headers) == expected
    assert rate_limit(HTTPResponse(200, headers).headers) == expected


def test_limits_stand_on_answers_and_on_errors() -> None:
    headers, expected = LIMITS["OpenAI"]
    request = Request("m", prompt="hi")
    good = HTTPResponse(200, headers, json.dumps({"choices": [choice()]}).encode())
    assert parse(request, good, CHAT)["rate_limit"] == expected
    for response in (HTTPResponse(429, headers, b"{}"), HTTPResponse(200, headers, b"{}"),
                     HTTPResponse(200, headers, b'{"error": "x"}')):  # fmt: skip
        with pytest.raises(errors.APIError) as caught:
            parse(request, response, CHAT)
        assert caught.value.rate_limit == expected
    with pytest.raises(errors.APIError) as caught:
        check(HTTPResponse(500))
    assert caught.value.rate_limit is None
