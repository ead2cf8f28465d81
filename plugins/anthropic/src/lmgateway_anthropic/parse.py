"""An answer of the Messages API, normalized: strictly at its heart, and as it comes beside it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

from lmgateway.errors import (
    APIError,
    ContentFilteredError,
    ContextLengthError,
    InvalidRequestError,
    ResponseFormatError,
    excerpt,
)
from lmgateway.types import JSON, Answer, HTTPResponse, Request, Usage
from lmgateway.wire.openai import check, error_in, load, rate_limit, request_id
from lmgateway.wire.pieces import mend

from .blocks import choice_of, tidy

__all__ = ["accept", "finish_reason", "normalize", "parse", "read_usage", "service_error"]

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "pause",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}

#: The types of errors that a stream may bring and OpenAI's hosts do not have, by status.
_STATUS_OF = {"billing_error": 402, "request_too_large": 413, "timeout_error": 504}

#: Fields of a message that have a place of their own in an Answer, or say nothing.
_READ = frozenset({"content", "id", "model", "role", "stop_reason", "type", "usage"})


#: Of them, those that stand beside the heart, and what each should be.
_BESIDE = {"id": str, "model": str, "usage": dict}


def parse(request: Request, response: HTTPResponse) -> Answer:
    """The Answer in a whole response.

    Raises:
        APIError: The answer is an error.
        ContentFilteredError: The model refused (``stop_reason`` ``refusal``).
        ResponseFormatError: It cannot be read.
    """
    accept(response, request)
    message: JSON = None
    try:
        message = load(response.body, strict=False)
        return normalize(request, message, response.headers)
    except APIError as error:
        usage = read_usage(message.get("usage")) if isinstance(message, dict) else None
        limits = rate_limit(response.headers)
        error.locate(
            request_id=request_id(response.headers), usage=usage or None, rate_limit=limits or None
        )
        raise


def accept(response: HTTPResponse, request: Request) -> None:
    """Raise the APIError that the answer is, unless its status is 2xx."""
    try:
        check(response, request)
    except APIError as error:
        told = _overflow(error)
        if told.request_id is None:
            with suppress(ResponseFormatError):
                _identify(told, load(response.body, strict=False))
        if told is error:
            raise
        raise told from None


def _identify(error: APIError, payload: JSON) -> APIError:
    """Put on an error the request's id, which the body has beside the error."""
    given = payload.get("request_id") if isinstance(payload, dict) else None
    if error.request_id is None and isinstance(given, str):
        error.request_id = mend(given)
    return error


def _overflow(error: APIError) -> APIError:
    """An error as ContextLengthError, where the request has more bytes than this API reads.

    A program does the same about both: it shortens the conversation.
    """
    if error.code != "request_too_large" or type(error) is not InvalidRequestError:
        return error
    told = ContextLengthError(
        error.message, status=error.status, code=error.code, request_id=error.request_id
    )
    told.rate_limit = error.rate_limit
    return told


def normalize(request: Request, message: JSON, headers: Mapping[str, str]) -> Answer:
    """The Answer in a decoded body."""
    if not isinstance(message, dict):
        raise ResponseFormatError("the answer is no object")
    if message.get("type") == "error":
        raise service_error(message, headers, request)
    blocks = message.get("content")
    if not isinstance(blocks, list):
        raise ResponseFormatError("content is missing in the answer, a list was expected")
    reason = message.get("stop_reason")
    if not isinstance(reason, str) and not blocks:
        raise ResponseFormatError("content and stop_reason are missing in the answer")
    choice = choice_of(blocks, request, paused=reason == "pause_turn")
    choice["finish_reason"] = finish_reason(reason)
    if isinstance(reason, str):
        choice["finish_reason_raw"] = mend(reason)
    answer: Answer = {"prompt": request.input, "choices": [choice], "endpoint": "messages"}
    usage = message.get("usage")
    if counted := read_usage(usage):
        answer["usage"] = counted
    for name in ("model", "id"):
        if isinstance(message.get(name), str):
            answer[name] = mend(message[name])
    if service_id := request_id(headers):
        answer["request_id"] = service_id
    if limits := rate_limit(headers):
        answer["rate_limit"] = limits
    if extra := _extra(message, usage):
        answer["extra"] = extra
    if reason == "refusal":
        raise _refused(message, answer)
    return answer


