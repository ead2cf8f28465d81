"""The kit, run on a plugin with a fault, each in a process that is forked when all is ready."""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from .faults import ROOT, Fault, FaultError, Target, plant

__all__ = ["Outcome", "run_all"]

#: Longer than the kit takes on a busy machine: a fault may make a loop without an end.
SECONDS = 180
_CASE = """from tests.mutants.kit import contract_of

TestIt = contract_of({test!r}, {recordings!r})
"""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one fault.

    Attributes:
        fault: None for the plugin as it is.
        failed: The check that noticed, with its words; "" if none did.
        problem: Why it could not be tried.
    """

    fault: Fault | None
    failed: str = ""
    problem: str = ""

    @property
    def survived(self) -> bool:
        """Whether every check passed."""
        return not self.failed and not self.problem


def contract_of(test: str, recordings: list[str]) -> type:
    """The contract class in a plugin's test file, with some of its recordings only."""
    from lmgateway.testing import ProviderContract, read_calls

    path = ROOT / test
    spec = importlib.util.spec_from_file_location("a_plugins_contract", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    (own,) = (
        each
        for each in vars(module).values()
        if isinstance(each, type)
        and issubclass(each, ProviderContract)
        and each is not ProviderContract
    )
    given: Any = own.recordings
    calls = [call for each in _several(given) for call in read_calls(path.parent / each)]
    asked = [call for call in calls if call.name in recordings]
    missing = set(recordings) - {call.name for call in asked}
    assert not missing, f"{test} has no recorded call {missing}"
    return type("TestIt", (own,), {"recordings": asked, "__module__": __name__})


def _several(given: Any) -> list[Any]:
    return [given] if isinstance(given, str | os.PathLike) else list(given)


def run_all(target: Target, faults: list[Fault], jobs: int, checks: str = "") -> Iterator[Outcome]:
    """Try the plugin as it is, then each fault, in no certain order.

    A check that fails the plugin as it is would notice every fault: it is left out for them.
    """
    import lmgateway.testing.contract  # before the fork: each process shares what is imported

    assert lmgateway.testing.contract is not None
    gc.collect()
    gc.freeze()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        case = _CASE.format(test=target.test, recordings=list(target.recordings))
        (folder / "test_it.py").write_text(case)
        (folder / "pytest.ini").write_text(
            f"[pytest]\nfilterwarnings = error\naddopts = -k '{checks}'\n"
        )
        yield from _run([None], 1, folder)
        yield from _run(faults, jobs, folder)


def _run(faults: Sequence[Fault | None], jobs: int, folder: Path) -> Iterator[Outcome]:
    waiting = list(reversed(faults))
    running: dict[int, _Running] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            fault = waiting.pop()
            report = folder / f"report-{fault and len(waiting)}"
            until = time.monotonic() + SECONDS
            running[_fork(fault, folder, report)] = _Running(fault, report, until)
        yield from _ended(running)


@dataclass(frozen=True, slots=True)
class _Running:
    fault: Fault | None
    report: Path
    until: float


def _ended(running: dict[int, _Running]) -> Iterator[Outcome]:
    for process, run in list(running.items()):
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            del running[process]
            yield _read(run, status)
        elif time.monotonic() > run.until:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            del running[process]
            yield Outcome(run.fault, failed="it never ended")
    time.sleep(0.02)


def _read(run: _Running, status: int) -> Outcome:
    kind, _, text = run.report.read_text().partition(":") if run.report.exists() else ("", "", "")
    if status or not kind:
        return Outcome(run.fault, failed=f"the process ended with {status}")
    if kind == "problem":
        return Outcome(run.fault, problem=text)
    return Outcome(run.fault, failed=text)


def _fork(fault: Fault | None, folder: Path, report: Path) -> int:
    sys.stdout.flush()
    if process := os.fork():
        return process
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        report.write_text(_try(fault, folder))
    except BaseException as error:
        with contextlib.suppress(OSError):
            report.write_text(f"problem:{error!r}")
    finally:
        os._exit(0)


def _try(fault: Fault | None, folder: Path) -> str:
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        if fault is not None:
            plant(fault)
    except FaultError as error:
        return f"problem:{error}"
    first = _FirstFailure()
    wrong = folder / "wrong"  # the checks that fail the plugin as it is
    options = ["-q", "-p", "no:cacheprovider", "--tb=short", f"--rootdir={folder}"]
    options.append(f"--basetemp={folder}/{os.getpid()}")
    if fault is not None:
        options += ["-x", *(f"--deselect={each}" for each in wrong.read_text().splitlines())]
    code = pytest.main([*options, str(folder / "test_it.py")], [first])
    if fault is None:
        wrong.write_text("\n".join(first.names))
    if code == 0:
        return "survived:"
    if not first.seen:
        return f"problem:pytest ended with {code}: {first.error}"
    return f"failed:{first.seen}"


class _FirstFailure:
    """Remembers what failed first, and the names of all that failed."""

    def __init__(self) -> None:
        self.seen = ""
        self.names: list[str] = []
        self.error = ""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.names.append(report.nodeid)
        if report.failed and not self.seen:
            name = report.nodeid.rpartition("::")[2]
            crash = getattr(report.longrepr, "reprcrash", None)
            said = crash.message if crash is not None else str(report.longrepr)
            self.seen = f"{name}: {' '.join(said.split())[:200]}"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.error = str(report.longrepr)[-400:]
