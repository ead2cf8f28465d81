"""Who shares a transport with whom, and who closes it."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from support.collector import LINES, Collector

from lmgateway._drive.cancel import Deadline
from lmgateway._transports import leases
from lmgateway._transports.leases import acquire_async, acquire_sync, release
from lmgateway._transports.protocols import TransportOptions
from lmgateway.errors import ConfigError, ConnectionFailedError
from lmgateway.types import HTTPRequest

OPTIONS = TransportOptions(max_body=12345)  # of nobody else
OTHER = TransportOptions(max_body=54321)


def is_closed(transport: object) -> bool:
    request = HTTPRequest("GET", "http://127.0.0.1:1", "/")
    try:
        transport.send(request, Deadline(5))  # type: ignore[attr-defined]
    except ConnectionFailedError as error:
        return "was closed" in str(error)
    return False


@pytest.mark.parametrize("name", ["aiohttp", "threads", None])
def test_equal_options_share_a_transport(name: str | None) -> None:
    first, second = acquire_async(name, OPTIONS), acquire_async(name, OPTIONS)
    assert first is second
    other = acquire_async(name, OTHER)
    assert other is not first
    for transport in (first, second, other):
        release(transport)


def test_aiohttp_is_chosen_where_it_is_installed() -> None:
    transport, chosen = acquire_async("aiohttp", OPTIONS), acquire_async(None, OPTIONS)
    assert chosen is transport
    release(transport)
    release(chosen)


def test_threads_are_chosen_where_aiohttp_is_not_installed() -> None:
    code = (
        "import sys\n"
        "sys.modules['aiohttp'] = None\n"
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'aiohttp' else find(name, *rest)\n"
        "from lmgateway._transports.leases import acquire_async, release\n"
        "from lmgateway._transports.protocols import TransportOptions\n"
        "print(type(acquire_async(None, TransportOptions())).__name__)\n"
        "try: acquire_async('aiohttp', TransportOptions())\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    chosen, refused = done.stdout.splitlines()
    assert chosen == "ThreadedTransport"
    assert refused.startswith("ConfigError")
    assert "pip install 'lmgateway-core[async]'" in refused


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"'httpx'.*aiohttp, threads"):
        acquire_async("httpx", OPTIONS)


@pytest.mark.loopback
def test_the_last_holder_closes() -> None:
    first, second = acquire_sync(OPTIONS), acquire_sync(OPTIONS)
    release(first)
    assert not is_closed(second)
    release(second)
    assert is_closed(second)
    fresh = acquire_sync(OPTIONS)
    assert fresh is not first
    release(fresh)


@pytest.mark.loopback
def test_threads_hold_the_blocking_transport_that_they_share() -> None:
    threads, blocking = acquire_async("threads", OPTIONS), acquire_sync(OPTIONS)
    release(threads)
    assert not is_closed(blocking)
    release(blocking)
    assert is_closed(blocking)


# The collector drops an LM wherever it likes, and then the LM's transports are given back.


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Iterator[leases.Shared]:
    shared = leases.Shared()
    gc.disable()  # so that nobody gives back to these books what is in the others
    with monkeypatch.context() as patched:
        patched.setattr(leases, "shared", shared)
        yield shared
    gc.enable()


@pytest.mark.loopback
@pytest.mark.parametrize("number", LINES)
def test_dropped_while_another_takes_it(number: int, books: leases.Shared) -> None:
    dropped = acquire_sync(OPTIONS)
    with Collector(leases, number, lambda: release(dropped)) as collector:
        taken = acquire_sync(OPTIONS)
    if not collector.called:
        release(dropped)
    assert not is_closed(taken)
    release(taken)
    assert is_closed(taken)
    assert is_closed(dropped)
    assert not books.holders
    assert not books.open


@pytest.mark.loopback
@pytest.mark.parametrize("number", LINES)
def test_dropped_while_another_gives_it_back(number: int, books: leases.Shared) -> None:
    dropped, given, kept = (acquire_sync(OPTIONS) for _ in range(3))
    with Collector(leases, number, lambda: release(dropped)) as collector:
        release(given)
    if not collector.called:
        release(dropped)
    assert not is_closed(kept)
    release(kept)
    assert is_closed(kept)
    assert not books.holders
    assert not books.open


@pytest.mark.loopback
@pytest.mark.parametrize("number", LINES)
def test_dropped_while_another_opens_the_threads(number: int, books: leases.Shared) -> None:
    dropped = acquire_sync(OPTIONS)
    with Collector(leases, number, lambda: release(dropped)) as collector:
        threads = acquire_async("threads", OPTIONS)
    if not collector.called:
        release(dropped)
    blocking = acquire_sync(OPTIONS)
    assert not is_closed(blocking)
    release(threads)
    release(blocking)
    assert is_closed(blocking)
    assert not books.holders
    assert not books.open


def test_giving_back_does_not_wait_for_who_opens_one(books: leases.Shared) -> None:
    dropped = acquire_sync(OPTIONS)
    opening, going_on = threading.Event(), threading.Event()

    def make() -> Any:
        opening.set()
        assert going_on.wait(10)
        return acquire_sync(OTHER)

    opener = threading.Thread(target=lambda: books.acquire("slow", make))
    opener.start()
    try:
        assert opening.wait(10)
        release(dropped)  # in its time: who opens closes it
    finally:
        going_on.set()
        opener.join(10)
    assert is_closed(dropped)


def test_giving_back_too_often_is_harmless() -> None:
    transport = acquire_sync(OPTIONS)
    release(transport)
    release(transport)
    release(object())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.skipif(sys.version_info >= (3, 12), reason="Python warns of a fork with threads")
def test_a_forked_child_shares_nothing_with_its_parent() -> None:
    transport = acquire_sync(OPTIONS)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 0 if acquire_sync(OPTIONS) is not transport else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    release(transport)


def test_an_event_loop_may_release_what_another_used() -> None:
    async def use() -> None:
        release(acquire_async("aiohttp", OPTIONS))

    asyncio.run(use())
    asyncio.run(use())


def test_an_old_urllib3_is_refused_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib3.__version__", "1.26.20")
    with pytest.raises(ConfigError, match=r"urllib3>=2\.3"):
        acquire_sync(TransportOptions(connect_timeout=123.0))
