"""The message of a stream as it grows, event by event."""

from __future__ import annotations

import json
from collections.abc import Iterator

from lmgateway.errors import ResponseFormatError
from lmgateway.types import JSON, Delta, Part, Request, derived_id
from lmgateway.wire.openai import write
from lmgateway.wire.pieces import Pieces, mend

from .blocks import SHOWN_AS_TEXT, citation_of, part_of
from .parse import finish_reason

__all__ = ["Growth"]

#: By the kind of a delta: the field of it that holds the piece, and the block's that grows by it.
_PIECES = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
}
#: By the kind of a block: the field that only deltas of its own kind may change.
_GROWS = {"text": "text", "thinking": "thinking", "tool_use": "input"}
#: The rest of a ``message_delta`` is the message's, as ``context_management`` is.
_OF_THE_EVENT = frozenset({"content", "delta", "id", "index", "model", "role", "type", "usage"})
_OF_THE_BLOCK = frozenset({"id", "input", "name", "partial_json", "text", "thinking", "type"})


class Growth:
    """Takes events; gives Deltas as they come, and at the end the message as the plain one is."""

    def __init__(self, request: Request) -> None:
        self.ended = False
        self.usage: dict[str, JSON] = {}
        self._request = request
        self._fields: dict[str, JSON] = {}
        self._blocks: dict[int, dict[str, JSON]] = {}
        self._pieces: dict[int, Pieces] = {}
        self._grows: dict[int, str] = {}  # a block's place -> the field that comes in pieces
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
            case "content_block_stop" if event.get("index") == self._last:
                yield from self.end_block()
            case "message_delta":
                delta = _object(event, "delta")
                self._fields.update({n: v for n, v in event.items() if n not in _OF_THE_EVENT})
                self._fields.update(delta)
                self._count(event.get("usage"))
                reason = delta.get("stop_reason")
                if isinstance(reason, str) and reason != "refusal":
                    yield Delta(finish_reason=finish_reason(reason))
            case "message_stop":
                self.ended = True

    @property
    def has_begun(self) -> bool:
        """Whether any of the content came."""
        return bool(self._blocks)

    @property
    def has_reason(self) -> bool:
        """Whether it was said why the answer ends."""
        return isinstance(self._fields.get("stop_reason"), str)

    def _count(self, usage: JSON) -> None:
        if isinstance(usage, dict):
            self.usage.update({k: v for k, v in usage.items() if v is not None})
        elif usage is not None:  # what was counted before is of the beginning only
            self.usage.clear()

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
        kind = block.get("type")
        if isinstance(kind, str) and kind in _GROWS:
            self._grows[place] = _GROWS[kind]
        if kind == "tool_use":
            yield self._begin_call(place, block)
        for name in ("text", "thinking"):
            if kind == name and block.get(name):
                yield from self._grow(place, {"type": f"{name}_delta", name: block[name]})

    def _begin_call(self, place: int, block: dict[str, JSON]) -> Delta:
        number = self._calls[place] = len(self._calls)
        if block.get("id") is None:
            block["id"] = derived_id(self._request, 0, number)
        for name in ("id", "name"):
            if not isinstance(block.get(name), str):
                raise ResponseFormatError(f"content_block.{name} in the answer is no string")
            block[name] = mend(block[name])
        function = {"name": block["name"], "arguments": ""}
        call = {"id": block["id"], "type": "function", "function": function}
        return Delta(tool_calls=({"index": number, **call},))

    def _grow(self, place: int, delta: dict[str, JSON]) -> Iterator[Delta]:
        pieces = self._pieces.get(place)
        if pieces is None:
            raise ResponseFormatError(f"a delta came for block {place}, which has not begun")
        kind = delta.get("type")
        found = _PIECES.get(kind) if isinstance(kind, str) else None
        if found is None:
            yield from self._add(place, delta)
            return
        name, grown = found
        if place not in self._grows:  # a kind of block that is not known
            self._grows[place] = grown
            begun = self._blocks[place].get(grown)
            pieces.add(begun if isinstance(begun, str) else "")
        elif self._grows[place] != grown:
            return  # a text for a call, or the like
        piece = delta.get(name)
        if not isinstance(piece, str):
            raise ResponseFormatError(f"delta.{name} in the answer is no string")
        yield from self._show(place, grown, pieces.add(piece))

    def _add(self, place: int, delta: dict[str, JSON]) -> Iterator[Delta]:
        """Take a delta of another kind: a citation, a signature, or one that is not known."""
        block, kind = self._blocks[place], delta.get("type")
        if kind == "citations_delta":
            if not isinstance(block.get("citations"), list):
                block["citations"] = []
            block["citations"] = [*block["citations"], delta.get("citation")]
            if (citation := citation_of(delta.get("citation"))) is not None:
                part: Part = {"type": "text", "text": "", "citations": [citation]}
                yield Delta(part=part, partial="append", id=str(place))
            return
        for name, value in delta.items():
            before = block.get(name)
            if name in _OF_THE_BLOCK:
                continue
            goes_on = isinstance(before, (str, list)) and type(before) is type(value)
            block[name] = before + value if goes_on else value

    def _show(self, place: int, grown: str, piece: str) -> Iterator[Delta]:
        if not piece:
            return
        if grown == "text" and self._blocks[place].get("type") == "text":
            yield Delta(piece)
        elif grown == "thinking" and self._blocks[place].get("type") == "thinking":
            yield Delta(reasoning=piece)
        elif place in self._calls:
            function = {"arguments": piece}
            yield Delta(tool_calls=({"index": self._calls[place], "function": function},))

    def end_block(self) -> Iterator[Delta]:
        """What the block that ends had held back: half a character, or all of it as a part."""
        place, self._last = self._last, None
        if place is None:
            return
        yield from self._show(place, self._grows.get(place, ""), self._pieces[place].end())
        given = self._blocks[place].get("input")
        if place in self._calls and given and not self._pieces[place]:  # it came whole
            yield from self._show(place, "input", write(given, f"content[{place}].input"))
        if self._blocks[place].get("type") not in tuple(SHOWN_AS_TEXT):
            yield Delta(part=part_of(self._block(place), f"content[{place}]"))

    def whole(self) -> dict[str, JSON]:
        """The message as the plain answer has it."""
        blocks = [self._block(place) for place in sorted(self._blocks)]
        return {**self._fields, "content": blocks, "usage": self.usage}

    def _block(self, place: int) -> dict[str, JSON]:
        block, said = self._blocks[place], str(self._pieces[place])
        grown = self._grows.get(place)
        if grown is None:
            return block
        if grown != "input":
            return {**block, grown: said}
        return {**block, "input": _arguments(said, f"content[{place}].input")} if said else block


def _arguments(text: str, where: str) -> JSON:
    """The arguments of a call; the text itself where the answer was cut off inside them."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise ResponseFormatError(f"{where} in the answer is nested too deep") from None
    return value if isinstance(value, dict) else text


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
