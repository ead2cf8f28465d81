"""How a plugin's hook is run: its generator, whose exchanges pass the layers to the wire.

The order is: provider > effect layers (cache > limit) > wire. The provider yields an exchange, and
the layers are called like one function. The innermost one fills in what only a request needs that
is really sent: base URL, credentials, headers.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future
from functools import lru_cache, partial
from math import inf
from time import monotonic
from types import GeneratorType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

from .._layers.context import Attempt, Call, EffectLayer, Send
from .._transports.checks import check_headers
from ..errors import (
    OUT_OF_STACK,
    InputError,
    LMGatewayError,
    PluginContractError,
    PluginError,
    excerpt,
)
from ..types import Blocking, Delta, Emit, Exchange, Flow, HTTPRequest, Read, Sleep, Wait

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["Hook", "complain", "credentials", "fault", "netloc_of", "run_hook"]

#: So many pieces of a stream are joined to one.
PIECES = 1024

Hook: TypeAlias = Callable[..., Any]
"""A plugin's hook, its settings filled in: it is given ``request=``."""

T = TypeVar("T")


def run_hook(hook: Hook, attempt: Attempt, layers: Sequence[EffectLayer] = ()) -> Flow[Any]:
    """The flow of one hook, through the layers out to the wire; its value is unchecked."""
    send: Send = partial(_send_to_wire, attempt)
    for layer in reversed(layers):
        send = layer(send, attempt)
    try:
        returned = hook(request=attempt.request)
    except LMGatewayError:
        raise
    except (Exception, SystemExit) as error:
        raise fault(error, attempt.call.endpoint) from error
    if type(returned) is GeneratorType or isinstance(returned, Generator):
        return _pump(returned, send, attempt)
    return _at_once(returned)


def _at_once(returned: T) -> Flow[T]:
    """The flow of a hook that has nothing to ask for."""
    yield from ()
    return returned


def _pump(flow: Flow[Any], send: Send, attempt: Attempt) -> Flow[Any]:
    """Run the provider's generator, and send its exchanges through the layers."""
    endpoint = attempt.call.endpoint
    resume: Any = flow.send
    value: Any = None
    kind: type | None = None
    try:
        while True:
            try:
                effect = resume(value)
            except StopIteration as stop:
                return stop.value
            except LMGatewayError:
                raise
            except (Exception, SystemExit) as error:
                # What was thrown in by a driver or a layer and came through is not the plugin's,
                # but for what its own work in a worker raised.
                if error is value and not (kind is Blocking and isinstance(error, Exception)):
                    raise
                raise fault(error, endpoint) from error
            resume = flow.send
            try:
                kind = type(effect)
                if not _is_sound(effect, kind):
                    raise _unsound(effect, endpoint)
                if kind is Emit:
                    _note(effect, attempt)
                    value = yield effect
                elif kind is HTTPRequest or kind is Blocking:
                    value = yield from send(effect)
                elif kind is Read or kind is Wait or kind is Sleep:
                    value = yield effect
                else:
                    raise _no_effect(effect, endpoint)
            except GeneratorExit:
                _close(flow, attempt.call)
                raise
            except BaseException as error:
                resume, value = flow.throw, error
    finally:
        del value, resume  # an error's traceback holds this frame: leave no cycle behind


def _close(flow: Flow[Any], call: Call) -> None:
    try:
        flow.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        complain(error, call.endpoint, call.all_secrets(), "while its answer was left")


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


def _no_effect(effect: object, endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a {type(effect).__name__}, which is no effect: "
        "yield from send(...), read(...), or yield Emit(...)"
    )


def _is_sound(effect: Any, kind: type) -> bool:
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


def _are_texts(headers: Mapping[Any, Any]) -> bool:
    return all(isinstance(each, str) for pair in headers.items() for each in pair)


def _unsound(effect: object, endpoint: Endpoint) -> PluginContractError:
    return PluginContractError(
        f"{endpoint.described} yielded a {type(effect).__name__} with a wrong value in it: "
        "lmgateway.types says what each effect holds"
    )


def _note(effect: Emit, attempt: Attempt) -> None:
    call, pieces = attempt.call, attempt.pieces
    if not call.emitted:
        call.first_piece = monotonic()
    call.emitted += 1
    delta = effect.delta
    if type(delta) is str:
        pieces.append(delta)
    elif cast(Delta, delta).index == 0:
        pieces.append(cast(Delta, delta).text)
    if not call.emitted % PIECES:  # a small string takes ten times what its text does
        joined = call.emitted // PIECES - 1
        pieces[joined:] = ["".join(pieces[joined:])]


def _send_to_wire(attempt: Attempt, exchange: Exchange) -> Flow[Any]:
    """The innermost send: it fills in what a request needs only when it really goes out."""
    if isinstance(exchange, Blocking):
        from .._drive.workers import run_blocking

        response = yield from run_blocking(exchange)
    else:
        call = attempt.call
        request = _completed(exchange, call)
        call.host, call.path = netloc_of(request.base_url or ""), request.path
        try:
            response = yield request
        except InputError:
            if not _are_texts(exchange.headers):
                raise _unsound(exchange, call.endpoint) from None
            raise
    source = getattr(response, "source", None)
    if source is not None:
        attempt.on_exit(source.close)
    return response


def _completed(request: HTTPRequest, call: Call) -> HTTPRequest:
    """The request as it is sent: with a base URL, credentials and all headers."""
    endpoint = call.endpoint
    base_url = request.base_url if request.base_url is not None else endpoint.base_url
    if not base_url:
        raise endpoint.missing_base_error()
    proofs = credentials(request, endpoint)
    if proofs:
        call.proofs = (*call.proofs, proofs)
    return HTTPRequest(
        request.method,
        base_url,
        request.path,
        headers={**endpoint.headers(), **request.headers, **proofs},
        json=request.json,
        stream=request.stream,
    )


def credentials(request: HTTPRequest, endpoint: Endpoint) -> Mapping[str, str]:
    """The headers that say who sends a request.

    Raises:
        MissingCredentialError: There is no key, and the host answers only with one.
        PluginError: The plugin's ``auth`` failed, or returned what cannot be sent.
    """
    auth = request.auth
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
        check_headers(proofs, latin_1=True)
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


@lru_cache(maxsize=256)
def netloc_of(url: str) -> str:
    """``host[:port]`` of a URL, without user information."""
    return urlsplit(url).netloc.rpartition("@")[2]
