"""Environments of their own for the contenders, under .cache/bench."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

__all__ = ["REQUIREMENTS", "Environments"]

ROOT = Path(__file__).resolve().parents[2]
REQUIREMENTS = {
    "lmgateway": [f"{ROOT}[async]"],
    "core": [str(ROOT)],
    "openai": ["openai"],
    "litellm": ["litellm"],
    "dspy": ["dspy"],
    "langchain-openai": ["langchain-openai"],
    "any-llm-sdk": ["any-llm-sdk[openai]"],
}
_OURS = ("lmgateway", "core")

_SIZES = """
import importlib.metadata as metadata, json, pathlib, sys
found = {}
for dist in metadata.distributions():
    if dist.name.lower() in ("pip", "setuptools"):
        continue
    files = (pathlib.Path(dist.locate_file(file)) for file in dist.files or ())
    files = [file for file in files if file.suffix != ".pyc" and file.is_file()]
    found[dist.name] = [dist.version, sum(file.stat().st_size for file in files)]
json.dump(found, sys.stdout)
"""


class Environments:
    """The interpreters that the contenders run in.

    Args:
        folder: Where they are made; None runs everything in this interpreter's environment.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._pythons: dict[str, str | None] = {}

    def python(self, name: str) -> str | None:
        """The interpreter of an environment, made if need be; None if it cannot be."""
        if self._folder is None:
            return sys.executable
        if name not in self._pythons:
            try:
                self._pythons[name] = self._make(self._folder / name, REQUIREMENTS[name])
            except subprocess.CalledProcessError as error:
                print(f"{name} cannot be installed ({error}): left out", file=sys.stderr)
                self._pythons[name] = None
        return self._pythons[name]

    def _make(self, place: Path, requirements: list[str]) -> str:
        python = place / "bin" / "python"
        ready = place / ".ready-core"  # one that was made before holds lmgateway 0.1 as well
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet", "install"]
        if not ready.exists():
            print(f"installing {place.name} into {place}", file=sys.stderr)
            subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
            subprocess.run([*pip, *requirements], check=True)
            ready.touch()
        elif place.name in _OURS:  # the code may have changed since
            again = ["--no-deps", "--force-reinstall", str(ROOT)]
            subprocess.run([*pip, *again], check=True)
        return str(python)

    def sizes(self, name: str) -> dict[str, tuple[str, int]]:
        """Version and bytes, without bytecode, of each distribution in an environment."""
        python = self.python(name)
        if python is None:
            return {}
        found = subprocess.run([python, "-c", _SIZES], check=True, capture_output=True).stdout
        return {key: (version, size) for key, (version, size) in json.loads(found).items()}
