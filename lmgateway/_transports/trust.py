"""What the environment says about the way out: the proxies, and which certificates are trusted."""

from __future__ import annotations

import os
import re
import ssl
from functools import cache
from ipaddress import ip_address, ip_network
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi

from ..errors import ConfigError

__all__ = ["proxy_for", "tls_context"]

#: The host of a proxy: a name in ASCII, or an address.
_HOST = re.compile(r"[0-9a-z_.-]+|[0-9a-f.]*:[0-9a-f:.]*(%[\w.-]+)?", re.ASCII)

_VARIABLES = (("REQUESTS_CA_BUNDLE",), ("CURL_CA_BUNDLE",), ("SSL_CERT_FILE", "SSL_CERT_DIR"))


def proxy_for(url: str) -> str | None:
    """The URL of the proxy for a URL, or None where the way is direct.

    It reads ``HTTP(S)_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``. ``NO_PROXY`` may hold networks such
    as ``10.0.0.0/8``; a name in it stands for its subdomains as well.

    Raises:
        ConfigError: Nothing can be sent through this proxy. The message does not quote it.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname:
        return None
    if proxy_bypass(parts.netloc.rpartition("@")[2]) or _in_network(parts.hostname, proxies):
        return None
    return _checked(proxy)


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


def _checked(proxy: str) -> str:
    url = proxy.strip() if "://" in proxy else f"http://{proxy.strip()}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
        (host or "").encode("idna")
        unquote(parts.netloc.rpartition("@")[0]).encode("latin-1")
    except ValueError:
        host = None
    if not host or not _HOST.fullmatch(host) or not url.isprintable():
        raise ConfigError(
            "the proxy that the environment names is not a valid URL: "
            "check HTTPS_PROXY, HTTP_PROXY and ALL_PROXY"
        )
    if parts.scheme not in ("http", "https"):
        raise ConfigError(
            f"the environment names a {parts.scheme} proxy, and only http and https proxies are "
            "spoken: change HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or list the host in NO_PROXY"
        )
    return url


def tls_context(*, verify: bool | str) -> ssl.SSLContext:
    """A TLS context that verifies the service; to make one takes some 15 ms.

    Args:
        verify: The path of a CA bundle, a file or a folder. True takes the bundle that the
            environment names; if it names none, certifi's and the system's.

    Raises:
        ConfigError: The bundle cannot be read, or ``verify`` is False.
    """
    if verify is False:
        raise ConfigError(
            "certificates are always verified: give verify= the path of a CA bundle that holds "
            "the service's authority"
        )
    if isinstance(verify, str):
        return _trusting({"verify=": verify})
    for names in _VARIABLES:
        if bundles := {name: path for name in names if (path := os.environ.get(name))}:
            return _trusting(bundles)
    return _usual()


@cache
def _usual() -> ssl.SSLContext:
    # The system's own store may be empty, in a slim container say: certifi's is not.
    context = _trusting({"that of certifi": certifi.where()})
    context.load_default_certs()
    return context


def _trusting(bundles: dict[str, str]) -> ssl.SSLContext:
    """A context that trusts what is in these bundles and nothing else; they are paths by source."""
    context: ssl.SSLContext | None = None
    for source, path in bundles.items():
        place = {"capath" if os.path.isdir(path) else "cafile": path}
        try:
            if context is None:
                context = ssl.create_default_context(**place)  # type: ignore[arg-type]
            else:
                context.load_verify_locations(**place)
        except OSError as error:  # ssl.SSLError is one
            reason = "no certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise ConfigError(f"the CA bundle {path} ({source}) cannot be read: {reason}") from None
    assert context is not None
    context.hostname_checks_common_name = False  # RFC 9110, 4.3.4
    # Python leaves it at 1.2, but some distributions build one that leaves it to the system.
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    context.set_alpn_protocols(["http/1.1"])
    return context
