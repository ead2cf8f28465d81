from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmgateway.layers import EffectLayer
from lmgateway.layers.cache import cache
from lmgateway.store import CacheSettings
from lmgateway.store.sqlite import Store, close_all

from .world import Service, World


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("LMGATEWAY_CACHE", raising=False)
    yield
    close_all()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "cache" / "answers.sqlite3")
    yield store
    store.close()


@pytest.fixture
def layer() -> EffectLayer:
    return cache(CacheSettings())


@pytest.fixture
def world(layer: EffectLayer) -> World:
    return World(Service(), layer)
