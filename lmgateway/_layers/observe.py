"""Observation: one event for each call, for callbacks and for the standard library's logging."""

from __future__ import annotations

import dataclasses
import logging
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from threading import Lock
from time import monotonic
from types import TracebackType
from typing import Any, Literal, Self

from .._base.forks import renew_lock
from .._base.masking import masker
from .._base.values import shown
from .._guard.tracebacks import conceal
from ..errors import InputError
from ..types import Flow, Message, Usage
from .context import Call, Step

__all__ = ["CallEvent", "Subscription", "observe", "on_call"]

logger = logging.getLogger("lmgateway")
logger.addHandler(logging.NullHandler())  # quiet, until the program sets its logging up

Outcome = Literal["ok", "error", "cancelled", "abandoned"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """What became of one call. It holds no answer, and the prompt only if that was asked for.

    Attributes:
        provider: Who answered; without an answer, who was asked.
        model: The model that was asked for; of ``models``, that of the LM.
        outcome: ``ok``; ``error``; ``cancelled`` (Ctrl-C, or a task that was cancelled);
            ``abandoned`` (a stream that was left before its end).
        duration: Seconds from the beginning of the call to its end, with all its attempts and
            waits and, in a stream, the time the user took over the pieces.
        attempts: How many attempts were made.
        kind: What was asked: ``complete``, ``embed``, ``rerank``, ``count`` or ``models``.
        streamed: Whether pieces were asked for.
        cached: Whether the answer came from the cache or a recording.
        endpoint: Which endpoint was asked, such as ``chat/completions``.
        host: ``host[:port]`` of the last request; None if none was sent.
        response_model: The model that answered, by its own account.
        response_id: The service's id of the answer.
        request_id: The service's id of the request, of an answer or an error.
        time_to_first_piece: Seconds from the beginning to the first piece of a stream.
        usage: Tokens as the service counted them, of a failed call too; empty where it did not
            say.
        finish_reasons: One for each choice, in order.
        params: The generation parameters that are numbers; texts stay out.
        error: Name of the error's class.
        status: HTTP status of the error, if the service answered.
        fallback_from: Who failed before: see ``Completion``, but without the messages, in which a
            service may quote the prompt.
        prompt: The prompt, messages or texts, only with ``include_prompt=True``.
    """

    provider: str
    model: str
    outcome: Outcome
    duration: float
    attempts: int
    kind: str = "complete"
    streamed: bool = False
    cached: bool = False
    endpoint: str | None = None
    host: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    time_to_first_piece: float | None = None
    usage: Usage = field(default_factory=lambda: Usage())
    finish_reasons: tuple[str | None, ...] = ()
    params: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    status: int | None = None
    fallback_from: Sequence[Mapping[str, Any]] = ()
    prompt: str | Sequence[Message] | Sequence[str] | None = field(default=None, repr=False)


Callback = Callable[[CallEvent], object]


class Subscription:
    """A callback that is told of every call, until the subscription is called or left."""

    __slots__ = ("_warned", "callback", "include_prompt")

    def __init__(self, callback: Callback, *, include_prompt: bool) -> None:
        self.callback = callback
        self.include_prompt = include_prompt
        self._warned = False

    def __call__(self) -> None:
        """End it; a second call does nothing."""
        global _subscriptions
        with _lock:
            _subscriptions = tuple(each for each in _subscriptions if each is not self)

    def __enter__(self) -> Self:
        """Return itself: the subscription is in force already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self()

    def _tell(self, event: CallEvent, request: Any) -> None:
        if self.include_prompt:
            event = dataclasses.replace(event, prompt=request.input)
        try:
            self.callback(event)
        except Exception as error:
            if self._warned:
                return
            self._warned = True
            conceal(error)  # whoever keeps the record of a log keeps the frames in it
            logger.warning("a callback for calls raised an error", exc_info=True)
            with suppress(RuntimeWarning):  # where warnings are errors, the call goes on as well
                warnings.warn(
                    f"the callback {self.callback!r} raised {type(error).__name__}: {error}; "
                    "the call is not affected, and further errors of it are not shown",
                    RuntimeWarning,
                    stacklevel=2,
                )


_subscriptions: tuple[Subscription, ...] = ()
_lock = Lock()
renew_lock(sys.modules[__name__])


def on_call(callback: Callback, *, include_prompt: bool = False) -> Subscription:
    """Have a callback told of every call of this process, at its end and on every path.

    It runs in the thread that ends the call and in the context (``contextvars``) in which the
    call began, so that it finds the caller's trace or request there. It should be quick: the
    call returns after it. What it raises is warned of once and breaks no call.

    Args:
        callback: Is given a CallEvent.
        include_prompt: Whether the event holds the prompt.

    Returns:
        A subscription: call it to end it, or use it as a context manager.

    Raises:
        InputError: the callback is none.
    """
    global _subscriptions
    if not callable(callback):
        raise InputError(f"on_call takes a function of one event, not {shown(callback)}")
    subscription = Subscription(callback, include_prompt=include_prompt)
    with _lock:
        _subscriptions = (*_subscriptions, subscription)
    return subscription


def observe(step: Step, call: Call) -> Step:
    """Tell the callbacks and the log what becomes of a call; free when nobody listens.

    Whoever subscribes while a call is under way is told of the next one.
    """
    subscriptions, logs = _subscriptions, logger.isEnabledFor(logging.DEBUG)
    if not subscriptions and not logs:
        return step
    context, provider = copy_context(), call.provider

    def watched(request: Any) -> Flow[Any]:
        answer = failure = None
        try:
            answer = yield from step(request)
            return answer
        except BaseException as error:
            failure = error
            raise
        finally:
            event = _event(provider, call, request, answer, failure)
            del failure  # its traceback holds this frame: leave no cycle behind
            if logs:
                _log(event)
            for subscription in subscriptions:
                context.run(subscription._tell, event, request)

    return watched


def _event(
    provider: str,
    call: Call,
    request: Any,
    answer: Mapping[str, Any] | None,
    error: BaseException | None,
) -> CallEvent:
    first = call.first_piece if request.stream else None
    told = answer if answer is not None else getattr(error, "completion", None) or {}
    used = told.get("usage") or getattr(error, "usage", None)
    if not isinstance(used, dict):  # of a plugin of API 1, whose answer stays as it is
        used = Usage()
    mask = masker(call.all_secrets())  # a service may repeat what it was sent

    def safe(value: Any) -> Any:
        return mask(value) if isinstance(value, str) else value

    shared: dict[str, Any] = {
        "usage": used,
        "finish_reasons": tuple(
            safe(each.get("finish_reason")) for each in told.get("choices", ())
        ),
        "model": request.model,
        "duration": monotonic() - call.started,
        "attempts": call.attempts,
        "kind": call.kind.name,
        "streamed": request.stream,
        "host": call.host,
        "time_to_first_piece": None if first is None else first - call.started,
        "params": {name: value for name, value in request.params.items() if _number(value)},
    }
    if answer is None:
        return CallEvent(
            provider=getattr(error, "provider", None) or provider,
            outcome=_outcome(error),
            endpoint=_endpoint(call.path),
            error=None if isinstance(error, GeneratorExit) else type(error).__name__,
            status=getattr(error, "status", None) or None,
            request_id=getattr(error, "request_id", None),
            **shared,
        )
    return CallEvent(
        provider=answer.get("provider") or provider,
        outcome="ok",
        cached=bool(answer.get("cached")),
        endpoint=_endpoint(answer.get("endpoint") or call.path),
        response_model=safe(answer.get("model")),
        response_id=safe(answer.get("id")),
        request_id=safe(answer.get("request_id")),
        fallback_from=tuple(
            {name: value for name, value in failure.items() if name != "message"}
            for failure in answer.get("fallback_from", ())
        ),
        **shared,
    )


def _outcome(error: BaseException | None) -> Outcome:
    if isinstance(error, GeneratorExit):
        return "abandoned"
    return "error" if isinstance(error, Exception) else "cancelled"


def _endpoint(path: str | None) -> str | None:
    return path.lstrip("/") if path and isinstance(path, str) else None


def _number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _log(event: CallEvent) -> None:
    usage = event.usage
    logger.debug(
        "%s %s%s: %s in %.3f s, attempts %d, tokens %s + %s%s%s",
        event.provider,
        event.model,
        "" if event.kind == "complete" else f" {event.kind}",
        event.error or event.outcome,
        event.duration,
        event.attempts,
        usage.get("prompt_tokens", "?"),
        usage.get("completion_tokens", "?"),
        ", cached" if event.cached else "",
        f", request id {event.request_id}" if event.request_id else "",
    )
