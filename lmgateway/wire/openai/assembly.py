"""The pieces of a streamed answer, put together to what the plain answer would have been."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import ResponseFormatError
from ...types import JSON, Delta
from ..pieces import Pieces, mend
from .arguments import write
from .logprobs import read_logprobs
from .params import CHAT, Endpoint
from .parse import filtered, malformed

__all__ = ["Assembly"]


class Assembly:
    """Takes chunks; gives Deltas as they come, and at the end the whole answer as plain JSON."""

    __slots__ = ("_chat", "_choices", "_id", "_model", "usage")

    def __init__(self, endpoint: Endpoint) -> None:
        self._chat = endpoint == CHAT
        self._choices: dict[int, _Choice] = {}
        self._id: JSON = None
        self._model: JSON = None
        self.usage: JSON = None

    @property
    def partial(self) -> str | None:
        """The text of the first choice so far; None if no choice has any."""
        first = next((c for _, c in sorted(self._choices.items()) if c.text), None)
        return str(first.text) if first is not None else None

    def is_finished(self, expected: int) -> bool:
        """Whether so many choices have come, each with its finish_reason."""
        choices = self._choices.values()
        return len(choices) >= expected and all(choice.finish_reason for choice in choices)

    def add(self, chunk: JSON) -> list[Delta]:
        """Take a chunk; the new text, reasoning and fragments of tool calls in it.

        Raises:
            ContentFilteredError: the service filtered a choice.
            ResponseFormatError: a field is missing or of the wrong type.
        """
        if type(chunk) is not dict:
            raise malformed("an event of the stream", chunk, "an object")
        usage = chunk.get("usage")
        if usage is not None:
            self.usage = usage
        if not self._model:  # some services leave it empty in the first chunk
            model = chunk.get("model")
            self._model = model if type(model) is str else None
            self._id = chunk.get("id")
        choices = chunk.get("choices")
        if type(choices) is not list:
            if choices is None and usage is not None:
                return []
            raise malformed("choices", choices, "a list")
        return [delta for raw in choices if (delta := self._add(raw)) is not None]

    def _add(self, raw: JSON) -> Delta | None:
        if type(raw) is not dict:
            raise malformed("choices[]", raw, "an object")
        index = raw.get("index", 0)
        if type(index) is not int or index < 0:
            raise malformed("choices[].index", index, "a number from 0")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        choice.read_end(raw)
        reason: str | None = raw.get("finish_reason")
        if self._chat:
            delta = raw.get("delta")
            if delta is None:
                delta = {}
            elif type(delta) is not dict:
                raise malformed("choices[].delta", delta, "an object")
            content = delta.get("content")
        else:
            delta, content = {}, raw.get("text")
        if type(content) is str:
            text = choice.text.add(content)
            # Nearly every chunk holds the content and nothing else.
            if len(delta) == 1 and text and not reason:
                return Delta(text, index)
        elif content is None:
            text = ""
        else:
            where = "choices[].delta.content" if self._chat else "choices[].text"
            raise malformed(where, content, "a string")
        reasoning = choice.read_reasoning(delta)
        calls = choice.read_tool_calls(delta.get("tool_calls"))
        if reason:
            text += choice.text.end()
        if text or reasoning or calls or reason:
            return Delta(text, index, calls, reasoning, reason)
        return None

    def end(self) -> list[Delta]:
        """What was held back and must be shown now that no more chunks come."""
        return [
            delta
            for index, choice in self._choices.items()
            if (delta := choice.end(index)) is not None
        ]

    def answer(self) -> dict[str, JSON]:
        """The plain answer; what nothing was said of is not in it."""
        answer = {
            "id": self._id,
            "model": self._model,
            "choices": [
                choice.plain(index, chat=self._chat) for index, choice in self._choices.items()
            ],
            "usage": self.usage,
        }
        return {name: value for name, value in answer.items() if value is not None}


class _Choice:
    __slots__ = (
        "_calls",
        "_last",
        "_logprobs",
        "_odd_logprobs",
        "_open",
        "_reasoning",
        "_refusal",
        "finish_reason",
        "text",
    )

    def __init__(self) -> None:
        self.text = Pieces()
        self._reasoning = Pieces()
        self._refusal: list[str] = []
        self._logprobs: list[dict[str, JSON]] | None = None
        self._odd_logprobs: JSON = None
        self._calls: dict[int, _Call] = {}  # by place
        self._last = -1  # the last place that is taken
        self._open: dict[int, _Call] = {}  # by the index that fragments give
        self.finish_reason: str | None = None

    def read_end(self, raw: dict[str, JSON]) -> None:
        reason = raw.get("finish_reason")
        if reason is not None:
            if type(reason) is not str:
                raise malformed("choices[].finish_reason", reason, "a string")
            if reason == "content_filter":
                raise filtered()
            self.finish_reason = reason
        logprobs = raw.get("logprobs")
        if logprobs is not None:
            try:
                tokens = read_logprobs(logprobs, "choices[].logprobs")
            except ResponseFormatError:  # whether it matters is judged with the whole answer
                self._odd_logprobs = logprobs
                return
            if tokens:
                self._logprobs = self._logprobs or []
                self._logprobs.extend(tokens)

    def read_reasoning(self, delta: dict[str, JSON]) -> str:
        """The reasoning in a delta; a refusal is kept for the end."""
        piece = delta.get("reasoning") or delta.get("reasoning_content")
        refusal = delta.get("refusal")
        if refusal:
            if type(refusal) is not str:
                raise malformed("choices[].delta.refusal", refusal, "a string")
            self._refusal.append(refusal)
        if not piece:
            return ""
        if type(piece) is not str:
            raise malformed("choices[].delta.reasoning", piece, "a string")
        return self._reasoning.add(piece)

    def read_tool_calls(self, raw: JSON) -> Sequence[dict[str, JSON]]:
        """Take fragments of tool calls: a call's later fragments bring more of its arguments."""
        if not raw:
            return ()
        if type(raw) is not list:
            raise malformed("choices[].delta.tool_calls", raw, "a list")
        shown = []
        for fragment in raw:
            if type(fragment) is not dict:
                raise malformed("choices[].delta.tool_calls[]", fragment, "an object")
            shown.append(self._call_of(fragment).add(fragment))
        return tuple(shown)

    def _call_of(self, fragment: dict[str, JSON]) -> _Call:
        function = fragment.get("function")
        named = type(function) is dict and bool(function.get("name"))
        index = fragment.get("index")
        if index is None:  # some hosts number nothing: a name begins a call
            index = -1
        elif type(index) is not int or index < 0:
            raise malformed("choices[].delta.tool_calls[].index", index, "a number from 0")
        call = self._open.get(index)
        ended = call is not None and named and (index < 0 or call.is_other(fragment.get("id")))
        if call is None or ended:  # and some number every call 0
            call = self._open[index] = _Call()
            taken = index < 0 or index in self._calls
            place = self._last + 1 if taken else index
            self._calls[place] = call
            self._last = max(self._last, place)
        return call

    def end(self, index: int) -> Delta | None:
        """Half characters that were held back, as what they are now."""
        text, reasoning = self.text.end(), self._reasoning.end()
        calls = [(place, call.arguments.end()) for place, call in sorted(self._calls.items())]
        fragments = tuple(
            {"index": place, "function": {"arguments": rest}} for place, rest in calls if rest
        )
        if text or reasoning or fragments:
            return Delta(text, index, fragments, reasoning)
        return None

    def plain(self, index: int, *, chat: bool) -> dict[str, JSON]:
        self.end(index)
        choice: dict[str, JSON] = {"index": index, "finish_reason": self.finish_reason}
        if self._odd_logprobs is not None:
            choice["logprobs"] = self._odd_logprobs
        elif self._logprobs is not None:
            choice["logprobs"] = {"content": self._logprobs}
        if not chat:
            return {**choice, "text": str(self.text)}
        choice["message"] = {
            "content": str(self.text),
            "reasoning": str(self._reasoning),
            "refusal": "".join(self._refusal),
            "tool_calls": [call.plain() for _, call in sorted(self._calls.items())],
        }
        return choice


