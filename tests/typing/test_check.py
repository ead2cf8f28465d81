"""The checkers' verdicts are compared with the marks in both directions, line by line."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def _check() -> Any:
    spec = importlib.util.spec_from_file_location("typing_check", HERE / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHECK = _check()


def test_a_line_too_many_and_a_line_too_few_are_told(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("one()  # error\ntwo()  # error\nthree()\n")
    said = [CHECK.Problem("some.py", 1, "no"), CHECK.Problem("some.py", 3, "wrong type")]
    assert CHECK.verdict("mypy", said, [file]) == [
        "some.py:3: mypy: wrong type",
        "some.py:2: mypy accepts it",
    ]


def test_the_pages_have_snippets(tmp_path: Path) -> None:
    files = list(CHECK.snippets(tmp_path))
    assert len(files) == len(set(files)) > 20
    assert any("get_lm(" in file.read_text() for file in files if file.name == "readme_1.py")
