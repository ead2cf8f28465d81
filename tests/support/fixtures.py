"""Fixtures that every test may ask for, the core's or a plugin's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from .llama_server import INSTALL, LlamaServer, is_installed, serve_llama

__all__ = ["bare_pytest", "llama_server", "tmp_path"]

_numbers = count()


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """As pytest's own, which also looks for a free number and renews a symbolic link each time.

    With ten thousand tests that is a good part of the whole.
    """
    name = re.sub(r"\W", "_", request.node.name)[:30]
    path = tmp_path_factory.getbasetemp() / f"{name}{next(_numbers)}"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture(scope="session", autouse=True)
def bare_pytest() -> Iterator[None]:
    """A pytest that a test runs loads what it asks for, and no plugin that is merely installed."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        yield


@pytest.fixture(scope="session")
def llama_server() -> Iterator[LlamaServer]:
    """A real model server, started once for all tests that ask for it."""
    if not is_installed():
        pytest.skip(f"needs a model: {INSTALL}")
    with serve_llama() as server:
        yield server
