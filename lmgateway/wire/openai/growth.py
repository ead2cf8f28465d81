"""The message of a choice that is being streamed."""

from __future__ import annotations

from collections.abc import Sequence

from ...types import JSON, Delta, Part, Request, derived_id
from ..pieces import Pieces
from .fields import malformed
from .fragments import FragmentedCall
from .joining import join_audio, join_chunks, join_details, join_values
from .parts import audio_part, citations, images, read_content, reasoning_in, thought_in

__all__ = ["GrowingMessage"]

_SCALARS = (bool, int, float)
_SAID = frozenset({"role", "tool_calls", "function_call", "refusal"})
_REASONING = frozenset({"reasoning", "reasoning_content"})
_JOIN = {"audio": join_audio, "reasoning_details": join_details,
         "thinking_blocks": join_details}  # fmt: skip


class GrowingMessage:
    """Takes the deltas of one choice; shows what is new in each, and is the message at the end.

    Attributes:
        text: What was said so far.
    """

    __slots__ = (
        "_calls", "_chunks", "_index", "_last", "_open", "_others", "_reasoning", "_refusal",
        "_request", "_said", "_thought_in", "text",
    )  # fmt: skip

    def __init__(self, index: int, request: Request | None) -> None:
        self._index = index
        self._request = request
        self.text = Pieces()
        self._said = False  # whether a content came, be it ""
        self._chunks: list[JSON] | None = None  # set for a content that comes as a list
        self._reasoning = Pieces()
        self._thought_in: set[str] = set()  # the fields that reasoning came in
        self._refusal: list[str] = []
        self._others: dict[str, list[JSON]] = {}  # by name, pieces of all other fields
        self._calls: dict[int, FragmentedCall] = {}  # by place
        self._last = -1  # the last place that is taken
        self._open: dict[int, FragmentedCall] = {}  # by the index that fragments give

    def add(self, delta: dict[str, JSON], reason: str | None, deltas: list[Delta]) -> None:
        """Take a delta; append what is to be shown of it.

        Args:
            delta: As it came.
            reason: Why the choice ended, with its last delta.
            deltas: What is shown, so far.

        Raises:
            ResponseFormatError: a field is of the wrong type.
        """
        parts: list[Delta] = []
        calls: Sequence[dict[str, JSON]] = ()
        text = thought = ""
        for name, value in delta.items():
            if name == "content":
                if type(value) is str:
                    self._said = True
                    text = self.text.add(value)
                elif type(value) is list:
                    text, more = self._add_chunks(value, parts)
                    thought += more
                elif value is not None:
                    raise malformed("choices[].delta.content", value, "a string")
            elif not value or name == "role":
                if value is not None and name not in _SAID and type(value) in _SCALARS:
                    self._others[name] = [value]
            elif name == "tool_calls":
                calls = self._add_calls(value)
            elif name == "function_call":  # as calls were before 2024
                calls = self._add_calls([{"index": 0, "function": value}])
            elif name in _REASONING:
                thought += self._add_reasoning(name, value, delta)
            else:
                thought += self._add_other(name, value, parts, _says_thought(delta))
        if reason:
            text += self.text.end()
        if parts:
            if text or thought or calls:
                deltas.append(Delta(text, self._index, calls, thought))
            deltas += parts
            text, thought, calls = "", "", ()
        if text or thought or calls or reason:
            deltas.append(Delta(text, self._index, calls, thought, reason))

    def _add_chunks(self, chunks: list[JSON], parts: list[Delta]) -> tuple[str, str]:
        """Take chunks of a content that comes as a list; their text and their reasoning."""
        if self._chunks is None:
            self._chunks = []
            self.text = _NotedPieces(self.text, self._chunks)
        text = thought = ""
        for chunk in chunks:
            kind = chunk.get("type", "text") if type(chunk) is dict else None
            if kind == "text" and type(chunk.get("text")) is str:
                text += self.text.add(chunk["text"])
                continue
            shown = read_content([chunk], "choices[].delta.content")
            self._chunks.append(chunk)
            if shown[0]["type"] == "reasoning":
                if not self._thought_in:  # else it is told in a field of its own
                    thought += self._reasoning.add(thought_in(chunk))
            elif shown[0]["type"] != "text":
                parts.append(Delta("", self._index, part=shown[0]))
        return text, thought

    def _add_reasoning(self, name: str, piece: JSON, delta: dict[str, JSON]) -> str:
        if type(piece) is not str:
            raise malformed(f"choices[].delta.{name}", piece, "a string")
        self._thought_in.add(name)
        if name == "reasoning_content" and delta.get("reasoning"):
            return ""  # some hosts say it twice, in both names
        return self._reasoning.add(piece)

    def _add_calls(self, raw: JSON) -> Sequence[dict[str, JSON]]:
        """Take fragments of tool calls: a call's later fragments bring more of its arguments."""
        if type(raw) is not list:
            raise malformed("choices[].delta.tool_calls", raw, "a list")
        shown = []
        for fragment in raw:
            if type(fragment) is not dict:
                raise malformed("choices[].delta.tool_calls[]", fragment, "an object")
            seen = self._call_of(fragment).add(fragment)
            if seen is not None:
                shown.append(seen)
        return tuple(shown)

    def _call_of(self, fragment: dict[str, JSON]) -> FragmentedCall:
        function = fragment.get("function") or fragment.get("custom")
        named = type(function) is dict and bool(function.get("name"))
        index = fragment.get("index")
        if index is None:  # some hosts number nothing: a name begins a call
            index = -1
        elif type(index) is not int or index < 0:
            raise malformed("choices[].delta.tool_calls[].index", index, "a number from 0")
        call = self._open.get(index)
        ended = call is not None and named and (index < 0 or call.is_other(fragment.get("id")))
        if call is None or ended:  # and some number every call 0
            taken = index < 0 or index in self._calls
            place = self._last + 1 if taken else index
            call = self._open[index] = FragmentedCall(place, lambda: self._id_of(place))
            self._calls[place] = call
            self._last = max(self._last, place)
        return call

    def _id_of(self, place: int) -> str:
        return derived_id(self._request, self._index, place) if self._request else ""

    def _add_other(self, name: str, value: JSON, parts: list[Delta], beside: bool) -> str:
        """Take a field that few hosts have; its part in what the model thought.

        ``beside`` says whether the delta tells that in a field of its own.
        """
        if name == "refusal":
            if type(value) is not str:
                raise malformed("choices[].delta.refusal", value, "a string")
            self._refusal.append(value)
            return ""
        self._others.setdefault(name, []).append(value)
        if name == "annotations":
            part: Part = {"type": "text", "text": "", "citations": citations(value)}
            parts.append(Delta("", self._index, part=part, partial="append", id="text"))
        elif name == "images":
            parts += [Delta("", self._index, part=image) for image in images(value)]
        elif name == "audio":
            part = audio_part(value, self._request)
            parts.append(Delta("", self._index, part=part, partial="append", id="audio"))
        elif name == "reasoning_details" and not (self._thought_in or beside):
            return self._reasoning.add(reasoning_in(value))
        return ""

    def end(self) -> Delta | None:
        """Half characters that were held back, as what they are now."""
        text, reasoning = self.text.end(), self._reasoning.end()
        calls = [(place, call.arguments.end()) for place, call in sorted(self._calls.items())]
        fragments = tuple(
            {"index": place, "function": {"arguments": rest}} for place, rest in calls if rest
        )
        if text or reasoning or fragments:
            return Delta(text, self._index, fragments, reasoning)
        return None

    def plain(self) -> dict[str, JSON]:
        """The message as the plain answer has it."""
        self.end()
        said = str(self.text) if self._said or self.text else None
        message: dict[str, JSON] = {
            "content": said if self._chunks is None else join_chunks(self._chunks),
        }
        for name in sorted(self._thought_in):
            message[name] = str(self._reasoning)
        if self._refusal:
            message["refusal"] = "".join(self._refusal)
        if self._calls:
            message["tool_calls"] = [call.plain() for _, call in sorted(self._calls.items())]
        for name, pieces in self._others.items():
            join = _JOIN.get(name, join_values)
            message[name] = join(pieces)
        return message


def _says_thought(delta: dict[str, JSON]) -> bool:
    return bool(delta.get("reasoning") or delta.get("reasoning_content"))


class _NotedPieces(Pieces):
    """A text some pieces of which come within a list: each is noted there."""

    __slots__ = ("_chunks",)

    def __init__(self, begun: Pieces, chunks: list[JSON]) -> None:
        super().__init__()
        self._chunks = chunks
        if begun:
            super().add(self._note(str(begun)))
        self._half = begun._half

    def add(self, piece: str) -> str:
        return self._note(super().add(piece))

    def end(self) -> str:
        return self._note(super().end())

    def _note(self, piece: str) -> str:
        if piece:
            self._chunks.append({"type": "text", "text": piece})
        return piece
