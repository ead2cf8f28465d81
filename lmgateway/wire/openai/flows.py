"""Whole exchanges with OpenAI-compatible hosts, as flows that a hook can return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...errors import APIError, LMGatewayError, ResponseFormatError, StreamInterruptedError
from ...types import (
    Answer,
    Delta,
    Embeddings,
    EmbedRequest,
    Emit,
    Flow,
    HTTPRequest,
    HTTPResponse,
    ModelCard,
    Part,
    Request,
)
from ..breaks import broken_off
from ..sse import Decoder, Event, opened
from .assembly import Assembly
from .build import Service, embed_request, models_request
from .embeddings import parse_embeddings, parse_models
from .faults import check, error_in, load, locate
from .limits import rate_limit
from .params import CHAT, TEXT, Endpoint
from .parse import expected_choices, leave, normalize, parse

__all__ = ["complete", "embed", "models", "read_stream", "stream"]

_DONE = "[DONE]"


def complete(request: Request, http_request: HTTPRequest) -> Flow[Answer]:
    """Send what ``chat_request`` or ``completion_request`` built, and read the answer.

    Raises:
        APIError, ResponseFormatError: see ``parse``.
    """
    response = yield http_request
    return parse(request, response, endpoint_of(http_request))


def stream(
    request: Request, http_request: HTTPRequest, *, needs_done: bool = False
) -> Flow[Answer]:
    """As ``complete``, and Emit each piece on the way; the answer equals that of ``complete``.

    The end mark is ``[DONE]``, and what comes after it is not read. A host may also close
    cleanly without it, once every choice that was asked for has its finish_reason and the usage
    has come, if that was asked for: nothing can be missing then.

    Args:
        request: What the user asked.
        http_request: Built for it, with ``stream=True``.
        needs_done: The host is known to send ``[DONE]``: without it, the stream was cut.

    Raises:
        StreamInterruptedError: the stream ended before its end mark; StreamStalledError if no
            more of it came in time.
        APIError: as ``complete``; an error object in the stream is raised as its kind.
    """
    head = yield http_request
    return (yield from read_stream(request, http_request, head, needs_done=needs_done))


def read_stream(
    request: Request, http_request: HTTPRequest, head: HTTPResponse, *, needs_done: bool = False
) -> Flow[Answer]:
    """The rest of ``stream``, for an answer that came by another way than HTTP."""
    assembly = Assembly(endpoint_of(http_request), request)
    try:
        opened_head = yield from opened(head)
        if opened_head.source is None:
            return (yield from _emit_whole(parse(request, opened_head, endpoint_of(http_request))))
        check(head, request)
        done = yield from _read_pieces(request, opened_head, assembly)
        whole = done or (not needs_done and _has_all(request, http_request, assembly))
        if not whole and not assembly.has_failed(expected_choices(request)):
            raise StreamInterruptedError("the stream ended before the answer did")
        for delta in assembly.end():
            yield Emit(delta)
        return normalize(request, assembly.answer(), head.headers, endpoint_of(http_request))
    except LMGatewayError as error:
        told = _told(error, request, head, assembly)
        if told is error:
            raise
        raise told from error
    finally:
        if head.source is not None:
            head.source.close()


def models(service: Service) -> Flow[list[ModelCard]]:
    """The models a service offers."""
    return parse_models((yield models_request(service)))


def embed(request: EmbedRequest, service: Service) -> Flow[Embeddings]:
    """One vector a text."""
    return parse_embeddings(request, (yield embed_request(request, service)))


def endpoint_of(http_request: HTTPRequest) -> Endpoint:
    """Which endpoint a request goes to, whatever a host has before it in the path."""
    path = http_request.path.partition("?")[0].rstrip("/")
    return CHAT if path.endswith(f"/{CHAT}") else TEXT


def _read_pieces(request: Request, head: HTTPResponse, assembly: Assembly) -> Flow[bool]:
    """Emit piece by piece; True if the end mark came."""
    decoder = Decoder()
    while events := (yield from decoder.read(head)):
        for event in events:
            if event.data == _DONE:
                return True
            for delta in assembly.add(_read_chunk(event, head.headers, request)):
                yield Emit(delta)
    return False


def _read_chunk(event: Event, headers: Mapping[str, str], request: Request) -> Any:
    if event.event == "error":
        try:
            payload = load(event.data, strict=False)
        except ResponseFormatError:
            payload = event.data
        raise error_in(payload, headers, request)
    chunk = load(event.data, strict=False)
    if isinstance(chunk, dict) and (chunk.get("error") or chunk.get("object") == "error"):
        raise error_in(chunk, headers, request)
    return chunk


def _has_all(request: Request, http_request: HTTPRequest, assembly: Assembly) -> bool:
    options = (http_request.json or {}).get("stream_options") or {}
    has_usage = assembly.usage is not None or not options.get("include_usage")
    return has_usage and assembly.is_finished(expected_choices(request))


def _told(
    error: LMGatewayError, request: Request, head: HTTPResponse, assembly: Assembly
) -> LMGatewayError:
    """An error as the stream's, with what the service had said by then."""
    told = broken_off(error, assembly.partial)
    if isinstance(told, APIError):
        locate(told, head.headers)
        told.locate(partial=assembly.partial)
    leave(told, request, assembly.answer(), head.headers, assembly.endpoint)
    return told.locate(rate_limit=rate_limit(head.headers) or None)


def _emit_whole(answer: Answer) -> Flow[Answer]:
    """A host that does not stream after all: each choice is one piece, and one for each part."""
    for choice in answer["choices"]:
        index, reason = choice["index"], choice.get("finish_reason")
        calls = tuple(
            {"index": place, **{name: value for name, value in call.items() if name != "parsed"}}
            for place, call in enumerate(choice.get("tool_calls", ()))
        )
        parts = [_piece(part, index) for part in choice.get("parts", ()) if _is_shown(part)]
        thought = choice.get("reasoning", "")
        first = Delta(choice["text"], index, calls, thought, None if parts else reason)
        for delta in (first, *parts, *([Delta("", index, finish_reason=reason)] if parts else ())):
            yield Emit(delta)
    return answer


def _is_shown(part: Part) -> bool:
    """Whether a part says more than the texts and the calls do."""
    return part["type"] in ("file", "custom") or bool(part.get("citations"))


def _piece(part: Part, index: int) -> Delta:
    if part["type"] == "text":  # its text is shown already
        return Delta("", index, part={**part, "text": ""}, partial="append", id="text")
    return Delta("", index, part=part)
