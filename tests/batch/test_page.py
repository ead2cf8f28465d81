"""The page on batches says what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.main import get_command

from lmgateway.cli.application import build

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "batch.md").read_text("utf-8")


def test_its_python_runs_over_its_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = re.findall(r"^\{.*\}$", PAGE, re.MULTILINE)
    Path("prompts.jsonl").write_text("\n".join(rows))
    program, *_ = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    exec(program, {})
    assert capsys.readouterr().out == f"{len(rows)} 0\n"


@pytest.mark.parametrize("page", ["how-to/batch.md", "reference/cli.md"])
def test_its_options_exist(page: str) -> None:
    text = (ROOT / "docs" / page).read_text("utf-8")
    if page.startswith("reference"):
        text = text[text.index("## `lmgateway batch") : text.index("## `lmgateway cache")]
    known = {
        name
        for each in get_command(build()).commands["batch"].commands.values()  # type: ignore[attr-defined]
        for param in each.params
        for name in param.opts
    }
    assert set(re.findall(r"--[a-z][a-z-]*", text)) <= known
