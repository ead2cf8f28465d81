"""Formats: what is asked for where a host refuses the response format that an adapter wants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dspy import lm15

from ..errors import ContextLengthError, InvalidRequestError, LMGatewayError, UnsupportedError

__all__ = ["Asked"]

# The schema that DSPy's JSON adapters make of a signature. Their prompt asks for JSON as well, so
# that it can be done without; a schema that the user gave is never left out.
_OF_ADAPTERS = "DSPyProgramOutputs"
_JSON_MODE = {"type": "json_object"}
_REFUSED = (400, 422)


class Asked:
    """The keywords of one call, and looser ones where the host refuses them.

    A schema becomes JSON mode, and JSON mode becomes nothing, as adapters of ``dspy.LM`` choose for
    a model that lacks them.

    Attributes:
        keywords: What to ask with.
        adapted: What of it is not as it was wanted, in DSPy's words.
    """

    __slots__ = ("_known", "_tried", "adapted", "keywords")

    def __init__(self, keywords: dict[str, Any], known: set[str]) -> None:
        """Begin with the format that is wanted.

        Args:
            keywords: Of the call.
            known: Formats that the host refuses, as was found out before; it grows.
        """
        self.keywords, self._known = keywords, known
        self.adapted: tuple[lm15.Adaptation, ...] = ()
        self._tried: tuple[str, ...] = ()
        while known and (format_ := _replaceable(self.keywords)) and _name(format_) in known:
            self._loosen(format_, "the host refused it before")

    def loosened(self, error: LMGatewayError) -> bool:
        """Whether to ask once more, in a looser way, because the host refused the format."""
        format_ = _replaceable(self.keywords)
        if format_ is None or not _is_refusal(error):
            return False
        self._tried += (_name(format_),)
        self._loosen(format_, f"the host refused it: {error.message}"[:200])
        return True

    def answered(self) -> None:
        """Remember what was refused, now that a looser format was answered."""
        if self._tried:
            self._known.update(self._tried)

    def _loosen(self, format_: Mapping[str, Any], reason: str) -> None:
        looser = _JSON_MODE if format_["type"] == "json_schema" else None
        self.keywords = {**self.keywords, "response_format": looser and dict(looser)}
        action = "dropped" if looser is None else "substituted"
        asked = format_["type"]
        note = lm15.Adaptation("config.response_format", action, reason, asked, looser)
        self.adapted += (note,)


def _replaceable(keywords: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The format that can be done without."""
    wanted = keywords.get("response_format")
    if not wanted:
        return None
    inner = wanted.get("json_schema") or {}
    if wanted["type"] == "json_schema" and inner.get("name") != _OF_ADAPTERS:
        return None
    format_: Mapping[str, Any] = wanted
    return format_


def _name(format_: Mapping[str, Any]) -> str:
    return json.dumps(format_, sort_keys=True)


def _is_refusal(error: LMGatewayError) -> bool:
    if isinstance(error, UnsupportedError):
        return error.param in ("response_format", "schema")
    if not isinstance(error, InvalidRequestError) or isinstance(error, ContextLengthError):
        return False
    return error.status in _REFUSED
