"""One attempt to have a provider answer: its flow, checked, counted, and its errors explained."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from .._guard.tracebacks import masked, redact
from .._layers.context import Attempt, Call, EffectLayer, Step
from .._records.usage import account
from ..errors import (
    APIError,
    ConnectionFailedError,
    ContentFilteredError,
    LMGatewayError,
    TransportError,
)
from ..types import CompletionWarning, Flow
from .adapt import refitted
from .answers import mend
from .choices import salvage, settle
from .hook import Hook, run_hook
from .turns import given

__all__ = ["attempt_step", "complete_error", "hand_over"]


def attempt_step(hook: Hook, call: Call, layers: Sequence[EffectLayer] = ()) -> Step:
    """The innermost step: one attempt to have a provider answer a request of any kind."""
    kind, endpoint = call.kind, call.endpoint

    def step(request: Any) -> Flow[Any]:
        if call.attempts > 1 and request.timeout is not None:
            request = dataclasses.replace(request, timeout=call.deadline.remaining())
        while True:
            attempt, answer = Attempt(call, request), None
            try:
                hand_over(attempt)
                returned = yield from run_hook(hook, attempt, layers)
                answer = kind.normalize(returned, request, endpoint.described)
                answer.setdefault("model", request.model)
                answer["provider"] = endpoint.provider
                answer["cached"] = call.cached
                settle(answer, request, call.info, endpoint.described, attempt.warnings)
                if call.parse is not None:
                    call.parse(answer)
                attempt.commit(answer)
                if kind.history_entry is not None:
                    attempt.owes = False
                    account(answer)
                return answer
            except LMGatewayError as error:
                if refitted(error, attempt, request):
                    continue
                if attempt.fail(error) and not call.emitted:
                    continue  # it was about a stored answer, which is not found any more
                _keep_answer(error, answer, attempt)
                complete_error(error, attempt)
                raise
            except BaseException as error:  # of our own making, or a library's: not explained
                if attempt.owes:
                    _count_failed(attempt, answer or {}, partial=answer is None)
                if (clean := masked(error, call.all_secrets())) is not error:
                    raise clean from None
                raise
            finally:
                attempt.exit()

    return step


def hand_over(attempt: Attempt) -> None:
    """Make what the plugin is given of what the user asked, and note what was changed."""
    call, request = attempt.call, attempt.request
    told: Sequence[CompletionWarning] = ()
    if call.fit is not None:
        request, told = call.fit.applied(request), call.fit.warnings
    attempt.given, warnings = given(request, call.info, call.endpoint.provider)
    attempt.warnings = [*told, *warnings] if told else warnings


def _keep_answer(error: LMGatewayError, answer: Any, attempt: Attempt) -> None:
    """Leave on an error what there was of an answer, and count what the service may bill."""
    call = attempt.call
    told = error.completion if answer is None else answer
    if told is not None:
        error.completion = salvage(told, attempt.request, call.info, call.endpoint.provider)
    there = error.completion or {}
    beside: dict[str, Any] = {name: getattr(error, name) for name in ("usage", "rate_limit")}
    if call.info.api >= 2:
        mend(beside)
    for name in ("usage", "rate_limit"):
        value = beside.get(name)
        setattr(error, name, value if isinstance(value, dict) else there.get(name))
    if isinstance(error, APIError):
        error.locate(request_id=there.get("request_id"))
    if not isinstance(error.partial, str):
        error.partial = (there["choices"][0]["text"] or None) if there else None
    if error.usage or _may_be_billed(error, attempt):
        partial = answer is None and (
            isinstance(error, TransportError)
            or (attempt.request.stream and not isinstance(error, ContentFilteredError))
        )
        _count_failed(attempt, {**there, "usage": error.usage or {}}, partial=partial)


def _may_be_billed(error: LMGatewayError, attempt: Attempt) -> bool:
    """Whether a service may bill an attempt of which it did not tell what it used."""
    if not attempt.owes or isinstance(error, ConnectionFailedError):
        return False
    # An error that stands in a body says itself whether the service has refused.
    refused = isinstance(error, APIError) and (error.status or 0) >= 400
    return bool(attempt.call.emitted) or not refused


def _count_failed(attempt: Attempt, there: Mapping[str, Any], *, partial: bool) -> None:
    """Count an attempt that ended without an answer, by what there was of one."""
    call = attempt.call
    if call.kind.history_entry is None:
        return
    answer = {
        "usage": there.get("usage"),
        "extra": there.get("extra"),
        "model": there.get("model") or attempt.request.model,
        "provider": call.endpoint.provider,
        "cached": call.cached,
    }
    account(answer, failed=True, partial=partial)


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
