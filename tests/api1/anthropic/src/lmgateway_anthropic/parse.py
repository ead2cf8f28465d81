"""An answer of the Messages API, normalized strictly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from lmgateway.errors import APIError, ContentFilteredError, ResponseFormatError, excerpt
from lmgateway.types import JSON, Choice, Completion, HTTPResponse, Request, Usage
from lmgateway.wire.openai import check, error_in, load, request_id, write
from lmgateway.wire.pieces import mend

__all__ = ["FINISH_REASONS", "normalize", "parse", "service_error"]

FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # the answer is not whole
    "tool_use": "tool_calls",
}

#: The types of errors that a stream may bring and OpenAI's hosts do not have, by status.
_STATUS_OF = {"billing_error": 402, "request_too_large": 413, "timeout_error": 504}


def parse(request: Request, response: HTTPResponse) -> Completion:
    """The completion in a whole answer.

    Raises:
        APIError: The answer is an error.
        ContentFilteredError: The model refused (``stop_reason`` ``refusal``).
        ResponseFormatError: It cannot be read.
    """
    check(response, request)
    try:
        return normalize(request, load(response.body, strict=False), response.headers)
    except APIError as error:
        error.locate(request_id=request_id(response.headers))
        raise


def normalize(request: Request, message: JSON, headers: Mapping[str, str]) -> Completion:
    """The completion in a decoded answer."""
    if not isinstance(message, dict):
        raise ResponseFormatError("the answer is no object")
    if message.get("type") == "error":
        raise service_error(message, headers, request)
    blocks = message.get("content")
    if not isinstance(blocks, list):
        raise ResponseFormatError("content is missing in the answer, a list was expected")
    reason = message.get("stop_reason")
    if not isinstance(reason, str):
        raise ResponseFormatError("stop_reason is missing in the answer, a string was expected")
    if reason == "refusal":
        raise _refused(message)
    choice = _choice(blocks)
    choice["finish_reason"] = FINISH_REASONS.get(reason, mend(reason))
    if len(choice) == 3 and not choice["text"] and reason == "end_turn":
        raise ResponseFormatError("content in the answer is empty")
    completion: Completion = {
        "prompt": request.input,
        "choices": [choice],
        "endpoint": "messages",
    }
    if usage := _usage(message.get("usage")):
        completion["usage"] = usage
    for name in ("model", "id"):
        if isinstance(message.get(name), str):
            completion[name] = mend(message[name])
    if service_id := request_id(headers):
        completion["request_id"] = service_id
    return completion


def service_error(payload: JSON, headers: Mapping[str, str], request: Request) -> APIError:
    """The error for an error object inside a 2xx."""
    error = payload.get("error") if isinstance(payload, dict) else None
    kind = error.get("type") if isinstance(error, dict) else None
    if isinstance(kind, str) and kind in _STATUS_OF:
        payload = {"error": {**cast(Any, error), "status": _STATUS_OF[kind]}}
    return error_in(payload, headers, request)


def _choice(blocks: list[JSON]) -> Choice:
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[dict[str, JSON]] = []
    for place, block in enumerate(blocks):
        where = f"content[{place}]"
        if not isinstance(block, dict):
            raise ResponseFormatError(f"{where} in the answer is no object")
        match block.get("type"):
            case "text":
                texts.append(_string(block, "text", where))
            case "thinking":
                thoughts.append(_string(block, "thinking", where))
            case "tool_use":
                calls.append(_call(block, where))
            # What the service's own tools did stands in blocks that a Choice has no place for.
    choice: Choice = {"text": "".join(texts), "index": 0}
    if thoughts:
        choice["reasoning"] = "".join(thoughts)
    if calls:
        choice["tool_calls"] = calls
    return choice


def _call(block: dict[str, JSON], where: str) -> dict[str, JSON]:
    arguments = block.get("input")
    parsed: dict[str, JSON] = {}
    if isinstance(arguments, str):  # of a stream that was cut off inside them
        text = mend(arguments)
    elif isinstance(arguments, dict):
        text = write(arguments, f"{where}.input")
        parsed["parsed"] = arguments if text.isascii() else load(text)
    else:
        raise ResponseFormatError(f"{where}.input in the answer is no object")
    return {
        "id": _string(block, "id", where),
        "type": "function",
        "function": {"name": _string(block, "name", where), "arguments": text},
        **parsed,
    }


def _string(block: dict[str, JSON], name: str, where: str) -> str:
    value = block.get(name)
    if not isinstance(value, str):
        raise ResponseFormatError(f"{where}.{name} in the answer is no string")
    return mend(value)


def _refused(message: dict[str, Any]) -> ContentFilteredError:
    details = message.get("stop_details")
    why = details.get("explanation") if isinstance(details, dict) else None
    error = ContentFilteredError(
        "the model refused to answer"
        + (f": {excerpt(mend(why), 200)}" if isinstance(why, str) else ""),
        status=200,
        code="refusal",
    )
    error.retryable = False
    return error


def _usage(raw: JSON) -> Usage:
    """Tokens; those read from and written to the service's cache are the prompt's as well.

    What is no number of tokens is left out: no answer is lost over it.
    """
    fields = raw if isinstance(raw, dict) else {}
    asked, answered = _tokens(fields, "input_tokens"), _tokens(fields, "output_tokens")
    cached = _tokens(fields, "cache_read_input_tokens") or 0
    usage: Usage = {}
    if asked is not None:
        prompt = asked + cached + (_tokens(fields, "cache_creation_input_tokens") or 0)
        usage["prompt_tokens"] = prompt
    if answered is not None:
        usage["completion_tokens"] = answered
    if asked is not None and answered is not None:
        usage["total_tokens"] = prompt + answered
    if cached:
        usage["cached_tokens"] = cached
    details = fields.get("output_tokens_details")
    if isinstance(details, dict) and (thought := _tokens(details, "thinking_tokens")) is not None:
        usage["reasoning_tokens"] = thought
    return usage


def _tokens(fields: Mapping[str, JSON], name: str) -> int | None:
    value = fields.get(name)
    return value if type(value) is int and 0 <= value <= 2**53 else None
