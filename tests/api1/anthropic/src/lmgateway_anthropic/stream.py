"""A streamed answer of the Messages API: its events, put together to what the plain one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from lmgateway.errors import (
    APIError,
    ConnectionFailedError,
    RequestTimeoutError,
    ResponseFormatError,
    StreamInterruptedError,
    StreamStalledError,
)
from lmgateway.types import JSON, Completion, Delta, Emit, Flow, HTTPResponse, Request
from lmgateway.wire.openai import check, load, request_id
from lmgateway.wire.pieces import Pieces, mend
from lmgateway.wire.sse import Decoder, Event

from .parse import FINISH_REASONS, normalize, parse, service_error

__all__ = ["read_stream"]


def read_stream(request: Request, head: HTTPResponse) -> Flow[Completion]:
    """Emit each piece; the answer equals that of ``parse``.

    Raises:
        StreamInterruptedError: The stream ended before ``message_stop``; StreamStalledError if no
            more of it came in time.
        APIError: As ``parse``; an ``error`` event is raised as its kind.
    """
    if head.source is None:
        return (yield from _emit_whole(parse(request, head)))
    message = _Message()
    try:
        check(head, request)
        decoder = Decoder()
        while not message.ended and (events := (yield from decoder.read(head))):
            for event in events:
                for delta in message.take(_payload(event, request, head)):
                    yield Emit(delta)
        if not message.ended:
            raise _interrupted("the stream ended before the answer did", message)
        for delta in message.end_block():
            yield Emit(delta)
        return normalize(request, message.whole(), head.headers)
    except ConnectionFailedError as error:
        interrupted = _interrupted(f"the stream broke off: {error.message}", message)
        raise interrupted.locate(provider=error.provider, host=error.host) from error
    except RequestTimeoutError as error:
        stalled = _interrupted(f"the stream stalled: {error.message}", message, StreamStalledError)
        stalled.retryable = stalled.retryable and error.retryable
        raise stalled.locate(provider=error.provider, host=error.host) from error
    except APIError as error:
        error.locate(request_id=request_id(head.headers))
        raise
    finally:
        head.source.close()


class _Message:
    """The message as it grows."""

    def __init__(self) -> None:
        self.ended = False
        self._fields: dict[str, JSON] = {}
        self._usage: dict[str, JSON] = {}
        self._blocks: dict[int, dict[str, JSON]] = {}
        self._pieces: dict[int, Pieces] = {}
        self._last: int | None = None  # the block that began last
        self._calls: dict[int, int] = {}  # a block's place -> which tool call it is

    def take(self, event: dict[str, JSON]) -> Iterator[Delta]:
        """The pieces that an event brings; unknown events bring none, as the API asks."""
        match event.get("type"):
            case "message_start":
                self._fields = dict(_object(event, "message"))
                self._count(self._fields.pop("usage", None))
            case "content_block_start":
                yield from self._begin(_place(event), dict(_object(event, "content_block")))
            case "content_block_delta":
                yield from self._grow(_place(event), _object(event, "delta"))
            case "message_delta":
                delta = _object(event, "delta")
                self._fields.update(delta)
                self._count(event.get("usage"))
                reason = delta.get("stop_reason")
                if isinstance(reason, str) and reason != "refusal":
                    yield Delta(finish_reason=FINISH_REASONS.get(reason, mend(reason)))
            case "message_stop":
                self.ended = True

    def _count(self, usage: JSON) -> None:
        if isinstance(usage, dict):
            self._usage.update({k: v for k, v in usage.items() if v is not None})
        elif usage is not None:  # what was counted before is of the beginning only
            self._usage.clear()

    @property
    def text(self) -> str:
        """The text so far."""
        blocks = sorted(self._blocks.items())
        return "".join(str(self._pieces[n]) for n, each in blocks if each.get("type") == "text")

    def _begin(self, place: int, block: dict[str, JSON]) -> Iterator[Delta]:
        if place in self._blocks:
            raise ResponseFormatError(f"block {place} of the answer began twice")
        yield from self.end_block()
        self._blocks[place], self._pieces[place] = block, Pieces()
        self._last = place
        if block.get("type") == "tool_use":
            self._calls[place] = len(self._calls)
            for name in ("id", "name"):
                if not isinstance(block.get(name), str):
                    raise ResponseFormatError(f"content_block.{name} in the answer is no string")
                block[name] = mend(block[name])
            function = {"name": block["name"], "arguments": ""}
            call = {"id": block["id"], "type": "function", "function": function}
            yield Delta(tool_calls=({"index": self._calls[place], **call},))
        for name in ("text", "thinking"):
            if block.get("type") == name and block.get(name):
                yield from self._grow(place, {"type": f"{name}_delta", name: block[name]})

    def _grow(self, place: int, delta: dict[str, JSON]) -> Iterator[Delta]:
        pieces = self._pieces.get(place)
        if pieces is None:
            raise ResponseFormatError(f"a delta came for block {place}, which has not begun")
        kind = self._blocks[place].get("type")
        name = _PIECES_OF.get(kind) if isinstance(kind, str) else None
        if name is None or delta.get("type") != _DELTAS[name]:
            return  # signatures and citations, of which a Completion holds nothing
        piece = delta.get(name)
        if not isinstance(piece, str):
            raise ResponseFormatError(f"delta.{name} in the answer is no string")
        yield from self._show(place, name, pieces.add(piece))

    def _show(self, place: int, name: str, piece: str) -> Iterator[Delta]:
        if not piece:
            return
        if name == "text":
            yield Delta(piece)
        elif name == "thinking":
            yield Delta(reasoning=piece)
        elif name == "partial_json":
            function = {"arguments": piece}
            yield Delta(tool_calls=({"index": self._calls[place], "function": function},))

    def end_block(self) -> Iterator[Delta]:
        """Half a character that was held back, as what it is now that the block has ended."""
        if self._last is not None:
            name = _PIECES_OF.get(str(self._blocks[self._last].get("type")), "")
            yield from self._show(self._last, name, self._pieces[self._last].end())

    def whole(self) -> dict[str, JSON]:
        """The message as the plain answer has it."""
        blocks = [self._block(place) for place in sorted(self._blocks)]
        return {**self._fields, "content": blocks, "usage": self._usage}

    def _block(self, place: int) -> dict[str, JSON]:
        block, said = self._blocks[place], str(self._pieces[place])
        match block.get("type"):
            case "text":
                return {**block, "text": said}
            case "thinking":
                return {**block, "thinking": said}
            case "tool_use" if said:
                return {**block, "input": _arguments(said, f"content[{place}].input")}
        return block


#: By the kind of a block: the field of its deltas, and by that the kind of delta that has it.
_PIECES_OF = {"text": "text", "thinking": "thinking", "tool_use": "partial_json"}
_DELTAS = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}


def _arguments(text: str, where: str) -> JSON:
    """The arguments of a call; the text itself where the answer was cut off inside them."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise ResponseFormatError(f"{where} in the answer is nested too deep") from None
    return value if isinstance(value, dict) else text


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


def _object(event: dict[str, JSON], name: str) -> dict[str, JSON]:
    value = event.get(name)
    if not isinstance(value, dict):
        raise ResponseFormatError(f"{name} is missing in an event of the stream")
    return value


def _place(event: dict[str, JSON]) -> int:
    place = event.get("index")
    if type(place) is not int:
        raise ResponseFormatError("index is missing in an event of the stream")
    return place


def _interrupted(
    problem: str,
    message: _Message,
    kind: type[StreamInterruptedError] = StreamInterruptedError,
) -> StreamInterruptedError:
    error = kind(problem)
    error.partial = message.text or None
    error.retryable = error.partial is None
    return error


def _emit_whole(completion: Completion) -> Flow[Completion]:
    """A host that does not stream after all: the answer is one piece."""
    (choice,) = completion["choices"]
    yield Emit(
        Delta(
            choice["text"],
            0,
            choice.get("tool_calls", ()),
            choice.get("reasoning", ""),
            choice.get("finish_reason"),
        )
    )
    return completion
