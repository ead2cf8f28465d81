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
from ..types import Flow, Info
from .hook import Hook, run_hook
from .turns import given, salvage, settle

__all__ = ["attempt_step", "complete_error"]


API_1 = Info()


def attempt_step(
    hook: Hook, call: Call, layers: Sequence[EffectLayer] = (), *, info: Info = API_1
) -> Step:
    """The innermost step: one attempt to have a provider answer a request of any kind.

    Args:
        hook: Of the plugin.
        call: The call that it is an attempt of.
        layers: What its exchanges pass on their way out.
        info: Of the plugin, for this model.
    """
    kind, endpoint = call.kind, call.endpoint

    def step(request: Any) -> Flow[Any]:
        if call.attempts > 1 and request.timeout is not None:
            request = dataclasses.replace(request, timeout=call.deadline.remaining())
        while True:
            attempt, answer = Attempt(call, request), None
            try:
                attempt.given, attempt.warnings = given(request, info, endpoint.provider)
                returned = yield from run_hook(hook, attempt, layers)
                answer = kind.normalize(returned, request, endpoint.described)
                answer.setdefault("model", request.model)
                answer["provider"] = endpoint.provider
                answer["cached"] = call.cached
                settle(answer, request, info, endpoint.described, attempt.warnings)
                if call.parse is not None:
                    call.parse(answer)
                attempt.commit(answer)
                if kind.history_entry is not None:
                    account(answer)
                return answer
            except LMGatewayError as error:
                if attempt.fail(error) and not call.emitted:
                    continue  # it was about a stored answer, which is not found any more
                _keep_answer(error, answer, attempt, info)
                complete_error(error, attempt)
                raise
            except BaseException as error:  # of our own making, or a library's: not explained
                if (clean := masked(error, call.all_secrets())) is not error:
                    raise clean from None
                raise
            finally:
                attempt.exit()

    return step


def _keep_answer(error: LMGatewayError, answer: Any, attempt: Attempt, info: Info) -> None:
    """Leave on an error what there was of an answer, and count what the service may bill."""
    call = attempt.call
    told = error.completion if answer is None else answer
    if told is not None:
        error.completion = salvage(told, attempt.request, info, call.endpoint.provider)
    there = error.completion or {}
    if error.usage is None:
        error.usage = there.get("usage")
    if error.rate_limit is None:
        error.rate_limit = there.get("rate_limit")
    if error.partial is None and there.get("choices"):
        error.partial = there["choices"][0]["text"] or None
    if isinstance(error.usage, dict) and error.usage and call.kind.history_entry is not None:
        account(
            {
                "usage": error.usage,
                "model": there.get("model") or attempt.request.model,
                "provider": call.endpoint.provider,
                "cached": call.cached,
            },
            failed=True,
        )


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
