"""What can be said in another way, and what is only a hint: the tables behind ``unsupported=``."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, TypeAlias

__all__ = ["HINTS", "LOSSLESS", "TWINS", "is_adaptable", "merged", "schema_of"]

#: How to answer, never what: without one of these the answer is still an answer to what was asked.
#: docs/reference/unsupported.md shows the list.
HINTS = frozenset({
    # sampling
    "temperature", "top_p", "top_k", "min_p", "seed",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "length_penalty",
    # how much to think, and to say
    "reasoning_effort", "thinking", "thinking_token_budget", "verbosity",
    # what a text is embedded for
    "input_type",
    # for the service's books
    "user", "safety_identifier", "metadata", "service_tier", "priority",
    "prompt_cache_key", "prompt_cache_retention", "prompt_cache_options",
})  # fmt: skip

Converted: TypeAlias = Callable[[Any, Mapping[str, Any]], Any]
"""Makes the twin's value of a value and all parameters; None where the twin cannot say it."""

#: Tokens that Claude thinks at most, by OpenAI's word for the effort. It takes 1024 and more.
_BUDGETS = {
    "minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32768, "max": 32768,
}  # fmt: skip
_LEAST_BUDGET = 1024


def _same(value: Any, params: Mapping[str, Any]) -> Any:
    return value


def _thinking(effort: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Claude's ``thinking`` for OpenAI's effort; it leaves at least a quarter of the tokens."""
    if effort == "none":
        return {"type": "disabled"}
    budget = _BUDGETS.get(effort) if isinstance(effort, str) else None
    limit = params.get("max_tokens", params.get("max_completion_tokens"))
    if budget is not None and isinstance(limit, int):
        budget = min(budget, limit * 3 // 4)
    if budget is None or budget < _LEAST_BUDGET:
        return None
    return {"type": "enabled", "budget_tokens": budget}


def _effort(thinking: Any, params: Mapping[str, Any]) -> str | None:
    """OpenAI's effort for Claude's ``thinking``; None where the model decides by itself."""
    said = thinking if isinstance(thinking, Mapping) else {}
    if said.get("type") == "disabled":
        return "none"
    budget = said.get("budget_tokens")
    if said.get("type") != "enabled" or not isinstance(budget, int):
        return None
    return "low" if budget <= _BUDGETS["low"] else "medium" if budget <= 8192 else "high"


def _with_user_id(user: Any, params: Mapping[str, Any]) -> dict[str, Any] | None:
    """Claude's ``metadata`` with the user's id."""
    given = params.get("metadata") or {}
    if not isinstance(given, Mapping) or "user_id" in given:
        return None
    return {**given, "user_id": user}


def _user_id(metadata: Any, params: Mapping[str, Any]) -> Any:
    """The user's id, where ``metadata`` holds nothing else."""
    return (
        metadata["user_id"]
        if isinstance(metadata, Mapping) and [*metadata] == ["user_id"]
        else None
    )


#: For each parameter, those that can stand in its place, the best first.
TWINS: dict[str, tuple[tuple[str, Converted], ...]] = {
    "max_tokens": (("max_completion_tokens", _same),),
    "max_completion_tokens": (("max_tokens", _same),),
    "reasoning_effort": (("thinking", _thinking),),
    "thinking": (("reasoning_effort", _effort),),
    "user": (("safety_identifier", _same), ("metadata", _with_user_id)),
    "safety_identifier": (("user", _same), ("metadata", _with_user_id)),
    "metadata": (("user", _user_id), ("safety_identifier", _user_id)),
}

#: Those that mean the same to the letter: they are translated always, and nobody is told.
LOSSLESS = frozenset({"max_tokens", "max_completion_tokens"})


def merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Defaults and what was given over them; of a limit, the name that was given alone."""
    if not LOSSLESS.isdisjoint(given):
        defaults = {name: value for name, value in defaults.items() if name not in LOSSLESS}
    return {**defaults, **given}


def schema_of(response_format: Any) -> dict[str, Any] | None:
    """OpenAI's ``response_format`` as a JSON schema; None where it is none."""
    said = response_format if isinstance(response_format, Mapping) else {}
    if said.get("type") == "json_object":
        return {"type": "object"}
    inner = said.get("json_schema")
    schema = inner.get("schema") if isinstance(inner, Mapping) else None
    return (
        dict(schema) if said.get("type") == "json_schema" and isinstance(schema, Mapping) else None
    )


def is_adaptable(name: str, value: Any, taken: Collection[str], unsupported: str) -> bool:
    """Whether a parameter that a model does not take may be given all the same.

    Args:
        name: Of the parameter.
        value: As it was given.
        taken: Names that the model takes.
        unsupported: The core option.
    """
    if name in LOSSLESS:
        return any(twin in taken for twin, _ in TWINS[name])
    if unsupported != "adapt":
        return False
    return name in HINTS or (name == "response_format" and schema_of(value) is not None)
