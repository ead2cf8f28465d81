"""Whatever is imported is declared: in the project's dependencies, or in an extra of its room."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: The extras that a room of lmgateway may import from; all others import core dependencies alone.
EXTRAS = {
    "_drive": {"cli"},
    "_records": {"prices"},
    "_transports": {"async"},
    "_index": {"cli", "parquet"},
    "batch": {"cli", "parquet", "ray", "zstd"},
    "cli": {"cli"},
    "dspy": {"dspy"},
    "otel.py": {"otel"},
    "wire": {"templates"},
}

#: What is used where somebody has installed it, and never asked for.
#: compression is a part of Python 3.14.
OPTIONAL = {"brotli", "compression", "numpy", "pandas", "pytest"}


PROJECTS = [ROOT, *sorted(path.parent for path in ROOT.glob("plugins/*/pyproject.toml"))]


@cache
def distributions() -> dict[str, list[str]]:
    return dict(packages_distributions())


def imported(path: Path) -> Iterator[str]:
    """The names of the packages that a module imports, now or later."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name.partition(".")[0] for alias in node.names)
            case ast.ImportFrom(level=0, module=str(name)):
                yield name.partition(".")[0]
            case ast.Call(
                func=ast.Name(id="import_module"), args=[ast.Constant(value=str(name)), *_]
            ):
                yield name.partition(".")[0]


def names(requirements: list[str]) -> set[str]:
    return {normal(re.split(r"[^\w.-]", each, maxsplit=1)[0]) for each in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize(
    "folder", PROJECTS, ids=lambda folder: "core" if folder == ROOT else folder.name
)
def test_what_a_project_imports_is_declared(folder: Path) -> None:
    tables = tomllib.loads((folder / "pyproject.toml").read_text())
    project = tables["project"]
    (package,) = tables["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    known = sys.stdlib_module_names | OPTIONAL | {"lmgateway", Path(package).name}
    undeclared = []
    for path in sorted((folder / package).rglob("*.py")):
        declared = names(project["dependencies"])
        if folder == ROOT:
            for extra in EXTRAS.get(path.relative_to(folder / package).parts[0], ()):
                declared |= names(project["optional-dependencies"][extra])
        for name in set(imported(path)) - known:
            if not declared & {normal(each) for each in distributions().get(name, [name])}:
                undeclared.append(f"{path.relative_to(ROOT)} imports {name}")
    assert not undeclared
