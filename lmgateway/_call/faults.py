"""What a plugin did that the contract forbids, as the error or the warning to show."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from ..errors import (
    OUT_OF_STACK,
    LMGatewayError,
    PluginContractError,
    PluginError,
    StreamInterruptedError,
    StreamStalledError,
    TransportError,
    excerpt,
)
from ..wire.breaks import broken_off

if TYPE_CHECKING:
    from .._layers.context import Call
    from .endpoint import Endpoint

__all__ = ["broken", "complain", "fault", "got_none", "nested", "no_effect", "quietly", "unsound"]


def broken(error: TransportError, call: Call, *, reading: bool) -> LMGatewayError:
    """The error for a stream that broke or stalled, in place of the transport's own.

    Before its first piece it is worth another attempt, whoever raised it.

    Args:
        error: What ends a provider's flow.
        call: The call that it ends.
        reading: Whether a stream was being read.
    """
    told = broken_off(error) if reading and not isinstance(error, StreamInterruptedError) else error
    if isinstance(told, StreamStalledError):  # the deadline leaves no time for another attempt
        passing = error.retryable or (told is error and not call.deadline.expired)
    else:
        passing = isinstance(told, StreamInterruptedError)
    if passing and told.partial is None and not call.emitted:
        told.retryable = True
    return told


def quietly(cancel: Callable[[], None], call: Call) -> None:
    """Call what a plugin gave to cancel its work; warn of what that raises."""
    try:
        cancel()
    except (Exception, SystemExit) as error:
        complain(error, call.endpoint, call.all_secrets(), "when its work was cancelled")


def complain(error: BaseException, endpoint: Endpoint, secrets: Iterable[str], when: str) -> None:
    """Warn of an error that a plugin raised while it was closed.

    If it were raised, it would hide the error or the answer of the call that has ended.
    """
    problem = fault(error, endpoint, when).redact(secrets)
    warnings.warn(problem.message, RuntimeWarning, stacklevel=3)


def fault(error: BaseException, endpoint: Endpoint, when: str = "while it answered") -> PluginError:
    """The error to raise in place of one that a plugin must not raise."""
    if isinstance(error, RecursionError):
        return PluginError(f"{endpoint.described} raised RecursionError {when}: {OUT_OF_STACK}")
    try:
        said = excerpt(str(error))
    except Exception:  # a class of its own, which is faulty as well
        said = "its message cannot be read"
    return PluginError(
        f"{endpoint.described} raised {type(error).__name__} {when}: {said}; "
        "this is a fault of the plugin"
    )


def got_none(error: LMGatewayError, endpoint: Endpoint) -> None:
    """Say of an error that no answer of the model has failed, but the request for credentials.

    A fallback has credentials of its own, and is asked.
    """
    error.passes_on = True
    begin = f"{endpoint.described} got no credentials: "
    if not error.message.startswith(begin):
        error.message = begin + error.message
        error.args = (error.message,)


def no_effect(effect: object, endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a {type(effect).__name__}, which is no effect: "
        "yield from send(...), read(...), or yield Emit(...)"
    )


def nested(endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a Kept within a flow that is kept already: "
        "keep one of the two"
    )


def unsound(effect: object, endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a {type(effect).__name__} with a wrong value in it: "
        "lmgateway.types says what each effect holds"
    )
