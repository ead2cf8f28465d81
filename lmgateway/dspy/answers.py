"""Answers: a Completion as a ``dspy.lm15.Response``, and the deltas of a stream as its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dspy import lm15

from .._base.values import is_deep
from ..types import Choice, Completion, Delta

__all__ = ["StreamEvents", "response"]

_REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_call"}
_REASONS |= {"function_call": "tool_call", "content_filter": "content_filter"}

# Where the parts of an answer stand in its message, whatever order they come in.
_THINKING, _TEXT, _FIRST_CALL = 0, 1, 2


def response(completion: Completion, model: str) -> lm15.Response:
    """The first choice as DSPy's response. ``model`` is used if the service named none."""
    choice = completion["choices"][0]
    parts: list[Any] = []
    if reasoning := choice.get("reasoning"):
        parts.append(lm15.ThinkingPart(reasoning))
    if choice["text"]:
        parts.append(lm15.TextPart(choice["text"]))
    if refusal := choice.get("refusal"):
        parts.append(lm15.RefusalPart(refusal))
    parts.extend(lm15.ToolCallPart(*call) for call in _calls(choice))
    return lm15.Response(
        id=completion.get("id") or None,
        model=completion.get("model") or model,
        message=lm15.Message("assistant", tuple(parts or [lm15.TextPart("")])),
        finish_reason=_reason(choice),
        usage=_usage(completion),
        logprobs=_logprobs(choice) or None,
        provider_data=_details(completion),
    )


class StreamEvents:
    """An answer that arrives piece by piece, as DSPy's events.

    Tool calls come whole, at the end: their fragments are put together by then.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self._said = False

    def begin(self) -> lm15.StreamStartEvent:
        """The first event."""
        return lm15.StreamStartEvent(model=self._model)

    def pieces(self, delta: Delta) -> Iterator[lm15.StreamDeltaEvent]:
        """The events of one delta."""
        if delta.index:
            return
        if delta.reasoning:
            yield lm15.StreamDeltaEvent(lm15.ThinkingDelta(delta.reasoning, _THINKING))
        if delta.text:
            self._said = True
            yield lm15.StreamDeltaEvent(lm15.TextDelta(delta.text, _TEXT))

    def end(self, completion: Completion) -> Iterator[lm15.StreamDeltaEvent | lm15.StreamEndEvent]:
        """The events after the last delta."""
        choice = completion["choices"][0]
        rest = "" if self._said else choice["text"] or choice.get("refusal", "")
        logprobs = _logprobs(choice)
        if rest or logprobs:
            yield lm15.StreamDeltaEvent(lm15.TextDelta(rest, _TEXT, logprobs))
        for place, (call_id, name, arguments) in enumerate(_calls(choice), _FIRST_CALL):
            fragment = lm15.ToolCallDelta(json.dumps(arguments), place, call_id, name)
            yield lm15.StreamDeltaEvent(fragment)
        yield lm15.StreamEndEvent(_reason(choice), _usage(completion), _details(completion))


def _reason(choice: Choice) -> str:
    if choice.get("tool_calls"):
        return "tool_call"
    return _REASONS.get(choice.get("finish_reason") or "stop", "stop")


def _calls(choice: Choice) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Id, name and arguments of each tool call; odd arguments are written as DSPy does."""
    for place, call in enumerate(choice.get("tool_calls") or ()):
        function = call.get("function")
        if function is None:
            raise lm15.ProviderError(f"the answer calls a tool of the type {call.get('type')!r}")
        written = function.get("arguments") or "{}"
        arguments: Any = call["parsed"] if "parsed" in call else _read(written)
        if not isinstance(arguments, dict):
            arguments = {"value": arguments}
        yield call.get("id") or f"call_{place}", function["name"], arguments


def _read(arguments: str) -> Any:
    with suppress(ValueError, RecursionError):
        value = json.loads(arguments)
        if not is_deep(value):
            return value
    return {"partial_json": arguments}


def _usage(completion: Completion) -> lm15.Usage:
    usage = completion.get("usage") or {}
    return lm15.Usage(
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        total_tokens=usage.get("total_tokens"),
        cache_read_tokens=usage.get("cached_tokens"),
        reasoning_tokens=usage.get("reasoning_tokens"),
    )


def _details(completion: Completion) -> dict[str, Any]:
    names = ("provider", "endpoint", "request_id", "cached", "fallback_from")
    return {name: completion[name] for name in names if name in completion}  # type: ignore[literal-required]


def _logprobs(choice: Choice) -> tuple[lm15.TokenLogprob, ...]:
    tokens = choice.get("logprobs") or ()
    return tuple(
        lm15.TokenLogprob(
            *_scored(token), top=tuple(lm15.TopLogprob(*_scored(top)) for top in _tops(token))
        )
        for token in tokens
        if token.get("logprob") is not None
    )


def _tops(token: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [top for top in token.get("top_logprobs") or () if top.get("logprob") is not None]


def _scored(token: Mapping[str, Any]) -> tuple[str, float, tuple[int, ...] | None]:
    spelt = token.get("bytes")
    return token["token"], float(token["logprob"]), None if spelt is None else tuple(spelt)
