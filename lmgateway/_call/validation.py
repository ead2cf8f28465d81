"""Validation: every check of what the caller gave, made before any I/O."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from math import inf
from numbers import Real
from pathlib import Path
from typing import Any

from .._base.spelling import advise, handful
from .._base.values import flaw, shown
from .._guard.paths import as_path, is_special
from .._plugins.contract import Plugin
from ..errors import InputError, UnknownParameterError
from ..types import EmbedLimits, Message, Options
from .twins import is_adaptable

__all__ = ["check_documents", "check_json", "check_messages", "check_model", "check_options"]
__all__ += ["check_params", "check_prompt", "check_query", "check_texts"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def check_prompt(prompt: object) -> str:
    """A prompt is a string; raises InputError otherwise."""
    if not isinstance(prompt, str):
        raise InputError(
            f"the prompt must be a str, not {type(prompt).__name__}"
            + ("; give a conversation as messages=" if isinstance(prompt, list) else "")
        )
    if not prompt.isascii():  # else nothing can be wrong in it
        check_json(prompt, "the prompt")
    return prompt


def check_messages(messages: object) -> list[Message]:
    """Messages are a list of dicts, each with a role; raises InputError naming the place."""
    if not isinstance(messages, (list, tuple)) or not messages:
        what = "empty" if messages in ([], ()) else f"a {type(messages).__name__}"
        raise InputError(f'messages must be a list of {{"role": ..., "content": ...}}, not {what}')
    for place, message in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(message, Mapping):
            raise InputError(f"{name} must be a dict, not {type(message).__name__}")
        role = message.get("role")
        if not isinstance(role, str) or not role:
            raise InputError(f'{name} has no "role": one of {", ".join(ROLES)}')
        content = message.get("content")
        if content is None and role != "assistant":
            raise InputError(f'{name} has no "content"')
        if content is not None and not isinstance(content, (str, list)):
            raise InputError(
                f"{name}.content must be a str or a list of parts, not {type(content).__name__}"
            )
        if len(message) == 2 and type(content) is str and content.isascii() and role.isascii():
            continue  # a role and a text: nothing can be wrong in them
        if len(message) > 2 or "content" not in message:
            _check_own_keys(message, name)
            message = _without_state(message)
        check_json(message, name)
    return [dict(message) for message in messages]  # type: ignore[misc]


def _check_own_keys(message: Mapping[str, Any], name: str) -> None:
    """Refuse a wrong value of a key that is the library's own; None counts as not there."""
    for key, kind, wanted in (("is_error", bool, "True or False"), ("reasoning", str, "a str")):
        value = message.get(key)
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name}.{key} must be {wanted}, not {type(value).__name__}")


