"""Credentials: what a request's auth stands for, as headers."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Any, cast

from .._transports.checks import check_headers
from ..errors import InputError, LMGatewayError, PluginContractError
from ..types import HTTPRequest
from .faults import fault

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["credentials"]


def credentials(request: HTTPRequest, endpoint: Endpoint) -> Mapping[str, str]:
    """The headers that say who sends a request.

    Raises:
        MissingCredentialError: There is no key, and the host answers only with one.
        PluginError: The plugin's ``auth`` failed, or returned what cannot be sent.
    """
    auth: Any = request.auth
    if auth is None:
        if (problem := endpoint.missing_key_error(request)) is not None:
            raise problem
        return {}
    try:
        if callable(auth):
            return _checked(auth(), endpoint)
        if not hasattr(auth, "get_secret_value"):
            raise _no_proofs(auth, endpoint)
        proofs = {"Authorization": f"Bearer {auth.get_secret_value()}"}
    except (LMGatewayError, KeyboardInterrupt):
        raise
    except BaseException as error:  # it awaits nothing, so that nobody else can have cancelled it
        raise fault(error, endpoint, "when it was asked for credentials") from error
    return proofs if proofs["Authorization"].isprintable() else _checked(proofs, endpoint)


def _checked(proofs: Any, endpoint: Endpoint) -> Mapping[str, str]:
    """Check what an ``auth`` returned: texts by name, each on one line."""
    if type(proofs) is not dict and not isinstance(proofs, Mapping):
        raise _no_proofs(proofs, endpoint)
    try:
        check_headers(proofs)
    except InputError:
        raise _no_proofs(proofs, endpoint) from None
    return cast(Mapping[str, str], proofs)


def _no_proofs(proofs: Any, endpoint: Endpoint) -> PluginContractError:
    """The error for a wrong value of an ``auth``; it does not quote the value."""
    if hasattr(proofs, "__await__") or isinstance(proofs, Generator):
        if hasattr(proofs, "close"):
            proofs.close()  # else Python warns that it was never awaited
        what = (
            f"a {type(proofs).__name__}, and nobody awaits it (fetch a token by send(...) before)"
        )
    elif isinstance(proofs, Mapping):
        what = "a header that cannot be sent (name and value are each a str on one line)"
    else:
        what = f"a {type(proofs).__name__}"
    return PluginContractError(
        f"{endpoint.described} gave as auth {what}: the contract wants a SecretStr, or a function "
        'that returns headers such as {"Authorization": "Bearer ..."}'
    )
