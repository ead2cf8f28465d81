"""The effect layer that answers from recordings and the cache, and stores new answers.

It looks in this order: a ``replay`` block, which answers alone; recordings; the cache. A request
that none of them knows is sent, once for all calls that ask the same at the same time. Its answer
is stored when the completion made of it has been validated.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from .._base.masking import holds_secret
from .._base.turns import says_nothing
from .._base.values import shown
from .._guard.paths import absolute
from .._store.recorder import recorders, replayer
from .._store.recordings import Recording, open_recording, to_json
from .._store.serialization import Key, Replay, decode, encode, stored_headers
from .._store.settings import SWITCH, CacheSettings, says_off
from ..errors import (
    CacheMissError,
    ConfigError,
    InputError,
    LMGatewayError,
    PluginError,
    RequestTimeoutError,
    ResponseFormatError,
)
from ..types import Completion, Exchange, Flow, HTTPRequest, HTTPResponse, Wait
from .asked import Asked, Tee, ask_of, is_good, is_repeatable
from .context import Attempt, EffectLayer, Send, Stretch
from .singleflight import NO_RESULT, Flight, Result, join

if TYPE_CHECKING:
    from .._store.disabled import DisabledStore
    from .._store.sqlite import Store

__all__ = ["cache"]

# A stream's pieces are held in memory until its end; past this many bytes it is not stored.
STREAM_CAP = 8 * 1024 * 1024

# Bytes that are stored beside a body: its status, headers and the lengths of its pieces.
HEAD = 1024 * 1024

# Statuses that concern the key: a call that waits may have a better one.
_KEY_STATUSES = frozenset({401, 402, 403})

_MISSING: Any = object()

AnyStore: TypeAlias = "Store | DisabledStore"
Use: TypeAlias = Literal["share", "only", "refresh"]


def cache(settings: CacheSettings | None = None) -> EffectLayer:
    """The layer for one configuration. An LM has one; their stores are shared by file.

    Nothing is opened before the first exchange that may be cached; its folder is chosen then.
    Every call looks at ``LMGATEWAY_CACHE=off``, which turns off the cache, but not recordings.

    Args:
        settings: The ``[cache]`` table.
    """
    settings = settings or CacheSettings()
    shared = _absolute(settings.recordings)
    store: AnyStore | None = None

    def opened() -> AnyStore:
        nonlocal store
        if store is None:
            try:
                from .._store.sqlite import MEBIBYTE, open_disabled, open_store

                store = open_store(settings.file, settings.size_mb * MEBIBYTE)
            except ConfigError as error:  # nobody's home, say
                store = open_disabled(error.message)
            except ImportError:
                from .._store.disabled import disabled_store

                store = disabled_store()
        return store

    def layer(send: Send, attempt: Attempt) -> Send:
        own = attempt.call.options.recordings
        files = (*_absolute(own), *shared) if own else shared
        return _CachedAttempt(send, attempt, files, opened if is_usable() else None)

    def is_usable() -> bool:
        return settings.enabled and not says_off(os.environ.get(SWITCH), SWITCH)

    def store_of_texts() -> Store | None:
        found = opened() if is_usable() else None
        return None if found is None or not hasattr(found, "select") else cast("Store", found)

    layer.store_of_texts = store_of_texts  # type: ignore[attr-defined]
    layer.is_recorded = bool(shared)  # type: ignore[attr-defined]
    return layer


def _absolute(paths: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(absolute, paths))


class _CachedAttempt:
    """The cache's part in one attempt."""

    keeps = True
    __slots__ = ("_attempt", "_files", "_leave", "_open", "_send", "_sent")

    def __init__(
        self,
        send: Send,
        attempt: Attempt,
        files: Sequence[str],
        opened: Callable[[], AnyStore] | None,
    ) -> None:
        self._send = send
        self._attempt = attempt
        self._files = files
        self._open = opened
        self._sent = False
        self._leave: Callable[[], None] | None = None

    def __call__(self, exchange: Exchange) -> Flow[Any]:
        """Answer one exchange, from what is stored or from the service."""
        if type(exchange) is HTTPRequest and not exchange.keep:
            return self._pass(exchange)
        if self._leave is not None:
            self._leave()  # or two providers of several steps might wait for each other
        use = self._use(exchange)
        if use is None and not self._files and not recorders() and replayer() is None:
            return self._forward(exchange)  # it is neither looked up nor stored
        return self._answer_or_ask(exchange, use)

    def _pass(self, exchange: HTTPRequest) -> Flow[Any]:
        """Send what is not kept; whether the answer is a cached one, it does not decide."""
        strict = replayer()
        if strict is not None or self._attempt.call.options.cache == "only":
            raise CacheMissError(
                f"{exchange.method} {exchange.path} is never stored (keep=False), and "
                + (f"only {strict.recording.path} may answer here" if strict else "cache='only'")
                + " forbids to send it: the provider has to yield it within kept(key, flow)"
            )
        return self._send(exchange)

    def _answer_or_ask(self, exchange: Exchange, use: Use | None) -> Flow[Any]:
        asked = ask_of(exchange, self._attempt.call)
        key = asked.key
        response = self._recall(asked, use)
        if response is not _MISSING:
            return self._answer_from_store(asked, response)
        if use == "only":
            raise CacheMissError(
                "nothing is stored for this request, and cache='only' forbids to send it; ask "
                "once without, or check that prompt, model, parameters and sample are the same"
            )
        # No call waits for a stream, whose reader may pause for any time.
        streamed = exchange.stream or self._attempt.request.stream
        if use == "share" and key is not None and self._open is not None and not streamed:
            return (yield from self._share(asked, self._open(), key))
        return (yield from self._ask(asked, use))

    def _use(self, exchange: Exchange) -> Use | None:
        """How this exchange uses the cache; None if it does not."""
        wanted = self._attempt.call.options.cache
        if wanted is None:
            wanted = is_repeatable(exchange, self._attempt.request.params)
        if wanted is False:
            return None
        if wanted == "only":
            return "only"
        if wanted is not True and wanted != "refresh":
            raise InputError(f"cache is {shown(wanted, 30)}; give True, False, 'only' or 'refresh'")
        if wanted == "refresh" or any(recorder.fresh for recorder in recorders()):
            return "refresh"
        return "share"

    # -- what is known -------------------------------------------------------------------------

    def _recall(self, asked: Asked, use: Use | None) -> Any:
        """The stored response, or _MISSING."""
        strict = replayer()
        if strict is not None:
            return strict.answer(asked.recorded, asked.request)
        if asked.recorded is None or asked.key is None:
            return _MISSING
        if self._files or recorders():
            for recording in self._recordings(use):
                response = recording.find(asked.recorded.request)
                if response is not None:
                    return response
        if self._open is not None and (use == "share" or use == "only"):
            return self._look_up(self._open(), asked.exchange, asked.key, use)
        return _MISSING

    def _recordings(self, use: Use | None) -> Iterable[Recording]:
        fresh = [recorder.recording for recorder in recorders() if recorder.fresh]
        if fresh or use == "refresh":
            return fresh
        return map(open_recording, self._files)

    def _look_up(self, store: AnyStore, exchange: Exchange, key: Key, use: Use) -> Any:
        value = store.get(key)
        if value is None:
            return _MISSING
        try:
            call = self._attempt.call
            response = decode(value, (call.max_body or call.options.max_body) + HEAD)
            if type(response) is not HTTPResponse and isinstance(exchange, HTTPRequest):
                raise ValueError("the response of another kind of exchange")
        except ValueError:
            store.report_foreign(key)
            return _MISSING

        def forget(error: LMGatewayError) -> bool:
            # The provider, or the schema that was asked for, has since become stricter.
            if use == "only" or not isinstance(error, (ResponseFormatError, PluginError)):
                return False
            store.invalidate(key)
            return True

        self._attempt.on_failure(forget)
        return response

    def _answer_from_store(self, asked: Asked, response: Any) -> Any:
        """Return a stored response, and record it if a recorder runs."""
        if not self._sent:
            self._attempt.call.cached = True
        self._attempt.origin = "store"
        if recorders():
            self._attempt.on_commit(lambda _: self._record(asked, response))
        return response

    # -- what must be sent ---------------------------------------------------------------------

    def _forward(self, exchange: Exchange) -> Flow[Any]:
        self._sent = True
        self._attempt.call.cached = False
        # What is kept as one goes past this layer, each exchange by itself.
        if type(exchange) is Stretch and not getattr(self._send, "keeps", False):
            return exchange.run(self._send)
        return self._send(exchange)

    def _ask(self, asked: Asked, use: Use | None) -> Flow[Any]:
        """Send the request, and store the response once it is validated."""
        return self._watched(asked, use, (yield from self._forward(asked.exchange)))

    def _watched(self, asked: Asked, use: Use | None, response: Any) -> Any:
        """The response, which is stored once it is validated, a stream when it has come."""
        if asked.key is None or not (use or recorders()) or not is_good(response):
            return response
        source = getattr(response, "source", None)
        if source is None:
            self._attempt.on_commit(
                lambda answer: self._store_and_record(asked, use, response, answer)
            )
            return response
        tee = Tee(source, STREAM_CAP)

        def commit(answer: Completion) -> None:
            if tee.chunks is None:
                _miss(f"a stream is longer than {STREAM_CAP // 1024**2} MiB")
                return
            whole = HTTPResponse(response.status, response.headers, source=Replay(tee.chunks))
            self._store_and_record(asked, use, whole, answer)

        self._attempt.on_commit(commit)
        return HTTPResponse(response.status, response.headers, source=tee)

    def _store_and_record(
        self, asked: Asked, use: Use | None, response: Any, answer: Completion
    ) -> bool:
        """Store and record a validated response; whether it belongs in the cache."""
        wanted = self._attempt.call.options.cache is True or not says_nothing(answer)
        by_text = self._attempt.call.texts is not None
        if wanted and use and self._open is not None and asked.key is not None and not by_text:
            value = None if self._repeats_secret(response) else self._encode(response)
            if value is not None:
                self._open().put(asked.key, value)
        self._record(asked, response)
        return wanted

    def _encode(self, response: Any) -> bytes | None:
        if self._attempt.call.texts is not None:  # it is not stored as a whole, but may be shared
            return b"" if isinstance(response, HTTPResponse) else None
        return encode(response, self._attempt.call.info.headers)

    def _record(self, asked: Asked, response: Any) -> None:
        active = recorders()
        if not active or asked.request is None:
            return
        if self._repeats_secret(response, asked.request):
            _miss("a key or a token stands in what was asked or answered")
            return
        try:
            written = to_json(response, self._attempt.call.info.headers)
        except InputError as error:
            _miss(str(error))
            return
        for recorder in active:
            recorder.append(asked.request, written)

    def _repeats_secret(self, response: Any, *more: Any) -> bool:
        """Whether a secret is in what would be stored: a service may repeat what it was sent."""
        parts = [*more, response]
        if isinstance(response, HTTPResponse):
            source = response.source
            body = b"".join(source.chunks) if isinstance(source, Replay) else response.body
            headers = stored_headers(response.headers, self._attempt.call.info.headers)
            parts = [*more, headers, str(body, "utf-8", "replace")]
        text = " ".join(each if isinstance(each, str) else repr(each) for each in parts)
        return holds_secret(text, self._attempt.call.all_secrets())

    # -- single-flight -------------------------------------------------------------------------

    def _share(self, asked: Asked, store: AnyStore, key: Key) -> Flow[Any]:
        """Send the request, unless the same request is under way; then wait for its response."""
        # Only among calls of one account: a failure, unlike an answer, concerns the account.
        headers = frozenset(getattr(asked.exchange, "headers", {}).items())
        asker = hash((self._attempt.call.endpoint.identity(), headers))
        while True:
            # Registered before the first step, so that no flight outlives its leader.
            flight, leads = join((store.file, key, asker), self._attempt.on_exit)
            if leads:
                self._leave = flight.done
                return (yield from self._lead(asked, store, key, flight))
            in_time = yield Wait(flight.future, None, flight.owner)
            if not in_time:  # the leader's thread waits for this very call
                return (yield from self._ask(asked, "share"))
            result = flight.future.result()
            if result is NO_RESULT:
                continue
            return (yield from self._follow(asked, result))

    def _follow(self, asked: Asked, result: Result) -> Flow[Any]:
        if result.error is not None:
            raise copy(result.error)
        if result.alone:
            return (yield from self._ask(asked, "share"))
        response = result.response
        if not isinstance(response, HTTPResponse) and result.encoded is not None:
            response = decode(result.encoded)  # each call gets an object of its own
        if not result.stored and is_good(response):
            self._attempt.on_commit(
                lambda answer: self._store_and_record(asked, "share", response, answer)
            )
        return self._answer_from_store(asked, response)

    def _lead(self, asked: Asked, store: AnyStore, key: Key, flight: Flight) -> Flow[Any]:
        """Send the request for all calls that join, and give them the result."""
        # It may have been stored since this call looked first.
        response = self._look_up(store, asked.exchange, key, "share")
        if response is not _MISSING:
            flight.done()
            return self._answer_from_store(asked, response)
        try:
            response = yield from self._forward(asked.exchange)
        except Exception as error:
            flight.done(self._judge(error))
            raise
        if not is_good(response):
            flight.done(Result(response, alone=response.status in _KEY_STATUSES))
            return response
        result = flight.result = Result(response, self._encode(response))
        if result.encoded is None:
            flight.done(Result(alone=True))
            return self._watched(asked, "share", response)

        def commit(answer: Completion) -> None:
            stored = self._store_and_record(asked, "share", response, answer)
            flight.done(result._replace(stored=stored))

        self._attempt.on_commit(commit)
        return response

    def _judge(self, error: Exception) -> Result:
        """The result for the calls that wait, when the leading call fails."""
        if isinstance(error, ConfigError) or not isinstance(error, LMGatewayError):
            return Result(alone=True)
        if isinstance(error, RequestTimeoutError) and self._attempt.call.deadline.expired:
            return NO_RESULT
        return Result(error=error)


def _miss(reason: str) -> None:
    for recorder in recorders():
        recorder.miss(reason)
