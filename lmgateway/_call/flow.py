"""The flow of one call, all layers in place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from .._drive.cancel import Deadline
from .._guard.tracebacks import masked
from .._layers.call import (
    Call,
    Scope,
    Step,
)
from .._layers.fallback import Alternative, fallback
from .._layers.observe import observe
from .._layers.retry import retry
from ..errors import (
    InputError,
    LMGatewayError,
    UnsupportedError,
)
from ..types import (
    Completion,
    EmbedRequest,
    Flow,
    Request,
)
from . import validation
from .attempt import attempt, complete_error
from .exchange import exchange
from .schemas import read_schema
from .spec import FIXED, OPTION_NAMES, Spec, resolve

__all__ = ["compose", "embedding", "listing", "prepare"]

#: What embeddings are shaped by, beside what a plugin's Info names: OpenAI's own, and what vLLM,
#: Cohere, Jina, NVIDIA and Voyage add to them.
_EMBEDDING = frozenset({
    "add_special_tokens", "dimensions", "embedding_type", "embedding_types", "encoding_format",
    "extra_body", "input_type", "late_chunking", "metadata", "normalized", "output_dimension",
    "output_dtype", "priority", "task", "truncate", "truncate_prompt_tokens", "truncation", "user",
})  # fmt: skip


def prepare(
    spec: Spec,
    prompt: object,
    messages: object,
    schema: Any = None,
    *,
    stream: bool = False,
) -> tuple[Request, Call]:
    """Check what the caller gave and make a request of it, and the record of its call.

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
    validation.check_capabilities(request, spec.plugin)
    call = Call(spec.selection.provider, spec.options, Deadline(spec.options.timeout), parse=parse)
    return request, call


def compose(spec: Spec, call: Call) -> Step:
    """The step that answers one call: observe > fallback > retry > the provider."""
    step = _asking(spec, call)
    if spec.options.fallbacks:
        others = [_alternative(name, spec, call) for name in spec.options.fallbacks]
        step = fallback(step, call, others)
    return observe(step, call)


def _asking(spec: Spec, call: Call) -> Step:
    """The step that asks one provider, as often as its retries allow."""
    hooks, settings = spec.plugin.hook, spec.settings.values if spec.settings else None

    def hook(request: Request) -> Any:
        if request.stream:
            return hooks.lmgateway_stream(request=request, settings=settings)
        return hooks.lmgateway_complete(request=request, settings=settings)

    return retry(attempt(hook, spec.target, call, spec.layers), call)


def _alternative(name: str, failed: Spec, call: Call) -> Alternative:
    """A model to ask when another fails; resolved only then."""

    def step(request: Request) -> Flow[Completion]:
        spec = _resolved(name, failed).vary(_carried(failed))
        params = {**spec.params, **request.params}
        if spec.selection.destination != failed.selection.destination:  # what is meant for one host
            params |= {"extra_body": spec.params.get("extra_body")}
            params = {name: value for name, value in params.items() if value is not None}
        validation.check_params(params, spec.plugin)
        asked = replace(
            request, model=spec.model, params=params, system=request.system or spec.system
        )
        validation.check_capabilities(asked, spec.plugin)
        call.provider, call.options = spec.selection.provider, spec.options
        call.host = call.path = None
        return (yield from _asking(spec, call)(asked))

    return name, step


def _resolved(name: str, failed: Spec) -> Spec:
    found = failed.alternatives.get(name)
    if found is None:
        found = resolve(name, None, {"config": failed.selection.config or None})
        found = failed.alternatives.setdefault(name, found)
    return found


def _carried(failed: Spec) -> dict[str, Any]:
    """The core options that hold for a call whoever answers it: its arguments, not its file's."""
    carried = OPTION_NAMES - FIXED - {"fallbacks"}
    return {name: value for name, value in failed.given.items() if name in carried}


def embedding(spec: Spec, texts: list[str], keywords: Mapping[str, Any]) -> tuple[Flow[Any], Call]:
    """The flow that embeds texts; its keywords are checked as those of a completion are."""
    known = _EMBEDDING | spec.plugin.info.params
    plain = replace(spec, params={}) if spec.params else spec  # the LM's shape completions
    spec = plain.vary(keywords, known)
    if spec.system is not plain.system:
        raise InputError("system is for completions: put it into the texts")
    request = EmbedRequest(spec.model, texts, spec.params, spec.options.timeout)
    return ask(spec, "lmgateway_embed", request)


def listing(spec: Spec, keywords: Mapping[str, Any]) -> tuple[Flow[Any], Call]:
    """The flow that lists models; takes core options and settings, and no parameters."""
    return ask(spec.vary(keywords, ()), "lmgateway_models")


def ask(spec: Spec, hook: str, request: Any = None) -> tuple[Flow[Any], Call]:
    """The flow of a hook that answers no prompt: models, embed."""
    if hook not in spec.plugin.hooks:
        what = hook.removeprefix("lmgateway_")
        raise UnsupportedError(f"{spec.plugin.name} does not support {what}")
    call = Call(spec.selection.provider, spec.options, Deadline(spec.options.timeout))
    settings = spec.settings.values if spec.settings else None
    implementation = getattr(spec.plugin.hook, hook)
    target = spec.target

    def run(_: Any) -> Any:
        if request is None:
            return implementation(settings=settings)
        return implementation(request=request, settings=settings)

    def step(stand_in: Request) -> Flow[Any]:
        call.secrets = target.secrets
        scope = Scope(call, stand_in, target.base_url, target.asker)
        try:
            outcome = yield from exchange(run, request, target, scope, spec.layers)
            scope.commit(outcome)
            return outcome
        except LMGatewayError as error:
            scope.fail(error)
            complete_error(error, target, call, spec.model)
            raise
        except BaseException as error:
            if (clean := masked(error, call.all_secrets())) is not error:
                raise clean from None
            raise
        finally:
            scope.exit()

    params = getattr(request, "params", {})
    text = "\n".join(getattr(request, "texts", ()))  # what a limit of tokens goes by
    stand_in = Request(spec.model, text, params=params, timeout=spec.options.timeout)
    return retry(step, call)(stand_in), call
