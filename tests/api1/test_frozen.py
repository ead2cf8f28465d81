"""The plugins of 0.1, as they were, pass their own tests on this core."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PLUGINS = ("anthropic", "anyscale", "local")
TESTS = sorted(path for name in PLUGINS for path in (HERE / name / "tests").glob("test_*.py"))
#: Tables of many rows, the SDK's own types, and what needs a model.
LONG = {
    "anyscale/tests/test_contract.py",
    "anyscale/tests/test_lessons.py",
    "anyscale/tests/test_replay.py",
    "anyscale/tests/test_service.py",
    "anthropic/tests/test_odd_answers.py",
    "anthropic/tests/test_sdk.py",
    "anthropic/tests/test_service.py",
    "local/tests/test_engine.py",
    "local/tests/test_local.py",
}


def run(*command: str) -> subprocess.CompletedProcess[str]:
    """A Python in which the frozen modules stand before the plugins of today."""
    frozen = [str(HERE / name / "src") for name in PLUGINS]
    path = os.pathsep.join([*frozen, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    environment = {**os.environ, "PYTHONPATH": path, "LMGATEWAY_TEST_FROZEN": "1"}
    command = (sys.executable, *command)
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_the_plugins_of_0_1_pass_their_own_tests() -> None:
    """What they build and read, and two of their contracts; ``-m soak`` asks for the rest."""
    assert_passes(
        "not real", *(path for path in TESTS if path.relative_to(HERE).as_posix() not in LONG)
    )


@pytest.mark.soak
def test_the_plugins_of_0_1_pass_all_their_tests_with_real_models() -> None:
    assert_passes("not soak", *TESTS)


def assert_passes(marks: str, *tests: Path) -> None:
    quiet = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--no-header")
    done = run("-m", "pytest", *quiet, "-m", marks, *map(str, tests))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def test_they_are_found_by_their_names_and_are_the_frozen_ones() -> None:
    code = (
        "import importlib, lmgateway\n"
        f"for name in {PLUGINS!r}:\n"
        "    lm = lmgateway.get_lm(name, model='m')\n"
        "    print(lm.provider, importlib.import_module(f'lmgateway_{name}').__file__)\n"
    )
    done = run("-c", code)
    assert done.returncode == 0, done.stderr
    found = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [provider for provider, _ in found] == list(PLUGINS)
    for name, path in found:
        assert Path(path).is_relative_to(HERE / name / "src")


def test_they_declare_no_newer_api() -> None:
    """A frozen plugin that says ``api=2`` would show nothing."""
    for name in PLUGINS:
        for module in (HERE / name / "src").rglob("*.py"):
            assert "api=2" not in module.read_text("utf-8")
