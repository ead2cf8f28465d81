"""Readable prints of an LM's history."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from time import localtime, strftime
from typing import Any

from .._base.values import on_fresh_stack, shown
from ..errors import InputError
from ..types import JSON

__all__ = ["render", "show"]

_encode = json.JSONEncoder(ensure_ascii=False, default=repr).encode
RULE = "─" * 72
# An answer may hold escape sequences that would repaint the reader's terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def show(history: Sequence[Mapping[str, Any]], count: int = 1) -> None:
    """Print the last ``count`` calls, oldest first; raises InputError for what is no number."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise InputError(f"inspect_history takes a whole number of calls, not {shown(count)}")
    print(render(list(history)[-count:] if count > 0 else []))


def render(entries: Iterable[Mapping[str, Any]]) -> str:
    """Entries of ``lm.history`` as text: prompt, answers, and what is known of each call."""
    texts = [_render_entry(entry) for entry in entries]
    return f"\n{RULE}\n".join(texts) if texts else "no calls yet"


def _render_entry(entry: Mapping[str, Any]) -> str:
    lines = [_headline(entry), ""]
    prompt = entry["prompt"]
    if isinstance(prompt, str):
        lines += ["[prompt]", prompt, ""]
    else:
        for message in prompt:
            lines += [f"[{message.get('role', '?')}]", _content(message), ""]
    completion = entry.get("completion")
    if completion is None:
        lines += ["[error]", str(entry.get("error")), ""]
    else:
        choices = completion["choices"]
        for number, choice in enumerate(choices, 1):
            of = f" {number} of {len(choices)}" if len(choices) > 1 else ""
            lines += [f"[answer{of}{_ending(choice)}]", _answer(choice), ""]
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", "\n".join(lines[:-1]))


def _headline(entry: Mapping[str, Any]) -> str:
    completion = entry.get("completion") or {}
    facts = [strftime("%Y-%m-%d %H:%M:%S", localtime(entry["time"]))]
    if completion:
        facts.append("/".join(filter(None, (completion.get("provider"), completion.get("model")))))
    facts += [f"{name}={value!r}" for name, value in entry.get("params", {}).items()]
    used = completion.get("usage") or {}
    if "prompt_tokens" in used and "completion_tokens" in used:
        facts.append(f"{used['prompt_tokens']}+{used['completion_tokens']} tokens")
    facts.append("cached" if completion.get("cached") else f"{entry['seconds']:.2f} s")
    return "  ".join(facts)


def _content(message: Mapping[str, JSON]) -> str:
    """The text of a message; what is not text is named, not printed."""
    content = message.get("content")
    parts = [content] if isinstance(content, str) else list(content or ())
    texts = [
        part if isinstance(part, str) else str(part.get("text", f"<{part.get('type', 'part')}>"))
        for part in parts
    ]
    return "\n".join([*texts, *_calls(message)])


def _answer(choice: Mapping[str, JSON]) -> str:
    texts = [choice["text"]] if choice["text"] else []
    if choice.get("refusal"):
        texts.append(f"refused: {choice['refusal']}")
    return "\n".join([*texts, *_calls(choice)])


def _calls(turn: Mapping[str, JSON]) -> list[str]:
    functions = [call.get("function") or {} for call in islice(turn.get("tool_calls") or (), 100)]
    return [
        f"→ {function.get('name', '?')}({_arguments(function.get('arguments'))})"
        for function in functions
    ]


def _arguments(arguments: JSON) -> str:
    if isinstance(arguments, str):
        return arguments
    try:
        return _encode(arguments)
    except RecursionError:
        return on_fresh_stack(_encode, arguments)


def _ending(choice: Mapping[str, JSON]) -> str:
    reason = choice.get("finish_reason")
    return f", {reason}" if reason not in (None, "stop", "tool_calls") else ""
