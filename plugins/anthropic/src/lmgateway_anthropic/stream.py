"""A streamed answer of the Messages API: its events, put together to what the plain one is."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, cast

from lmgateway.errors import (
    APIError,
    LMGatewayError,
    ResponseFormatError,
    StreamInterruptedError,
)
from lmgateway.types import Answer, Delta, Emit, Flow, HTTPResponse, Part, Request
from lmgateway.wire.breaks import broken_off
from lmgateway.wire.openai import load, rate_limit, request_id
from lmgateway.wire.sse import Decoder, Event, opened

from .growth import Growth
from .parse import accept, normalize, parse, read_usage, service_error

__all__ = ["read_stream"]


def read_stream(request: Request, head: HTTPResponse) -> Flow[Answer]:
    """Emit each piece; the answer equals that of ``parse``.

    Raises:
        StreamInterruptedError: The stream ended before ``message_stop``, and had told no reason;
            StreamStalledError if no more of it came in time.
        APIError: As ``parse``; an ``error`` event is raised as its kind.
    """
    if head.source is None:
        return (yield from _emit_whole(parse(request, head)))
    message = Growth(request)
    try:
        accept(head, request)
        body = yield from opened(head)
        if body.source is None:
            return (yield from _emit_whole(parse(request, body)))
        decoder = Decoder()
        while not message.ended and (events := (yield from decoder.read(body))):
            for event in events:
                for delta in message.take(_payload(event, request, head)):
                    yield Emit(delta)
        if not (message.ended or message.has_reason):
            raise StreamInterruptedError("the stream ended before the answer did")
        for delta in message.end_block():
            yield Emit(delta)
        return normalize(request, message.whole(), head.headers)
    except LMGatewayError as error:
        told = _told(error, request, message, head)
        if told is error:
            raise
        raise told from error
    finally:
        head.source.close()


def _payload(event: Event, request: Request, head: HTTPResponse) -> dict[str, Any]:
    try:
        payload = load(event.data, strict=False)
    except ResponseFormatError:
        if event.event != "error":
            raise
        payload = event.data
    if event.event == "error":
        raise service_error(payload, head.headers, request)
    if not isinstance(payload, dict):
        raise ResponseFormatError("an event of the stream is no object")
    if payload.get("type") == "error" or payload.get("error"):
        raise service_error(payload, head.headers, request)
    return payload


def _told(
    error: LMGatewayError, request: Request, message: Growth, head: HTTPResponse
) -> LMGatewayError:
    """An error as the stream's, with what the service had said by then."""
    told = broken_off(error, message.text or None)
    if isinstance(told, APIError):
        told.locate(request_id=request_id(head.headers))
    if told.completion is None and message.has_begun:
        with suppress(APIError):  # it says nothing yet, or makes no sense
            told.completion = {**normalize(request, message.whole(), head.headers)}
    if not told.usage and (usage := read_usage(message.usage)):
        told.usage = cast(dict[str, Any], usage)
    if not told.rate_limit and (limits := rate_limit(head.headers)):
        told.rate_limit = cast(dict[str, Any], limits)
    return told


def _emit_whole(answer: Answer) -> Flow[Answer]:
    """A host that does not stream after all: one piece for the answer, one for each other part."""
    (choice,) = answer["choices"]
    calls = tuple(
        {"index": place, **{name: value for name, value in call.items() if name != "parsed"}}
        for place, call in enumerate(choice.get("tool_calls", ()))
    )
    for place, part in enumerate(choice.get("parts", ())):
        if part["type"] == "text" and part.get("citations"):
            cited: Part = {"type": "text", "text": "", "citations": part["citations"]}
            yield Emit(Delta(part=cited, partial="append", id=str(place)))
        elif part["type"] not in ("text", "reasoning", "tool_call") or part.get("by"):
            yield Emit(Delta(part=part))
    thought, reason = choice.get("reasoning", ""), choice.get("finish_reason")
    yield Emit(Delta(choice["text"], 0, calls, thought, reason))
    return answer
