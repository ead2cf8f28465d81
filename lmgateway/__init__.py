"""lmgateway: one call, any language-model provider, through plugins.

Importing this package is light: what a name needs is imported when the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .errors import *  # noqa: F403

if TYPE_CHECKING:
    from ._layers.observe import CallEvent as CallEvent
    from ._layers.observe import on_call as on_call
    from ._plugins.registry import providers as providers
    from ._records.usage import usage as usage
    from ._store.recorder import record as record
    from ._store.recorder import replay as replay
    from .hookspecs import hookimpl as hookimpl
    from .lm import LM as LM
    from .lm import get_lm as get_lm

_LAZY = {
    "CallEvent": "_layers.observe",
    "LM": "lm",
    "get_lm": "lm",
    "hookimpl": "hookspecs",
    "on_call": "_layers.observe",
    "providers": "_plugins.registry",
    "record": "_store.recorder",
    "replay": "_store.recorder",
    "usage": "_records.usage",
}

__all__ = [
    "LM",
    "CallEvent",
    "get_lm",
    "hookimpl",
    "on_call",
    "providers",
    "record",
    "replay",
    "usage",
]
__all__ += [name for name in errors.__all__ if name[0].isupper()]


def __getattr__(name: str) -> Any:
    if name == "batch":
        return import_module("lmgateway.batch")
    if name not in _LAZY:
        raise AttributeError(f"module 'lmgateway' has no attribute {name!r}")
    value = getattr(import_module(f"lmgateway.{_LAZY[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
