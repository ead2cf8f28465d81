"""The flow of one call of any kind, all layers in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from .._drive.cancel import Deadline
from .._layers.context import Call, Kind, Step
from .._layers.fallback import Alternative, fallback
from .._layers.observe import observe
from .._layers.retry import retry
from .._records.history import History, remembered
from ..errors import InputError, UnsupportedError
from ..types import Flow, Request
from . import validation
from .adapt import fitted
from .attempt import attempt_step
from .capabilities import check_capabilities
from .hook import Hook
from .kinds import COMPLETE, STREAM
from .schemas import read_schema
from .spec import FIXED, OPTION_NAMES, Spec, resolve
from .twins import merged

__all__ = [
    "ask",
    "begun",
    "compose",
    "hook_of",
    "kind_for",
    "prepare",
    "tried",
    "varied",
    "watched",
]


def prepare(
    spec: Spec,
    prompt: object,
    messages: object,
    schema: Any = None,
    *,
    stream: bool = False,
    kind: Kind = COMPLETE,
) -> tuple[Request, Call]:
    """Check what the caller gave and make a request of it, and the record of its call.

    Args:
        spec: Of the LM, with the keywords of the call.
        prompt: A prompt, or None where there are messages.
        messages: A conversation, or None where there is a prompt.
        schema: What the answer must fit.
        stream: Whether it is to come piece by piece.
        kind: COMPLETE, or another kind that is asked with a prompt or messages.

    Raises InputError or UnsupportedError, before any I/O.
    """
    if (prompt is None) == (messages is None):
        raise InputError("give a prompt or messages=" + ("" if prompt is None else ", not both"))
    parse = None
    json_schema = None
    if schema is not None:
        json_schema, parse = read_schema(schema)
    request = Request(
        spec.model,
        validation.check_prompt(prompt) if prompt is not None else None,
        validation.check_messages(messages) if messages is not None else None,
        spec.params,
        spec.system,
        json_schema,
        stream,
        spec.options.timeout,
    )
    check_capabilities(request, spec.plugin, spec.info)
    if kind is not COMPLETE:
        _check_hook(kind, spec)
    return request, begun(STREAM if stream else kind, spec, request, parse)


def ask(
    kind: Kind, spec: Spec, keywords: Mapping[str, Any], history: History, *inputs: object
) -> tuple[Flow[Any], Call]:
    """The flow of a call that answers no prompt, such as an embedding.

    Args:
        kind: Says what sets it apart.
        spec: Of the LM; its parameters and its system text are for completions.
        keywords: Of the call; they are checked as those of a completion are.
        history: Where the call is remembered.
        *inputs: What is asked, checked.

    Raises InputError or UnsupportedError, before any I/O.
    """
    spec = varied(kind, spec, keywords)
    kind = kind_for(kind, keywords)
    request = kind.request(spec.model, *inputs, params=spec.params, timeout=spec.options.timeout)
    call = begun(kind, spec, request)
    return compose(spec, call, request, history), call


def varied(kind: Kind, spec: Spec, keywords: Mapping[str, Any]) -> Spec:
    """The configuration of a call that answers no prompt, checked; see ``ask``."""
    plain = replace(spec, params={}) if spec.params else spec
    spec = plain.vary(keywords, kind.params) if keywords else plain
    if spec.system is not plain.system:
        raise InputError("system is for completions: put it into the texts")
    _check_hook(kind, spec)
    return spec


def kind_for(kind: Kind, keywords: Mapping[str, Any]) -> Kind:
    """The kind, for a call with these keywords: who names fallbacks to the call means them."""
    return kind if keywords.get("fallbacks") is None else replace(kind, fallbacks="any")


def compose(spec: Spec, call: Call, request: Any, history: History) -> Flow[Any]:
    """The flow of one call: observe > fallback > retry > the provider, and the history."""
    return watched(tried(spec, call), call, request, history)


def tried(spec: Spec, call: Call) -> Step:
    """The step of one call that nobody watches: fallback > retry > the provider."""
    step = _provider(spec, call)
    if spec.options.fallbacks and call.kind.fallbacks != "none":
        others = [_alternative(name, spec, call) for name in spec.options.fallbacks]
        step = fallback(step, call, others)
    return step


def watched(step: Step, call: Call, request: Any, history: History) -> Flow[Any]:
    """The flow of a step, with what callbacks and the history are told of it."""
    flow = observe(step, call)(request)
    if not history.limit or call.kind.history_entry is None:
        return flow
    return remembered(flow, call.kind, request, history)


def hook_of(spec: Spec, kind: Kind) -> Hook:
    """The plugin's hook for this kind of call, its settings filled in."""
    hook = getattr(spec.plugin.hook, kind.hook)
    settings = spec.settings.values if spec.settings else None
    if kind.takes_request:
        return partial(hook, settings=settings)
    return lambda request: hook(settings=settings)


