"""One attempt to have a provider answer: its flow, checked, counted, and its errors explained."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any

from .._guard.tracebacks import masked, redact
from .._layers.context import Attempt, Call, EffectLayer, Step
from .._records.usage import account
from ..errors import LMGatewayError
from ..types import Flow
from .adapt import refitted
from .hook import Hook, run_hook

__all__ = ["attempt_step", "complete_error"]


def attempt_step(hook: Hook, call: Call, layers: Sequence[EffectLayer] = ()) -> Step:
    """The innermost step: one attempt to have a provider answer a request of any kind."""
    kind, endpoint = call.kind, call.endpoint

    def step(request: Any) -> Flow[Any]:
        if call.attempts > 1 and request.timeout is not None:
            request = dataclasses.replace(request, timeout=call.deadline.remaining())
        while True:
            attempt = Attempt(call, request if call.fit is None else call.fit.applied(request))
            try:
                returned = yield from run_hook(hook, attempt, layers)
                answer = kind.normalize(returned, request, endpoint.described)
                answer.setdefault("model", request.model)
                answer["provider"] = endpoint.provider
                answer["cached"] = call.cached
                if call.fit is not None and call.fit.warnings:
                    answer["warnings"] = [*call.fit.warnings, *answer.get("warnings", ())]
                if call.parse is not None:
                    call.parse(answer)
                attempt.commit(answer)
                if kind.history_entry is not None:
                    account(answer)
                return answer
            except LMGatewayError as error:
                if refitted(error, attempt, request):
                    continue
                if attempt.fail(error) and not call.emitted:
                    continue  # it was about a stored answer, which is not found any more
                complete_error(error, attempt)
                raise
            except BaseException as error:  # of our own making, or a library's: not explained
                if (clean := masked(error, call.all_secrets())) is not error:
                    raise clean from None
                raise
            finally:
                attempt.exit()

    return step


def complete_error(error: LMGatewayError, attempt: Attempt) -> None:
    """Fill in where an error happened and what had already been handed out."""
    call = attempt.call
    error.locate(
        provider=call.endpoint.provider, host=call.host, model=attempt.request.model or None
    )
    redact(error, call.all_secrets(), sys._getframe(1))
    call.endpoint.explain(error)
    if call.emitted:
        error.retryable = False
        if error.partial is None:
            error.partial = "".join(attempt.pieces)
