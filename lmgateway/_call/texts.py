"""Texts whose vectors are stored, and vectors that come in pieces."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from threading import Lock
from typing import Any

from .._base.vectors import Vectors
from .._layers.asked import ask_of
from .._layers.context import Attempt, Call, EffectLayer, Send
from .._layers.texts import Found, TextStore, store_of_texts
from ..errors import LMGatewayError, ResponseFormatError
from ..types import Blocking, EmbedRequest, Exchange, Flow, HTTPRequest, Kept
from .adapt import refitted
from .attempt import complete_error, hand_over
from .hook import Hook, run_hook

__all__ = ["Gathered", "keeping", "recalled", "stored_texts"]

#: What is asked about in order to see how all else is asked.
_PROBE = ("text",)


def stored_texts(
    hook: Hook, call: Call, request: EmbedRequest, layers: Iterable[EffectLayer]
) -> TextStore | None:
    """Where the vectors of a call are stored one by one; None if they are not to be.

    An entry's key is made of the exchange that the plugin yields for one text: so path, parameters
    and settings tell entries apart, whatever the wire format.
    """
    store = store_of_texts(layers, call.options)
    if store is None:
        return None
    exchange = _first_exchange(hook, call, replace(request, texts=_PROBE))
    if exchange is None:
        return None
    key = ask_of(exchange, call).key
    if key is None:
        return None
    return TextStore(store, key, refresh=call.options.cache == "refresh")


def _first_exchange(hook: Hook, call: Call, request: EmbedRequest) -> Exchange | None:
    """What a plugin would send first; None if it is not kept, or there is none."""
    while True:
        attempt = Attempt(call, request)
        try:
            hand_over(attempt)
            flow = run_hook(hook, attempt, [_stopping])
            try:
                effect = next(flow)
            except StopIteration:
                return None
            finally:
                flow.close()
            if isinstance(effect, (HTTPRequest, Blocking, Kept)):
                return effect if getattr(effect, "keep", True) else None
            return None
        except LMGatewayError as error:
            if refitted(error, attempt, request):
                continue
            complete_error(error, attempt)
            raise
        finally:
            attempt.exit()


class _Stopped:
    """A send that hands exchanges, those kept as one too, to whoever runs the flow."""

    keeps = True

    def __call__(self, exchange: Exchange) -> Flow[Any]:
        return (yield exchange)


def _stopping(send: Send, attempt: Attempt) -> Send:
    return _Stopped()


def keeping(send: Send, attempt: Attempt) -> Send:
    """The effect layer that stores the vectors of each answer, once it has been validated."""
    store = attempt.call.texts
    if store is not None:
        attempt.on_commit(lambda answer: store.keep(attempt.request.texts, answer))
    return send


def recalled(step: Any, call: Call, request: EmbedRequest) -> Flow[dict[str, Any]]:
    """The answer of a step that is asked for those texts only that are not stored."""
    found = call.texts.find(request.texts) if call.texts is not None else {}
    if not found:
        return (yield from step(request))  # type: ignore[no-any-return]
    gathered = Gathered(len(request.texts))
    gathered.recall(found)
    missing = [place for place in range(len(request.texts)) if place not in found]
    if missing:
        texts = [request.texts[place] for place in missing]
        gathered.put(missing, (yield from step(replace(request, texts=texts))))
    return gathered.answer(request.model, call.provider)


class Gathered:
    """The vectors of some texts, put together as they come, from any thread.

    Args:
        count: How many texts there are.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._floats: array[float] | None = None
        self._dimensions = 0
        self._whole: dict[str, Any] | None = None
        self._answers: list[dict[str, Any]] = []
        self._recalled: list[Mapping[str, Any]] = []
        self._lock = Lock()

    def recall(self, found: Mapping[int, Found]) -> None:
        """Take in vectors of the cache, by the place of their text."""
        for place, (floats, _) in found.items():
            with self._lock:
                self._take(len(floats))[place * len(floats) : (place + 1) * len(floats)] = (
                    memoryview(floats)
                )
        known = {beside.get("model"): beside for _, beside in found.values()}
        self._recalled += known.values()
        if len(found) == self._count == 1:
            self._recalled = [found[0].beside]

    def put(self, places: Sequence[int], answer: dict[str, Any]) -> None:
        """Take in an answer: its vectors are those of the texts at these places."""
        vectors: Vectors = answer["embeddings"]
        wide = vectors.dimensions
        with self._lock:
            if len(places) == self._count and self._floats is None:
                self._floats, self._dimensions = vectors.floats, wide
            else:
                into = self._take(wide)
                if isinstance(places, range):
                    into[places.start * wide : places.stop * wide] = vectors.memory
                else:
                    for row, place in enumerate(places):
                        into[place * wide : (place + 1) * wide] = vectors.memory[
                            row * wide : (row + 1) * wide
                        ]
            self._answers.append({k: v for k, v in answer.items() if k != "embeddings"})

    def _take(self, dimensions: int) -> memoryview:
        """The memory of all vectors, of so many dimensions each."""
        if self._floats is None:
            self._floats = array("f", [0.0]) * (self._count * dimensions)
            self._dimensions = dimensions
        elif dimensions != self._dimensions:
            raise ResponseFormatError(
                f"some vectors have {self._dimensions} dimensions and some {dimensions}: they are "
                "not of one model; cache='refresh' asks for all anew"
            )
        return memoryview(self._floats)

    def copy(self, repeats: Iterable[tuple[int, int]]) -> None:
        """Give each text that repeats another one the same vector."""
        for place, first in repeats:
            wide = self._dimensions
            into = self._take(wide)
            into[place * wide : (place + 1) * wide] = into[first * wide : (first + 1) * wide]

    def answer(self, model: str, provider: str) -> dict[str, Any]:
        """All of it as one answer."""
        assert self._floats is not None
        answers = self._answers
        models = {str(each.get("model")) for each in answers}
        if len(models) > 1 and any("fallback_from" in each for each in answers):
            raise ResponseFormatError(
                f"some texts were embedded by {' and some by '.join(sorted(models))}, whose "
                "vectors do not compare; with cache=True another try asks for the rest only"
            )
        whole: dict[str, Any] = {"embeddings": Vectors(self._floats, self._dimensions)}
        for name in ("model", "provider", "rate_limit", "extra"):
            for each in (*answers[-1:], *answers, *self._recalled):
                if each.get(name):
                    whole[name] = each[name]
                    break
        whole.setdefault("model", model)
        whole.setdefault("provider", provider)
        whole["cached"] = all(each.get("cached") for each in answers)
        alone = self._recalled if not answers and self._count == 1 else ()
        if usage := _summed([each.get("usage") for each in (*answers, *alone)]):
            whole["usage"] = usage
        for name in ("warnings", "fallback_from"):
            told: list[Any] = []
            for each in answers:
                told += [one for one in each.get(name, ()) if one not in told]
            if told:
                whole[name] = told
        return whole


def _summed(usages: Iterable[Any]) -> dict[str, Any]:
    """Tokens and costs of several requests together."""
    told = [usage for usage in usages if isinstance(usage, dict)]
    if len(told) == 1:
        return dict(told[0])
    total: dict[str, Any] = {}
    for usage in told:
        for name, value in usage.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                total[name] = total.get(name, 0) + value
    return total
