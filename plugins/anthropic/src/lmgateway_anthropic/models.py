"""What the models of Claude's family take: they differ, and the API refuses what one lacks.

Of a name that is not Claude's, or not known here, nothing is assumed: it is asked in the newest
way, and the service says what it does not take. Sources: "Models overview", "Thinking", "Effort",
"Mid-conversation system messages" and "Structured outputs" in the API's documentation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["UNKNOWN", "Traits", "traits"]

_NAME = re.compile(
    r"claude-(?:(?P<old>\d)(?:[-.](?P<older>\d))?-)?"
    r"(?P<family>fable|haiku|mythos|opus|sonnet)"
    r"(?:-(?P<major>\d{1,2})(?!\d)(?:[-.](?P<minor>\d{1,2})(?!\d))?)?"
)
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


@dataclass(frozen=True, slots=True)
class Traits:
    """What one model takes.

    Attributes:
        is_known: Whether the rest is known; if not, it is what the newest models take together.
        thinking: The types of ``thinking``.
        efforts: The words of ``output_config.effort``.
        samples: Whether it takes ``temperature``, ``top_p`` and ``top_k``.
        has_late_system: Whether a system turn may stand between the others.
        has_prefill: Whether the last turn may be the assistant's, to be gone on with.
        has_schema: Whether its answer can be held to a JSON schema.
    """

    is_known: bool = False
    thinking: frozenset[str] = frozenset({"adaptive", "between_tools", "disabled", "enabled"})
    efforts: tuple[str, ...] = _EFFORTS
    samples: bool = True
    has_late_system: bool = True
    has_prefill: bool = True
    has_schema: bool = True

    @property
    def thinks(self) -> bool:
        """Whether it can think at all."""
        return bool(self.thinking - {"disabled"})


UNKNOWN = Traits()


@lru_cache(maxsize=256)
def traits(model: str) -> Traits:
    """What a model takes, by its name: ``claude-opus-4-8``, or as a gateway or cloud writes it."""
    found = _NAME.search(model)
    if found is None:
        return UNKNOWN
    family = found["family"]
    if family == "mythos" and found["major"] is None:
        version = (4, 6)  # the preview, which came between
    elif found["major"] is not None:
        version = (int(found["major"]), int(found["minor"] or 0))
    elif found["old"] is not None:
        version = (int(found["old"]), int(found["older"] or 0))
    else:
        return UNKNOWN
    return Traits(
        is_known=True,
        thinking=_thinking(family, version),
        efforts=_efforts(family, version),
        samples=version < (4, 7),
        has_late_system=version >= (4, 8),
        has_prefill=version < (4, 6),
        has_schema=version >= (4, 1),
    )


def _thinking(family: str, version: tuple[int, int]) -> frozenset[str]:
    always = family in ("fable", "mythos") or (family == "opus" and version >= (5, 5))
    if always and version >= (4, 6):
        return frozenset({"adaptive"})
    if version >= (5, 0):
        return frozenset({"adaptive", "between_tools", "disabled"})
    if version >= (4, 7):
        return frozenset({"adaptive", "disabled"})
    if version >= (4, 6):
        return frozenset({"adaptive", "disabled", "enabled"})
    return frozenset({"disabled", "enabled"} if version >= (3, 7) else {"disabled"})


def _efforts(family: str, version: tuple[int, int]) -> tuple[str, ...]:
    if version >= (4, 7):
        return _EFFORTS
    if version >= (4, 6):
        return ("low", "medium", "high", "max")
    return ("low", "medium", "high") if (family, version) == ("opus", (4, 5)) else ()
