"""What the environment says about the way out: proxies and certificate authorities."""

from __future__ import annotations

import os
import ssl
from functools import lru_cache
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ..errors import ConfigError
from .outgoing import checked_proxy

__all__ = ["proxy_for", "tls_context"]


def proxy_for(url: str) -> str | None:
    """The proxy for a URL by ``HTTP(S)_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``, or None.

    As requests reads them: ``NO_PROXY`` may hold networks such as ``10.0.0.0/8``.

    Raises:
        ConfigError: Nothing can be sent through it.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname:
        return None
    if proxy_bypass(parts.netloc.rpartition("@")[2]) or _in_network(parts.hostname, proxies):
        return None
    return checked_proxy(proxy)


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


def tls_context(verify: bool | str) -> ssl.SSLContext:
    """The one TLS context of this process for what is to be trusted; it costs 15 ms.

    Args:
        verify: Path of a CA bundle, a file or a folder; True for the environment's, or without
            one certifi's and the system's.

    Raises:
        ConfigError: The bundle cannot be read, or ``verify`` is False.
    """
    if verify is False:
        raise ConfigError(
            "certificates are always verified: give verify= the path of a CA bundle that holds "
            "the service's authority"
        )
    if isinstance(verify, str):
        return _context((verify,), "verify=")
    for names in (("REQUESTS_CA_BUNDLE",), ("CURL_CA_BUNDLE",), ("SSL_CERT_FILE", "SSL_CERT_DIR")):
        if paths := tuple(path for name in names if (path := os.environ.get(name))):
            return _context(paths, " and ".join(names))
    return _context((), "the default")


@lru_cache(maxsize=16)
def _context(paths: tuple[str, ...], source: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["http/1.1"])
    for path in paths:
        folder = os.path.isdir(path)
        try:
            context.load_verify_locations(
                cafile=None if folder else path, capath=path if folder else None
            )
        except OSError as error:  # ssl.SSLError is one
            reason = "no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(f"the CA bundle {path} ({source}) cannot be read: {reason}") from None
    if not paths:
        import certifi  # requests, which the core needs, brings it

        context.load_verify_locations(certifi.where())
        context.load_default_certs()
    return context
