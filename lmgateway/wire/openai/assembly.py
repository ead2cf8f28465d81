"""The pieces of a streamed answer, put together to what the plain answer would have been."""

from __future__ import annotations

from ...errors import ResponseFormatError
from ...types import JSON, Delta, Request
from .endings import ENDINGS, FAILED, ending
from .fields import malformed, others
from .growth import GrowingMessage
from .joining import join_lists
from .logprobs import beside_logprobs, read_logprobs
from .params import CHAT, Endpoint

__all__ = ["Assembly"]

# Beside these, a chunk and a choice in it have what is to be kept as it came.
_CHUNK = frozenset({"id", "object", "model", "choices", "usage", "error", "obfuscation"})
_CHOICE = frozenset({"index", "delta", "message", "text", "finish_reason", "logprobs"})


class Assembly:
    """Takes chunks; gives Deltas as they come, and at the end the whole answer as plain JSON."""

    __slots__ = (
        "_chat", "_choices", "_extra", "_id", "_model", "_request", "_width", "endpoint", "usage",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint, request: Request | None = None) -> None:
        """``request`` is what was asked: ids that the host does not give are derived from it."""
        self.endpoint = endpoint
        self._chat = endpoint == CHAT
        self._request = request
        self._choices: dict[int, _Choice] = {}
        self._id: JSON = None
        self._model: JSON = None
        self._extra: dict[str, JSON] = {}
        self._width = 0  # how many fields the last chunk had
        self.usage: JSON = None

    @property
    def partial(self) -> str | None:
        """The text of the first choice so far; None if no choice has any."""
        first = next((c for _, c in sorted(self._choices.items()) if c.message.text), None)
        return str(first.message.text) if first is not None else None

    def is_finished(self, expected: int) -> bool:
        """Whether so many choices have come, each with its finish_reason."""
        choices = self._choices.values()
        return len(choices) >= expected and all(choice.ended for choice in choices)

    def has_failed(self, expected: int) -> bool:
        """Whether so many choices have come, and each was filtered or broke off."""
        choices = self._choices.values()
        return len(choices) >= expected and all(choice.ended in FAILED for choice in choices)

    def add(self, chunk: JSON) -> list[Delta]:
        """Take a chunk; the new text, reasoning, fragments of tool calls and parts in it.

        Raises:
            ResponseFormatError: a field is missing or of the wrong type.
        """
        if type(chunk) is not dict:
            raise malformed("an event of the stream", chunk, "an object")
        usage = chunk.get("usage")
        if usage is not None:
            self.usage = usage
        if len(chunk) != self._width or usage is not None:
            # The first chunk says it all, and later ones what was not known then.
            self._width = len(chunk)
            self._extra.update(others(chunk, _CHUNK))
        if not self._model:  # some services leave it empty in the first chunk
            model = chunk.get("model")
            self._model = model if type(model) is str else None
            self._id = chunk.get("id")
        choices = chunk.get("choices")
        if type(choices) is not list:
            if choices is None and usage is not None:
                return []
            raise malformed("choices", choices, "a list")
        deltas: list[Delta] = []
        for raw in choices:
            self._add(raw, deltas)
        return deltas

    def _add(self, raw: JSON, deltas: list[Delta]) -> None:
        if type(raw) is not dict:
            raise malformed("choices[]", raw, "an object")
        index = raw.get("index", 0)
        if type(index) is not int or index < 0:
            raise malformed("choices[].index", index, "a number from 0")
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice(GrowingMessage(index, self._request))
        reason: str | None = raw.get("finish_reason")
        if reason is not None or len(raw) != choice.width or raw.get("logprobs") is not None:
            reason = choice.read(raw)
        if self._chat:
            delta = raw.get("delta")
            if delta is None:
                delta = {}
            elif type(delta) is not dict:
                raise malformed("choices[].delta", delta, "an object")
        else:
            delta = {"content": raw.get("text")}
        # Nearly every chunk holds the content and nothing else.
        if len(delta) == 1 and not reason:
            content = delta.get("content")
            if content and type(content) is str:
                text = choice.message.text.add(content)
                if text:
                    deltas.append(Delta(text, index))
                return
        choice.message.add(delta, reason, deltas)

    def end(self) -> list[Delta]:
        """What was held back and must be shown now that no more chunks come."""
        deltas = (choice.message.end() for choice in self._choices.values())
        return [delta for delta in deltas if delta is not None]

    def answer(self) -> dict[str, JSON]:
        """The plain answer; what nothing was said of is not in it."""
        answer = {
            **self._extra,
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
        "_beside_logprobs", "_extra", "_logprobs", "_odd_logprobs", "_reason", "ended", "message",
        "width",
    )  # fmt: skip

    def __init__(self, message: GrowingMessage) -> None:
        self.message = message
        self.ended: str | None = None  # in the library's words
        self.width = 0  # fields of a choice that holds nothing to be kept as it came
        self._reason: str | None = None
        self._extra: dict[str, JSON] = {}
        self._logprobs: list[dict[str, JSON]] | None = None
        self._beside_logprobs: dict[str, JSON] = {}
        self._odd_logprobs: JSON = None

    def read(self, raw: dict[str, JSON]) -> str | None:
        """What stands beside the message; the finish_reason, if it came."""
        ended: str | None = None
        reason = raw.get("finish_reason")
        if reason is not None:
            if type(reason) is not str:
                raise malformed("choices[].finish_reason", reason, "a string")
            if reason:
                self._reason = reason
                ended = reason if reason in ENDINGS else ending(reason)
        logprobs = raw.get("logprobs")
        if logprobs is not None:
            self._add_logprobs(logprobs)
        more = others(raw, _CHOICE)
        self.width = -1 if more or self.width < 0 else len(raw)
        join_lists(self._extra, more)
        if more.get("error"):
            ended = "error"
        self.ended = ended or self.ended
        return ended

    def _add_logprobs(self, raw: JSON) -> None:
        try:
            tokens = read_logprobs(raw, "choices[].logprobs")
        except ResponseFormatError:  # whether it matters is judged with the whole answer
            self._odd_logprobs = raw
            return
        if tokens:
            self._logprobs = self._logprobs or []
            self._logprobs.extend(tokens)
        join_lists(self._beside_logprobs, beside_logprobs(raw))

    def plain(self, index: int, *, chat: bool) -> dict[str, JSON]:
        choice: dict[str, JSON] = {**self._extra, "index": index, "finish_reason": self._reason}
        if self._odd_logprobs is not None:
            choice["logprobs"] = self._odd_logprobs
        elif self._logprobs is not None or self._beside_logprobs:
            choice["logprobs"] = {**self._beside_logprobs, "content": self._logprobs}
        message = self.message.plain()
        return {**choice, "message": message} if chat else {**choice, "text": message["content"]}
