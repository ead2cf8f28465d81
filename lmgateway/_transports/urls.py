"""URLs as they are sent: where a base URL leads, and how paths and queries are written."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, NamedTuple
from urllib.parse import quote, urlsplit

from ..errors import InputError

__all__ = ["Place", "pairs", "place_of", "target_of"]

# RFC 3986, 3.3 and 3.4: what a path and a query may hold, and "?" where the query begins.
_WRITTEN = re.compile(r"(?:[A-Za-z0-9/_.~:@!$&'()*+,;=?-]++|%[0-9A-Fa-f]{2})*+")
_UNWRITABLE = re.compile(r"%(?![0-9A-Fa-f]{2})|[^A-Za-z0-9/_.~:@!$&'()*+,;=?%-]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_HOST = re.compile(r"[A-Za-z0-9._~-]+|[0-9A-Fa-f:.]+(%.+)?")
_PORTS = {"http": 80, "https": 443}
_INVALID = "the base URL is not a valid URL: check its host and port"


class Place(NamedTuple):
    """Where a base URL leads, in ASCII.

    Attributes:
        origin: Scheme, host and port; a default port is left out.
        host: The same as the header Host has it.
        prefix: What the base URL's path contributes to each path, without a slash at its end.
    """

    origin: str
    host: str
    prefix: str

    @property
    def url(self) -> str:
        """The base URL."""
        return self.origin + self.prefix


@lru_cache(maxsize=1024)
def place_of(base_url: str) -> Place:
    """Read a base URL.

    Raises InputError if no request can be sent there.
    """
    if _CONTROL.search(base_url):
        raise InputError("a base URL may not hold a line break or another control character")
    if base_url[:1] == " ":  # which urlsplit would pass over, and others not
        raise InputError(_INVALID)
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise InputError(_INVALID) from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InputError("a base URL begins with http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise InputError("a base URL may not hold a user name or a password")
    if parts.query or parts.fragment:
        raise InputError("a base URL may not hold a query or a fragment")
    if port == 0:
        raise InputError("a base URL may not name port 0")
    host = _ascii(parts.hostname)
    if ":" in host:
        host = f"[{host.partition('%')[0]}]"  # RFC 6874, 4: a zone means nothing to the service
    if port is not None and port != _PORTS[parts.scheme]:
        host = f"{host}:{port}"
    return Place(f"{parts.scheme}://{host}", host, _written(parts.path).rstrip("/"))


def _ascii(host: str) -> str:
    """A host's name in ASCII, in lower case."""
    try:
        host.encode("idna")  # it refuses a name with a part that is empty or too long
        if not host.isascii():
            from requests import PreparedRequest, RequestException

            prepared = PreparedRequest()
            try:
                prepared.prepare_url(f"http://{host}/", None)
            except RequestException:
                raise InputError(_INVALID) from None
            host = urlsplit(prepared.url or "").hostname or ""
    except ValueError:
        raise InputError(_INVALID) from None
    if not _HOST.fullmatch(host):
        raise InputError(_INVALID)
    return host.lower()


def target_of(path: str, query: Mapping[str, Any]) -> str:
    """A path and a query as the request line has them.

    What is percent-encoded already stays as it is, and nothing is resolved or normalised.

    Args:
        path: Begins with a slash, or is empty; it may hold a query of its own.
        query: By name, as HTTPRequest has it.

    Raises:
        InputError: The path holds what cannot be sent in any form.
        TypeError: The path or the query is not as the contract says.
    """
    if path and path[0] not in "/?":
        raise TypeError("its path does not begin with a slash")
    target = _written(path)
    if not query:
        return target
    added = "&".join(
        f"{_quoted(name)}={_quoted(value)}" for name, value in pairs(query, "query", str)
    )
    if not added:
        return target
    if "?" not in target:
        return f"{target}?{added}"
    return f"{target}{'' if target[-1] in '?&' else '&'}{added}"


@lru_cache(maxsize=256)
def _written(path: str) -> str:
    if _WRITTEN.fullmatch(path):
        return path
    if _CONTROL.search(path):
        raise InputError("a request's path may not hold a line break or another control character")
    return _UNWRITABLE.sub(lambda found: _quoted(found[0]), path)


def _quoted(text: str) -> str:
    try:
        return quote(text, safe="")
    except UnicodeEncodeError:
        raise InputError("a request's URL holds a lone surrogate, which cannot be sent") from None


def pairs(given: Mapping[str, Any], what: str, *kept: type) -> Iterator[tuple[str, Any]]:
    """Names and values, one pair for each value of a list; None is left out.

    Numbers become texts; values of the types ``kept`` stay as they are.

    Raises TypeError, which quotes no value, for what is no such value.
    """
    if not isinstance(given, Mapping):
        raise TypeError(f"its {what} is a {type(given).__name__} and no mapping")
    for name, value in given.items():
        if not isinstance(name, str):
            raise TypeError(f"a name in its {what} is a {type(name).__name__} and no str")
        for each in value if isinstance(value, list) else (value,):
            if each is None:
                continue
            if isinstance(each, kept):
                yield name, each
            elif isinstance(each, bool):
                yield name, "true" if each else "false"
            elif isinstance(each, int) or (isinstance(each, float) and isfinite(each)):
                yield name, str(each)
            else:
                kind = type(each).__name__
                raise TypeError(f"{name[:40]!r} in its {what} is a {kind} that cannot be sent")
