"""What a service says about its limits, in the headers of an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from math import isfinite

from ...types import RateLimit, RateLimits

__all__ = ["rate_limit"]

_NAME = "ratelimit"
# Of input or output alone; they are no limit of all tokens.
_OF_A_PART = frozenset({"input", "output", "prompt", "generated", "cached", "uncached", "images"})
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?")
_GROUPS = re.compile(r"(,[0-9]{3})+")  # of thousands: or is it a list?
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)(ms|us|µs|ns|d|h|m|s)")
_SECONDS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6,
            "ns": 1e-9}  # fmt: skip
_EPOCH = 1e9  # a number beyond it is a time, in seconds or, beyond a thousand times it, in ms


def rate_limit(headers: Mapping[str, str]) -> RateLimits:
    """The limits of requests and of tokens; {} where nothing is said of them.

    Read are ``x-ratelimit-*`` in the spellings of OpenAI, Azure, Groq, Mistral, OpenRouter and
    others, ``anthropic-ratelimit-*`` and the standard's ``ratelimit-*``. Of several that say the
    same the shortest counts: ``limit-tokens`` before ``limit-tokens-day``. What makes no sense is
    left out.
    """
    if _NAME not in " ".join(headers).lower():  # as in most answers
        return {}
    names = [name for name in headers if _NAME in name.lower()]
    found: dict[str, dict[str, float]] = {}
    for name in sorted(names, key=lambda name: (name.count("-"), name)):
        words = name.lower().partition(_NAME)[2].strip("-").split("-")
        field = next((word for word in ("limit", "remaining", "reset") if word in words), None)
        if field is None or not _OF_A_PART.isdisjoint(words):
            continue
        by_size = words[0] == "bysize"  # Mistral's; a size is a number of tokens
        of_tokens = by_size or any(word.startswith("token") for word in words)
        kind = "tokens" if of_tokens else "requests"
        if field in found.get(kind, ()):
            continue
        value = headers[name].strip()
        number = _reset(value, headers) if field == "reset" else _whole(value)
        if number is not None:
            found.setdefault(kind, {})[field] = number
    return _limits(found)


def _limits(found: dict[str, dict[str, float]]) -> RateLimits:
    limits: RateLimits = {}
    for kind in ("requests", "tokens"):
        said = found.get(kind)
        if said:
            limit: RateLimit = {}
            if "limit" in said:
                limit["limit"] = int(said["limit"])
            if "remaining" in said:
                limit["remaining"] = int(said["remaining"])
            if "reset" in said:
                limit["reset"] = said["reset"]
            limits[kind] = limit
    return limits


def _whole(value: str) -> float | None:
    """A number of requests or tokens; the standard lets more follow: ``100, 100;w=60``."""
    number = _NUMBER.match(value)
    rest = value[number.end() :].lstrip() if number else ""
    if not number or (rest and rest[0] not in ",;") or _GROUPS.fullmatch(rest):
        return None
    return float(number[0])


def _reset(value: str, headers: Mapping[str, str]) -> float | None:
    """Seconds from the answer: of a number, ``6m0s``, a time since 1970 or an RFC 3339 date."""
    if _NUMBER.fullmatch(value):
        number = float(value)
        if number < _EPOCH:
            return number
        moment = number / 1000 if number >= _EPOCH * 1000 else number
        return max(0.0, moment - _now(headers))
    if _DURATION.match(value.lower()):
        parts = _DURATION.findall(value.lower())
        if "".join(map("".join, parts)) != value.lower():
            return None
        return sum(float(number) * _SECONDS[unit] for number, unit in parts)
    return _until(value, headers)


def _until(date: str, headers: Mapping[str, str]) -> float | None:
    from datetime import UTC, datetime

    try:
        moment = datetime.fromisoformat(date)
        seconds = moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - _now(headers)
    except (ValueError, OverflowError, OSError):
        return None
    return max(0.0, seconds) if isfinite(seconds) else None


def _now(headers: Mapping[str, str]) -> float:
    """When the answer was given, by the clock of the service where it tells."""
    from email.utils import parsedate_to_datetime
    from time import time

    try:
        return parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError, OSError):
        return time()
