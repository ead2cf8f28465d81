"""The guide to embeddings: its programs and its commands, word for word, with the model here."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.llama_server import INSTALL, is_installed

from lmgateway import get_lm
from lmgateway.cli.application import run

pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not is_installed(), reason=f"needs a model: {INSTALL}"),
]

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "embed.md").read_text("utf-8")
PROGRAMS = {
    found[1]: found[0] for found in re.findall(r"```python\n(# (\w+\.py)\n.*?)```", PAGE, re.DOTALL)
}
COMMANDS = re.findall(r"^\$ lmgateway (.*)$", PAGE, re.MULTILINE)
CAT = "The cat sleeps on the sofa."


@pytest.fixture(scope="module", autouse=True)
def _loaded() -> Iterator[None]:
    """The model stays loaded from one program to the next."""
    with get_lm("local", cache=False) as lm:
        lm.embed("a text")
        yield


@pytest.mark.parametrize(
    "name, printed",
    [
        ("search.py", f"<Vectors: 3 of 576 floats>\n{CAT}\n"),
        ("search_numpy.py", f"(2, 576) float32\n{CAT}\n"),
        ("many.py", "False 11\n"),
        ("retrieve.py", f"[{CAT!r}]\n"),
    ],
)
def test_a_program_prints(name: str, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    if "numpy" in name:
        pytest.importorskip("numpy")
    if "dspy" in PROGRAMS[name]:
        pytest.importorskip("dspy", reason="needs the extra [dspy]")
    exec(compile(PROGRAMS[name], name, "exec"), {})
    assert capsys.readouterr().out == printed


def test_every_program_is_run() -> None:
    assert set(PROGRAMS) == {"search.py", "search_numpy.py", "many.py", "retrieve.py"}


def test_the_commands_write_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("a cat\na dog\n")
    Path("notes.csv").write_text("name,note\na,a cat\nb,a dog\n")
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        assert run(shlex.split(command)) == 0
    assert Path("notes.npy").stat().st_size == 128 + 2 * 576 * 4
    assert len(Path("notes.jsonl").read_text().splitlines()) == 2
