"""lmgateway: one call, any language-model provider, through plugins.

Importing this package is light: what a name needs is imported when the name is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import errors
from .errors import *  # noqa: F403

if TYPE_CHECKING:
    from .accounting import usage as usage
    from .hookspecs import hookimpl as hookimpl
    from .layers.observe import CallEvent as CallEvent
    from .layers.observe import on_call as on_call
    from .lm import LM as LM
    from .lm import get_lm as get_lm
    from .registry import providers as providers
    from .store.recorder import record as record
    from .store.recorder import replay as replay

_LAZY = {
    "CallEvent": "layers.observe",
    "LM": "lm",
    "get_lm": "lm",
    "hookimpl": "hookspecs",
    "on_call": "layers.observe",
    "providers": "registry",
    "record": "store.recorder",
    "replay": "store.recorder",
    "usage": "accounting",
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
