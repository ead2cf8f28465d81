"""Preview: the first thing a call would send, with every secret masked."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from .._base.masking import MASK, masker, words
from .._base.turns import read_arguments
from .._layers.context import Attempt, Call
from .._store.serialization import is_secret_header
from .._transports.urls import target_of
from ..errors import LMGatewayError, MissingCredentialError
from ..types import JSON, Blocking, Exchange, Flow, HTTPRequest, Request, Signed
from .adapt import refitted
from .attempt import complete_error, hand_over
from .credentials import credentials
from .flow import hook_of
from .hook import run_hook
from .outgoing import asks, chosen_headers, final, is_home
from .spec import Spec

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = ["first_exchange"]

FETCHED = "<fetched when sent>"

#: Keys in a turn's state that say what something is: their values are shown.
_SHOWN = frozenset({"format", "id", "index", "kind", "model", "name", "object", "role", "status",
                    "type"})  # fmt: skip
#: Any other value of so many characters without a space may be a signature.
_WORD = 8
#: So long a one is masked inside other texts as well.
_LONG = 16


def first_exchange(spec: Spec, call: Call, request: Request) -> dict[str, Any]:
    """Run the provider's flow to its first exchange, and describe that; nothing is sent."""
    attempt = Attempt(call, request)
    try:
        hand_over(attempt)
        first = _first(run_hook(hook_of(spec, call.kind), attempt, [lambda *_: _yielded]))
        if isinstance(first, HTTPRequest):
            return _veiled(_described(spec, call, first), attempt.given)  # type: ignore[no-any-return]
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
    described = {"runs": "in the process", "key": first.key, "stream": first.stream}
    return _veiled(described, attempt.given)  # type: ignore[no-any-return]


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
    base, body = request.base_url or endpoint.base_url, None
    if base is None:
        settable = spec.settings is not None and "api_base" in spec.settings.variables
        named = spec.settings.named("api_base") if spec.settings and settable else "base URL"
        base = f"<{named} not set>"
    else:
        body = final(request, call).content  # what cannot be sent is not shown either
    home = is_home(request, endpoint)
    proofs, shown = _proofs(request, endpoint) if asks(request, endpoint, home) else ({}, {})
    call.proofs = (proofs,)
    mask = masker([*endpoint.secrets(), *(each for v in proofs.values() for each in words(v))])
    secret = {name for name, value in spec.options.headers.items() if not isinstance(value, str)}
    headers = chosen_headers(request, endpoint.headers() if home else {})
    for name, value in headers.items():
        hidden = name in secret or is_secret_header(name)
        headers[name] = MASK if hidden else str(value)
    described: dict[str, Any] = {
        "method": request.method,
        "url": base.rstrip("/") + target_of(request.path, request.query),
        "headers": headers | shown,
        "json": None,
    }
    if request.content is not None:
        described["content"] = _sized(request.content)
    if request.form is not None:
        described["form"] = {name: _sized(value) for name, value in request.form.items()}
    written = json.dumps(described, ensure_ascii=False)
    if request.json is not None:
        described["json"] = request.json
        written += json.dumps(request.json, ensure_ascii=False) if body is None else body.decode()
    if mask(written) != written:  # it nearly never does, and one look at all of it is quick
        return {name: _masked(value, mask) for name, value in described.items()}
    return described


def _proofs(request: HTTPRequest, endpoint: Endpoint) -> tuple[Mapping[str, str], dict[str, str]]:
    """The credentials, and what is shown of them; nothing is fetched, and nothing is signed."""
    from ..wire.auth import Token

    if type(request.auth) is Signed:
        return {}, {"Authorization": "<signed when sent>"}
    if type(request.auth) is Token:
        return {}, {request.auth.header: FETCHED}
    try:
        proofs = credentials(request, request, endpoint)
    except MissingCredentialError:
        return {}, {"Authorization": "<no key>"}
    if isinstance(proofs, Generator):  # it has not begun
        proofs.close()
        return {}, {"Authorization": FETCHED}
    return proofs, {name: _proof(value) for name, value in proofs.items()}


def _sized(value: Any) -> JSON:
    """A value of a body, its bytes told by their number alone."""
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    return [_sized(each) for each in value] if isinstance(value, (list, tuple)) else value


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


# -- the state of turns ------------------------------------------------------------------------


def _veiled(described: JSON, given: Request) -> JSON:
    """What is shown of a request, without what only the service is to see of earlier turns."""
    turns = [message for message in given.messages or () if "state" in message]
    if not turns:
        return described
    visible = [
        {name: value for name, value in message.items() if name != "state"}
        for message in given.messages or ()
    ]
    hidden = set(_words([turn["state"]["turn"] for turn in turns])) - set(_texts(visible))
    long = [word for word in hidden if len(word) >= _LONG]

    def mask(text: str) -> str:
        if text in hidden:
            return MASK
        for word in long:
            text = text.replace(word, MASK)
        return text

    return _masked(described, mask)


def _words(value: JSON) -> Iterator[str]:
    """The values in a turn's state that may be signatures, or something else that is sealed."""
    if isinstance(value, str):
        if len(value) >= _WORD and not any(map(str.isspace, value)):
            yield value
    elif isinstance(value, dict):
        for name, each in value.items():
            if name not in _SHOWN or not isinstance(each, str):
                yield from _words(each)
    elif isinstance(value, list):
        for each in value:
            yield from _words(each)


def _texts(value: JSON) -> Iterator[str]:
    """All texts in the turns as the user sees them; those in the arguments of calls too."""
    if isinstance(value, str):
        yield value
        read = read_arguments(value) if value[:1] in ("{", "[") else value
        if not isinstance(read, str):
            yield from _texts(read)
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _texts(each)
