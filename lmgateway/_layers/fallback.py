"""Fallbacks: other models are asked when a provider fails for a reason of its own."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from ..errors import LMGatewayError
from ..types import Flow
from .context import Call, Step

__all__ = ["Alternative", "fallback"]

logger = logging.getLogger("lmgateway")

Alternative = tuple[str, Step]
"""A name for the user (of a model in the config, or a provider) and the step that asks it."""


def fallback(step: Step, call: Call, alternatives: Sequence[Alternative]) -> Step:
    """Ask the alternatives in turn when the step fails for a reason of the service.

    Such a reason is a retryable error whose retries are used up, or one that ``passes_on``: a spent
    quota, an error of the plugin, a token that its host refuses. An error of the caller or the
    operator is not (a wrong input, key or model name would stay hidden), and no alternative is
    asked after a piece was emitted or the deadline has passed. An alternative that fails, in
    whatever way, is passed over, because the caller did not ask for it.

    The answer says in ``fallback_from`` who failed before. If all fail, the first error is
    raised, because it is about the model that the caller asked for; its notes say what the others
    met.
    """
    if not alternatives:
        return step

    def asked(request: Any) -> Flow[Any]:
        provider = call.provider
        try:
            return (yield from step(request))
        except LMGatewayError as error:
            if call.emitted or not _passes_on(error):
                raise
            first = error
        try:
            failures = [_failure(first, provider, request.model)]
            for name, alternative in alternatives:
                if call.deadline.expired:
                    first.add_note(f"fallback {name} was not asked: the call's time was up")
                    break
                logger.warning(
                    "%s failed with %s: asking %s instead",
                    failures[-1]["provider"],
                    failures[-1]["error"],
                    name,
                )
                try:
                    answer = yield from alternative(request)
                except LMGatewayError as error:
                    if call.emitted:
                        raise
                    first.add_note(f"fallback {name} failed: {type(error).__name__}: {error}")
                    failures.append(_failure(error, name, None))
                else:
                    failures += answer.get("fallback_from", [])
                    answer["fallback_from"] = failures
                    return answer
            raise first
        finally:
            del first  # its traceback holds this frame: leave no cycle behind

    return asked


def _passes_on(error: LMGatewayError) -> bool:
    return error.retryable or error.passes_on


def _failure(error: LMGatewayError, name: str, model: str | None) -> dict[str, Any]:
    return {
        "provider": error.provider or name,
        "model": error.model or model,
        "error": type(error).__name__,
        "message": error.message,
    }
