"""Faults planted in our own plugins, and whether the kit notices: ``make mutants``.

Each file in ``tables`` is a plugin; a name that begins with ``_`` is of faults that several share.
"""

from __future__ import annotations

from .tables import TARGETS

__all__ = ["TARGETS"]
