"""Fetching: an auth that is a flow, run past cache, recorder and limits; its token, fetched once.

Whatever such a flow sends and is answered that may be a secret is known to the call from then on,
so that it is masked in all that the call says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterator, Mapping
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import parse_qsl

from .._base.values import on_fresh_stack
from .._guard.tracebacks import redact
from .._layers.context import Attempt, Send
from .._layers.singleflight import Flight, Result, join
from .._store.serialization import is_secret_header
from ..errors import (
    APIError,
    LMGatewayError,
    PluginContractError,
    RequestTimeoutError,
    ResponseFormatError,
    TransportError,
)
from ..types import Blocking, Flow, HTTPRequest, HTTPResponse, Sleep, Wait
from ..wire.auth import Token
from .faults import complain, fault, got_none, quietly, unsound
from .soundness import is_sound

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["circular", "fetched"]

WHEN = "when it was asked for credentials"
LONGEST_TOKEN = 16 * 1024  # characters of a body that is nothing but a token

PluginFlow: TypeAlias = Generator[Any, Any, Any]


def fetched(flow: PluginFlow, attempt: Attempt, send: Send) -> Flow[Any]:
    """What an auth's flow returns, unchecked; ``send`` sends straight to the wire.

    What it raises is typed, names the plugin, and is masked.
    """
    call = attempt.call
    host, path, call.host = call.host, call.path, None
    try:
        return (yield from _driven(flow, attempt, send))
    except (APIError, TransportError) as error:
        _explain(error, attempt)
        raise
    finally:
        call.host, call.path = host, path


def _explain(error: LMGatewayError, attempt: Attempt) -> None:
    """Say that it was no answer of the model that failed, and where."""
    call = attempt.call
    error.locate(provider=call.endpoint.provider, host=call.host)
    got_none(error, call.endpoint)
    if isinstance(error, ResponseFormatError):
        error.retryable = True  # nothing was answered, and so nothing is paid twice
    redact(error, call.all_secrets(), sys._getframe(1))


def _driven(flow: PluginFlow, attempt: Attempt, send: Send) -> Flow[Any]:
    """Run the generator of an auth; see ``hook.py``, which does the same for a hook's."""
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
            except (LMGatewayError, KeyboardInterrupt):
                raise
            except BaseException as error:
                # As in a hook; and nobody but a driver can have cancelled what awaits nothing.
                if error is value and not (kind is Blocking and isinstance(error, Exception)):
                    raise
                raise fault(error, endpoint, WHEN) from error
            resume = flow.send
            try:
                kind = type(effect)
                if kind is Token:
                    value = yield from _token(effect, attempt, send)
                elif not is_sound(effect, kind):
                    raise unsound(effect, endpoint)
                elif kind is HTTPRequest or kind is Blocking:
                    value = yield from _exchanged(effect, attempt, send)
                elif kind is Wait or kind is Sleep:
                    value = yield effect
                else:
                    raise _senseless(f"yielded a {kind.__name__}", attempt)
            except GeneratorExit:
                _close(flow, attempt)
                raise
            except BaseException as error:
                resume, value = flow.throw, error
    finally:
        del value, resume  # an error's traceback holds this frame: leave no cycle behind


def _close(flow: PluginFlow, attempt: Attempt) -> None:
    call = attempt.call
    try:
        flow.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        complain(error, call.endpoint, call.all_secrets(), "while its auth was left")


def _exchanged(exchange: HTTPRequest | Blocking, attempt: Attempt, send: Send) -> Flow[Any]:
    """Send what an auth asks for, and take note of every secret in it."""
    if exchange.stream:
        raise _senseless(f"yielded a {type(exchange).__name__} with stream=True", attempt)
    if isinstance(exchange, HTTPRequest):
        if exchange.keep:
            what = "yielded an HTTPRequest without keep=False, as if its answer might be kept,"
            raise _senseless(what, attempt)
        _note(_secrets_sent(exchange), attempt)
    elif exchange.cancel is not None:
        exchange = replace(exchange, cancel=partial(quietly, exchange.cancel, attempt.call))
    outcome = yield from send(exchange)
    _note(_secrets_got(outcome), attempt)
    return outcome


