"""``embed``: its arguments and what it says; the work itself is tested in tests/index."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from lmgateway._index.run import split_params
from lmgateway.cli.application import run
from lmgateway.cli.embed import _output

from .conftest import Run


@pytest.mark.parametrize(
    "file, to, output",
    [
        ("notes.txt", None, "notes.npy"),
        ("notes.jsonl.gz", None, "notes.npy"),
        ("notes.txt", "parquet", "notes.parquet"),
        ("notes.txt", ".jsonl", "notes.jsonl"),
        ("notes.jsonl", "jsonl", "notes.embedded.jsonl"),
        ("notes.txt", "other.npy", "other.npy"),
    ],
)
def test_where_the_vectors_go(
    file: str, to: str | None, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(file).touch()
    assert _output(tmp_path / file, to) == tmp_path / output


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["absent.txt"], "there is no file"),
        (["-"], "a pipe can be read only once"),
        (["texts.txt", "--to", "texts.txt"], "two different files"),
        (["texts.txt", "--to", "out.txt"], "ends in .npy, .jsonl, .parquet"),
        (["texts.txt", "--to", "absent/out.npy"], "there is no folder"),
        (["texts.txt", "--id", "n"], "--id names a column"),
        (["texts.txt", "--format", "doc"], "not known by its name"),
        (["texts.txt", "--concurrency", "0"], "concurrency must be"),
        (["texts.txt", "-m", "echo"], "echo does not support embed"),
        (["empty.txt"], "there are no texts"),
        (["texts.txt", "-p", "nonsense=1"], "no parameter 'nonsense'"),
    ],
)
def test_what_is_wrong_is_status_2(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("one\n")
    Path("empty.txt").touch()
    named = [] if "-m" in arguments else ["-m", "openai/m", "-p", "api_key=k"]
    assert run(["embed", *arguments, *named]) == 2
    told = capsys.readouterr().err
    assert message in told
    left = {path.name for path in Path().iterdir()} - {"home", "texts.txt", "empty.txt"}
    assert not left
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_parameters_go_where_they_belong() -> None:
    given = {"dimensions": 2, "timeout": 3, "api_key": "k", "input_type": "query"}
    assert split_params(given) == (
        {"timeout": 3, "api_key": "k"},
        {"dimensions": 2, "input_type": "query"},
    )


def test_a_service_that_is_down_says_how_to_go_on(run: Run, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    home = ["-p", "api_base=http://127.0.0.1:9/v1", "-p", "api_key=sk-secret", "-p", "retries=0"]
    done = run("embed", "texts.txt", "-m", "openai/m", *home)
    assert done.returncode == 1
    assert "0 of 2 texts embedded; to go on: lmgateway embed texts.txt -m openai/m" in done.stderr
    assert "sk-secret" not in done.stderr
