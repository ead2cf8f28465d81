"""docs/how-to/switch-provider.md, done step by step as it is written."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("typer")

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "switch-provider.md"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_page_does_what_it_says() -> None:
    ran = 0
    for kind, block in re.findall(r"(?ms)^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8")):
        if kind == "console":
            command, wanted = block.removeprefix("$ ").split("\n", 1)
            got = run(command)
            assert doctest.OutputChecker().check_output(wanted, got, FLAGS), f"{command}\n{got}"
            ran += 1
        else:
            write(block)
    assert ran == 5


def write(block: str) -> None:
    """A file is named in the comment on its first line."""
    named = re.match(r"# ([\w.]+)", block)
    assert named, f"a block says in a comment which file it is: {block}"
    Path(named[1]).write_text(block, encoding="utf-8")


def run(command: str) -> str:
    """What a command prints, on either stream; a failed program's last line only."""
    *variables, program = re.split(r" (?=python |lmgateway )|^(?=python |lmgateway )", command)
    settings = dict(each.split("=", 1) for each in variables if each)
    words = program.split()
    start = [sys.executable] if words[0] == "python" else [sys.executable, "-m", "lmgateway"]
    done = subprocess.run(
        [*start, *words[1:]],
        capture_output=True,
        text=True,
        env={**os.environ, **settings},
        timeout=60,
        check=False,
    )
    if words[0] == "python" and done.returncode:
        return done.stderr.strip().splitlines()[-1] + "\n"
    return done.stdout
