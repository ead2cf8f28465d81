"""What an effect must hold for layers, drivers and transports to work with it."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from concurrent.futures import Future
from math import inf
from types import GeneratorType
from typing import Any

from .._store.serialization import identify
from ..types import Blocking, Cleanup, Delta, Emit, HTTPRequest, Kept, Read, Sleep, Wait

__all__ = ["is_sound"]


def is_sound(effect: Any, kind: type) -> bool:
    """Whether an effect of that type is sound; what is no effect at all is not judged."""
    if kind is Emit:
        delta = effect.delta
        if type(delta) is not Delta:
            return type(delta) is str
        plain = delta.part is None and delta.partial is None and delta.id is None  # nearly always
        return type(delta.text) is str and (plain or _is_sound_part(delta))
    if kind is HTTPRequest:
        return _is_sound_request(effect)
    if kind is Blocking:
        return callable(effect.fn) and (effect.cancel is None or callable(effect.cancel))
    if kind is Sleep:
        return isinstance(effect.seconds, (int, float)) and 0 <= effect.seconds < inf
    if kind is Wait:
        return isinstance(effect.future, Future)
    if kind is Kept:
        return _is_unbegun(effect.flow) and effect.key is not None and _is_json(effect.key)
    if kind is Cleanup:
        request = effect.request
        return request is None or (type(request) is HTTPRequest and _is_sound_request(request))
    return kind is not Read or hasattr(effect.body, "read")


def _is_sound_part(delta: Delta) -> bool:
    part = delta.part
    return (
        (part is None or (isinstance(part, dict) and isinstance(part.get("type"), str)))
        and delta.partial in (None, "append", "replace")
        and isinstance(delta.id, (str, type(None)))
    )


def _is_sound_request(request: HTTPRequest) -> bool:
    return (
        (type(request.method) is str or isinstance(request.method, str))
        and (type(request.path) is str or isinstance(request.path, str))
        and (type(request.base_url) is str or isinstance(request.base_url, (str, type(None))))
        and (type(request.headers) is dict or isinstance(request.headers, Mapping))
        and (type(request.query) is dict or isinstance(request.query, Mapping))
        and type(request.keep) is bool
        and isinstance(request.vary, tuple)
        and (not request.vary or all(isinstance(name, str) for name in request.vary))
        and ((request.content is None and request.form is None) or _is_sound_body(request))
    )


def _is_sound_body(request: HTTPRequest) -> bool:
    """Whether a body that is no JSON is alone, and of its type."""
    bodies = (request.json, request.content, request.form)
    return (
        sum(body is not None for body in bodies) == 1
        and isinstance(request.content, (bytes, type(None)))
        and isinstance(request.form, (Mapping, type(None)))
    )


def _is_unbegun(flow: Any) -> bool:
    """Whether a flow is a generator that nobody has run yet, as far as it can be seen."""
    if type(flow) is not GeneratorType:
        return isinstance(flow, Generator)
    return flow.gi_frame is not None and not (flow.gi_running or flow.gi_suspended)


def _is_json(key: Any) -> bool:
    return identify({"kept": key}) is not None
