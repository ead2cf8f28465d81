from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.service import World

from lmgateway._layers.cache import cache
from lmgateway._store.settings import CacheSettings
from lmgateway._store.sqlite import Store, close_all


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the test's cache is."""
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    yield CacheSettings().file
    close_all()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "store" / "answers.sqlite3")
    yield store
    store.close()


@pytest.fixture
def world(file: Path) -> World:
    return World(cache())
