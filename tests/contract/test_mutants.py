"""Providers that are wrong on purpose fail the contract at the check that is for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lmgateway.testing import contract
from tests.contract.mutants import GOOD, MUTANTS, SOCKET, Mutant
from tests.contract.planted import FAULTS

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
RIGHT = Mutant("right", "none")


def class_for(mutant: Mutant) -> str:
    attributes = {"recordings": '"calls.jsonl"', **mutant.attributes}
    lines = "".join(f"    {name} = {value}\n" for name, value in attributes.items())
    provider = mutant.name.replace("_", "-")
    return (
        f'class Test_{mutant.name}(ProviderContract):\n    provider = "{provider}"\n'
        f'    model = "smollm2-135m-instruct"\n{lines}\n\n'
    )


def install(mutant: Mutant, folder: Path) -> None:
    module, name = f"mutant_{mutant.name}", mutant.name.replace("_", "-")
    code = GOOD.replace(mutant.old, mutant.new) if mutant.old else GOOD
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[lmgateway.providers]\n{name} = {module}\n")


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """For each provider, the checks that failed; all are run at once, in a process of their own."""
    folder = tmp_path_factory.mktemp("mutants")
    for name, source in (("calls", "mutants"), ("numbered", "numbered")):
        lines = (HERE / "recordings" / f"{source}.jsonl").read_text()
        (folder / f"{name}.jsonl").write_text(lines)
    classes = "".join(map(class_for, [RIGHT, SOCKET, *MUTANTS]))
    head = "from lmgateway.testing import ProviderContract\n\n\n"
    (folder / "test_all.py").write_text(head + classes)
    (folder / "pytest.ini").write_text("[pytest]\n")
    for mutant in (RIGHT, SOCKET, *MUTANTS):
        install(mutant, folder)
    meant = {name for mutant in MUTANTS for name in (mutant.check, *mutant.also)}
    few = f"({' or '.join(sorted(meant))}) and (not is_its_error or 403 or 429 or 503)"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=native",
        "-k",
        few,
        "--junitxml=report.xml",
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "test_all.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stdout[-3000:] + done.stderr[-3000:]
    found: dict[str, set[str]] = defaultdict(set)
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            name = case.get("classname", "").rpartition("Test_")[2]
            found[name].add(re.sub(r"\[.*", "", case.get("name", ""), flags=re.DOTALL))
    return found


def test_the_right_provider_passes(failed: dict[str, set[str]]) -> None:
    assert failed["right"] == set()


@pytest.mark.parametrize("mutant", [pytest.param(each, id=each.name) for each in MUTANTS])
def test_a_wrong_provider_fails_where_it_is_wrong(
    mutant: Mutant, failed: dict[str, set[str]]
) -> None:
    assert failed[mutant.name] == {mutant.check} | mutant.also


def test_a_provider_with_a_socket_of_its_own_fails(failed: dict[str, set[str]]) -> None:
    assert SOCKET.check in failed[SOCKET.name]


def test_every_check_has_its_mutant() -> None:
    noticed = {mutant.check for mutant in MUTANTS} | {fault.check for fault in FAULTS}
    assert noticed == set(contract._NAMES)
