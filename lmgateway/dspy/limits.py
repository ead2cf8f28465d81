"""Limits: ``max_tokens`` and ``max_completion_tokens``, two names of one thing.

DSPy calls it by the one name or the other, as the model's name looks, and passes on both if both
are there. Here one of them goes out: the one that the user said, or its twin where the model takes
only that, which the core sees to.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import InputError
from ..types import UNSET

__all__ = ["LIMITS", "limit_of", "one_limit"]

LIMITS = ("max_tokens", "max_completion_tokens")


def limit_of(keywords: Mapping[str, Any]) -> str | None:
    """The name of the limit that was given; of two that say the same, the newer name.

    None as a value counts as given: it takes a default away.

    Raises:
        InputError: There are two, and they disagree.
    """
    if keywords.keys().isdisjoint(LIMITS):
        return None
    given = [name for name in LIMITS if keywords.get(name, UNSET) is not UNSET]
    told = [name for name in given if keywords[name] is not None]
    if len(told) == 2 and keywords[told[0]] != keywords[told[1]]:
        both = " and ".join(f"{name}={keywords[name]!r}" for name in told)
        raise InputError(f"{both} disagree: they are two names of one limit, so give one of them")
    return next(reversed(told or given), None)


def one_limit(params: dict[str, Any], given: Mapping[str, Any]) -> str:
    """Leave ``max_tokens`` alone in an LM's parameters, in place; the name that the user said.

    Args:
        params: With all defaults merged.
        given: Those that were given beside the defaults; they count more.

    Raises:
        InputError: Two were given in one place, and they disagree.
    """
    place = params if limit_of(given) is None else given
    name = limit_of(place)
    value = None if name is None else place[name]
    for each in LIMITS:
        params.pop(each, None)
    if value is not None:
        params["max_tokens"] = value
    return name or "max_tokens"
