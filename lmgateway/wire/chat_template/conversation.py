"""Prepares conversations for templates, and finds control tokens in what a message says."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from ...errors import InputError, UnsupportedError, excerpt
from ...types import Message

__all__ = [
    "ControlTokenWarning",
    "Policy",
    "check_control_tokens",
    "find_tokens",
    "flatten",
    "merge_system",
    "plain",
    "with_reasoning",
]

Policy: TypeAlias = Literal["warn", "forbid", "allow"]
_POLICIES = ("warn", "forbid", "allow")
_SCALARS = frozenset({str, int, float, bool, type(None)})
_REASONING = dict.fromkeys(("reasoning_content", "thinking", "reasoning"))


class ControlTokenWarning(UserWarning):
    """A message holds text that the model reads as the end of a turn or the start of another."""


def plain(value: Any) -> Any:
    """A copy that has JSON's types only, so that a template can call no method of another type.

    Dataclasses and pydantic models become dicts; what has no JSON form becomes ``"<TypeName>"``.
    """
    kind = type(value)
    if kind in _SCALARS:
        return value
    if kind is dict or isinstance(value, Mapping):
        return {
            key if type(key) is str else plain(key): item if type(item) is str else plain(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, tuple):
        return tuple(plain(item) for item in value)
    for base in (str, int, float):
        if isinstance(value, base):
            return base.__str__(value) if base is str else base(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = (field.name for field in dataclasses.fields(value))
        return {name: plain(getattr(value, name)) for name in names}
    if callable(getattr(value, "model_dump", None)):
        return plain(value.model_dump())
    return f"<{type(value).__name__}>"


def with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """The message, with its reasoning under each name that some template reads."""
    if _REASONING.keys().isdisjoint(message):
        return message
    found = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if found is None:
        return message
    return {"thinking": found, **message, "reasoning_content": found}


def flatten(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages whose content is a text: text parts are joined by line breaks, as vLLM does.

    A message without parts is not copied.

    Raises:
        UnsupportedError: A part is no text; a text prompt cannot carry it.
    """
    return [
        {**message, "content": _joined(message["content"], at)}
        if isinstance(message.get("content"), (list, tuple))
        else message
        for at, message in enumerate(messages)
    ]


def _joined(parts: Iterable[Any], at: int) -> str:
    texts = []
    for part in parts:
        kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
        if isinstance(part, str):
            texts.append(part)
        elif kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        else:
            raise UnsupportedError(
                f"messages[{at}] has a part of type {excerpt(str(kind), 40)!r}, and a text prompt "
                f"holds text only; send it to the chat endpoint (use_chat_api=True)"
            )
    return "\n".join(texts)


def merge_system(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """The same conversation without a system role, for templates that know none.

    The text of all system (and developer) messages goes before the first user turn, with an
    empty line between; the messages given are not changed.

    Raises:
        InputError: There is a system text and no user turn that could take it.
    """
    texts = [m.get("content") for m in messages if m.get("role") in ("system", "developer")]
    rest: list[Any] = [dict(m) for m in messages if m.get("role") not in ("system", "developer")]
    system = "\n\n".join(_text(content) for content in texts if content)
    if not system:
        return rest
    for message in rest:
        if message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, (list, tuple)):
                message["content"] = [{"type": "text", "text": system + "\n\n"}, *content]
            else:
                message["content"] = f"{system}\n\n{content or ''}"
            return rest
    raise InputError("merge_system=True needs a user message to put the system text in")


def _text(content: Any) -> str:
    return content if isinstance(content, str) else _joined(content, 0)


def find_tokens(tokens: Iterable[str], messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The control tokens that some message's text holds, in the order given."""
    texts = list(_texts(messages))
    return [token for token in tokens if token and any(token in text for text in texts)]


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


def check_control_tokens(found: Sequence[str], policy: Policy, *, stacklevel: int = 2) -> None:
    """Warn of control tokens in what the user said, or refuse them.

    Args:
        found: What ``find_control_tokens`` found.
        policy: ``"warn"``, ``"forbid"`` or ``"allow"``.
        stacklevel: As for ``warnings.warn``.

    Raises:
        InputError: The policy is ``"forbid"`` and there are some, or it is no policy.
    """
    if policy not in _POLICIES:
        names = ", ".join(map(repr, _POLICIES))
        raise InputError(f"control_tokens is one of {names}, not {excerpt(repr(policy), 40)}")
    if not found or policy == "allow":
        return
    listed = ", ".join(found[:5])
    if policy == "forbid":
        raise InputError(
            f"a message holds the template's control tokens ({listed}), which the model would "
            f'obey; remove them, or allow them with control_tokens="allow"'
        )
    warnings.warn(
        f"a message holds the template's control tokens ({listed}): the model reads them as "
        f'turns of its own. Refuse them with control_tokens="forbid", or say "allow"',
        ControlTokenWarning,
        stacklevel=stacklevel + 1,
    )
