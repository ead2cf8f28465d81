"""The choices of an answer, made whole: what their parts hold, their turns, and what failed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from .._base.turns import read_arguments, says_nothing, turn_digest
from .._base.values import shown
from ..errors import APIError, ContentFilteredError, PluginContractError, ServerError, excerpt
from ..types import CompletionWarning, Info, Request, derived_id
from .answers import is_json, mend, mend_choice, plain

__all__ = ["salvage", "settle"]

#: With none of these a choice is a text, and its message is quickly made.
_MORE = frozenset({"parts", "tool_calls", "reasoning", "refusal", "state"})
_BAD = frozenset({"error", "content_filter"})


def settle(
    answer: dict[str, Any],
    request: Any,
    info: Info,
    plugin: str,
    warnings: Sequence[CompletionWarning] = (),
) -> None:
    """Make of a plugin's answer what is promised of it, in place.

    Side fields are mended (of API 2; an answer of API 1 stays as it is). Every choice gets the
    fields that its parts hold, and its ``message``.

    Args:
        answer: Normalized; it says which provider and model answered.
        request: What was asked, of any kind.
        info: Of the plugin.
        plugin: Its name, for messages.
        warnings: The core's own; they go before the plugin's.

    Raises:
        PluginContractError: A tool call is none.
        ServerError, ContentFilteredError: No choice is good.
    """
    if info.api >= 2:
        mend(answer)
        if "model" not in answer:
            answer["model"] = request.model
    completes = "choices" in answer
    if completes:
        for place, choice in enumerate(answer["choices"]):
            if info.api >= 2:
                told = choice.get("state")
                mend_choice(choice, place, plugin)
                if told is not None and not _has_state(choice):
                    warnings = [*warnings, _without_state(place, plugin)]
            if _MORE.isdisjoint(choice):
                choice["message"] = {"role": "assistant", "content": choice["text"]}
            else:
                if info.api >= 2 and isinstance(choice.get("parts"), list):
                    _derive(choice, choice.get("index", place), request)
                elif not isinstance(choice["text"], str):  # in API 1 parts are the plugin's own
                    raise PluginContractError(f"{plugin} returned choices[{place}] without a text")
                _settle(choice, place, request)
                if info.api >= 2 and "state" in choice:
                    _file(choice, answer)
            if not choice["text"] and _is_empty(choice) and not says_nothing(answer):
                warnings = [*warnings, _empty(choice, place)]
    if warnings:
        told = answer.get("warnings")
        answer["warnings"] = [*warnings, *(told if isinstance(told, list) else ())]
    if info.api >= 2 and completes and answer["choices"][0].get("finish_reason") in _BAD:
        _check_reasons(answer)


def _settle(choice: dict[str, Any], place: int, asked: Request) -> None:
    """Give a choice that is more than a text the fields of its parts, and its message."""
    index = choice.get("index", place)
    calls, reasoning = choice.get("tool_calls"), choice.get("reasoning")
    calls = calls if isinstance(calls, list) else []
    refusal = choice.get("refusal")
    refusal = refusal if isinstance(refusal, str) else None
    if any(isinstance(call, dict) and not call.get("id") for call in calls):
        calls = choice["tool_calls"] = [
            {**call, "id": call.get("id") or derived_id(asked, index, number)}
            if isinstance(call, dict) else call
            for number, call in enumerate(calls)
        ]  # fmt: skip
    turns = [_call_of(call) for call in calls if isinstance(call, dict)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": choice["text"] or refusal or (None if turns else ""),
    }
    if turns:
        message["tool_calls"] = turns
    if isinstance(reasoning, str) and reasoning:
        message["reasoning"] = reasoning
    choice["message"] = message


def _has_state(choice: dict[str, Any]) -> bool:
    """Whether the state that a plugin gave is one; else it is taken out."""
    if "state" in choice and is_json(choice["state"]["turn"]):
        return True
    choice.pop("state", None)
    return False


def _without_state(place: int, plugin: str) -> CompletionWarning:
    return {
        "kind": "state",
        "name": f"choices[{place}]",
        "detail": f'{plugin} gave a state that is not {{"format", "turn"}} in plain JSON: '
        "it was left out",
    }


def _file(choice: dict[str, Any], answer: Mapping[str, Any]) -> None:
    """Put the state into the message, and into the first call for a loop written by hand."""
    message = choice["message"]
    state = {
        **choice.pop("state"),
        "provider": answer["provider"],
        "model": answer["model"],
        "digest": turn_digest(message),
    }
    message["state"] = state
    if "tool_calls" in message:
        first, *others = choice["tool_calls"]
        choice["tool_calls"] = [{**first, "state": dict(state)}, *others]


def _call_of(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call with OpenAI's own keys only."""
    kind = "custom" if "custom" in call and "function" not in call else "function"
    given = call.get(kind)
    given = given if isinstance(given, Mapping) else {}
    text = "input" if kind == "custom" else "arguments"
    said = given.get(text)
    if not isinstance(said, str):
        said = "" if said is None else json.dumps(plain(said), ensure_ascii=False)
    return {
        "id": _text(call.get("id")),
        "type": kind,
        kind: {"name": _text(given.get("name")), text: said},
    }


