from __future__ import annotations

from pathlib import Path

import pytest
from support.distributions import SitePackages


@pytest.fixture
def site_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SitePackages:
    folder = tmp_path / "site-packages"
    folder.mkdir()
    return SitePackages(folder, monkeypatch)


@pytest.fixture(autouse=True)
def _nothing_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the developer's own variables, .env, configuration or cache."""
    import os

    for name in list(os.environ):
        if name.endswith(("_API_KEY", "_API_BASE")) or name.startswith("LMGATEWAY_"):
            monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / ".cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.chdir(home)
