"""The table in docs/reference/faults.md, made from a run of the tests that prove its rows.

``python tests/faults/table.py`` runs them and writes it; ``--check`` only collects them, and
exits with 1 if the table is not the one that a good run would write.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from faults.rows import ROWS, Row  # noqa: E402 - this is a program

DOCUMENT = ROOT / "docs" / "reference" / "faults.md"
HEAD = """\
# What may go wrong, and what is right

Whatever comes in (from the user, the disk, a plugin or the service), what goes out within the
deadline is the right answer or one `LMGatewayError`. The tests beside a row prove it. Those in
`faults` go through `get_lm` and over real sockets, and count the requests at the server. The third
column says in which ways a row is tried: `sync`, `async` (aiohttp), `threads` (async over worker
threads), and each as a `stream`. The ids of a row's cases begin with its words, so
`pytest -k x-should-retry` runs them.

This page is generated: `make faults`.
"""


@dataclass(eq=False)
class Record:
    """A plugin of pytest: which test proves which row, and what became of it."""

    proofs: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    passed: set[str] = field(default_factory=set)

    def pytest_collection_modifyitems(
        self, config: pytest.Config, items: list[pytest.Item]
    ) -> None:
        """Note which items prove a row, and leave out the others."""
        wanted = [item for item in items if self.note(item)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
        items[:] = wanted

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what became of it."""
        if report.failed:
            self.failed.append(report.nodeid)
        elif report.when == "call" and report.passed:
            self.passed.add(report.nodeid)

    def note(self, item: pytest.Item) -> bool:
        """Whether a test proves a row; keep which."""
        keys = [(*mark.args[:2], mark.args[2]) for mark in item.iter_markers("row")]
        keys += [
            (row.section, row.case, "")
            for row in ROWS
            if any(item.nodeid.startswith(each) for each in row.elsewhere)
        ]
        for section, case, mode in keys:
            self.proofs.setdefault((section, case), []).append((item.nodeid, mode))
        return bool(keys)


def render(record: Record) -> str:
    """The page."""
    unknown = record.proofs.keys() - {(row.section, row.case) for row in ROWS}
    assert not unknown, f"a test is marked with a row that is not there: {unknown}"
    parts = [HEAD]
    for section in dict.fromkeys(row.section for row in ROWS):
        lines = ["| case | right | tried in | tests |", "|---|---|---|---|"]
        lines += [_line(row, record) for row in ROWS if row.section == section]
        parts.append(f"## {section}\n\n" + "\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(row: Row, record: Record) -> str:
    proofs = sorted(record.proofs.get((row.section, row.case), []), key=_place)
    assert proofs, f"no test proves the row {row.case!r}"
    modes = ", ".join(dict.fromkeys(mode for _, mode in proofs if mode))
    return f"| {row.case} | {row.right} | {modes} | {_tests(proofs)} |"


def _place(proof: tuple[str, str]) -> tuple[bool, str]:
    """This folder's tests come first, whatever was collected first."""
    return not proof[0].startswith("tests/faults/"), proof[0].partition("::")[0]


def _tests(proofs: Iterable[tuple[str, str]]) -> str:
    counts = Counter(node.partition("[")[0].removeprefix("tests/") for node, _ in proofs)
    return "<br>".join(
        f"`{name}`" + (f" ({number})" if number > 1 else "") for name, number in counts.items()
    )


def main() -> int:
    """Run or collect, and write or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="collect only, and compare")
    check = parser.parse_args().check
    files = {each.partition("::")[0] for row in ROWS for each in row.elsewhere}
    record = Record()
    options = ["-q", "--no-header", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    options += ["--collect-only", "-qq"] if check else []
    paths = [str(ROOT / path) for path in ("tests/faults", *sorted(files))]
    code = pytest.main([*options, *paths], plugins=[record])
    proofs = {node for nodes in record.proofs.values() for node, _ in nodes}
    if code or not (check or proofs == record.passed):
        print(f"not written: {len(record.failed)} failed, exit code {code}")
        return 1
    page = render(record)
    if check:
        return 0 if DOCUMENT.is_file() and DOCUMENT.read_text(encoding="utf-8") == page else 1
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
