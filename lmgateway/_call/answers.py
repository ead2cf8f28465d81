"""What a plugin of API 2 answers beside the heart, made plain JSON of the types that are promised.

An odd side field never costs an answer: it is read as far as it makes sense, and what is left
stands in ``extra``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from math import isfinite
from typing import Any

from .._base.values import DEPTH, on_fresh_stack, shown
from ..errors import PluginContractError

__all__ = ["is_json", "mend", "mend_choice", "plain"]

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode

_SCALARS = frozenset({str, int, bool, type(None)})
_STR = frozenset({str})
_REASONS = frozenset({
    "stop", "length", "tool_calls", "content_filter", "pause", "error", "other",
})  # fmt: skip
_IN_TOKENS = _SCALARS | {float, list}
_LIMITS = ("limit", "remaining", "reset")
_ODD: Any = object()  # stands for a value of which nothing can be made


def plain(value: Any) -> Any:
    """A value as plain JSON: itself where it is that; what JSON cannot hold becomes a text."""
    if type(value) in _SCALARS:
        return value
    try:
        return value if _is_plain(value, DEPTH) else _plain(value, DEPTH)
    except RecursionError:
        return on_fresh_stack(lambda each: _plain(each, DEPTH), value)


def is_json(value: Any) -> bool:
    """Whether it can be sent, however deep it is nested: what a service has said it can read."""
    try:
        return _check(value)
    except RecursionError:
        try:
            return on_fresh_stack(_check, value)
        except RecursionError:
            return False


def _check(value: Any) -> bool:
    try:
        _encode(value).encode()
    except (TypeError, ValueError):
        return False
    return True


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        for name, each in value.items():
            if type(name) is not str:
                return False
            if type(each) not in _SCALARS and not (depth and _is_plain(each, depth - 1)):
                return False
        return True
    if kind is list:
        for each in value:
            if type(each) not in _SCALARS and not (depth and _is_plain(each, depth - 1)):
                return False
        return True
    return kind in _SCALARS or (kind is float and isfinite(value))


def _plain(value: Any, depth: int) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, (str, int)):
        return str.__str__(value) if isinstance(value, str) else int(value)
    if isinstance(value, float) and isfinite(value):
        return float(value)
    if depth and isinstance(value, Mapping):
        return {str(name): _plain(each, depth - 1) for name, each in value.items()}
    if depth and isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each, depth - 1) for each in value]
    return shown(value)


# -- field by field ----------------------------------------------------------------------------


def _text(value: Any) -> Any:
    return str.__str__(value) if isinstance(value, str) else _ODD  # the text of an Enum, too


def _object(value: Any) -> Any:
    if type(value) is dict and _SCALARS.issuperset(map(type, value.values())):
        return value if _STR.issuperset(map(type, value)) else plain(value)
    return plain(value) if isinstance(value, Mapping) else _ODD


def _logprobs(value: Any) -> Any:
    """A list of objects is looked at one level deep only: there may be one for each token."""
    if value is None:
        return value
    if type(value) is not list:
        return _ODD
    for token in value:
        if type(token) is not dict or not _IN_TOKENS.issuperset(map(type, token.values())):
            return plain(value)
    return value


def _usage(value: Any) -> Any:
    """The counts that are some; if any is not, the whole of it becomes ``details``."""
    if not isinstance(value, Mapping):
        return _ODD
    for name, count in value.items():
        if type(count) is not int or count < 0 or type(name) is not str:
            break
    else:
        return value if type(value) is dict else dict(value)
    usage = {name: read for name, each in value.items() if (read := _count(name, each)) is not _ODD}
    if len(usage) < len(value):
        usage.setdefault("details", plain(value))
    return usage


def _count(name: Any, value: Any) -> Any:
    if not isinstance(name, str):
        return _ODD
    if name == "details":
        return _object(value)
    value = value.tolist() if hasattr(value, "tolist") else value  # a number of numpy's
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**53:
        return _ODD
    if name == "cost":
        return float(value)
    return int(value) if value == int(value) else _ODD


def _rate_limit(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return _ODD
    limits = {}
    for name in ("requests", "tokens"):
        given = value.get(name)
        given = given if isinstance(given, Mapping) else {}
        told = {key: given[key] for key in _LIMITS if _is_number(given.get(key))}
        if told:
            limits[name] = told
    return limits if limits or not value else _ODD


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 2**53


def _warnings(value: Any) -> Any:
    if not isinstance(value, (list, tuple)):
        return _ODD
    return [_warning(each) for each in value]


def _warning(value: Any) -> dict[str, str]:
    given = value if isinstance(value, Mapping) else {"detail": value}
    told = {"kind": given.get("kind", "ignored"), "name": given.get("name", "")}
    told["detail"] = given.get("detail", "")
    return {name: each if type(each) is str else shown(each) for name, each in told.items()}


def _parts(value: Any) -> Any:
    """The parts; what is none becomes a custom one, so that nothing is lost."""
    if value is None:
        return _ODD
    if not isinstance(value, (list, tuple)):
        return [_custom(value)]
    return [_part(each) if _is_part(each) else _custom(each) for each in value]


def _part(value: Mapping[str, Any]) -> Any:
    part = plain(value)
    return _identified(part) if part["type"] == "tool_call" else part


def _is_part(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("type"), str):
        return False
    needed = _NEEDED.get(value["type"], ())
    return all(isinstance(value.get(name), str) for name in needed)


#: What a part must hold, each a text, for those who read it.
_NEEDED = {"text": ("text",), "reasoning": ("text",), "refusal": ("text",), "tool_call": ("name",)}


def _custom(value: Any) -> dict[str, Any]:
    return {"type": "custom", "kind": "unknown", "value": plain(value)}


def _state(value: Any) -> Any:
    if not isinstance(value, Mapping) or value.get("turn") is None:
        return _ODD
    form = value.get("format")
    if not isinstance(form, str) or not form:
        return _ODD
    return {"format": form, "turn": value["turn"]}


_OF_ANSWERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("model", "id", "request_id", "endpoint"), _text),
    **dict.fromkeys(
        ("prompt", "choices", "provider", "cached", "embeddings", "prompt_tokens"),
        lambda value: value,  # checked elsewhere
    ),
    **dict.fromkeys(("models", "results"), plain),
    "usage": _usage,
    "warnings": _warnings,
    "rate_limit": _rate_limit,
    "extra": _object,
}  # fmt: skip

_OF_CHOICES: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("text", "reasoning", "refusal", "finish_reason_raw"), _text),
    **dict.fromkeys(("finish_reason", "tool_calls"), lambda value: value),
    "index": lambda value: _ODD,
    "logprobs": _logprobs,
    "parts": _parts,
    "state": _state,
    "extra": _object,
}


#: Fields that are right if they are of this type, which they nearly always are.
_RIGHT: dict[str, type] = {
    **dict.fromkeys(
        ("endpoint", "finish_reason", "finish_reason_raw", "id", "model", "prompt", "provider",
         "reasoning", "refusal", "request_id", "text"),
        str,
    ),
    "cached": bool,
    "choices": list,
    "index": int,
}  # fmt: skip


def _is_right(holder: Mapping[str, Any]) -> bool:
    """Whether all fields are as nearly all are; one look, for this is done for every answer."""
    for name, value in holder.items():
        kind = type(value)
        if kind is not dict:
            if _RIGHT.get(name) is not kind:
                return False
        elif name == "usage":
            for key, count in value.items():
                if type(key) is not str or type(count) is not int or count < 0:
                    return False
        elif name == "extra":
            for key, each in value.items():
                if type(key) is not str or type(each) not in _SCALARS:
                    return False
        else:
            return False
    return True


def mend(answer: dict[str, Any]) -> None:
    """Mend what stands beside the heart of an answer of any kind, in place."""
    if not _is_right(answer):
        _mend(answer, _OF_ANSWERS)
    if "model" in answer and not answer["model"]:
        del answer["model"]


def mend_choice(choice: dict[str, Any], place: int, plugin: str) -> None:
    """Mend a choice in place.

    Raises:
        PluginContractError: A tool call is none.
    """
    if not _is_right(choice):
        _mend(choice, _OF_CHOICES)
    reason = choice.get("finish_reason")
    if reason is not None and (type(reason) is not str or reason not in _REASONS):
        word = str.__str__(reason) if isinstance(reason, str) else shown(reason)
        known = not word or word in _REASONS
        choice["finish_reason"] = (word or None) if known else "other"
        if not known:
            choice.setdefault("finish_reason_raw", word)
    if "tool_calls" in choice:
        calls = _calls(choice["tool_calls"], f"{plugin} returned choices[{place}].tool_calls")
        if calls:
            choice["tool_calls"] = calls
        else:
            del choice["tool_calls"]


def _mend(holder: dict[str, Any], table: Mapping[str, Callable[[Any], Any]]) -> None:
    odd: list[str] = []
    for name, value in holder.items():
        if _RIGHT.get(name) is type(value):
            continue
        read = table.get(name)
        mended = _ODD if read is None else read(value)
        if mended is _ODD:
            odd.append(name)
        elif mended is not value:
            holder[name] = mended
    if odd:
        left = {name: holder.pop(name) for name in odd}
        left = {name: plain(each) for name, each in left.items() if each is not None}
        left.pop("state", None)  # which is seen nowhere
        if left:
            holder["extra"] = {**left, **holder.get("extra", {})}


def _calls(calls: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(calls, (list, tuple)):
        if calls is None or (isinstance(calls, (dict, str, int)) and not calls):
            return []
        raise _wrong(where, calls)
    return [_call(call, f"{where}[{number}]") for number, call in enumerate(calls)]


def _call(call: Any, where: str) -> dict[str, Any]:
    if not isinstance(call, Mapping):
        raise _wrong(where, call)
    own = _identified(plain(call))
    function = own.get("function")
    if isinstance(function, dict):
        if not _are_texts([function.get("name")]):
            raise _wrong(f"{where}.function.name", function.get("name"))
        arguments = function.get("arguments")
        if not isinstance(arguments, str):
            text = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
            own["function"] = {**function, "arguments": text}
        return {**own, "type": "function"}
    if not isinstance(own.get("type"), str):
        raise _wrong(where, call)
    return own


def _identified(call: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a call, or of a part that is one; its id, if it has any, is a text."""
    given = call.get("id")
    if given is None or isinstance(given, str):
        return {**call}
    return {**call, "id": str(given) if type(given) is int else ""}


def _are_texts(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _wrong(where: str, value: Any) -> PluginContractError:
    return PluginContractError(
        f"{where} is {shown(value)}: the contract wants tool calls in OpenAI's form there"
    )
