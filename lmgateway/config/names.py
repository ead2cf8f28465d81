"""Names: what a name given to get_lm stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import InputError
from .origins import Sourced

__all__ = ["Selection", "select"]


@dataclass(frozen=True, slots=True)
class Selection:
    """A provider, its model, and what the configuration says of both.

    Attributes:
        provider: The provider's name: the prefix of its variables.
        plugin: The entry point that serves it.
        model: The model, None if none was named.
        keywords: Core options, settings and generation parameters from the file, as get_lm
            takes them.
        settings: Values of the provider's section, by field, with their origins.
        key_variable: The variable that ``api_key_env`` or the catalogue names.
    """

    provider: str
    plugin: str
    model: str | None
    keywords: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Sourced] = field(default_factory=dict)
    key_variable: str | None = None


def select(name: object, model: str | None) -> Selection:
    """Resolve a name; raises InputError where it cannot stand for anything."""
    if name is None:
        raise InputError("give a provider's name: get_lm('anyscale', model=...)")
    if not isinstance(name, str) or not name.strip():
        raise InputError(f"a name must be a text, not {name!r:.80}")
    if model is None and "/" in name:
        name, _, model = name.partition("/")
    return Selection(name, name, model)
