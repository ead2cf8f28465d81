"""Preview: the first thing a call would send, with every secret masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .._base.masking import MASK, masker, words
from .._layers.context import Attempt, Call
from .._store.serialization import is_secret_header
from ..errors import LMGatewayError, MissingCredentialError
from ..types import JSON, Blocking, Exchange, Flow, HTTPRequest, Request
from .adapt import refitted
from .attempt import complete_error, hand_over
from .credentials import credentials
from .flow import hook_of
from .hook import run_hook
from .spec import Spec

__all__ = ["first_exchange"]


def first_exchange(spec: Spec, call: Call, request: Request) -> dict[str, Any]:
    """Run the provider's flow to its first exchange, and describe that; nothing is sent."""
    attempt = Attempt(call, request)
    try:
        hand_over(attempt)
        first = _first(run_hook(hook_of(spec, call.kind), attempt, [lambda *_: _yielded]))
        if isinstance(first, HTTPRequest):
            return _described(spec, call, first)
        if not isinstance(first, Blocking):
            call.kind.normalize(first, request, call.endpoint.described)
            return {"answers": "without an exchange"}
    except LMGatewayError as error:
        if refitted(error, attempt, request):
            return first_exchange(spec, call, request)
        complete_error(error, attempt)
        raise
    finally:
        attempt.exit()
    return {"runs": "in the process", "key": first.key, "stream": first.stream}


def _yielded(exchange: Exchange) -> Flow[Any]:
    return (yield exchange)


def _first(flow: Flow[Any]) -> Any:
    """The first exchange of a flow; or what it returns, if it has none."""
    try:
        while True:
            effect = next(flow)
            if isinstance(effect, (HTTPRequest, Blocking)):
                return effect
    except StopIteration as stop:
        return stop.value
    finally:
        flow.close()


def _described(spec: Spec, call: Call, request: HTTPRequest) -> dict[str, Any]:
    endpoint = call.endpoint
    base = request.base_url or endpoint.base_url
    if base is None:
        variables = spec.settings.variables if spec.settings else {}
        base = f"<{variables.get('api_base', 'base URL')} not set>"
    try:
        proofs = credentials(request, endpoint)
        shown = {name: _proof(value) for name, value in proofs.items()}
    except MissingCredentialError:
        proofs, shown = {}, {"Authorization": "<no key>"}
    call.proofs = (proofs,)
    mask = masker([*endpoint.secrets(), *(each for v in proofs.values() for each in words(v))])
    secret = {name for name, value in spec.options.headers.items() if not isinstance(value, str)}
    headers = {**endpoint.headers(), **request.headers}
    for name, value in headers.items():
        hidden = name in secret or is_secret_header(name)
        headers[name] = MASK if hidden else str(value)
    described = {
        "method": request.method,
        "url": base.rstrip("/") + request.path,
        "headers": headers | shown,
        "json": request.json,
    }
    written = json.dumps(described, ensure_ascii=False)
    if mask(written) != written:  # it nearly never does, and one look at all of it is quick
        return {name: _masked(value, mask) for name, value in described.items()}
    return described


def _proof(value: str) -> str:
    """The scheme of a credential, and nothing of the credential."""
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space else MASK


def _masked(value: JSON, mask: Callable[[str], str]) -> JSON:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(str(name)): _masked(each, mask) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(each, mask) for each in value]
    return value
