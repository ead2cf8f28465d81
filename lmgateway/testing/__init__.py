"""Doubles and checks for the tests of programs and of plugins.

``ScriptedLM`` and ``lm_from`` need nothing beside the core; ``ProviderContract`` needs pytest.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .calls import RecordedCall as RecordedCall
    from .calls import read_calls as read_calls
    from .contract import ProviderContract as ProviderContract
    from .objects import lm_from as lm_from
    from .scripted import ScriptedLM as ScriptedLM
    from .tap import record_call as record_call

_LAZY = {
    "ProviderContract": "contract",
    "RecordedCall": "calls",
    "ScriptedLM": "scripted",
    "lm_from": "objects",
    "read_calls": "calls",
    "record_call": "tap",
}

__all__ = [
    "ProviderContract",
    "RecordedCall",
    "ScriptedLM",
    "lm_from",
    "read_calls",
    "record_call",
]


if not TYPE_CHECKING:  # a checker that saw it would take any name for one of ours

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'lmgateway.testing' has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