def _without_state(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message without what never reaches a plugin unjudged, and so is never refused.

    That is the state of a turn and, in its calls, what has been made of their arguments.
    """
    calls = message.get("tool_calls")
    if isinstance(calls, (list, tuple)):
        calls = [
            {key: value for key, value in call.items() if key not in ("state", "parsed")}
            if isinstance(call, Mapping)
            else call
            for call in calls
        ]
        message = {**message, "tool_calls": calls}
    if "state" in message:
        message = {key: value for key, value in message.items() if key != "state"}
    return message


def check_texts(texts: object, limits: EmbedLimits | None = None) -> list[Any]:
    """What is to be embedded: a text or some; raises InputError for anything else.

    Args:
        texts: A text, or an iterable of texts; a list of parts is one where the model takes images.
        limits: What the provider takes.
    """
    no_texts = (bytes, bytearray, Mapping)
    if not isinstance(texts, Iterable) or isinstance(texts, no_texts) or _is_single(texts):
        raise InputError(f"give a text or a list of texts to embed, not {shown(texts)}")
    several = [texts] if isinstance(texts, str) else list(texts)  # a column of a table, too
    if not several:
        raise InputError("give at least one text to embed")
    limits = limits or _NO_LIMITS
    longest = limits.text_tokens or inf
    for place, text in enumerate(several):
        if type(text) is not str:
            several[place] = text = _check_text(text, f"texts[{place}]", limits)
        elif not text.isascii():
            check_json(text, f"texts[{place}]")
        if not text and not limits.empty:
            raise InputError(f"texts[{place}] is empty: the service embeds no empty text")
        if len(text) > longest and isinstance(text, str) and _is_too_long(text, longest):
            raise InputError(
                f"texts[{place}] is too long: its {len(text):,} characters are more than the "
                f"{longest:,} tokens that the service embeds in one text; split it"
            )
    return several


def _is_single(texts: object) -> bool:
    """Whether this is an array of numpy or another library that has no places, but one value."""
    return getattr(texts, "ndim", None) == 0


_NO_LIMITS = EmbedLimits()

#: No token that is known has more bytes: it is a long run of spaces.
_LONGEST_TOKEN = 128


def _is_too_long(text: str, tokens: float) -> bool:
    """Whether a text has more tokens for certain: a token is in one word, and has few bytes."""
    if len(text) > tokens * _LONGEST_TOKEN:
        return True
    return len(text) > 2 * tokens and len(text.split()) > tokens


def _check_text(text: Any, name: str, limits: EmbedLimits) -> Any:
    """A text of numpy as a str; or the parts of which one consists, if images are taken."""
    if isinstance(text, str):
        plain = str.__str__(text)
        check_json(plain, name)
        return plain
    parts = [text] if isinstance(text, Mapping) else text
    if not limits.images or not isinstance(parts, (list, tuple)):
        raise InputError(f"{name} must be a str, not {type(text).__name__}")
    if not parts or not all(isinstance(part, Mapping) for part in parts):
        raise InputError(f"{name} must be a str, or parts as in a message")
    check_json(parts, name)
    return [dict(part) for part in parts]


def check_query(query: object) -> str:
    """What documents are to answer: a text; raises InputError for anything else."""
    if not isinstance(query, str):
        raise InputError(f"the query must be a str, not {type(query).__name__}")
    check_json(query, "the query")
    return query


def check_documents(documents: object) -> list[str]:
    """What is to be ordered: a list of texts; raises InputError for anything else."""
    odd = (str, bytes, bytearray, Mapping)
    if not isinstance(documents, Iterable) or isinstance(documents, odd):
        raise InputError(f"give a list of texts as documents, not {shown(documents)}")
    several = list(documents)
    if not several:
        raise InputError("give at least one document")
    for place, text in enumerate(several):
        if not isinstance(text, str):
            raise InputError(f"documents[{place}] must be a str, not {type(text).__name__}")
        check_json(text, f"documents[{place}]")
    return several


def check_model(model: object, provider: str) -> str:
    """A model's name is one line of text; raises InputError otherwise."""
    if not isinstance(model, str) or not model.strip():
        raise InputError(f"{provider} needs a model: give model=, or a name 'provider/model'")
    check_json(model, "the model's name")
    if not model.isprintable() or model != model.strip():
        raise InputError(
            "the model's name must be one line of printable characters, "
            "without white space around it"
        )
    return model


def check_json(value: object, name: str) -> None:
    """Refuse what JSON cannot carry; raises InputError naming the place."""
    problem = flaw(value, name)
    if problem is not None:
        raise InputError(problem)


def _count(minimum: int, maximum: int = sys.maxsize) -> Callable[[object], str | None]:
    def check(value: object) -> str | None:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            return f"must be a whole number of at least {minimum}"
        if value > maximum:
            return f"must be at most {maximum}"
        return None

    return check


def _number(value: object) -> str | None:
    if isinstance(value, bool) or not isinstance(value, Real):
        return "must be a number"
    return None


def _whole(value: object) -> str | None:
    return (
        "must be a whole number" if isinstance(value, bool) or not isinstance(value, int) else None
    )


def _stop(value: object) -> str | None:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, (list, tuple)) or not all(isinstance(t, str) and t for t in texts):
        return "must be a text or a list of texts, none of them empty"
    return None


#: Keywords that shape one call or batch, by the entry that takes them.
_ENTRIES = {
    **dict.fromkeys(("prompt", "messages", "schema"), "complete"),
    **dict.fromkeys(("concurrency", "progress", "return_exceptions"), "batch"),
    "events": "stream",
}

#: What one entry or the other takes, whoever is asked: for the nearest name.
_KEYWORDS = (
    *Options.__dataclass_fields__,
    *("api_base", "api_key", "config", "model", "system"),
    *_ENTRIES,
)

_VALUES: dict[str, Callable[[object], str | None]] = {
    "n": _count(1),
    "top_n": _count(1),
    "best_of": _count(1),
    "max_tokens": _count(0),
    "max_completion_tokens": _count(1),
    "dimensions": _count(1),
    "temperature": _number,
    "top_p": _number,
    "min_p": _number,
    "presence_penalty": _number,
    "frequency_penalty": _number,
    "repetition_penalty": _number,
    "top_k": _whole,
    "seed": _whole,
    "stop": _stop,
}


def check_params(
    params: Mapping[str, Any],
    plugin: Plugin,
    taken: Collection[str],
    unsupported: str = "refuse",
) -> None:
    """Refuse parameters that the provider does not send, and values that mean nothing.

    Args:
        params: Generation parameters by name.
        plugin: Who is asked, for messages.
        taken: Names that are sent.
        unsupported: The core option. What an attempt says in another way or leaves out is let
            through; see ``adapt``.

    Raises:
        UnknownParameterError: A name that the provider does not know; what to use is offered.
        InputError: A value that no service takes.
    """
    for name, value in params.items():
        if name not in taken and not is_adaptable(name, value, taken, unsupported):
            adaptable = is_adaptable(name, value, taken, "adapt")
            error = UnknownParameterError(_unknown(name, plugin, taken, adaptable=adaptable))
            error.param = name
            raise error
        check_json(value, name)
        problem = _VALUES[name](value) if name in _VALUES else None
        if problem:
            raise InputError(f"{name} {problem}, not {shown(value)}")


