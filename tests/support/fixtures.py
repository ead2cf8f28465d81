"""Fixtures that a conftest imports by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .llama_server import INSTALL, LlamaServer, is_installed, serve_llama

__all__ = ["llama_server"]


@pytest.fixture(scope="session")
def llama_server() -> Iterator[LlamaServer]:
    """A real model server, started once for all tests that ask for it."""
    if not is_installed():
        pytest.skip(f"needs a model: {INSTALL}")
    with serve_llama() as server:
        yield server