class _Call:
    __slots__ = ("_id", "_length", "_name", "arguments")

    def __init__(self) -> None:
        self._id = ""
        self._name: list[str] = []
        self._length = 0  # of the name
        self.arguments = Pieces()

    def is_other(self, call_id: JSON) -> bool:
        """Whether a fragment with this id and a name cannot belong to this call."""
        return bool(call_id) and bool(self._id) and call_id != self._id

    def add(self, fragment: dict[str, JSON]) -> dict[str, JSON]:
        """Take a fragment; what is to be shown of it, which is nearly always itself."""
        if not self._id:
            self._id = _string(fragment, "id")
        function = fragment.get("function")
        if function is None:
            return fragment if _SHOWN.issuperset(fragment) else _known(fragment)
        if type(function) is not dict:
            raise malformed("choices[].delta.tool_calls[].function", function, "an object")
        if "name" in function:
            self._add_name(_string(function, "name"))
        arguments = said = function.get("arguments")
        where = "choices[].delta.tool_calls[].function.arguments"
        if type(arguments) is dict:  # a whole call at once, as an object
            arguments = write(arguments, where)
        elif arguments is not None and type(arguments) is not str:
            raise malformed(where, arguments, "a string")
        if arguments:
            arguments = self.arguments.add(arguments)
        if arguments is said and _SHOWN.issuperset(fragment) and _SAID.issuperset(function):
            return fragment
        return {**_known(fragment), "function": {**_known(function), "arguments": arguments}}

    def _add_name(self, name: str) -> None:
        # Some hosts repeat it in every fragment.
        if len(name) != self._length or name != "".join(self._name):
            self._name.append(name)
            self._length += len(name)

    def plain(self) -> dict[str, JSON]:
        function = {"name": "".join(self._name), "arguments": str(self.arguments)}
        return {"id": self._id, "type": "function", "function": function}


_SHOWN = frozenset({"index", "id", "function"})
_SAID = frozenset({"name", "arguments"})


def _known(fragment: dict[str, JSON]) -> dict[str, JSON]:
    """A fragment, or its function, without what may hold anything."""
    return {
        name: mend(value) if type(value) is str else value
        for name, value in fragment.items()
        if type(value) in _SCALARS
    }


_SCALARS = frozenset({str, int, float, bool, type(None)})


def _string(raw: dict[str, JSON], name: str) -> str:
    value = raw.get(name)
    if value is None:
        return ""
    if type(value) is not str:
        raise malformed(f"choices[].delta.tool_calls[].{name}", value, "a string")
    return value if value.isascii() else mend(value)
