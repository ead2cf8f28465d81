"""What a plugin did that the contract forbids, as the error or the warning to show."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from ..errors import OUT_OF_STACK, PluginContractError, PluginError, excerpt

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["complain", "fault", "no_effect", "unsound"]


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


def no_effect(effect: object, endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a {type(effect).__name__}, which is no effect: "
        "yield from send(...), read(...), or yield Emit(...)"
    )


def unsound(effect: object, endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a {type(effect).__name__} with a wrong value in it: "
        "lmgateway.types says what each effect holds"
    )
