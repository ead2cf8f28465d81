"""Answers of OpenAI-compatible hosts, normalized by hand and strictly: never a silent "".

A 2xx is a completion only if its heart is there and of its type: the choices, what they say (text,
reasoning, refusal, tool calls), their indexes and finish reasons, and log probabilities that were
asked for. Anything else is a ResponseFormatError that names the field. What stands beside the
heart (usage, ids, the model's name) is left out where it is not as it should be: no answer that
was paid for is lost over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from math import isfinite
from typing import cast

from ..._base.values import are_finite
from ...errors import APIError, ContentFilteredError, ResponseFormatError
from ...types import (
    JSON,
    Answer,
    AnswerChoice,
    Embeddings,
    EmbedRequest,
    HTTPResponse,
    ModelCard,
    Request,
    Usage,
)
from ..pieces import mend
from .arguments import parse_arguments, write
from .faults import check, error_in, load, request_id
from .logprobs import read_logprobs
from .params import CHAT, Endpoint

__all__ = ["malformed", "normalize", "parse", "parse_embeddings", "parse_models"]


_DETAILS = (
    ("cached_tokens", "prompt_tokens_details"),
    ("reasoning_tokens", "completion_tokens_details"),
)


def parse(request: Request, response: HTTPResponse, endpoint: Endpoint) -> Answer:
    """The Answer in a whole response of either endpoint.

    Choices are ordered by index; each has ``text`` and, where the service said it,
    ``finish_reason``, ``logprobs`` (one shape for all: see ``read_logprobs``), ``tool_calls``,
    ``reasoning`` and ``refusal``. A tool call is OpenAI's, with ``parsed`` beside: its arguments
    as JSON, also out of a JSON string that holds an object; absent where they are no JSON, or
    nested more than 100 deep.

    Raises:
        APIError: the answer is an error, by its status or by an error object in a 2xx.
        ContentFilteredError: a choice was filtered.
        ResponseFormatError: it cannot be read; retryable only if it was empty or no JSON.
    """
    check(response, request)
    try:
        payload = load(response.body, strict=False)
        return normalize(request, payload, response.headers, endpoint)
    except APIError as error:
        error.locate(request_id=request_id(response.headers))
        raise


def normalize(
    request: Request, payload: JSON, headers: Mapping[str, str], endpoint: Endpoint
) -> Answer:
    """The Answer in a decoded body; the second half of ``parse``."""
    fields = _object(payload, headers, request)
    raw = fields.get("choices")
    if type(raw) is not list:
        raise malformed("choices", raw, "a list")
    expected = expected_choices(request)
    if len(raw) < expected:
        raise ResponseFormatError(
            f"choices in the answer holds {len(raw)} of the {expected} that were asked for"
        )
    read = _chat_choice if endpoint == CHAT else _text_choice
    if len(raw) == 1:
        choices = [read(raw[0], 0, request)]
    else:
        each = (read(choice, position, request) for position, choice in enumerate(raw))
        choices = sorted(each, key=_index)
        if len({_index(choice) for choice in choices}) < len(choices):
            raise ResponseFormatError("choices[].index in the answer holds a number twice")
    answer: Answer = {"prompt": request.input, "choices": choices, "endpoint": endpoint}
    if model := _beside(fields, "model"):
        answer["model"] = model
    if answer_id := _beside(fields, "id"):
        answer["id"] = answer_id
    if usage := read_usage(fields.get("usage")):
        answer["usage"] = usage
    if service_id := request_id(headers):
        answer["request_id"] = service_id
    return answer


def expected_choices(request: Request) -> int:
    """How many choices the request asks for."""
    extra = request.params.get("extra_body")
    n = extra.get("n") if extra and isinstance(extra, Mapping) else None
    n = request.params.get("n") if n is None else n
    return n if isinstance(n, int) and n > 1 else 1


def _index(choice: AnswerChoice) -> int:
    return choice["index"]


def _chat_choice(raw: JSON, position: int, request: Request) -> AnswerChoice:
    choice = _choice(raw, position, request)
    message = raw.get("message")
    if type(message) is not dict:
        raise malformed(f"choices[{position}].message", message, "an object")
    get = message.get
    if calls := get("tool_calls"):
        choice["tool_calls"] = _tool_calls(calls, f"choices[{position}].message.tool_calls")
    if reasoning := get("reasoning") or get("reasoning_content"):
        choice["reasoning"] = _text(reasoning, f"choices[{position}].message.reasoning")
    if refusal := get("refusal"):
        choice["refusal"] = _text(refusal, f"choices[{position}].message.refusal")
    content = get("content")
    if type(content) is str and content.isascii():
        choice["text"] = content
        return choice
    if content is None and ("tool_calls" in choice or "refusal" in choice or "reasoning" in choice):
        content = ""
    choice["text"] = _text(content, f"choices[{position}].message.content")
    return choice


def _text_choice(raw: JSON, position: int, request: Request) -> AnswerChoice:
    choice = _choice(raw, position, request)
    choice["text"] = _text(raw.get("text"), f"choices[{position}].text")
    return choice


def _choice(raw: JSON, position: int, request: Request) -> AnswerChoice:
    """What both endpoints say of a choice, without its text yet."""
    if type(raw) is not dict:
        raise malformed(f"choices[{position}]", raw, "an object")
    index = raw.get("index", position)
    if type(index) is not int or index < 0:
        raise malformed(f"choices[{position}].index", index, "a number from 0")
    choice: AnswerChoice = {"text": "", "index": index}
    reason = raw.get("finish_reason")
    if reason is not None:
        if type(reason) is not str:
            raise malformed(f"choices[{position}].finish_reason", reason, "a string")
        if reason == "content_filter":
            raise filtered()
        choice["finish_reason"] = reason if reason.isascii() else mend(reason)
    logprobs = raw.get("logprobs")
    if logprobs is not None:
        try:
            tokens = read_logprobs(logprobs, f"choices[{position}].logprobs")
        except ResponseFormatError:
            if _wants_logprobs(request):
                raise
            tokens = None
        if tokens is not None:
            choice["logprobs"] = tokens
    return choice


def _wants_logprobs(request: Request) -> bool:
    extra = request.params.get("extra_body")
    extra = extra if isinstance(extra, Mapping) else {}
    names = ("logprobs", "top_logprobs")
    return any(source.get(name) for source in (request.params, extra) for name in names)


def filtered() -> ContentFilteredError:
    """The error for ``finish_reason`` ``content_filter``."""
    error = ContentFilteredError(
        "the service cut the answer off for reasons of content (finish_reason content_filter)",
        status=200,
        code="content_filter",
    )
    error.retryable = False
    return error


def _tool_calls(raw: JSON, where: str) -> list[dict[str, JSON]]:
    if type(raw) is not list:
        raise malformed(where, raw, "a list")
    return [_tool_call(call, index, f"{where}[{index}]") for index, call in enumerate(raw)]


def _tool_call(raw: JSON, index: int, where: str) -> dict[str, JSON]:
    if type(raw) is not dict:
        raise malformed(where, raw, "an object")
    kind = raw.get("type") or "function"
    if kind != "function" and "function" not in raw:  # OpenAI's custom tools: free text
        custom: dict[str, JSON] = load(write(raw, where))
        return custom
    function = raw.get("function")
    if type(function) is not dict:
        raise malformed(f"{where}.function", function, "an object")
    name = function.get("name")
    if type(name) is not str or not name:
        raise malformed(f"{where}.function.name", name, "a name")
    arguments = function.get("arguments")
    if isinstance(arguments, dict):  # as some hosts send them
        arguments = write(arguments, f"{where}.function.arguments")
    arguments = "" if arguments is None else _text(arguments, f"{where}.function.arguments")
    call: dict[str, JSON] = {
        # Without an id the answer of the tool could not be told whose it is.
        "id": _string(raw, "id", f"{where}.") or f"call_{index}",
        "type": "function",
        "function": {"name": name if name.isascii() else mend(name), "arguments": arguments},
    }
    with suppress(ResponseFormatError):  # a model may write anything: the text is there
        call["parsed"] = parse_arguments(arguments)
    return call


_MOST_TOKENS = 2**53


def read_usage(raw: JSON) -> Usage:
    """Tokens as the service counted them; what is no number of tokens is left out."""
    if type(raw) is not dict:
        return {}
    usage: dict[str, int] = {}
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        count = raw.get(name)
        if type(count) is int and 0 <= count <= _MOST_TOKENS:
            usage[name] = count
    for name, part in _DETAILS:
        details = raw.get(part)
        if type(details) is dict:
            count = details.get(name)
            if type(count) is int and 0 <= count <= _MOST_TOKENS:
                usage[name] = count
    return cast(Usage, usage)


def parse_embeddings(request: EmbedRequest, response: HTTPResponse) -> Embeddings:
    """One vector a text, in the order of the texts.

    Raises:
        APIError: the answer is an error.
        ResponseFormatError: a vector is missing, or is not all finite numbers.
    """
    check(response)
    try:
        fields = _object(load(response.body, strict=False), response.headers)
        answer: Embeddings = {"embeddings": _vectors(fields.get("data"), len(request.texts))}
        if model := _beside(fields, "model"):
            answer["model"] = model
        if usage := read_usage(fields.get("usage")):
            answer["usage"] = usage
    except APIError as error:
        error.locate(request_id=request_id(response.headers))
        raise
    return answer


def _vectors(raw: JSON, expected: int) -> list[list[float]]:
    if type(raw) is not list:
        raise malformed("data", raw, "a list")
    vectors: dict[int, list[float]] = {}
    for position, item in enumerate(raw):
        if type(item) is not dict:
            raise malformed(f"data[{position}]", item, "an object")
        index = item.get("index", position)
        vector = item.get("embedding")
        if type(index) is not int or not 0 <= index < expected or index in vectors:
            raise malformed(f"data[{position}].index", index, f"each number below {expected} once")
        if type(vector) is not list or not vector or not are_finite(vector):
            raise malformed(f"data[{position}].embedding", vector, "a list of finite numbers")
        vectors[index] = vector
    if len(vectors) != expected or len(set(map(len, vectors.values()))) > 1:
        raise ResponseFormatError(
            f"data in the answer holds {len(vectors)} vectors for {expected} texts"
            if len(vectors) != expected
            else "data[].embedding in the answer holds vectors of different lengths"
        )
    return [vectors[index] for index in range(expected)]


def parse_models(response: HTTPResponse) -> list[ModelCard]:
    """The models that a service offers, LoRA adapters included, in its order.

    Raises:
        APIError: the answer is an error.
        ResponseFormatError: it is no list of models.
    """
    check(response)
    try:
        data = _object(load(response.body, strict=False), response.headers).get("data")
        if type(data) is not list:
            raise malformed("data", data, "a list")
        return [_model_card(item, position) for position, item in enumerate(data)]
    except APIError as error:
        error.locate(request_id=request_id(response.headers))
        raise


def _model_card(raw: JSON, position: int) -> ModelCard:
    if type(raw) is not dict:
        raise malformed(f"data[{position}]", raw, "an object")
    model_id = _string(raw, "id", f"data[{position}].")
    if not model_id:
        raise malformed(f"data[{position}].id", raw.get("id"), "a name")
    card: ModelCard = {"id": model_id}
    if owner := _beside(raw, "owned_by"):
        card["owned_by"] = owner
    for length in _context_lengths(raw):
        if type(length) is int and 0 < length <= _MOST_TOKENS:
            card["context_length"] = length
            break
    return card


def _context_lengths(raw: dict[str, JSON]) -> tuple[JSON, ...]:
    """Where vLLM, Ray, llama.cpp and others put the length of the context, in tokens."""
    ray, llama = raw.get("metadata"), raw.get("meta")
    return (
        raw.get("max_model_len"),
        ray.get("max_request_context_length") if isinstance(ray, dict) else None,
        llama.get("n_ctx") if isinstance(llama, dict) else None,
        raw.get("context_length"),
        raw.get("context_window"),
    )


def _object(
    payload: JSON, headers: Mapping[str, str], request: Request | None = None
) -> dict[str, JSON]:
    """The answer as an object; an error object in it is raised as its kind."""
    if type(payload) is not dict:
        raise malformed("the body", payload, "an object")
    if payload.get("error") or payload.get("object") == "error":
        raise error_in(payload, headers, request)
    return payload


def _beside(raw: dict[str, JSON], name: str) -> str | None:
    """A text that is no part of the answer's heart; None for what is none."""
    value = raw.get(name)
    if type(value) is not str:
        return None
    return value if value.isascii() else mend(value)


def _string(raw: dict[str, JSON], name: str, where: str) -> str | None:
    value = raw.get(name)
    return None if value is None else _text(value, f"{where}{name}")


def _text(value: JSON, where: str) -> str:
    if type(value) is not str:
        raise malformed(where, value, "a string")
    return value if value.isascii() else mend(value)


def malformed(where: str, value: JSON, expected: str) -> ResponseFormatError:
    """The error for a field that is missing or of the wrong type."""
    if value is None:
        return ResponseFormatError(f"{where} is missing in the answer, {expected} was expected")
    kind = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}.get(
        type(value), "a number"
    )
    if type(value) is float and not isfinite(value):
        kind = "NaN or Infinity"
    return ResponseFormatError(f"{where} in the answer is {kind}, {expected} was expected")
