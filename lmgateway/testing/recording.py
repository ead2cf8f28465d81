"""A pytest plugin: each test replays the exchanges that were recorded for it.

In the project's top ``conftest.py``::

    pytest_plugins = ["lmgateway.testing.recording"]

A test that asks for ``lm_recording`` is answered from a file of its own beside it, and from
nothing else: no key, no network, no cache. ``pytest --record`` asks the services and writes it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from .._store.recorder import record, replay

__all__ = ["lm_recording", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--record``."""
    group = parser.getgroup("lmgateway")
    group.addoption(
        "--record",
        action="store_true",
        help="have tests with lm_recording ask their services, and record the answers",
    )


@pytest.fixture
def lm_recording(request: pytest.FixtureRequest) -> Iterator[Path]:
    """Answer this test from its recording, ``recordings/<module>/<test>.jsonl`` beside it.

    Every LM is meant, in whichever thread or task. A request that is not recorded raises
    CacheMissError, which says what differs.
    """
    path = _path(request)
    if request.config.getoption("--record"):
        yield from _record(path)
    elif not path.exists():
        pytest.fail(f"{path} is not there: run this test once with --record", pytrace=False)
    else:
        with replay(path):
            yield path


def _record(path: Path) -> Iterator[Path]:
    """Record into a new file, which replaces the old one if anything was answered."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    try:
        with record(new, fresh=True):
            yield path
    finally:
        if new.exists() and new.stat().st_size:
            os.replace(new, path)
        new.unlink(missing_ok=True)


def _path(request: pytest.FixtureRequest) -> Path:
    test = request.node.nodeid.partition("::")[2]
    name = re.sub(r"[^\w\-]+", "_", test).strip("_")[:100]
    if name != test:  # two parameter sets may not share a file
        name += "-" + sha256(test.encode()).hexdigest()[:8]
    return Path(request.path).parent / "recordings" / Path(request.path).stem / f"{name}.jsonl"
