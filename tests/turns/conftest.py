from __future__ import annotations

from collections.abc import Iterator

import pytest
from support.strict.conversation import Services, serve


@pytest.fixture(scope="session")
def all_services() -> Iterator[Services]:
    with serve() as services:
        yield services


@pytest.fixture
def services(all_services: Services) -> Services:
    """Strict services that nobody has asked yet."""
    all_services.reset()
    return all_services
