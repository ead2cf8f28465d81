"""The innermost send: an exchange on its way out, made final.

What is final is what leaves: a transport writes its method, path, headers and body as they stand.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache, lru_cache
from types import GeneratorType
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from .._layers.context import Attempt, Call
from .._plugins.distributions import own_version
from .._store.serialization import is_secret_header
from .._transports.checks import check_headers, check_method
from .._transports.decoding import ACCEPT_ENCODING
from .._transports.protocols import is_event_stream
from .._transports.urls import place_of, target_of
from ..errors import InputError, PluginContractError
from ..types import Blocking, Exchange, Flow, HTTPRequest, HTTPResponse, read_all
from .bodies import body_of
from .credentials import credentials, prove, refused
from .faults import unsound

if TYPE_CHECKING:
    from .endpoint import Endpoint

__all__ = [
    "asks",
    "chosen_headers",
    "final",
    "finished",
    "is_home",
    "netloc_of",
    "send_to_wire",
    "user_agent",
]

#: What HTTP itself needs; who gives another value of one means it.
_OF_HTTP = (("Accept", "*/*"), ("Accept-Encoding", ACCEPT_ENCODING), ("Connection", "keep-alive"))
#: What the body decides.
_OF_FRAMING = frozenset({"content-length", "transfer-encoding"})
_OF_THE_BODY = _OF_FRAMING | {"content-type"}
#: RFC 9110, 8.6: with any other method, who sends no body says so.
_WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


@cache
def user_agent() -> str:
    """``lmgateway/<version> python/<version>``."""
    return f"lmgateway/{own_version() or '0'} python/{platform.python_version()}"


def send_to_wire(
    attempt: Attempt, exchange: Exchange, within: tuple[HTTPRequest, ...] = ()
) -> Flow[Any]:
    """The innermost send: it fills in what a request needs only when it really goes out.

    Args:
        attempt: The one under way.
        exchange: What is to be sent.
        within: The requests whose auth waits for it, the outermost first.
    """
    call = attempt.call
    origin = attempt.origin if within else "wire"  # what is fetched for it is not its answer
    if isinstance(exchange, Blocking):
        from .._drive.workers import run_blocking

        attempt.origin = origin
        response = yield from run_blocking(exchange)
    else:
        assert isinstance(exchange, HTTPRequest)
        if (exchange.headers or exchange.query) and (secrets := _secrets_of(exchange)):
            call.proofs = (*call.proofs, secrets)
        home = is_home(exchange, call.endpoint, within)
        proves = bool(within) or asks(exchange, call.endpoint, home)
        for last in (False, True):
            ready = final(exchange, call, home=home)
            proofs: Any = credentials(exchange, ready, call.endpoint, within) if proves else None
            if type(proofs) is GeneratorType:
                proofs = yield from prove(exchange, proofs, attempt, send_to_wire, within)
            if proofs:
                call.proofs = (*call.proofs, proofs)
                _add_proofs(ready, proofs)
            attempt.origin = origin
            call.host, call.path = netloc_of(ready.base_url or ""), exchange.path
            owed, attempt.owes = attempt.owes, attempt.owes or (exchange.keep and not within)
            response = yield ready
            if not 200 <= response.status <= 299:
                attempt.owes = owed  # what is refused is free
            again = response.status == 401 and proves and refused(exchange, proofs, call.endpoint)
            if last or not again:
                break
    source = getattr(response, "source", None)
    if source is not None:
        attempt.on_exit(source.close)
        if isinstance(exchange, HTTPRequest):  # what a worker pushes is read as it comes
            if response.max_body != call.options.max_body:
                response = replace(response, max_body=call.options.max_body)
            if call.endpoint.api < 2 and not is_event_stream(response.headers):
                response = yield from _whole(response)
    return response


def _whole(response: HTTPResponse) -> Flow[HTTPResponse]:
    """An answer to a plugin of API 1, which has sources for event streams alone."""
    return replace(response, body=(yield from read_all(response)), source=None)


def asks(request: HTTPRequest, endpoint: Endpoint, home: bool) -> bool:
    """Whether a request is to say who sends it: not if the user's own headers do."""
    auth = request.auth
    if auth is None:  # then there must be a key all the same, for some hosts
        return home
    return not (endpoint.has_credentials if home else endpoint.owns(auth))


# -- a request made final ------------------------------------------------------------------------


def final(request: HTTPRequest, call: Call, *, home: bool = True) -> HTTPRequest:
    """The request as it is sent, but for the headers that prove who sends it.

    ``path`` is path and query, percent-encoded; ``headers`` are all, one of each name, Host and
    Content-Length included, in a dict that nobody else has; ``content`` is the body. ``json``
    stays beside it for whoever looks.

    Args:
        request: As the plugin made it.
        call: That it belongs to.
        home: Whether the LM's own headers go along: see ``is_home``.

    Raises:
        InputError: The URL, a header or the body cannot be sent.
        MissingCredentialError: There is no base URL.
        PluginContractError: The plugin yielded what the contract forbids.
    """
    endpoint = call.endpoint
    base = request.base_url if request.base_url is not None else endpoint.base_url
    if not base:
        raise endpoint.missing_base_error()
    own = endpoint.headers() if home else {}
    try:
        return finished(request, base, own, call.max_body)
    except InputError:
        if not _are_texts(request.headers):
            raise unsound(request, endpoint) from None
        raise
    except (TypeError, ValueError) as error:
        raise PluginContractError(
            f"{endpoint.described} yielded an HTTPRequest that cannot be sent: {error}"
        ) from None


