"""Both type checkers over what users write: ``accepted.py``, ``refused.py``, snippets, plugins.

python tests/typing/check.py

mypy --strict and pyright must report exactly the lines that end with ``# error``. The snippets are
the Python programs of the README and of docs/; there functions may go without annotations.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
#: Pages that show parts of programs, or programs of other libraries that are not installed here.
PARTS = ("adr", "architecture.md")
NEEDS = re.compile(r"^# needs ", re.MULTILINE)
#: A program may hand on what nobody has annotated; what it calls of ours is checked all the same.
LOOSE = (
    "--check-untyped-defs", "--allow-untyped-defs", "--allow-incomplete-defs",
    "--allow-untyped-calls", "--allow-untyped-decorators", "--allow-subclassing-any",
)  # fmt: skip


class Problem(NamedTuple):
    """What a checker said of a line."""

    file: str
    line: int
    text: str


def mypy(files: Iterable[Path], *options: str) -> list[Problem]:
    """What mypy --strict says of each file."""
    command = ["-m", "mypy", "--strict", *options, "--no-error-summary", "--output=json"]
    done = _run([sys.executable, *command, *map(str, files)])
    said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode not in (0, 1) or (done.returncode == 1 and not said):
        raise SystemExit(done.stdout + done.stderr)
    return [
        Problem(Path(each["file"]).name, each["line"], each["message"].splitlines()[0])
        for each in said
        if each["severity"] == "error"
    ]


def pyright(files: Iterable[Path]) -> list[Problem]:
    """What pyright says of each file; node and pyright itself come from PyPI, with the package."""
    command = ["-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = _run([sys.executable, *command, *map(str, files)])
    if done.returncode not in (0, 1):
        raise SystemExit(done.stdout + done.stderr)
    return [
        Problem(
            Path(each["file"]).name,
            each["range"]["start"]["line"] + 1,
            each["message"].splitlines()[0],
        )
        for each in json.loads(done.stdout)["generalDiagnostics"]
        if each["severity"] == "error"
    ]


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    # A version forced or a Pylance named here would have it download another pyright.
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PYRIGHT_PYTHON_")}
    return subprocess.run(command, cwd=ROOT, env=kept, capture_output=True, text=True)


def snippets(folder: Path) -> Iterator[Path]:
    """The programs of the pages, each in a file that is named after its page."""
    for page in PAGES:
        if any(part in (page.name, page.parent.name) for part in PARTS):
            continue
        before = ""
        for number, block in enumerate(BLOCK.findall(page.read_text("utf-8")), 1):
            before = f"{before}\n{block}" if block.startswith("# continued") else block
            if NEEDS.search(block) or block.startswith("# src/"):
                continue
            named = re.match(r"# ([\w-]+)\.py\n", block)
            name = named[1] if named else f"{page.stem.replace('-', '_').lower()}_{number}"
            given = "" if re.search(r"\bimport\b", before) else "from lmgateway import get_lm\n"
            file = folder / f"{name}.py"
            file.write_text(given + before, "utf-8")
            yield file


def scaffolds(folder: Path) -> Iterator[Path]:
    """What ``lmgateway new-plugin`` writes, and what a tutorial makes of it."""
    from lmgateway._plugins.scaffold import WIRES, write_plugin

    for wire in WIRES:
        yield from sorted(write_plugin(f"a-{wire}", folder / wire, wire=wire).glob("src/*/*.py"))
    heron = write_plugin("heron", folder / "heron", wire="own")
    page = ROOT / "docs" / "tutorial" / "own-wire-format.md"
    for block in BLOCK.findall(page.read_text("utf-8")):
        if named := re.match(r"# (src/\S+)\n", block):
            (heron / named[1]).write_text(block, "utf-8")
    yield from sorted(heron.glob("src/*/*.py"))


def wanted(files: Iterable[Path]) -> set[tuple[str, int]]:
    """The lines that must be refused."""
    return {
        (file.name, number)
        for file in files
        for number, line in enumerate(file.read_text("utf-8").splitlines(), 1)
        if line.endswith("# error")
    }


def verdict(checker: str, said: list[Problem], files: list[Path]) -> list[str]:
    """Where a checker and the marks disagree, in words."""
    marked, refused = wanted(files), {(each.file, each.line) for each in said}
    more = [f"{p.file}:{p.line}: {checker}: {p.text}" for p in said if p[:2] not in marked]
    less = [f"{file}:{line}: {checker} accepts it" for file, line in sorted(marked - refused)]
    return more + less


def main() -> int:
    """Check all; print what is wrong, and how much was checked."""
    users = [HERE / "accepted.py", HERE / "refused.py"]
    with tempfile.TemporaryDirectory() as folder:
        programs = list(snippets(Path(folder)))
        written = list(scaffolds(Path(folder) / "written"))
        wrong = [
            *verdict("mypy", mypy(users), users),
            *verdict("mypy", mypy(programs, *LOOSE), programs),
            *verdict("mypy", mypy(written), written),
            *verdict("pyright", pyright([*users, *programs, *written]), [*users, *programs]),
        ]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    print(f"{len(wanted(users))} lines refused, {len(programs)} snippets accepted" * (not wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