def _text(value: Any) -> str:
    """What should be a text, as one: a plugin of API 1 may have said something else."""
    return value if isinstance(value, str) else "" if value is None else shown(value)


def _derive(choice: dict[str, Any], index: int, asked: Request) -> None:
    """Fill in the fields that the parts of a choice hold."""
    parts = [part for part in choice["parts"] if isinstance(part, dict)]
    for field, kind in (("text", "text"), ("reasoning", "reasoning"), ("refusal", "refusal")):
        said = "".join(
            part["text"] for part in parts
            if part.get("type") == kind and isinstance(part.get("text"), str)
        )  # fmt: skip
        if said:
            choice[field] = said
    choice.setdefault("text", "")
    calls = [part for part in parts if part.get("type") == "tool_call"]
    own = [part for part in calls if part.get("by") != "service"]
    if any(not part.get("id") for part in calls):
        ids = {id(part): derived_id(asked, index, place) for place, part in enumerate(own)}
        choice["parts"] = [
            {**part, "id": part.get("id") or ids[id(part)]} if id(part) in ids else part
            for part in parts
        ]
        own = [part for part in choice["parts"] if _is_call(part)]
    if own and not choice.get("tool_calls"):
        choice["tool_calls"] = list(map(_derived_call, own))


def _is_call(part: Mapping[str, Any]) -> bool:
    """Whether a part is a call that the user is to answer."""
    return part.get("type") == "tool_call" and part.get("by") != "service"


def _derived_call(part: Mapping[str, Any]) -> dict[str, Any]:
    given = part.get("input")
    if isinstance(given, str):
        text, value = given, read_arguments(given)
    else:
        value = {} if given is None else given
        text = json.dumps(value, ensure_ascii=False)
    call = {
        "id": part.get("id"),
        "type": "function",
        "function": {"name": part.get("name", ""), "arguments": text},
    }
    if not isinstance(value, str):
        call["parsed"] = value
    return call


def _is_empty(choice: Mapping[str, Any]) -> bool:
    """Whether a choice without a text says nothing else either; a thought is nothing said."""
    if choice.get("tool_calls") or choice.get("refusal"):
        return False
    parts = choice.get("parts")
    silent = ("text", "reasoning")
    return not isinstance(parts, list) or all(
        isinstance(part, dict) and part.get("type") in silent for part in parts
    )


def _empty(choice: Mapping[str, Any], place: int) -> CompletionWarning:
    reason = choice.get("finish_reason")
    ended = f", and ended with finish_reason {reason}" if reason else ""
    return {
        "kind": "empty",
        "name": f"choices[{place}]",
        "detail": f"the answer holds no text, no tool call and no other part{ended}",
    }


def _check_reasons(answer: Mapping[str, Any]) -> None:
    """Raise where no choice is good: each failed at the service, or was filtered."""
    choices = answer["choices"]
    if not all(choice.get("finish_reason") in _BAD for choice in choices):
        return
    words = {choice["finish_reason"] for choice in choices}
    word = choices[0].get("finish_reason_raw", choices[0]["finish_reason"])
    error: APIError
    if words == {"content_filter"}:
        error = ContentFilteredError(
            "the service cut the answer off for reasons of content "
            f"(finish_reason {excerpt(word, 40)})",
            status=200,
            code="content_filter",
        )
        error.retryable = False
    else:
        error = ServerError(
            f"the service failed while it answered (finish_reason {excerpt(word, 40)})", status=200
        )
        error.retryable = True
    raise error


# -- what is left of an answer that failed -----------------------------------------------------


def salvage(told: Any, request: Any, info: Info, provider: str) -> dict[str, Any] | None:
    """What there was of an answer, as a completion that is whole in its form; None if nothing.

    It does not hold the prompt, because an error shows what it holds to whoever reports errors.

    Args:
        told: What a plugin left on an error, or what was read before it.
        request: What was asked.
        info: Of the plugin.
        provider: Who was asked.
    """
    if type(request) is not Request or not isinstance(told, dict):
        return None
    choices = told.get("choices")
    if not isinstance(choices, list):
        return None
    left = [
        {**choice, "text": choice["text"] if isinstance(choice.get("text"), str) else ""}
        for choice in choices
        if isinstance(choice, dict)
    ]
    if not left:
        return None
    for choice in left:
        choice.pop("parsed", None)  # an object of the user's, where it is there at all
    answer = {"model": request.model, **told, "prompt": "", "choices": left}
    answer["provider"], answer["cached"] = provider, bool(told.get("cached"))
    if not all("message" in choice for choice in left):
        with suppress(PluginContractError, ServerError, ContentFilteredError):
            settle(answer, request, info, provider)
    for choice in left:
        choice.setdefault("message", {"role": "assistant", "content": choice["text"]})
    return answer
