"""Faults planted in our own plugins, and whether the kit notices: ``make mutants``."""

from __future__ import annotations

from .anthropic import ANTHROPIC
from .faults import Target

__all__ = ["TARGETS"]

TARGETS: dict[str, Target] = {target.name: target for target in (ANTHROPIC,)}