def finished(
    request: HTTPRequest, base_url: str, own: Mapping[str, str], max_body: int | None = None
) -> HTTPRequest:
    """See ``final``; raises TypeError or ValueError for what the contract forbids."""
    method, given = request.method, request.headers
    place = place_of(base_url)
    target = target_of(request.path, request.query)
    if target[:1] != "/" and not place.prefix:
        target = "/" + target
    body, content_type = body_of(request, _content_type(given) if given else None)
    lines = tuple(own.items()) if own else (), tuple(given.items()) if given else ()
    headers = _lines(method, place.host, content_type, *lines)
    headers = headers.copy()
    if body is not None:
        headers["Content-Length"] = str(len(body))
    elif method not in _WITHOUT_BODY:
        headers["Content-Length"] = "0"
    return HTTPRequest(
        method,
        base_url,
        target,
        headers=headers,
        json=request.json,
        content=body,
        stream=request.stream,
        max_body=max_body,
    )


@lru_cache(maxsize=256)
def _lines(
    method: str,
    host: str,
    content_type: str | None,
    own: tuple[tuple[str, str], ...],
    given: tuple[tuple[str, str], ...],
) -> dict[str, str]:
    """All headers but those that only this request has; they seldom change from call to call."""
    if method not in _WITH_BODY:
        check_method(method)
    headers = _merged([("Host", host), *_OF_HTTP, _agent()], given, own)
    if content_type is not None:
        headers["Content-Type"] = content_type
    check_headers(headers)
    return headers


def chosen_headers(request: HTTPRequest, own: Mapping[str, str]) -> dict[str, str]:
    """The headers that somebody chose, as they are merged: those that a preview shows."""
    headers = _merged([_agent()], request.headers.items(), own.items())
    if (content_type := _content_type(request.headers)) is not None:
        headers["Content-Type"] = content_type
    return headers


def _agent() -> tuple[str, str]:
    return "User-Agent", user_agent()


def _merged(*given: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Headers of several sources, one of each name in any case; the last that gives one wins.

    Those that the body decides are left out.
    """
    found: dict[str, tuple[str, str]] = {}
    for headers in given:
        for name, value in headers:
            lowered = str(name).lower()
            if lowered not in _OF_THE_BODY:
                found[lowered] = name, value
    return dict(found.values())


def _add_proofs(request: HTTPRequest, proofs: Mapping[str, str]) -> None:
    """Put the headers of its auth on a final request, in place of those of the same name."""
    headers = cast(dict[str, str], request.headers)  # nobody else has it
    for name, value in proofs.items():
        if name.lower() in _OF_FRAMING:  # who signs may give all headers back
            continue
        if name not in headers and (same := _same(name, tuple(headers))) is not None:
            del headers[same]
        headers[name] = value


@lru_cache(maxsize=256)
def _same(name: str, names: tuple[str, ...]) -> str | None:
    """The one of these names that is the same in another case."""
    return next((each for each in names if each.lower() == name.lower()), None)


_OF_A_PAGE = re.compile(r"\w*(page|next|continuation|start(ing)?)[_-]?token", re.I).fullmatch


def _secrets_of(request: HTTPRequest) -> Mapping[str, str]:
    """What a plugin put on a request under a name that speaks of a secret, as a fetched token."""
    found = {}
    for given in (request.headers, request.query):
        for name in _secret_names(tuple(given)) if given else ():
            if isinstance(value := given[name], str):
                found[name] = value
    return found


@lru_cache(maxsize=256)
def _secret_names(names: tuple[str, ...]) -> tuple[str, ...]:
    texts = (name for name in names if isinstance(name, str) and not _OF_A_PAGE(name))
    return tuple(name for name in texts if is_secret_header(name))


def is_home(request: HTTPRequest, endpoint: Endpoint, within: tuple[HTTPRequest, ...] = ()) -> bool:
    """Whether a request goes to the origin that the LM is configured for.

    Only there go the LM's own headers and its credentials. Where no base URL is configured, any
    request of a plugin goes home, but for one that fetches a token for another request.

    Args:
        request: As the plugin made it.
        endpoint: Whose request it is.
        within: The requests whose auth waits for it, the outermost first.
    """
    asked = request.base_url
    home = endpoint.base_url or (within[0].base_url if within else None)
    if asked is None or home is None or asked == home:
        return True
    return place_of(asked).origin == place_of(home).origin


def _content_type(headers: Mapping[str, str]) -> str | None:
    """The Content-Type that the plugin gave."""
    found = None
    for name, value in headers.items():
        if isinstance(name, str) and name.lower() == "content-type":
            if not isinstance(value, str):
                raise TypeError("its Content-Type is no str")
            found = value
    return found


def _are_texts(headers: Mapping[Any, Any]) -> bool:
    return all(isinstance(each, str) for pair in headers.items() for each in pair)


@lru_cache(maxsize=256)
def netloc_of(url: str) -> str:
    """``host[:port]`` of a URL, without user information."""
    return urlsplit(url).netloc.rpartition("@")[2]
