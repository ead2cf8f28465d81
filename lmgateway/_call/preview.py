"""Preview: the first thing a call would send, with every secret masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from .._base.masking import MASK, masker, words
from .._layers.call import Call
from .._store.exchange import is_secret_header
from ..errors import LMGatewayError, MissingCredentialError
from ..types import (
    JSON,
    Blocking,
    Flow,
    HTTPRequest,
    Request,
)
from .attempt import complete_error
from .exchange import credentials, fault
from .spec import Spec

__all__ = ["first_exchange"]


def first_exchange(spec: Spec, call: Call, request: Request) -> dict[str, Any]:
    """Run the provider's flow to its first exchange and describe that."""
    call.secrets = spec.target.secrets
    try:
        exchange = _exchange(spec, request)
        if isinstance(exchange, HTTPRequest):
            return _described(spec, call, exchange)
    except LMGatewayError as error:
        complete_error(error, spec.target, call, request.model)
        raise
    if exchange is not None:
        return {"runs": "in the process", "key": exchange.key, "stream": exchange.stream}
    return {"answers": "without an exchange"}


def _exchange(spec: Spec, request: Request) -> HTTPRequest | Blocking | None:
    """The first of the provider's flow; None if it has none."""
    hooks, settings = spec.plugin.hook, spec.settings.values if spec.settings else None
    hook = hooks.lmgateway_stream if request.stream else hooks.lmgateway_complete
    try:
        outcome = hook(request=request, settings=settings)
        return None if isinstance(outcome, dict) else _first(outcome)
    except LMGatewayError:
        raise
    except (Exception, SystemExit) as error:
        raise fault(error, spec.target) from error


def _first(flow: Flow[Any]) -> HTTPRequest | Blocking | None:
    try:
        for effect in flow:
            if isinstance(effect, (HTTPRequest, Blocking)):
                return effect
    finally:
        flow.close()
    return None


def _described(spec: Spec, call: Call, request: HTTPRequest) -> dict[str, Any]:
    target = spec.target
    base = request.base_url or target.base_url
    if base is None:
        variables = spec.settings.variables if spec.settings else {}
        base = f"<{variables.get('api_base', 'base URL')} not set>"
    try:
        proofs = credentials(request, target)
    except MissingCredentialError:
        proofs = {"Authorization": "<no key>"}
    else:
        call.proofs = (proofs,)
    mask = masker([*target.secrets(), *(each for v in proofs.values() for each in words(v))])
    secret = {name for name, value in spec.options.headers.items() if not isinstance(value, str)}
    headers = {**target.headers(), **request.headers}
    for name, value in headers.items():
        hidden = name in secret or is_secret_header(name)
        headers[name] = MASK if hidden else mask(str(value))
    return {
        "method": request.method,
        "url": mask(base.rstrip("/") + request.path),
        "headers": {**headers, **{name: _proof(value, mask) for name, value in proofs.items()}},
        "json": _masked(request.json, mask) if _shows(request.json, mask) else request.json,
    }


def _proof(value: str, mask: Callable[[str], str]) -> str:
    """Keep the scheme of a credential, and nothing of the credential."""
    if value == "<no key>":
        return value
    scheme, space, _ = value.partition(" ")
    return f"{mask(scheme)} {MASK}" if space else MASK


def _shows(value: JSON, mask: Callable[[str], str]) -> bool:
    """Whether a secret stands in it: nearly never, and to look at all of it at once is quick."""
    written = json.dumps(value, ensure_ascii=False)
    return mask(written) != written


def _masked(value: JSON, mask: Callable[[str], str]) -> JSON:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {mask(str(name)): _masked(each, mask) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_masked(each, mask) for each in value]
    return value