def _unknown(name: str, plugin: Plugin, taken: Collection[str], *, adaptable: bool) -> str:
    """What to say of a keyword that nobody knows: what to use, and never a list of all.

    ``adaptable`` is for one that other models know, and that can be done without.
    """
    if name in _ENTRIES:
        return f"{name} belongs to a call: give it to {_ENTRIES[name]}(...)"
    if name == "model":
        return "the model belongs to the LM: use lm.copy(model=...)"
    fields = plugin.settings.model_fields if plugin.settings is not None else ()
    if name in fields:  # in a table `params` of the file
        return f"{name} is a setting: write it beside params, or in [providers.NAME]"
    known = adaptable or name in _KEYWORDS
    advice = "" if known else advise(name, [*taken, *fields, *_KEYWORDS])
    if not advice and name not in _KEYWORDS and "extra_body" in taken:
        advice = f"extra_body={{{shown(name)}: ...}} sends it as it is"
    advice = advice or f"it takes {handful(name, taken) or 'none'}"
    if adaptable:
        advice += "; unsupported='adapt' does without it"
    return f"{plugin.name} has no parameter {shown(name)}: {advice}"


def _seconds(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        return "must be a number of seconds above 0, or None for no end"
    # isinf would convert an int, and not every int is small enough for a float
    return "must be finite; None means no end" if value > sys.float_info.max else None


def _cache(value: object) -> str | None:
    if value is None or isinstance(value, bool) or value in ("only", "refresh"):
        return None
    return 'must be True, False, "only", "refresh" or None'


def _verify(value: object) -> str | None:
    if value is True:
        return None
    if value is False:
        return "cannot be turned off; give the path of a CA bundle that holds your authority"
    if isinstance(value, (str, Path)) and value:
        path = as_path(value, "verify")
        if os.path.exists(path) and not is_special(path):
            return None
    return "must be the path of a CA bundle that exists"


def _headers(value: Any) -> str | None:
    if not isinstance(value, Mapping):
        return "must be a mapping of names to texts"
    for name, given in value.items():
        text = given.get_secret_value() if hasattr(given, "get_secret_value") else given
        if not isinstance(name, str) or not isinstance(text, str):
            return "must be a mapping of names to texts"
        token = name.replace("-", "").replace("_", "").replace(".", "")
        if not token.isascii() or not token.isalnum():
            return f"holds {name!r:.40}, which is no header's name"
        if any(not ("\x20" <= c <= "\xff") or c == "\x7f" for c in text):
            return f"holds a value of {name!r:.40} that cannot stand in a header"
    return None


_OPTIONS: dict[str, Callable[[object], str | None]] = {
    "timeout": _seconds,
    "connect_timeout": lambda value: "must not be None" if value is None else _seconds(value),
    "idle_timeout": _seconds,
    "retries": _count(0),
    "sample": _count(0),
    "history": _count(0),
    "max_body": _count(1),
    "cache": _cache,
    "verify": _verify,
    "headers": _headers,
    "unsupported": lambda value: (
        None if value in ("refuse", "adapt") else 'must be "refuse" or "adapt"'
    ),
    "transport": lambda value: (
        None if value in (None, "aiohttp", "threads") else 'must be "aiohttp", "threads" or None'
    ),
}


def check_options(changes: Mapping[str, Any], base: Options) -> Options:
    """The options with some of them changed; raises InputError for a value that means nothing."""
    for name, value in changes.items():
        problem = _OPTIONS[name](value) if name in _OPTIONS else None
        if problem:
            given = "" if name == "headers" else f", not {shown(value)}"
            raise InputError(f"{name} {problem}{given}")
    tidy = dict(changes)
    for name in ("recordings", "fallbacks"):
        if name in tidy:
            value = () if tidy[name] in (None, "") else tidy[name]
            tidy[name] = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if "recordings" in tidy:
        tidy["recordings"] = tuple(as_path(each, "recordings") for each in tidy["recordings"])
    for each in tidy.get("fallbacks", ()):
        if not isinstance(each, str) or not each.strip():
            raise InputError(f"fallbacks must be names for get_lm, not {shown(each)}")
    if "verify" in tidy and tidy["verify"] is not True:
        tidy["verify"] = as_path(tidy["verify"], "verify")
    return Options(**{**{f: getattr(base, f) for f in Options.__dataclass_fields__}, **tidy})