def begun(kind: Kind, spec: Spec, request: Any, parse: Any = None) -> Call:
    """The record of a call that begins now."""
    info, options = spec.info, spec.options
    call = Call(
        kind,
        spec.selection.provider,
        options,
        spec.endpoint,
        Deadline(options.timeout),
        info,
        parse=parse,
    )
    if not request.params.keys() <= info.params:
        call.fit = fitted(request, call)
    return call


def _check_hook(kind: Kind, spec: Spec) -> None:
    if kind.hook not in spec.plugin.hooks:
        what = kind.hook.removeprefix("lmgateway_")
        raise UnsupportedError(f"{spec.plugin.name} does not support {what}")


def _provider(spec: Spec, call: Call) -> Step:
    """The step that asks one provider, as often as its retries allow."""
    layers = spec.layers
    if call.texts is not None:
        from .texts import keeping

        layers = (keeping, *layers)
    return retry(attempt_step(hook_of(spec, call.kind), call, layers), call)


def _alternative(name: str, failed: Spec, call: Call) -> Alternative:
    """A model to ask when another fails; resolved only then."""

    def step(request: Any) -> Flow[Any]:
        spec = _resolved(name, failed).vary(_carried(failed))
        asked = _asked(spec, failed, call.kind, request)
        call.provider, call.options, call.endpoint = (
            spec.selection.provider,
            spec.options,
            spec.endpoint,
        )
        call.info, call.fit = spec.info, None
        call.fit = fitted(asked, call)
        call.host = call.path = None
        if call.texts is None:
            return (yield from _provider(spec, call)(asked))
        from .texts import recalled, stored_texts

        call.texts = stored_texts(hook_of(spec, call.kind), call, asked, spec.layers)
        return (yield from recalled(_provider(spec, call), call, asked))

    return name, step


def _asked(spec: Spec, failed: Spec, kind: Kind, request: Any) -> Any:
    """The request as another model is asked, checked."""
    if kind.fallbacks == "same model" and spec.model != failed.model:
        raise UnsupportedError(
            f"{kind.name} passes over a fallback with another model than {failed.model}, "
            "unless it is given to the call itself, as fallbacks=[...]"
        )
    completes = isinstance(request, Request)
    defaults = spec.params if completes else {}  # an LM's parameters shape completions alone
    params = merged(defaults, request.params)
    if spec.selection.destination != failed.selection.destination:  # what is meant for one host
        params |= {"extra_body": defaults.get("extra_body")}
        params = {name: value for name, value in params.items() if value is not None}
    taken = spec.info.params | (kind.params or frozenset())
    validation.check_params(params, spec.plugin, taken, spec.options.unsupported)
    if kind.hook != STREAM.hook:  # which is told below
        _check_hook(kind, spec)
    if not completes:
        return replace(request, model=spec.model, params=params)
    asked = replace(request, model=spec.model, params=params, system=request.system or spec.system)
    check_capabilities(asked, spec.plugin, spec.info)
    return asked


def _resolved(name: str, failed: Spec) -> Spec:
    mode = failed.given.get("unsupported")  # with "adapt" its own parameters may be too many
    known = name if mode is None else f"{name} {mode}"
    found = failed.alternatives.get(known)
    if found is None:
        given = {"config": failed.selection.config or None, "unsupported": mode}
        found = failed.alternatives.setdefault(known, resolve(name, None, given))
    return found


def _carried(failed: Spec) -> dict[str, Any]:
    """The core options that hold for a call whoever answers it: its arguments, not its file's."""
    carried = OPTION_NAMES - FIXED - {"fallbacks"}
    return {name: value for name, value in failed.given.items() if name in carried}
