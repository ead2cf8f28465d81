"""Distributions made on the spot: what `pip install` of a plugin leaves behind, without pip."""

from __future__ import annotations

import textwrap
from itertools import count
from pathlib import Path

import pytest

_numbers = count(1)


class SitePackages:
    """A folder on ``sys.path`` into which a test installs plugins."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.syspath_prepend(str(folder))

    def install(
        self, name: str, code: str, *, distribution: str | None = None, version: str = "1.0"
    ) -> str:
        """Install a module with this code as the provider ``name``; returns the module's name."""
        distribution = distribution or f"lmgateway-{name}"
        module = f"{distribution.replace('-', '_')}_{next(_numbers)}"  # imported once for ever
        (self.folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
        )
        (info / "entry_points.txt").write_text(
            f"[lmgateway.providers]\n{name} = {module}\n", encoding="utf-8"
        )
        return module

    def leave(self, folder: str, **files: bytes | str | None) -> Path:
        """Leave a folder with metadata behind; None makes a folder in the file's place."""
        info = self.folder / folder
        info.mkdir()
        for name, content in files.items():
            path = info / {"entry_points": "entry_points.txt"}.get(name, name.replace("_", "-"))
            if content is None:
                path.mkdir()
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        return info
