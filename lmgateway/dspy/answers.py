"""Answers: a Completion as a ``dspy.lm15.Response``, and the deltas of a stream as its events."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from dspy import lm15

from .._base.values import is_deep
from ..types import Choice, Completion, Delta, Part
from .parts import TURN, deltas_of, keeping, parts_beside

__all__ = ["StreamEvents", "response"]

_REASONS = {"stop": "stop", "length": "length", "tool_calls": "tool_call"}
_REASONS |= {"function_call": "tool_call", "content_filter": "content_filter"}

# Where the parts of an answer stand in its message, whatever order they come in.
_THINKING, _TEXT, _OTHERS = 0, 1, 2


def response(
    completion: Completion, model: str, adapted: tuple[lm15.Adaptation, ...] = ()
) -> lm15.Response:
    """The first choice as DSPy's response.

    Args:
        completion: The answer.
        model: Used if the service named none.
        adapted: What was asked for in another way.
    """
    choice = completion["choices"][0]
    beside, others = parts_beside(choice["parts"]) if "parts" in choice else ((), ())
    parts: list[Any] = []
    if reasoning := choice.get("reasoning"):
        parts.append(lm15.ThinkingPart(reasoning))
    if choice["text"]:
        parts.append(lm15.TextPart(choice["text"]))
    if refusal := choice.get("refusal"):
        parts.append(lm15.RefusalPart(refusal))
    parts.extend(beside)
    parts.extend(lm15.ToolCallPart(*call) for call in _calls(choice))
    state = choice["message"].get("state")
    return lm15.Response(
        id=completion.get("id") or None,
        model=completion.get("model") or model,
        message=lm15.Message(
            "assistant", tuple(parts or [lm15.TextPart("")]), keeping(TURN, state) if state else ()
        ),
        finish_reason=_reason(choice),
        usage=_usage(completion),
        logprobs=_logprobs(choice) or None,
        provider_data=_details(completion, others),
        adaptations=adapted,
    )


class StreamEvents:
    """An answer that arrives piece by piece, as DSPy's events.

    Citations, media and calls come whole, at the end: their fragments are put together by then.
    ``adapted`` is what was asked for in another way.

    Attributes:
        begun: Whether there was an event.
    """

    def __init__(self, model: str) -> None:
        self._model = model
        self.begun = False
        self._said = False

    def _begin(self, adapted: tuple[lm15.Adaptation, ...]) -> lm15.StreamStartEvent:
        self.begun = True
        return lm15.StreamStartEvent(model=self._model, adaptations=adapted)

    def whole(self, completion: Completion, adapted: tuple[lm15.Adaptation, ...]) -> Iterator[Any]:
        """The events of an answer that did not come in pieces."""
        reasoning = completion["choices"][0].get("reasoning", "")
        yield from self.pieces(Delta(reasoning=reasoning), adapted)
        yield from self.end(completion, adapted)

    def pieces(self, delta: Delta, adapted: tuple[lm15.Adaptation, ...]) -> Iterator[Any]:
        """The events of one delta."""
        if not self.begun:
            yield self._begin(adapted)
        if delta.index:
            return
        if delta.reasoning:
            yield lm15.StreamDeltaEvent(lm15.ThinkingDelta(delta.reasoning, _THINKING))
        if delta.text:
            self._said = True
            yield lm15.StreamDeltaEvent(lm15.TextDelta(delta.text, _TEXT))

    def end(self, completion: Completion, adapted: tuple[lm15.Adaptation, ...]) -> Iterator[Any]:
        """The events after the last delta."""
        if not self.begun:
            yield self._begin(adapted)
        choice = completion["choices"][0]
        beside, others = parts_beside(choice.get("parts", ()), streamed=True)
        rest = "" if self._said else choice["text"] or choice.get("refusal", "")
        logprobs = _logprobs(choice)
        if rest or logprobs:
            yield lm15.StreamDeltaEvent(lm15.TextDelta(rest, _TEXT, logprobs))
        for place, part in enumerate(beside, _OTHERS):
            yield from map(lm15.StreamDeltaEvent, deltas_of(part, place))
        for place, call in enumerate(_calls(choice), _OTHERS + len(beside)):
            call_id, name, arguments = call
            fragment = lm15.ToolCallDelta(json.dumps(arguments), place, call_id, name)
            yield lm15.StreamDeltaEvent(fragment)
        for kept in keeping(TURN, choice["message"].get("state")):
            state = lm15.ContinuationDelta(kept.provider, kept.kind, kept.data)
            yield lm15.StreamDeltaEvent(state)
        details = _details(completion, others)
        yield lm15.StreamEndEvent(_reason(choice), _usage(completion), details)


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
    heard = spoken = None
    if "audio_tokens" in usage:
        details = usage.get("details") or {}
        heard = _count(details.get("prompt_tokens_details"), "audio_tokens")
        spoken = _count(details.get("completion_tokens_details"), "audio_tokens")
    return lm15.Usage(
        input_tokens=usage.get("prompt_tokens"),
        output_tokens=usage.get("completion_tokens"),
        total_tokens=usage.get("total_tokens"),
        cache_read_tokens=usage.get("cached_tokens"),
        cache_write_tokens=usage.get("cache_write_tokens"),
        reasoning_tokens=usage.get("reasoning_tokens"),
        input_audio_tokens=heard,
        output_audio_tokens=spoken,
    )


def _count(details: Any, name: str) -> int | None:
    """A count that a service states and our own usage sums up."""
    count = details.get(name) if isinstance(details, Mapping) else None
    return count if type(count) is int and count >= 0 else None


_DETAILS = (
    "provider", "endpoint", "request_id", "cached", "fallback_from", "warnings", "rate_limit",
    "extra",
)  # fmt: skip


def _details(completion: Completion, others: Sequence[Part]) -> dict[str, Any]:
    """What DSPy's response has no field for."""
    details = {name: completion[name] for name in _DETAILS if name in completion}  # type: ignore[literal-required]
    usage, choice = completion.get("usage"), completion["choices"][0]
    if usage and ("cost" in usage or "details" in usage):
        details["usage"] = usage
    if (reason := choice.get("finish_reason")) not in _REASONS and reason is not None:
        details["finish_reason"] = reason
    if others:
        details["parts"] = list(others)
    return details


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
