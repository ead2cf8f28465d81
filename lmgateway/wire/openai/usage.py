"""Tokens and costs, as services count them."""

from __future__ import annotations

from math import isfinite
from typing import Any, cast

from ...types import JSON, Usage
from .fields import sound

__all__ = ["MOST_TOKENS", "read_usage"]

MOST_TOKENS = 2**53

_COUNTS = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})

# Each name here, and where services say it: a field of their own object, or one within another.
_PLACES: dict[str, tuple[tuple[str, str], ...]] = {
    "cached_tokens": (
        ("prompt_tokens_details", "cached_tokens"),
        ("", "cached_tokens"),  # Moonshot
        ("", "prompt_cache_hit_tokens"),  # DeepSeek
    ),
    "cache_write_tokens": (
        ("prompt_tokens_details", "cache_write_tokens"),
        ("prompt_tokens_details", "cache_creation_tokens"),  # LiteLLM
        ("", "cache_creation_input_tokens"),
    ),
    "reasoning_tokens": (
        ("completion_tokens_details", "reasoning_tokens"),
        ("", "reasoning_tokens"),
    ),
}
_BOTH = ("audio_tokens", "image_tokens")
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")
_READ = {
    "": {*_COUNTS, "cost", "cached_tokens", "prompt_cache_hit_tokens",
         "cache_creation_input_tokens", "reasoning_tokens"},
    "prompt_tokens_details": {"cached_tokens", "cache_write_tokens", "cache_creation_tokens",
                              *_BOTH},
    "completion_tokens_details": {"reasoning_tokens"},  # the sum does not tell what was spoken
}  # fmt: skip


def read_usage(raw: JSON) -> Usage:
    """Tokens as the service counted them; what is no number of tokens is left out.

    ``details`` is the service's own object, where it says more than could be read.
    """
    if type(raw) is not dict:
        return {}
    usage: dict[str, Any] = {}
    says_more = False
    for name, value in raw.items():
        if name in _COUNTS:
            if type(value) is int and 0 <= value <= MOST_TOKENS:
                usage[name] = value
                continue
            if (count := _count(value)) is not None:
                usage[name] = count
                continue
        says_more = says_more or value is not None
    if says_more:
        _read_details(raw, usage)
    return cast(Usage, usage)


def _count(value: JSON) -> int | None:
    if type(value) is int:
        return value if 0 <= value <= MOST_TOKENS else None
    if type(value) is float and value.is_integer() and 0 <= value <= MOST_TOKENS:
        return int(value)
    return None


def _read_details(raw: dict[str, JSON], usage: dict[str, Any]) -> None:
    inner: dict[str, dict[str, JSON]] = {"": raw}
    for part in _DETAILS:
        details = raw.get(part)
        if type(details) is dict:
            inner[part] = details
    for name, places in _PLACES.items():
        for part, field in places:
            count = _count(inner[part].get(field)) if part in inner else None
            if count is not None:
                usage[name] = count
                break
    for name in _BOTH:
        counts = [_count(inner[part].get(name)) for part in _DETAILS if part in inner]
        said = [count for count in counts if count is not None]
        if said:
            usage[name] = sum(said)
    cost: Any = raw.get("cost")
    if type(cost) is dict:  # Perplexity
        cost = cost.get("total_cost")
    if type(cost) in (int, float) and isfinite(cost) and 0 <= cost <= MOST_TOKENS:
        usage["cost"] = float(cost)
    told = list(usage.values())
    if any(_says_more(fields, _READ[part], told) for part, fields in inner.items()):
        details = sound(raw)
        if details is not None:
            usage["details"] = details


def _says_more(fields: dict[str, JSON], read: set[str], told: list[Any]) -> bool:
    """Whether anything else stands in it than zeros, what is empty and what was read."""
    for name, value in fields.items():
        if not value or (name in _DETAILS and type(value) is dict):
            continue
        if name not in read or value not in told:
            return True
    return False
