"""Where requests go over aiohttp, and the bytes that go there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import BasicAuth, ClientRequest
from aiohttp.hdrs import HOST
from multidict import CIMultiDict
from yarl import URL

from ..types import HTTPRequest
from .decoding import ACCEPT_ENCODING
from .environment import proxy_for
from .outgoing import (
    check_base_url,
    check_headers,
    check_method,
    encode,
)

__all__ = ["Destination"]

_HEADERS = CIMultiDict(
    {"Accept": "*/*", "Accept-Encoding": ACCEPT_ENCODING, "User-Agent": "lmgateway"}
)
_OF_THE_BODY = ("Content-Type", "Content-Length", "Transfer-Encoding")
_WITH_BODY = b"%bContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Destination:
    """One URL as the connections of one event loop know it.

    Attributes:
        request: What aiohttp's connector asks for host, port, TLS and proxy. It is never sent.
        proxied: Whether there is a proxy on the way.

    Raises:
        InputError: The URL cannot be used.
        ConfigError: The environment names a proxy that cannot be used.
    """

    __slots__ = ("_latest", "_own", "_target", "proxied", "request")

    def __init__(self, request: HTTPRequest, loop: asyncio.AbstractEventLoop) -> None:
        check_base_url(request.base_url or "")
        url = URL(request.url)
        proxy = proxy_for(request.url)
        self.request = ClientRequest("GET", url, proxy=URL(proxy) if proxy else None, loop=loop)
        self.proxied = proxy is not None
        direct = proxy is None or self.request.is_ssl()  # else the proxy must hear the whole URL
        self._target = self.request.url.raw_path_qs if direct else str(self.request.url)
        self._own = {"Host": self.request.headers[HOST]}
        if not direct and (who := BasicAuth.from_url(URL(proxy or ""))) is not None:
            self._own["Proxy-Authorization"] = who.encode()
        self._latest: tuple[str, Mapping[str, str], bytes] | None = None

    def message(self, request: HTTPRequest) -> bytes:
        """The whole request as it goes over the wire.

        Raises InputError for a method, a header or a body that cannot be sent.
        """
        head = self._head(request.method, request.headers)
        if request.json is None:
            # RFC 9110, 8.6: who sends none where one is expected says so.
            silent = request.method in ("GET", "HEAD", "DELETE", "OPTIONS")
            return head + (b"\r\n" if silent else b"Content-Length: 0\r\n\r\n")
        body = encode(request.json)
        return _WITH_BODY % (head, len(body), body)

    def _head(self, method: str, headers: Mapping[str, str]) -> bytes:
        """Request line and headers, but for those that speak of the body."""
        latest = self._latest
        if latest is not None and latest[0] == method and latest[1] == headers:
            return latest[2]  # nearly always: neither the key nor anything else has changed
        check_method(method)
        check_headers(headers)
        fields = _HEADERS.copy()
        fields.update(self._own)
        fields.update(headers)
        for name in _OF_THE_BODY:
            fields.popall(name, None)
        lines = [f"{method} {self._target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in fields.items()]
        head = ("\r\n".join(lines) + "\r\n").encode("ascii")
        self._latest = method, dict(headers), head
        return head
