"""How a plugin's hook is run: its generator, whose exchanges pass the layers to the wire.

The order is: provider > effect layers (cache > limit) > wire. The provider yields an exchange, and
the layers are called like one function. The innermost one fills in what only a request needs that
is really sent: base URL, credentials, headers.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from math import inf
from time import monotonic
from types import GeneratorType
from typing import Any, TypeAlias, TypeVar, cast

from .._layers.context import Attempt, Call, EffectLayer, Send
from ..errors import LMGatewayError
from ..types import Blocking, Delta, Emit, Flow, HTTPRequest, Read, Sleep, Wait
from .faults import complain, fault, no_effect, unsound
from .outgoing import send_to_wire

__all__ = ["Hook", "run_hook"]

#: So many pieces of a stream are joined to one.
PIECES = 1024

Hook: TypeAlias = Callable[..., Any]
"""A plugin's hook, its settings filled in: it is given ``request=``."""

T = TypeVar("T")


def run_hook(hook: Hook, attempt: Attempt, layers: Sequence[EffectLayer] = ()) -> Flow[Any]:
    """The flow of one hook, through the layers out to the wire; its value is unchecked."""
    send: Send = partial(send_to_wire, attempt)
    for layer in reversed(layers):
        send = layer(send, attempt)
    try:
        returned = hook(request=attempt.given)
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
                    raise unsound(effect, endpoint)
                if kind is Emit:
                    _note(effect, attempt)
                    value = yield effect
                elif kind is HTTPRequest or kind is Blocking:
                    attempt.has_sent = True
                    value = yield from send(effect)
                elif kind is Read or kind is Wait or kind is Sleep:
                    value = yield effect
                else:
                    raise no_effect(effect, endpoint)
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
