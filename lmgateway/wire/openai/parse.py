"""Answers of OpenAI-compatible hosts, normalized by hand and strictly: never a silent "".

A 2xx is a completion only if its heart is there and of its type: the choices, what they say (text,
reasoning, refusal, tool calls), their indexes and finish reasons, and log probabilities that were
asked for. Anything else is a ResponseFormatError that names the field. What stands beside the
heart (usage, ids, the model's name) is left out where it is not as it should be, and what nothing
here reads is kept in ``extra``: no answer that was paid for is lost over it.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress

from ...errors import APIError, LMGatewayError, ResponseFormatError
from ...types import JSON, Answer, AnswerChoice, HTTPResponse, Request
from ..pieces import mend
from .calls import holds_more, read_tool_calls
from .endings import ENDINGS, FAILED, ending, failure
from .faults import check, checked, load, locate, request_id
from .fields import beside, malformed, others, sound, text
from .limits import rate_limit
from .logprobs import beside_logprobs, read_logprobs
from .params import CHAT, Endpoint
from .parts import read_parts, reasoning_in
from .turns import needs_state, state_of
from .usage import read_usage

__all__ = ["expected_choices", "leave", "normalize", "parse"]

_ANSWER = frozenset({"id", "object", "model", "choices", "usage", "error"})
_CHOICE = frozenset({"index", "message", "text", "finish_reason", "logprobs", "delta"})
_MESSAGE = frozenset({
    "role", "content", "refusal", "tool_calls", "function_call", "reasoning", "reasoning_content",
    "reasoning_details", "extra_content", "annotations", "images", "audio",
})  # fmt: skip


def parse(request: Request, response: HTTPResponse, endpoint: Endpoint) -> Answer:
    """The Answer in a whole response of either endpoint.

    Choices are ordered by index; each has ``text`` and, where the service said it,
    ``finish_reason``, ``logprobs`` (one shape for all: see ``read_logprobs``), ``tool_calls``,
    ``reasoning`` and ``refusal``; ``parts`` where those do not say everything, and ``state`` where
    the service must see more of the turn again. A tool call is OpenAI's, with ``parsed`` beside:
    its arguments as JSON, also out of a JSON string that holds an object; absent where they are no
    JSON, or nested more than 100 deep.

    Raises:
        APIError: the answer is an error, by its status or by an error object in a 2xx.
        ContentFilteredError: no choice is good, and the first one was filtered.
        ResponseFormatError: it cannot be read; retryable only if it was empty or no JSON.
    """
    check(response, request)
    payload: JSON = None
    try:
        payload = load(response.body, strict=False)
        return normalize(request, payload, response.headers, endpoint)
    except APIError as error:
        locate(error, response.headers)
        leave(error, request, payload, response.headers, endpoint)
        raise


def normalize(
    request: Request, payload: JSON, headers: Mapping[str, str], endpoint: Endpoint
) -> Answer:
    """The Answer in a decoded body; the second half of ``parse``."""
    fields = checked(payload, headers, request)
    raw = fields.get("choices")
    if type(raw) is not list:
        raise malformed("choices", raw, "a list")
    expected = expected_choices(request)
    if len(raw) < expected:
        raise ResponseFormatError(
            f"choices in the answer holds {len(raw)} of the {expected} that were asked for"
        )
    answer = _answer(request, fields, headers, endpoint)
    for choice in answer["choices"]:
        if choice.get("finish_reason") not in FAILED:
            return answer
    raise failure(answer, headers, request)


def leave(
    error: LMGatewayError,
    request: Request,
    payload: JSON,
    headers: Mapping[str, str],
    endpoint: Endpoint,
) -> None:
    """Leave on an error what there is of the answer that it spoilt, and what that may cost."""
    if type(payload) is not dict:
        return
    if error.completion is None and type(payload.get("choices")) is list and payload["choices"]:
        with suppress(ResponseFormatError):  # it makes no sense
            error.completion = {**_answer(request, payload, headers, endpoint)}
    error.locate(usage=read_usage(payload.get("usage")) or None)


def _answer(
    request: Request, fields: Mapping[str, JSON], headers: Mapping[str, str], endpoint: Endpoint
) -> Answer:
    """The Answer in the fields of a body, whatever became of its choices."""
    choices = _choices(fields["choices"], request, endpoint)
    answer: Answer = {"prompt": request.input, "choices": choices, "endpoint": endpoint}
    if model := beside(fields, "model"):
        answer["model"] = model
    if answer_id := beside(fields, "id"):
        answer["id"] = answer_id
    if usage := read_usage(fields.get("usage")):
        answer["usage"] = usage
    if service_id := request_id(headers):
        answer["request_id"] = service_id
    if limits := rate_limit(headers):
        answer["rate_limit"] = limits
    extra = {} if _ANSWER.issuperset(fields) else others(fields, _ANSWER)
    if not ("id" in answer and "model" in answer and "usage" in answer):  # as they are in most
        for name in ("id", "model", "usage"):
            value = fields.get(name)
            if value and name not in answer and (name != "usage" or type(value) is not dict):
                extra[name] = sound(value)
    if extra:
        answer["extra"] = extra
    return answer


def expected_choices(request: Request) -> int:
    """How many choices the request asks for."""
    extra = request.params.get("extra_body")
    n = extra.get("n") if extra and isinstance(extra, Mapping) else None
    n = request.params.get("n") if n is None else n
    return n if isinstance(n, int) and n > 1 else 1


def _choices(raw: list[JSON], request: Request, endpoint: Endpoint) -> list[AnswerChoice]:
    """The choices, ordered by index."""
    read = _chat_choice if endpoint == CHAT else _text_choice
    if len(raw) == 1:
        return [read(raw[0], 0, request)]
    each = (read(choice, position, request) for position, choice in enumerate(raw))
    choices = sorted(each, key=_index)
    if len({_index(choice) for choice in choices}) < len(choices):
        raise ResponseFormatError("choices[].index in the answer holds a number twice")
    return choices


def _index(choice: AnswerChoice) -> int:
    return choice["index"]


def _chat_choice(raw: JSON, position: int, request: Request) -> AnswerChoice:
    choice = _choice(raw, position, request)
    message = raw.get("message")
    if type(message) is not dict:
        if message is not None or choice.get("finish_reason") not in FAILED:
            raise malformed(f"choices[{position}].message", message, "an object")
        message = {}
    get = message.get
    calls = get("tool_calls")
    if calls:
        where = f"choices[{position}].message.tool_calls"
        choice["tool_calls"] = read_tool_calls(calls, where, request, choice["index"])
    if reasoning := get("reasoning") or get("reasoning_content"):
        choice["reasoning"] = text(reasoning, f"choices[{position}].message.reasoning")
    if refusal := get("refusal"):
        choice["refusal"] = text(refusal, f"choices[{position}].message.refusal")
    content = get("content")
    if type(content) is list or (calls and holds_more(calls)) or _holds_more(message):
        _read_more(choice, message, f"choices[{position}].message", request)
    elif type(content) is str and content.isascii():
        choice["text"] = content
    elif content is not None or not _says_something(choice):
        choice["text"] = text(content, f"choices[{position}].message.content")
    return choice


#: Fields of a message that hold nothing but what every answer may have.
_SIMPLE = frozenset({"role", "content", "refusal", "tool_calls", "reasoning"})


def _holds_more(message: dict[str, JSON]) -> bool:
    for name, value in message.items():  # in every answer: a generator would cost more
        if name not in _SIMPLE and value is not None and value != []:
            return True
    return False


def _says_something(choice: AnswerChoice) -> bool:
    """Whether a choice without a text is an answer all the same."""
    return any(name in choice for name in _SAID)


_SAID = ("finish_reason", "tool_calls", "refusal", "reasoning", "parts")


def _read_more(
    choice: AnswerChoice, message: dict[str, JSON], where: str, request: Request
) -> None:
    """The content, and the rest of a message that holds more than texts and plain calls."""
    called = message.get("function_call")
    if called and "tool_calls" not in choice:  # as calls were before 2024
        calls = [{"function": called}]
        choice["tool_calls"] = read_tool_calls(calls, where, request, choice["index"])
    if "reasoning" not in choice and (thought := reasoning_in(message.get("reasoning_details"))):
        choice["reasoning"] = mend(thought)
    read_parts(choice, message, where, request)
    if message.get("content") is None and not _says_something(choice):
        raise malformed(f"{where}.content", None, "a string")
    if needs_state(message):
        choice["state"] = state_of(message, choice.get("tool_calls", ()))
    extra = choice.get("extra", {})
    for name, value in others(message, _MESSAGE).items():
        extra[name if name not in extra else f"message.{name}"] = value
    if extra:
        choice["extra"] = extra


def _text_choice(raw: JSON, position: int, request: Request) -> AnswerChoice:
    choice = _choice(raw, position, request)
    said = raw.get("text")
    if said is not None or "text" not in raw or "finish_reason" not in choice:
        choice["text"] = text(said, f"choices[{position}].text")
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
        if reason in ENDINGS:
            choice["finish_reason"] = reason
        elif reason:  # some hosts say "" for what has no end
            choice["finish_reason"] = ending(reason)
            choice["finish_reason_raw"] = mend(reason)
    extra = {} if _CHOICE.issuperset(raw) else others(raw, _CHOICE)
    logprobs = raw.get("logprobs")
    if logprobs is not None and (left := _read_logprobs(choice, logprobs, position, request)):
        extra["logprobs"] = left
    if extra:
        choice["extra"] = extra
        if extra.get("error"):
            choice["finish_reason"] = "error"
    return choice


def _read_logprobs(choice: AnswerChoice, raw: JSON, position: int, request: Request) -> JSON:
    """Put the log probabilities into a choice; what of them is not read."""
    try:
        tokens = read_logprobs(raw, f"choices[{position}].logprobs")
    except ResponseFormatError:
        if _wants_logprobs(request):
            raise
        return sound(raw)
    if tokens is not None:
        choice["logprobs"] = tokens
    return beside_logprobs(raw)


def _wants_logprobs(request: Request) -> bool:
    extra = request.params.get("extra_body")
    extra = extra if isinstance(extra, Mapping) else {}
    names = ("logprobs", "top_logprobs")
    return any(source.get(name) for source in (request.params, extra) for name in names)
