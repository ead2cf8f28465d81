"""The rule for every test, the core's or a plugin's: no sockets, unless it says that it must."""

from __future__ import annotations

import gc
import ipaddress
import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

RESERVED = (".invalid", ".test", ".example")  # RFC 6761: names that no resolver may know

pytest_plugins = ["support.fixtures"]

_loopback_allowed = False
_armed = False
_known_modules = 0


def pytest_configure() -> None:
    sys.addaudithook(_watch_sockets)  # sees urllib3, asyncio and C code alike, in every thread


def pytest_collection_finish() -> None:
    """Ten thousand tests, that each ``gc.collect()`` of a test would look through, stay anyway."""
    _freeze()


def _freeze() -> None:
    global _known_modules
    gc.collect()
    gc.freeze()
    gc.collect()  # counts them no longer: old garbage, and its sockets, is looked for in time
    _known_modules = len(sys.modules)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _armed, _loopback_allowed
    _loopback_allowed = any(item.get_closest_marker(name) for name in ("loopback", "real"))
    _armed = True
    try:
        return (yield)
    finally:
        _armed = False
        if len(sys.modules) > _known_modules + 300:  # a large library, which stays as well
            _freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown() -> None:
    global _loopback_allowed
    _loopback_allowed = True  # the server of a whole session ends with a test that knows it not


def _watch_sockets(event: str, args: tuple[Any, ...]) -> None:
    if not _armed or not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = args[1]
        if isinstance(address, tuple):  # AF_UNIX has a path, and stays on the machine
            _judge(str(address[0]), harmless=event == "socket.bind")  # urllib3 does, to see ::1
    elif event in ("socket.getaddrinfo", "socket.gethostbyname") and args[0] is not None:
        host = args[0].decode() if isinstance(args[0], bytes) else args[0]
        if host.rstrip(".").endswith(RESERVED):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        _judge(host)


def _judge(host: str, *, harmless: bool = False) -> None:
    if not _is_loopback(host):
        pytest.fail(f"this test tried to reach {host}: no test may leave the machine")
    if not (harmless or _loopback_allowed):
        pytest.fail(
            f"this test opened a socket on {host}: mark it @pytest.mark.loopback if it must"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
