from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_args, get_type_hints

import pytest

import lmgateway
import lmgateway.testing
from lmgateway import LM, errors, get_lm, types

HEAVY = ("requests", "pydantic", "jinja2", "rich", "typer", "sqlite3", "aiohttp", "asyncio")


def test_all_is_what_a_user_sees() -> None:
    seen = {name for name in dir(lmgateway) if not name.startswith("_")}
    assert seen == set(lmgateway.__all__)


def test_every_public_name_exists() -> None:
    for name in lmgateway.__all__:
        assert getattr(lmgateway, name) is not None


@pytest.mark.parametrize("module", [lmgateway.batch, lmgateway.testing])
def test_a_room_shows_what_it_offers(module: ModuleType) -> None:
    assert dir(module) == sorted(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None


def test_listing_providers_loads_nothing_heavy_and_no_plugin() -> None:
    code = (
        "import sys, lmgateway; rows = lmgateway.providers();"
        "assert {row.name for row in rows} >= {'anyscale', 'echo', 'openai'}, rows;"
        f"heavy = [name for name in {HEAVY!r} if name in sys.modules];"
        "own = ('lmgateway._plugins.echo', 'lmgateway._plugins.openai');"
        "plugins = [n for n in sys.modules if n.startswith(('lmgateway_', *own))];"
        "print(heavy + plugins)"
    )
    # -S would hide site-packages, -I keeps the developer's own start-up files out.
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_importing_the_package_loads_its_errors_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import lmgateway;"
        "print(sorted(n for n in set(sys.modules) - before if n.startswith('lmgateway')))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True)
    loaded = "['lmgateway', 'lmgateway._base', 'lmgateway._base.masking', 'lmgateway.errors']"
    assert done.stdout.strip() == loaded, done.stdout + done.stderr


def test_the_names_for_checkers_are_those_that_can_be_got() -> None:
    """Of the imports that only a type checker makes, each has its place in the lazy table."""
    tree = ast.parse(Path(lmgateway.__file__).read_text("utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom) and node.module]
    shown = {alias.name: node.module for node in imports for alias in node.names}
    assert shown == lmgateway._LAZY
    assert set(lmgateway.__all__) == set(lmgateway._LAZY) | set(public_errors())


@pytest.mark.parametrize("entry", [e for e in dir(LM) if hasattr(getattr(LM, e), "__wrapped__")])
def test_the_annotations_of_a_method_can_be_evaluated(entry: str) -> None:
    assert "return" in get_type_hints(getattr(LM, entry))


def test_the_annotations_of_get_lm_can_be_evaluated() -> None:
    assert get_type_hints(get_lm)["return"] is LM


def test_what_a_user_annotates_with_is_a_type_at_run_time_too() -> None:
    for alias in (types.Messages, types.Schema, types.Schema[int], lmgateway.Stream[str]):
        assert type(None) in get_args(alias | None)


def public_errors() -> list[str]:
    return [name for name in errors.__all__ if name[0].isupper()]
