"""Deprecations, told at the line that must change: the plugin's or the program's own.

A hook or an argument of one is deprecated in its spec, where pluggy warns at the implementation::

    @hookspec(firstresult=True, warn_on_impl=deprecation("implement lmgateway_answer", "0.4"))
    @hookspec(warn_on_impl_args={"settings": deprecation("take config", "0.4")})
"""

from __future__ import annotations

import sys
import warnings
from types import FrameType

__all__ = ["LMGatewayDeprecationWarning", "deprecation", "warn_deprecated"]

_PACKAGE = __name__.partition(".")[0]


class LMGatewayDeprecationWarning(DeprecationWarning):
    """Something of lmgateway's that will go; the message says when, and what to use instead."""


def deprecation(instead: str, removed_in: str) -> LMGatewayDeprecationWarning:
    """The warning for a hookspec.

    Args:
        instead: What to do, as an imperative: ``"take config"``.
        removed_in: The version from which on it fails.
    """
    return LMGatewayDeprecationWarning(f"{instead}; this stops working in lmgateway {removed_in}")


def warn_deprecated(what: str, *, instead: str, removed_in: str) -> None:
    """Warn at the nearest line outside this package, however deep inside it we are.

    Args:
        what: What was used: ``"lmgateway.types.Old"``.
        instead: As for ``deprecation``.
        removed_in: As for ``deprecation``.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_inside(frame):
        frame = frame.f_back
    message = f"{what} is deprecated: {deprecation(instead, removed_in)}"
    if frame is None:
        warnings.warn(message, LMGatewayDeprecationWarning, stacklevel=2)
        return
    warnings.warn_explicit(
        message,
        LMGatewayDeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "?"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )


def _is_inside(frame: FrameType) -> bool:
    """Whether a frame is of this package, or of what stands between it and its user."""
    name = frame.f_globals.get("__name__", "").partition(".")[0]
    return name in (_PACKAGE, "pluggy", "importlib", "_frozen_importlib")