def circular(endpoint: Endpoint) -> PluginContractError:
    """The error for an auth that waits for itself."""
    return PluginContractError(
        f"{endpoint.described} asks for credentials to get the same credentials: a request for a "
        "token must not have the auth that waits for it"
    )


def _senseless(what: str, attempt: Attempt) -> PluginContractError:
    return PluginContractError(
        f"{attempt.call.endpoint.described} {what} {WHEN}: there it may yield "
        "HTTPRequest(..., keep=False), Blocking, Sleep and Wait"
    )


# -- tokens ------------------------------------------------------------------------------------


def _token(token: Token, attempt: Attempt, send: Send) -> Flow[str]:
    """The token, from this process's memory or its host; of all who need it now, one fetches."""
    while (text := token.current()) is None:
        flight, leads = join((Token, token.key), attempt.on_exit)
        if leads:
            flight.leader = attempt
            text = yield from _lead(token, flight, attempt, send)
            break
        if (text := token.current(renewing=True)) is not None:
            break
        if flight.leader is attempt:
            raise circular(attempt.call.endpoint)
        in_time = yield Wait(flight.future, None, flight.owner)
        if not in_time:  # the leader's thread waits for this very call
            text = yield from _driven(token.fetched(), attempt, send)
            break
        result = flight.future.result()
        if result.error is not None:
            raise copy(result.error)
        if (text := result.response) is not None:
            break
    _note(iter((text,)), attempt)
    return text


def _lead(token: Token, flight: Flight, attempt: Attempt, send: Send) -> Flow[str]:
    """Fetch the token for all who wait for it."""
    try:
        text: str | None = token.current()  # another may have brought it since this call looked
        if text is None:
            text = yield from _renewed(token, attempt, send)
        flight.done(Result(text))
        return text
    except (APIError, TransportError) as error:
        if not (isinstance(error, RequestTimeoutError) and attempt.call.deadline.expired):
            _explain(error, attempt)
            flight.done(Result(error=error))
        raise
    finally:
        flight.done()  # cancelled, or failed with something of its own: another one fetches


def _renewed(token: Token, attempt: Attempt, send: Send) -> Flow[str]:
    """A new token; or the old one, if that still holds and its host cannot be had."""
    try:
        text: str = yield from _driven(token.fetched(), attempt, send)
    except (APIError, TransportError):
        old = token.current(renewing=True)
        if old is None:
            raise
        token.put_off()
        return old
    return text


# -- secrets -----------------------------------------------------------------------------------


def _note(secrets: Iterator[str], attempt: Attempt) -> None:
    call = attempt.call
    call.proofs = (*call.proofs, *({"token": secret} for secret in secrets))


def _secrets_sent(request: HTTPRequest) -> Iterator[str]:
    # Those in its headers and its query are taken note of when it is sent, as any request's are.
    yield from _secrets_in(request.json)
    yield from _secrets_in(request.form)
    if request.content:
        yield from _secrets_in(_document(request.content))


def _secrets_got(outcome: Any) -> Iterator[str]:
    if not isinstance(outcome, HTTPResponse):
        yield from _secrets_in(outcome, "token")
    elif 200 <= outcome.status <= 299:
        yield from _secrets_in(_document(outcome.body), "token")


def _document(body: bytes) -> Any:
    """What a body says: JSON, a form, or one word, which may be the token itself."""
    text = body.decode("utf-8", "replace").strip()
    try:
        return on_fresh_stack(json.loads, text)
    except (ValueError, RecursionError):
        pass
    if len(text) > LONGEST_TOKEN or any(each.isspace() for each in text) or text[:1] == "<":
        return None
    return dict(parse_qsl(text)) or text


def _secrets_in(value: Any, name: str = "") -> Iterator[str]:
    """The texts in a value that stand under a name which speaks of a secret."""
    waiting = [(name, value)]
    while waiting:
        name, each = waiting.pop()
        if isinstance(each, Mapping):
            waiting += [(str(key), inner) for key, inner in each.items()]
        elif isinstance(each, (list, tuple)):
            waiting += [(name, inner) for inner in each]
        elif isinstance(each, str) and is_secret_header(name) and not name.endswith("_type"):
            yield each
