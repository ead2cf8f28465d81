"""Parts: how many texts a host takes in one request."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .._plugins.contract import SOUND_LIMITS, are_sound
from ..errors import LMGatewayError, PluginContractError
from ..types import EmbedLimits
from .faults import fault
from .spec import Spec

__all__ = ["Room", "limits_of", "size_of"]

_NO_LIMITS = EmbedLimits()
#: With one of these the host cuts a text that is too long.
_CUTTING = frozenset({"truncate", "truncation", "truncate_prompt_tokens"})


def limits_of(spec: Spec) -> EmbedLimits:
    """What one request may hold, as the plugin says; of a spec that ``embed`` has varied."""
    limits = _said_limits(spec)
    if limits.text_tokens is not None and _CUTTING & spec.params.keys():
        return replace(limits, text_tokens=None)
    return limits


def _said_limits(spec: Spec) -> EmbedLimits:
    said = spec.info.embed
    if said is None or isinstance(said, EmbedLimits):
        return said or _NO_LIMITS
    try:
        limits = said(spec.settings.values if spec.settings else None, spec.model)
    except LMGatewayError:
        raise
    except Exception as error:
        raise fault(error, spec.endpoint) from error
    if not are_sound(limits):
        raise PluginContractError(
            f"{spec.plugin.described}: the function Info.embed must return {SOUND_LIMITS}"
        )
    return limits


def size_of(text: str) -> int:
    """How many bytes a text has: no fewer than it has tokens."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


class Room:
    """How much room there is in one request, while texts are put into it and into the next ones.

    A token is taken for two bytes. What is no text, an image say, goes out alone.

    Args:
        limits: What one request may hold.
    """

    __slots__ = ("_alone", "_count", "_limits", "_tokens")

    def __init__(self, limits: EmbedLimits) -> None:
        self._limits = limits
        self.clear()

    def clear(self) -> None:
        """Begin another request, with nothing in it."""
        self._count = self._tokens = 0
        self._alone = False

    def takes(self, text: Any) -> bool:
        """Put a text into the request; False if it is the first of another one."""
        limits, alone = self._limits, not isinstance(text, str)
        size = 0 if alone or limits.tokens is None else size_of(text) // 2 + 1
        full = self._count and (
            alone
            or self._alone
            or self._count == limits.texts
            or (limits.tokens is not None and self._tokens + size > limits.tokens)
        )
        if full:
            self.clear()
        self._count += 1
        self._tokens += size
        self._alone = alone
        return not full
