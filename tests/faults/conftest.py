from __future__ import annotations

from collections.abc import Iterator

import pytest
from faults.play import KEY
from transports.checking import Authority

from lmgateway._layers.retry import budgets
from lmgateway._transports import leases
from lmgateway._transports.protocols import TransportOptions


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "row(section, case, mode): proves a row of the table")


@pytest.fixture(scope="session", autouse=True)
def _shared_pools() -> Iterator[None]:
    """Held from the first test to the last: a TLS context costs more than a test."""
    options = TransportOptions()
    held = [
        leases.acquire_sync(options),
        leases.acquire_async("aiohttp", options),
        leases.acquire_async("threads", options),
    ]
    yield
    for transport in held:
        leases.release(transport)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(autouse=True)
def _quick_and_keyed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No wait before another attempt that nobody asked for, and the key in its variable."""
    budgets.clear()
    monkeypatch.setattr("lmgateway._layers.retry.FIRST_BACKOFF", 0.0)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
