"""The faults can be planted, and are of every kind; a sample of them is tried."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import pytest

from tests.mutants import TARGETS
from tests.mutants.faults import ROOT, Fault, FaultError, Target
from tests.mutants.page import page_of

PAGE = ROOT / "docs" / "reference" / "mutants.md"
EACH = pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))


@EACH
def test_every_fault_has_its_place(target: Target) -> None:
    texts: dict[str, str] = {}
    for fault in target.faults:
        if fault.file not in texts:
            texts[fault.file] = (ROOT / fault.file).read_text(encoding="utf-8")
        times = texts[fault.file].count(fault.old)
        assert times == 1, f"{fault.name}: {fault.file} holds the text to replace {times} times"
        assert fault.old != fault.new, fault.name


@EACH
def test_there_are_enough_of_each_kind(target: Target) -> None:
    real = [fault for fault in target.faults if not fault.equivalent]
    assert len({fault.name + fault.kind for fault in target.faults}) == len(target.faults)
    assert len(real) >= 60
    assert all(number >= 4 for number in Counter(fault.kind for fault in real).values())
    assert sum(bool(fault.survives) for fault in real) <= 5


def test_the_page_names_those_that_survive() -> None:
    assert PAGE.read_text(encoding="utf-8") == page_of(TARGETS)


@pytest.mark.parametrize(
    "old, new, problem",
    [
        ("a text that is not there", "", "0 times"),
        ("import", "", r"\d+ times"),
        ("from __future__ import annotations", "(", "no Python"),
    ],
)
def test_a_fault_without_a_place_is_an_error(old: str, new: str, problem: str) -> None:
    with pytest.raises(FaultError, match=problem):
        Fault("usage", "none", "lmgateway/types.py", old, new).text()


@pytest.mark.slow
def test_a_sample_is_noticed() -> None:
    command = [sys.executable, "-m", "tests.mutants", "anyscale", "--verbose"]
    done = subprocess.run(
        [*command, "--name", "one parameter is dropped", "--checks", "sent_or_refused and seed"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 of 1 faults survive" in done.stdout
    assert "noticed" in done.stdout
