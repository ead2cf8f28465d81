"""One attempt to have a provider answer: its flow, checked, counted, and its errors explained."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Any, cast

from .._guard.tracebacks import masked, redact
from .._layers.call import (
    Call,
    EffectLayer,
    Scope,
    Step,
)
from .._records.usage import account
from ..errors import (
    LMGatewayError,
    PluginContractError,
    ResponseFormatError,
)
from ..types import (
    Choice,
    Completion,
    Flow,
    Request,
)
from .exchange import Hook, Target, exchange

__all__ = ["attempt", "complete_error", "normalize"]


def attempt(hook: Hook, target: Target, call: Call, layers: Sequence[EffectLayer] = ()) -> Step:
    """The innermost step: one attempt to have a provider answer a request."""

    def step(request: Request) -> Flow[Completion]:
        if call.attempt > 1 and request.timeout is not None:
            request = dataclasses.replace(request, timeout=call.deadline.remaining())
        call.secrets = target.secrets
        while True:
            scope = Scope(call, request, target.base_url, target.asker)
            pieces: list[str] = []
            try:
                outcome = yield from exchange(hook, request, target, scope, layers, pieces)
                completion = normalize(outcome, request, target)
                completion["cached"] = call.cached
                if call.parse is not None:
                    call.parse(completion)
                scope.commit(completion)
                account(completion)
                return completion
            except LMGatewayError as error:
                if scope.fail(error) and not call.emitted:
                    continue  # it was about a stored answer, which is not found any more
                complete_error(error, target, call, request.model, pieces)
                raise
            except BaseException as error:  # of our own making, or a library's: not explained
                if (clean := masked(error, call.all_secrets())) is not error:
                    raise clean from None
                raise
            finally:
                scope.exit()

    return step


def normalize(outcome: Any, request: Request, target: Target) -> Completion:
    """Check what a provider returned and make it a Completion of the user's own.

    Raises PluginContractError for a wrong shape and ResponseFormatError for fewer choices than
    were asked for.
    """
    if not isinstance(outcome, dict):
        raise PluginContractError(
            f"{target.source} returned {type(outcome).__name__} where the contract wants a dict "
            '{"prompt": ..., "choices": [{"text": ...}]}'
        )
    choices = outcome.get("choices")
    if not isinstance(choices, list) or not choices:
        raise PluginContractError(
            f'{target.source} returned {"no" if not choices else "a wrong"} "choices": '
            'the contract wants a list of {"text": ...}, one or more'
        )
    for place, choice in enumerate(choices):
        if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
            raise PluginContractError(
                f'{target.source} returned choices[{place}] without a "text" that is a string'
            )
    wanted = request.params.get("n") or 1
    if len(choices) < wanted:
        raise ResponseFormatError(f"{wanted} choices were asked for and {len(choices)} came")
    completion = cast(Completion, {"prompt": request.input, **outcome})
    completion["prompt"] = request.input
    completion["choices"] = [cast(Choice, dict(choice)) for choice in choices]
    completion.setdefault("model", request.model)
    completion["provider"] = target.provider
    return completion


def complete_error(
    error: LMGatewayError, target: Target, call: Call, model: str, pieces: Sequence[str] = ()
) -> None:
    """Fill in where an error happened and what had already been handed out."""
    error.locate(provider=target.provider, host=call.host, model=model or None)
    redact(error, call.all_secrets(), sys._getframe(1))
    target.explain(error)
    if call.emitted:
        error.retryable = False
        if error.partial is None:
            error.partial = "".join(pieces)