def finish_reason(reason: JSON) -> str | None:
    """The API's word as the library's; ``other`` for one that it does not know."""
    return _FINISH_REASONS.get(reason, "other") if isinstance(reason, str) else None


def service_error(payload: JSON, headers: Mapping[str, str], request: Request) -> APIError:
    """The error for an error object inside a 2xx."""
    error = payload.get("error") if isinstance(payload, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    said = payload
    if isinstance(kind, str) and kind in _STATUS_OF:
        said = {"error": {**cast(Any, error), "status": _STATUS_OF[kind]}}
    return _identify(_overflow(error_in(said, headers, request)), payload)


def _refused(message: dict[str, Any], answer: Answer) -> ContentFilteredError:
    details = message.get("stop_details")
    why = details.get("explanation") if isinstance(details, dict) else None
    error = ContentFilteredError(
        "the model refused to answer"
        + (f": {excerpt(mend(why), 200)}" if isinstance(why, str) else ""),
        status=200,
        code="refusal",
    )
    error.retryable = False
    error.completion = cast(dict[str, Any], answer)
    error.usage = cast("dict[str, Any] | None", answer.get("usage"))
    error.rate_limit = cast("dict[str, Any] | None", answer.get("rate_limit"))
    return error


def _extra(message: dict[str, JSON], usage: JSON) -> dict[str, JSON]:
    """The service's other fields, its tier among them, which stands with the tokens."""
    extra: dict[str, JSON] = {}
    for name, value in message.items():
        read = name in _READ and (name not in _BESIDE or isinstance(value, _BESIDE[name]))
        if not read and value is not None and (kept := tidy(value)) is not None:
            extra[mend(name)] = kept
    tier = usage.get("service_tier") if isinstance(usage, dict) else None
    if isinstance(tier, str):
        extra.setdefault("service_tier", mend(tier))
    return extra


#: What of the service's own count is in a Usage as it is.
_COUNTED = frozenset(
    {"cache_creation_input_tokens", "cache_read_input_tokens", "input_tokens", "output_tokens"}
)


def read_usage(raw: JSON) -> Usage:
    """Tokens; those read from and written to the service's cache are the prompt's as well.

    What is no number of tokens is left out: no answer is lost over it.
    """
    fields = raw if isinstance(raw, dict) else {}
    asked, answered = _tokens(fields, "input_tokens"), _tokens(fields, "output_tokens")
    cached = _tokens(fields, "cache_read_input_tokens") or 0
    written = _written(fields)
    usage: Usage = {}
    if asked is not None:
        usage["prompt_tokens"] = prompt = asked + cached + written
    if answered is not None:
        usage["completion_tokens"] = answered
    if asked is not None and answered is not None:
        usage["total_tokens"] = prompt + answered
    if cached:
        usage["cached_tokens"] = cached
    if written:
        usage["cache_write_tokens"] = written
    details = fields.get("output_tokens_details")
    if isinstance(details, dict) and (thought := _tokens(details, "thinking_tokens")) is not None:
        usage["reasoning_tokens"] = thought
    if _holds_more(fields):
        said = {name: tidy(value) for name, value in fields.items() if value is not None}
        usage["details"] = {mend(name): value for name, value in said.items() if value is not None}
    return usage


def _written(fields: Mapping[str, JSON]) -> int:
    """Tokens written to the service's cache, of both lifetimes."""
    if (written := _tokens(fields, "cache_creation_input_tokens")) is not None:
        return written
    by_lifetime = fields.get("cache_creation")
    if not isinstance(by_lifetime, dict):
        return 0
    return sum(_tokens(by_lifetime, name) or 0 for name in by_lifetime)


def _holds_more(fields: dict[str, JSON]) -> bool:
    """Whether the service's own count says anything that could not be read."""
    for name, value in fields.items():
        if name == "output_tokens_details" and isinstance(value, dict):
            if not value.keys() <= {"thinking_tokens"} or _is_odd(value, "thinking_tokens"):
                return True
        elif value is not None and (name not in _COUNTED or _is_odd(fields, name)):
            return True
    return False


def _is_odd(fields: Mapping[str, JSON], name: str) -> bool:
    return fields.get(name) is not None and _tokens(fields, name) is None


def _tokens(fields: Mapping[str, JSON], name: str) -> int | None:
    value = fields.get(name)
    if type(value) is float and value.is_integer():
        value = int(value)
    return value if type(value) is int and 0 <= value <= 2**53 else None
