"""The benchmark's judgement of two versions, and one short run of it."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
SPEED = ROOT / "benchmarks" / "speed"

if not SPEED.is_dir():
    pytest.skip("an sdist brings no benchmarks", allow_module_level=True)


@pytest.fixture
def verdicts(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("verdicts", SPEED / "verdicts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "verdicts", module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "old, new, verdict",
    [
        pytest.param([100, 101, 102], [100, 101, 102], "same", id="equal"),
        pytest.param([100, 100, 100], [100, 100, 100], "same", id="without any range"),
        pytest.param([100, 101, 102], [104, 105, 106], "same", id="4 % more"),
        pytest.param([100, 101, 102], [106, 107, 108], "worse", id="6 % more"),
        pytest.param([100], [105], "same", id="5 % more to a hair"),
        pytest.param([100, 101, 102], [101, 130, 140], "same", id="more, and the ranges overlap"),
        pytest.param([100, 101, 102], [102, 130, 140], "same", id="more, and the ranges touch"),
        pytest.param([100, 101, 102], [103, 130, 140], "worse", id="more, and the ranges do not"),
        pytest.param([100, 101, 102], [100, 101, 900], "same", id="one bad round"),
        pytest.param([100, 101, 900], [130, 131, 132], "same", id="one bad round of the old"),
        pytest.param([106, 107, 108], [100, 101, 102], "better", id="6 % less"),
        pytest.param([104, 105, 106], [100, 101, 102], "same", id="4 % less"),
        pytest.param([100, 130, 140], [70, 80, 100], "same", id="less, and the ranges touch"),
        pytest.param([0, 0, 0], [0, 0, 0], "same", id="nothing at all"),
        pytest.param([0, 0, 0], [1, 1, 1], "worse", id="something after nothing"),
    ],
)
def test_a_version_is_worse_by_its_median_and_beyond_both_ranges(
    verdicts: ModuleType, old: Sequence[float], new: Sequence[float], verdict: str
) -> None:
    assert verdicts.judge(old, new) == verdict
    opposite = {"worse": "better", "better": "worse", "same": "same"}[verdict]
    assert verdicts.judge(old, new, more_is_better=True) == opposite


def test_the_table_shows_medians_ranges_and_verdicts_in_100_columns(verdicts: ModuleType) -> None:
    comparisons = [
        verdicts.Comparison("dicts", "x" * 28, "s", (0.9, 1.0, 1.1), (1.5, 1.6, 1.7)),
        verdicts.Comparison("afirst", "y", "s", (3e-4, 2e-4, 1e-4), (3e-4, 2e-4, 1e-4)),
        verdicts.Comparison("memory", "z", "MiB", (57.25,), (45.8,)),
    ]
    head, *lines = verdicts.table(comparisons).splitlines()
    assert max(map(len, [head, *lines])) < 100
    assert [line.split()[2:] for line in lines] == [
        ["ms", "1000", "[900..1100]", "1600", "[1500..1700]", "1.600", "worse"],
        ["us", "200", "[100..300]", "200", "[100..300]", "1.000", "same"],
        ["MiB", "57.2", "[57.2..57.2]", "45.8", "[45.8..45.8]", "0.800", "better"],
    ]


def is_repository() -> bool:
    command = ["git", "-C", str(ROOT), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.slow
@pytest.mark.loopback
@pytest.mark.skipif(not is_repository(), reason="needs the repository's history")
def test_two_versions_are_measured_in_turns_and_leave_nothing_behind(tmp_path: Path) -> None:
    figures, temporary = tmp_path / "figures.json", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, str(SPEED), "--against", "HEAD", "--rounds", "1"]
    command += ["--only", "limited", "render", "import", "--json", str(figures)]
    done = subprocess.run(
        command,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert figures.exists(), done.stderr
    measures = {each["name"]: each for each in json.loads(figures.read_text())["measures"]}
    assert set(measures) == {"limited", "render", "import"}
    for measure in measures.values():
        assert len(measure["old"]) == len(measure["new"]) == 1
        assert all(figure > 0 for figure in [*measure["old"], *measure["new"]])
    slower = any(measure["verdict"] == "worse" for measure in measures.values())
    assert done.returncode == int(slower)
    assert list(temporary.iterdir()) == []
