"""Preview: the first thing a call would send, with every secret masked."""

from __future__ import annotations

from typing import Any

from .attempt import credentials
from .composition import Spec
from .config.tables import is_secret_header
from .errors import MASK, MissingCredentialError
from .layers import Call
from .types import Blocking, Flow, HTTPRequest, Request

__all__ = ["first_exchange"]


def first_exchange(spec: Spec, call: Call, request: Request) -> dict[str, Any]:
    """Run the provider's flow to its first exchange and describe that."""
    hooks, settings = spec.plugin.hook, spec.filled.values if spec.filled else None
    hook = hooks.lmgateway_stream if request.stream else hooks.lmgateway_complete
    outcome = hook(request=request, settings=settings)
    if isinstance(outcome, dict):
        return {"answers": "without an exchange"}
    exchange = _first(outcome)
    if isinstance(exchange, HTTPRequest):
        return _described(spec, exchange)
    if isinstance(exchange, Blocking):
        return {"runs": "in the process", "key": exchange.key, "stream": exchange.stream}
    return {"answers": "without an exchange"}


def _first(flow: Flow[Any]) -> HTTPRequest | Blocking | None:
    try:
        for effect in flow:
            if isinstance(effect, (HTTPRequest, Blocking)):
                return effect
    finally:
        flow.close()
    return None


def _described(spec: Spec, request: HTTPRequest) -> dict[str, Any]:
    target = spec.target
    base = request.base_url or target.base_url
    if base is None:
        base = f"<{(spec.filled and spec.filled.variables.get('api_base')) or 'base URL'} not set>"
    try:
        proofs = credentials(request, target)
    except MissingCredentialError:
        proofs = {"Authorization": "<no key>"}
    headers = {**target.headers(), **request.headers}
    masked = {name: _masked(value) for name, value in proofs.items()}
    own = {name: MASK for name in headers if is_secret_header(name)}
    return {
        "method": request.method,
        "url": base.rstrip("/") + request.path,
        "headers": {**headers, **own, **masked},
        "json": request.json,
    }


def _masked(value: str) -> str:
    """Keep the scheme of a credential, and nothing of the credential."""
    if value.startswith("<"):
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} {MASK}" if space else MASK
