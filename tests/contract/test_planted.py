"""Faults that are planted in a right provider are noticed by the checks that are for them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.contract.planted import FAULTS, GOOD, Fault

pytestmark = pytest.mark.soak

HERE = Path(__file__).parent


def install(name: str, code: str, folder: Path) -> str:
    """Install a provider into a folder; return the class that holds it to the contract."""
    module, provider = f"planted_{name}", name.replace("_", "-")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lmgateway.providers]\n{provider} = {module}\n")
    return (
        f"class Test_{name}(ProviderContract):\n"
        f'    provider = "{provider}"\n    recordings = "calls.jsonl"\n\n\n'
    )


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """The checks that failed, with the provider's name: all of the right one, and one of each."""
    folder = tmp_path_factory.mktemp("planted")
    (folder / "calls.jsonl").write_text((HERE / "recordings" / "gem.jsonl").read_text())
    classes = install("right", GOOD, folder)
    classes += "".join(install(fault.name, fault.code, folder) for fault in FAULTS)
    head = "from lmgateway.testing import ProviderContract\n\n\n"
    (folder / "test_all.py").write_text(head + classes)
    (folder / "pytest.ini").write_text("[pytest]\n")
    nodes = [f"test_all.py::Test_{fault.name}::{fault.check}" for fault in FAULTS]
    options = ["-q", "--tb=short", "--junitxml=report.xml", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "test_all.py::Test_right", *nodes],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found = set()
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            name = case.get("classname", "").rpartition("Test_")[2]
            found.add((name, re.sub(r"\[.*", "", case.get("name", ""), flags=re.DOTALL)))
    return found


def test_the_right_provider_passes(failed: set[tuple[str, str]]) -> None:
    assert not [check for name, check in failed if name == "right"]


@pytest.mark.parametrize("fault", [pytest.param(each, id=each.name) for each in FAULTS])
def test_a_planted_fault_is_noticed(fault: Fault, failed: set[tuple[str, str]]) -> None:
    assert (fault.name, fault.check) in failed
