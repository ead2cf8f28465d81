"""What a plugin did that the contract forbids, as the error or the warning to show."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from math import inf
from typing import TYPE_CHECKING, Any

from ..errors import OUT_OF_STACK, PluginContractError, PluginError, excerpt
from ..types import Blocking, Delta, Emit, HTTPRequest, Read, Sleep, Wait

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["complain", "fault", "is_sound", "no_effect", "unsound"]


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


def is_sound(effect: Any, kind: type) -> bool:
    """Whether what an effect holds is of the types that a driver can work with."""
    if kind is Emit:
        delta = effect.delta
        return type(delta) is str or (type(delta) is Delta and type(delta.text) is str)
    if kind is HTTPRequest:
        return (
            isinstance(effect.method, str)
            and isinstance(effect.path, str)
            and isinstance(effect.base_url, (str, type(None)))
            and isinstance(effect.headers, Mapping)
            and isinstance(effect.vary, tuple)
            and (not effect.vary or all(isinstance(name, str) for name in effect.vary))
        )
    if kind is Blocking:
        return callable(effect.fn)
    if kind is Sleep:
        return isinstance(effect.seconds, (int, float)) and 0 <= effect.seconds < inf
    if kind is Wait:
        return isinstance(effect.future, Future)
    return kind is not Read or hasattr(effect.body, "read")
