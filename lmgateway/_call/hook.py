"""How a plugin's hook is run: its generator, whose exchanges pass the layers to the wire.

The order is: provider > effect layers (cache > limit) > wire. The provider yields an exchange, and
the layers are called like one function. The innermost one fills in what only a request needs that
is really sent: base URL, credentials, headers. What a provider has ``kept`` passes the layers as
one exchange. The cache runs the flow in it, whose own exchanges begin behind the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from time import monotonic
from types import GeneratorType
from typing import Any, TypeAlias, TypeVar, cast

from .._layers.context import Attempt, Call, EffectLayer, Send, Stretch
from ..errors import LMGatewayError, TransportError
from ..types import Blocking, Cleanup, Delta, Emit, Flow, HTTPRequest, Kept, Read, Sleep, Wait
from .cleanup import Armed, arm
from .faults import broken, complain, fault, nested, no_effect, quietly, unsound
from .outgoing import send_to_wire
from .soundness import is_sound

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


def _pump(flow: Flow[Any], send: Send, attempt: Attempt, *, is_kept: bool = False) -> Flow[Any]:
    """Run a generator of the provider's, and send its exchanges through the layers."""
    call, endpoint = attempt.call, attempt.call.endpoint
    resume: Any = flow.send
    value: Any = None
    kind: type | None = None
    streams = False
    armed: Armed | None = None
    try:
        while True:
            try:
                effect = resume(value)
            except StopIteration as stop:
                if armed is not None:
                    armed.disarm()
                return stop.value
            except (Exception, SystemExit) as error:
                passed = kind if error is value else None
                raise _judged(error, call, passed, streams=streams)  # noqa: B904 - has a cause
            resume = flow.send
            try:
                kind = type(effect)
                if not is_sound(effect, kind):
                    raise unsound(effect, endpoint)
                if kind is Emit:
                    _note(effect, attempt)
                    value = yield effect
                elif kind is HTTPRequest or kind is Blocking:
                    if kind is Blocking and effect.cancel is not None:
                        effect = replace(effect, cancel=partial(quietly, effect.cancel, call))
                    attempt.has_sent = True
                    value = yield from send(effect)
                    streams = streams or effect.stream
                elif kind is Read or kind is Wait or kind is Sleep:
                    streams = streams or kind is Read
                    value = yield effect
                elif kind is Kept:
                    if is_kept:
                        raise nested(endpoint)
                    run = partial(_pump, effect.flow, attempt=attempt, is_kept=True)
                    value = yield from send(Stretch(effect.key, effect.flow, run))
                elif kind is Cleanup:
                    value, armed = None, arm(effect.request, armed, attempt)
                else:
                    raise no_effect(effect, endpoint)
            except GeneratorExit:
                _close(flow, call)
                raise
            except BaseException as error:
                resume, value = flow.throw, error
    finally:
        del value, resume  # an error's traceback holds this frame: leave no cycle behind
        if armed is not None:
            armed.leave()


def _judged(error: BaseException, call: Call, kind: type | None, *, streams: bool) -> BaseException:
    """The error to raise for one that has ended a provider's flow.

    Args:
        error: What came out of the flow.
        call: The call that it ends.
        kind: The effect that it was thrown in for; None if the flow raised it by itself.
        streams: Whether the flow has been given a stream.
    """
    if isinstance(error, TransportError):
        return broken(error, call, reading=streams and kind in (None, Read, Wait))
    if isinstance(error, LMGatewayError):
        return error
    # What was thrown in by a driver or a layer and came through is not the plugin's, but for what
    # its own work in a worker raised.
    if kind is not None and not (kind is Blocking and isinstance(error, Exception)):
        return error
    told = fault(error, call.endpoint)
    told.__cause__ = error
    return told


def _close(flow: Flow[Any], call: Call) -> None:
    try:
        flow.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        complain(error, call.endpoint, call.all_secrets(), "while its answer was left")


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
