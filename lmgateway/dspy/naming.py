"""Naming: the model string by which DSPy knows an LM of lmgateway."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

from .._store.serialization import shaping as shaping_headers
from ..lm import LM, spec_of
from .asking import CARRIED

__all__ = ["label"]

# Who asks is no matter of the answer's; nor is how texts are embedded.
_WHO = {"api_base", "api_key", "organization", "project", "embeddings"}


def label(lm: LM) -> str:
    """The model string for DSPy. It is all that DSPy's cache key holds of the engine.

    So it names the provider, the service and the model, and holds a digest of whatever else shapes
    an answer: two LMs that may answer differently never share a cached answer.
    """
    base = getattr(lm.settings, "api_base", None)
    digest = _digest(lm)
    beside = f"+{digest}" if digest else ""
    if base:
        beside += f"@{base.partition('://')[2]}"
    # DSPy takes a model for Claude, which cites by itself, if its string begins like this.
    if beside and lm.provider == "anthropic":
        beside = f"/{beside}"
    return f"{lm.provider}{beside}/{lm.model}"


def _digest(lm: LM) -> str:
    """Eight characters for all else that shapes an answer; "" if nothing else is set."""
    spec, options = spec_of(lm), lm.options
    shaping: dict[str, Any] = {name: v for name, v in lm.params.items() if name not in CARRIED}
    if lm.settings is not None:
        shown = lm.settings.model_dump(mode="json", exclude_defaults=True, exclude=_WHO)
        shaping |= {f"settings.{name}": value for name, value in shown.items()}
    headers = shaping_headers(options.headers)
    shaping |= {f"header.{name}": value for name, value in headers.items()}
    beside = {"system": spec.system, "fallbacks": options.fallbacks, "sample": options.sample}
    shaping |= {name: value for name, value in beside.items() if value}
    if not shaping:
        return ""
    return sha256(json.dumps(shaping, sort_keys=True, default=str).encode()).hexdigest()[:8]
