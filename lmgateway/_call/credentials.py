"""Credentials: what a request's auth stands for, as headers."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from functools import partial
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast

from .._transports.checks import check_headers
from .._transports.urls import place_of
from ..errors import APIError, InputError, LMGatewayError, PluginContractError, TransportError
from ..types import Flow, HTTPRequest, Outgoing, Signed
from .faults import fault, got_none

if TYPE_CHECKING:
    from .._layers.context import Attempt
    from .endpoint import Endpoint

__all__ = ["credentials", "prove", "refused"]

#: So many auths may wait for each other's tokens.
DEEPEST = 4


def credentials(
    request: HTTPRequest,
    final: HTTPRequest,
    endpoint: Endpoint,
    within: tuple[HTTPRequest, ...] = (),
) -> Any:
    """The headers that say who sends a request; or the plugin's flow that will return them.

    Args:
        request: As the plugin made it.
        final: As it will be sent, but for these headers.
        endpoint: Whose request it is.
        within: The requests whose auth waits for it: a host of tokens may need no key.

    Raises:
        MissingCredentialError: There is no key, and the host answers only with one.
        PluginError: The plugin's ``auth`` failed, or returned what cannot be sent.
    """
    auth: Any = request.auth
    if auth is None:
        if not within and (problem := endpoint.missing_key_error(request)) is not None:
            raise problem
        return {}
    try:
        if callable(auth):
            returned = auth()
        elif type(auth) is Signed and callable(auth.fn):
            returned = auth.fn(_outgoing(final))
        else:
            secret = _secret_in(auth, endpoint)
            proofs = {"Authorization": f"Bearer {secret}"}
            plain = secret.isascii() and secret.isprintable()
            return proofs if plain else _checked(proofs, endpoint)
    except (LMGatewayError, KeyboardInterrupt) as error:
        if isinstance(error, (APIError, TransportError)):
            got_none(error, endpoint)
        raise
    except BaseException as error:  # it awaits nothing, so that nobody else can have cancelled it
        raise fault(error, endpoint, "when it was asked for credentials") from error
    return returned if isinstance(returned, GeneratorType) else _checked(returned, endpoint)


def prove(
    request: HTTPRequest,
    flow: Generator[Any, Any, Any],
    attempt: Attempt,
    send: Callable[..., Flow[Any]],
    within: tuple[HTTPRequest, ...],
) -> Flow[Mapping[str, str]]:
    """The headers that an auth's flow returns.

    Args:
        request: Whose auth it is.
        flow: Has not begun.
        attempt: The one under way.
        send: Sends an exchange straight to the wire; takes ``within``.
        within: The requests whose auth waits for it.
    """
    from .fetching import circular, fetched

    if len(within) >= DEEPEST or any(each.auth is request.auth for each in within):
        raise circular(attempt.call.endpoint)
    inner = partial(send, attempt, within=(*within, request))
    return _checked((yield from fetched(flow, attempt, inner)), attempt.call.endpoint)


def refused(request: HTTPRequest, proofs: Mapping[str, str], endpoint: Endpoint) -> bool:
    """Tell the auth of a request that its headers were refused; whether it may have others."""
    auth: Any = request.auth
    tell = getattr(auth.fn if type(auth) is Signed else auth, "refused", None)
    if tell is None:
        return False
    try:
        tell(proofs)
    except (LMGatewayError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise fault(error, endpoint, "when its credentials had been refused") from error
    return True


def _outgoing(final: HTTPRequest) -> Outgoing:
    url = place_of(final.base_url or "").url + final.path
    return Outgoing(final.method, url, dict(final.headers), final.content or b"")


def _secret_in(auth: Any, endpoint: Endpoint) -> str:
    """The text of a SecretStr."""
    if not hasattr(auth, "get_secret_value"):
        raise _no_proofs(auth, endpoint)
    secret = auth.get_secret_value()
    if not isinstance(secret, str):
        raise _no_proofs(auth, endpoint)
    return secret


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
    kind = type(proofs).__name__
    if hasattr(proofs, "__await__"):
        if hasattr(proofs, "close"):
            proofs.close()  # else Python warns that it was never awaited
        what = f"a {kind}, and nobody awaits it (write a flow, with yield from send(...))"
    elif isinstance(proofs, Generator):
        proofs.close()
        what = f"a {kind} (give the function, and not what it returns)"
    elif isinstance(proofs, Mapping):
        what = "a header that cannot be sent (name and value are each a str on one line)"
    else:
        what = f"a {kind}"
    return PluginContractError(
        f"{endpoint.described} gave as auth {what}: the contract wants a SecretStr, Signed(...), "
        'or a function that returns headers such as {"Authorization": "Bearer ..."}'
    )
