"""What the environment says about the way out: proxies and certificate authorities."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import ConfigError

__all__ = ["ca_bundle", "proxy_for", "tls_context"]

_CA_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def proxy_for(url: str) -> str | None:
    """The proxy for a URL by ``HTTP(S)_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, or None.

    As requests reads them: ``NO_PROXY`` may hold networks such as ``10.0.0.0/8``.

    Raises:
        ConfigError: The proxy is not an HTTP proxy.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname:
        return None
    if proxy_bypass(parts.netloc.rpartition("@")[2]) or _in_network(parts.hostname, proxies):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    scheme = urlsplit(proxy).scheme
    if scheme not in ("http", "https"):
        raise ConfigError(
            f"the environment names a {scheme} proxy for {parts.scheme} URLs, and only http "
            "proxies can be used; name one, or put the host into NO_PROXY"
        )
    return proxy


def _in_network(host: str, proxies: dict[str, str]) -> bool:
    try:
        address = ip_address(host)
    except ValueError:
        return False
    for entry in proxies.get("no", "").split(","):
        try:
            if address in ip_network(entry.strip(), strict=False):
                return True
        except ValueError:
            continue
    return False


def ca_bundle(verify: bool | str) -> str:
    """Path of the CA bundle to trust: ``verify``, else the environment's, else certifi's.

    Raises:
        ConfigError: There is nothing at that path, or ``verify`` is False.
    """
    if verify is False:
        raise ConfigError("certificates are always verified: give verify= the path of a CA bundle")
    if isinstance(verify, str):
        source, path = "verify=", verify
    else:
        named = ((name, os.environ.get(name)) for name in _CA_VARIABLES)
        source, path = next(((name, path) for name, path in named if path), ("", ""))
    if not path:
        import certifi  # requests, which the core needs, brings it

        return certifi.where()
    if not os.path.exists(path):
        raise ConfigError(f"{source} names a CA bundle that does not exist: {path}")
    return path


@lru_cache(maxsize=16)
def tls_context(bundle: str) -> ssl.SSLContext:
    """The one TLS context of this process for a CA bundle (a file or a folder); it costs 15 ms.

    Raises:
        ConfigError: The bundle cannot be read.
    """
    folder = os.path.isdir(bundle)
    try:
        context = ssl.create_default_context(
            cafile=None if folder else bundle, capath=bundle if folder else None
        )
    except OSError as error:
        reason = error.strerror or error.__class__.__name__
        raise ConfigError(f"the CA bundle {bundle} cannot be read: {reason}") from None
    context.set_alpn_protocols(["http/1.1"])
    return context
