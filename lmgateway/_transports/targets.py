"""Where a base URL leads: its pool of connections, through which proxy, trusting whom."""

from __future__ import annotations

import os
import re
import ssl
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.exceptions import RequestException
from requests.utils import (
    DEFAULT_CA_BUNDLE_PATH,
    get_environ_proxies,
    requote_uri,
    select_proxy,
)
from urllib3 import PoolManager, ProxyManager
from urllib3.util.ssl_ import create_urllib3_context

from ..errors import ConfigError, InputError
from .connections import POOL_CLASSES
from .outgoing import check_base_url, checked_proxy

__all__ = ["Target", "find_target", "trust"]

IDLE_CONNECTIONS = 512
"""Connections to one host that are kept for reuse; any number may be in use."""

_PLAIN_PATH = re.compile(r"[A-Za-z0-9/_.~:@!$&'()*+,;=?-]*")


class Target(NamedTuple):
    """One service as it is reached from here, found once and then kept.

    Attributes:
        url: The base URL, quoted, without a trailing slash.
        prefix: What its path contributes to the path of a request.
        place: ``host:port``, for messages.
        host: The host's name.
        proxy: ``host:port`` of the proxy on the way there, or None.
        in_full: Whether the request line names the whole URL, as a plain HTTP proxy wants it.
        pool: Connections to it.
    """

    url: str
    prefix: str
    place: str
    host: str
    proxy: str | None
    in_full: bool
    pool: Any

    def url_of(self, path: str) -> str:
        """The URL of a path there."""
        return self.url + quote(path)

    def line_of(self, path: str) -> str:
        """The same as it goes into the request line."""
        return (self.url if self.in_full else self.prefix) + quote(path)


def quote(path: str) -> str:
    """A path, and perhaps a query, in ASCII; what is quoted already stays."""
    return path if _PLAIN_PATH.fullmatch(path) else requote_uri(path).replace("#", "%23")


def find_target(base_url: str, adapter: HTTPAdapter, context: ssl.SSLContext | None) -> Target:
    """Look up how a base URL is reached: proxies are those of the environment at this moment.

    Args:
        base_url: Scheme, host and perhaps a path.
        adapter: Knows how requests speaks to proxies.
        context: For TLS; None for a URL that does not need it.

    Raises InputError for a URL that cannot be reached by HTTP and ConfigError for such a proxy.
    """
    url = _canonical(base_url)
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    options: dict[str, Any] = {"maxsize": IDLE_CONNECTIONS, "block": False}
    manager: PoolManager
    manager, via = (
        _proxy_manager(proxy, adapter, context, options)
        if proxy
        else (PoolManager(**options), None)
    )
    manager.pool_classes_by_scheme = POOL_CLASSES
    tls = {"ssl_context": context, "cert_reqs": "CERT_REQUIRED"} if context is not None else {}
    return Target(
        url=url,
        prefix=parts.path.rstrip("/"),
        place=_place(host, port),
        host=host,
        proxy=via,
        in_full=bool(proxy) and parts.scheme == "http",
        pool=manager.connection_from_host(host, port, parts.scheme, pool_kwargs=tls),
    )


def _canonical(base_url: str) -> str:
    check_base_url(base_url)
    prepared = PreparedRequest()
    try:
        (urlsplit(base_url).hostname or "").encode(
            "idna"
        )  # refuses a name with a part that is empty or too long
        prepared.prepare_url(base_url, None)
    except (RequestException, ValueError):
        raise InputError("the base URL is not a valid URL: check its host and port") from None
    return (prepared.url or "").rstrip("/")


def _proxy_manager(
    proxy: str, adapter: HTTPAdapter, context: ssl.SSLContext | None, options: dict[str, Any]
) -> tuple[ProxyManager, str]:
    """The manager of connections through a proxy, and the proxy's ``host:port``."""
    proxy = checked_proxy(proxy)
    parts = urlsplit(proxy)
    secure = parts.scheme == "https"
    if secure:
        options = {**options, "proxy_ssl_context": context or trust(verify=True)}
    manager = ProxyManager(proxy, proxy_headers=adapter.proxy_headers(proxy), **options)
    return manager, _place(parts.hostname or "", parts.port or (443 if secure else 80))


def _place(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def trust(*, verify: bool | str) -> ssl.SSLContext:
    """The TLS context for ``TransportOptions.verify``; costs some 15 ms, so make it once.

    Raises ConfigError for a bundle that is not there or cannot be read.
    """
    if verify is False:
        raise ConfigError(
            "certificates are always verified: give verify= the path of a CA bundle that holds "
            "the service's authority"
        )
    context = create_urllib3_context()
    for path, source in _bundles(verify):
        try:
            if os.path.isdir(path):
                context.load_verify_locations(capath=path)
            else:
                context.load_verify_locations(cafile=path)
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror if not isinstance(error, ssl.SSLError) else "no certificates"
            raise ConfigError(f"the CA bundle {path} ({source}) cannot be read: {reason}") from None
    if verify is True and not _environment_bundles():
        context.load_default_certs()
    return context


def _bundles(verify: bool | str) -> list[tuple[str, str]]:
    if isinstance(verify, str):
        return [(verify, "verify=")]
    # The system's own store may be empty, in a slim container say: requests' bundle is not.
    return _environment_bundles() or [(DEFAULT_CA_BUNDLE_PATH, "that of requests")]


def _environment_bundles() -> list[tuple[str, str]]:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        if path := os.environ.get(name):
            return [(path, name)]
    return [
        (path, name) for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if (path := os.environ.get(name))
    ]
