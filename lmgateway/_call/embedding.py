"""Embedding many texts: requests that the host takes, several at once, and the vectors in order.

A call of few texts is one request, and goes as any other call. Otherwise equal texts are asked for
once, those in the cache not at all, and the rest in parts, each of which has retries, fallbacks and
a timeout of its own. To callbacks and the history all of it is one call.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING, Any

from .._drive.cancel import Deadline
from .._drive.gather import (
    REQUESTS_IN_FLIGHT,
    check_concurrency,
    in_tasks,
    in_threads,
    progress_bar,
)
from .._drive.loops import Work, arun, run
from .._layers.context import Call, Step
from .._layers.texts import is_recorded, store_of_texts
from .._records.history import History
from .._records.usage import account
from ..errors import APIError, LMGatewayError
from ..types import Embeddings, EmbedRequest, Flow, Options, Sleep
from . import flow as flows
from . import kinds
from .parts import Room, limits_of, size_of
from .spec import Spec
from .texts import Gathered, recalled, stored_texts
from .validation import check_texts

if TYPE_CHECKING:
    from .._transports.leases import Leases

__all__ = ["Embedding"]

#: So many texts are looked up in the cache at once: an event loop waits meanwhile.
_LOOKED_UP = 250
#: Bytes that a number takes at most in JSON, with its comma.
_WIDEST = 26
_MAX_BODY = Options().max_body
#: More dimensions than any known model has; who asks for more of them says so.
_DIMENSIONS = 4096
_MOST_DIMENSIONS = 65536

#: With one of these a text's vector depends upon the texts beside it.
_JOINING = ("late_chunking",)
#: How hosts name a text of a request.
_BLAMED = re.compile(r"\binput\[(\d{1,9})\]").search


class Embedding:
    """One call of ``embed``, checked; nothing has been sent.

    Args:
        spec: Of the LM.
        keywords: Of the call.
        history: Where it is remembered.
        texts: What the caller gave.
        concurrency: Requests in flight at most.
        progress: Whether a bar is shown.
    """

    def __init__(
        self,
        spec: Spec,
        keywords: Mapping[str, Any],
        history: History,
        texts: object,
        concurrency: int = REQUESTS_IN_FLIGHT,
        progress: bool = False,
    ) -> None:
        check_concurrency(concurrency)
        self._spec = spec = flows.varied(kinds.EMBED, spec, keywords)
        self._limits = limits = limits_of(spec)
        self._texts = check_texts(texts, limits)
        self._kind = flows.kind_for(kinds.EMBED, keywords)
        self._history = history
        self._concurrency = concurrency
        self._progress = progress
        self._joined = any(_says(spec.params, name) for name in _JOINING)
        self._lock = Lock()
        self._waiting: deque[Sequence[int]] = deque()
        self._stopped = False
        self._report: Callable[..., None] = lambda answer, count: None
        self._active: set[Call] = set()
        self._request, self._call = self._asking(self._texts)
        self._gathered = Gathered(len(self._texts))

    def run(self, connections: Leases) -> Embeddings:
        """Embed the texts, blocking."""
        flow, deadline = self._flow(connections)
        return run(flow, connections.blocking(self._call), deadline)

    async def arun(self, connections: Leases) -> Embeddings:
        """Embed the texts, awaiting."""
        flow, deadline = self._flow(connections)
        return await arun(flow, connections.awaiting(self._call), deadline)

    def _flow(self, connections: Leases) -> tuple[Flow[Embeddings], Deadline]:
        """The flow of the whole call, and the time that it may take."""
        call, request, history = self._call, self._request, self._history
        if not self._is_one_request():
            flow = flows.watched(partial(self._step, connections), call, request, history)
            return flow, Deadline(None)
        step: Step = flows.tried(self._spec, call)
        if len(self._texts) > 1 and not self._joined:
            step = partial(self._one_or_two, step, connections)
        return flows.watched(step, call, request, history), call.deadline

    # -- what is asked for ---------------------------------------------------------------------

    def _is_one_request(self) -> bool:
        """Whether the texts go out as they are, as one request."""
        texts, limits = self._texts, self._limits
        if self._joined:
            return True
        if store_of_texts(self._spec.layers, self._spec.options) is not None or self._progress:
            return False
        if len(texts) == 1:
            return True
        if limits.texts is not None and len(texts) > limits.texts:
            return False
        if limits.images and not all(isinstance(text, str) for text in texts):
            return False
        if limits.tokens is not None and sum(map(size_of, texts)) > limits.tokens:
            return False
        if len(set(texts)) == len(texts):
            return True
        return is_recorded(self._spec.layers, self._spec.options)  # as the texts were given

    def _one_or_two(self, step: Step, connections: Leases, request: EmbedRequest) -> Flow[Any]:
        """The step of a call of one request, of which two are made if it has too many tokens."""
        try:
            return (yield from step(request))
        except LMGatewayError as error:
            if not _is_for_less(error):
                raise
        yield from self._work(_halves(range(len(self._texts))), connections)
        return self._gathered.answer(request.model, self._call.provider)

    def _step(self, connections: Leases, request: EmbedRequest) -> Flow[Any]:
        """The step of the whole call: workers ask for parts, whose vectors become one answer."""
        call, gathered = self._call, self._gathered
        hook = flows.hook_of(self._spec, self._kind)
        call.texts = stored_texts(hook, call, request, self._spec.layers)
        places, repeats = _without_repeats(self._texts)
        parts = self._split((yield from self._without_stored(places)))
        if parts:
            yield from self._work(parts, connections)
        gathered.copy(repeats)
        answer = gathered.answer(request.model, call.provider)
        call.cached = answer["cached"]
        if call.texts is not None and len(request.texts) > 1:
            if not parts and (usage := call.texts.noted(request.texts)):
                answer["usage"] = usage
            elif sum(map(len, parts)) == len(places):
                call.texts.note(request.texts, answer)
        if not parts:
            account(answer)
        return answer

    def _without_stored(self, places: Sequence[int]) -> Flow[Sequence[int]]:
        """The places whose texts are not in the cache; the vectors of the others are taken."""
        store = self._call.texts
        if store is None:
            return places
        missing: list[int] = []
        for start in range(0, len(places), _LOOKED_UP):
            some = places[start : start + _LOOKED_UP]
            found = store.find(self._texts[place] for place in some)
            self._gathered.recall({some[number]: each for number, each in found.items()})
            missing += (place for number, place in enumerate(some) if number not in found)
            yield Sleep(0)  # an event loop has other work, too
        return places if len(missing) == len(places) else missing

    def _split(self, places: Sequence[int]) -> list[Sequence[int]]:
        """The places in parts, each of which the host takes as one request."""
        room, texts = Room(self._limits), self._texts
        parts: list[Sequence[int]] = []
        start = 0
        for number, place in enumerate(places):
            if not room.takes(texts[place]):
                parts.append(places[start:number])
                start = number
        return [*parts, places[start:]] if places else parts

    # -- one part ------------------------------------------------------------------------------

    def _asking(self, texts: Sequence[Any]) -> tuple[EmbedRequest, Call]:
        spec = self._spec
        request = EmbedRequest(spec.model, texts, spec.params, spec.options.timeout)
        call = flows.begun(self._kind, spec, request)
        if spec.options.max_body == _MAX_BODY:
            wide = spec.params.get("dimensions")
            wide = min(wide, _MOST_DIMENSIONS) if isinstance(wide, int) else _DIMENSIONS
            most = len(texts) * wide * _WIDEST
            call.max_body = most if most > _MAX_BODY else None
        return request, call

    def _begin(self, places: Sequence[int]) -> tuple[Flow[Any], Call]:
        """The flow of one part, and the record of its call."""
        texts = self._texts
        if isinstance(places, range):
            some = texts[places.start : places.stop]
        else:
            some = [texts[place] for place in places]
        request, call = self._asking(some)
        call.texts = self._call.texts
        with self._lock:
            self._active.add(call)
        # Since the parts were made, another call may have stored some of the texts.
        return recalled(flows.tried(self._spec, call), call, request), call

    def _end(self, call: Call) -> None:
        whole = self._call
        with self._lock:
            self._active.discard(call)
            whole.attempts += call.attempts
            whole.proofs += call.proofs
            if call.host is not None:
                whole.host, whole.path = call.host, call.path

    def _put(self, places: Sequence[int], answer: dict[str, Any]) -> None:
        self._gathered.put(places, answer)
        self._report(answer, len(places))

    def _halve(self, places: Sequence[int], error: LMGatewayError) -> bool:
        """Wait with two parts for one that has too many tokens in all; False for another error."""
        if len(places) > 1 and _is_for_less(error):
            with self._lock:
                if not self._stopped:
                    self._waiting.extendleft(_halves(places))
            return True
        if len(self._texts) > 1:
            error.advise(f"it was about {_named(_blamed(places, error))}")
        return False

    # -- all parts -----------------------------------------------------------------------------

    def _work(self, parts: list[Sequence[int]], connections: Leases) -> Flow[None]:
        """Have workers ask for these parts, until all have come or one has failed."""
        workers = min(self._concurrency, len(parts))
        self._waiting.extend(parts)

        def ask() -> None:
            for places in iter(self._take, None):
                flow, call = self._begin(places)
                try:
                    self._put(places, run(flow, connections.blocking(call), call.deadline))
                except LMGatewayError as error:
                    if not self._halve(places, error):
                        raise
                finally:
                    self._end(call)

        async def aask() -> None:
            for places in iter(self._take, None):
                flow, call = self._begin(places)
                try:
                    self._put(places, await arun(flow, connections.awaiting(call), call.deadline))
                except LMGatewayError as error:
                    if not self._halve(places, error):
                        raise
                finally:
                    self._end(call)

        several = (
            partial(in_threads, workers, ask, self._stop, name="lmgateway-embed"),
            partial(in_tasks, workers, aask, self._stop, drain=True),
        )
        with self._bar(parts):
            try:
                yield Work(*several) if workers > 1 else Work(ask, aask)  # type: ignore[misc]
            except BaseException as error:
                self._leave(error)
                raise

    def _bar(self, parts: list[Sequence[int]]) -> AbstractContextManager[object]:
        bar: AbstractContextManager[object] = nullcontext()
        if self._progress:
            bar, self._report = progress_bar(sum(map(len, parts)))
        return bar

    def _take(self) -> Sequence[int] | None:
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    def _stop(self) -> None:
        """Begin no further part; those that are under way are paid for, and come to their end."""
        with self._lock:
            self._stopped = True
            self._waiting.clear()

    def _leave(self, error: BaseException) -> None:
        """End what is under way, if nobody waits for it any more."""
        self._stop()
        if not isinstance(error, LMGatewayError):
            for call in tuple(self._active):
                call.deadline.cancel()


def _without_repeats(
    texts: Sequence[Any],
) -> tuple[Sequence[int], list[tuple[int, int]]]:
    """The places of texts that are the first of their kind; the others, each with its first."""
    first: dict[Any, int] = {}
    repeats: list[tuple[int, int]] = []
    for place, text in enumerate(texts):
        known = first.setdefault(text if isinstance(text, str) else json.dumps([text]), place)
        if known != place:
            repeats.append((place, known))
    if not repeats:
        return range(len(texts)), repeats
    return list(first.values()), repeats


def _says(params: Mapping[str, Any], name: str) -> bool:
    extra = params.get("extra_body")
    return bool(params.get(name) or (isinstance(extra, Mapping) and extra.get(name)))


def _is_for_less(error: LMGatewayError) -> bool:
    """Whether an error says that the same texts would be taken in several requests."""
    return isinstance(error, APIError) and (
        error.status == 413 or error.code == "max_tokens_per_request"
    )


def _halves(places: Sequence[int]) -> list[Sequence[int]]:
    middle = len(places) // 2
    return [places[:middle], places[middle:]]


def _blamed(places: Sequence[int], error: LMGatewayError) -> Sequence[int]:
    """The one of these places that a host names, as in "Invalid 'input[3]'"; or else all."""
    named = _BLAMED(f"{getattr(error, 'code', None)} {error.message}")
    number = int(named[1]) if named else len(places)
    return places[number : number + 1] if number < len(places) else places


def _named(places: Sequence[int]) -> str:
    """Which texts these are, for a message."""
    if len(places) == 1:
        return f"texts[{places[0]}]"
    if isinstance(places, range) or places[-1] - places[0] == len(places) - 1:
        return f"texts[{places[0]}:{places[-1] + 1}]"
    return f"{len(places)} of the texts from texts[{places[0]}] to texts[{places[-1]}]"
