"""``batch``: files, pipes and terminals; what the engine does is tested in tests/batch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from .conftest import Open, Run


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"custom_id": "a", "prompt": "one"}\n{"custom_id": "b", "prompt": "two"}\n')
    return path


def texts(output: str) -> dict[str, Any]:
    rows = map(json.loads, output.splitlines())
    return {
        row["custom_id"]: row["response"]
        and row["response"]["body"]["choices"][0]["message"]["content"]
        for row in rows
    }


def test_a_file_is_answered(run: Run, prompts: Path) -> None:
    done = run("batch", "run", prompts.name, "answers.jsonl", "-m", "echo")
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 rows answered" in done.stderr
    assert texts(prompts.with_name("answers.jsonl").read_text()) == {"a": "one", "b": "two"}


def test_the_same_command_asks_nothing_twice(run: Run, prompts: Path) -> None:
    command = ("batch", "run", prompts.name, "answers.jsonl", "-m", "echo")
    run(*command)
    assert "0 rows answered" in (again := run(*command)).stderr
    assert "2 were done before" in again.stderr


def test_pipes(run: Run) -> None:
    done = run("batch", "run", "-", "-", "-m", "echo", stdin='{"custom_id": 1, "prompt": "p"}\n')
    assert texts(done.stdout) == {"1": "p"}


def test_a_row_that_fails_is_status_1(run: Run, prompts: Path) -> None:
    prompts.write_text(prompts.read_text() + "{\n")
    done = run("batch", "run", prompts.name, "out.jsonl", "-m", "echo", "--errors", "bad.jsonl")
    assert done.returncode == 1
    assert "1 failed (1 InputError)" in done.stderr
    assert len(texts(prompts.with_name("out.jsonl").read_text())) == 2
    assert "line 3 is not JSON" in prompts.with_name("bad.jsonl").read_text()


def test_a_job_that_stops_says_how_to_go_on(run: Run, prompts: Path) -> None:
    prompts.write_text("".join(f'{{"prompt": "p{n}"}}\n' for n in range(100)))
    done = run("batch", "run", prompts.name, "my answers.jsonl", "-m", "openai/m")
    assert done.returncode == 2
    assert "MissingCredentialError" in done.stderr
    go_on = "to go on: lmgateway batch run prompts.jsonl 'my answers.jsonl' -m openai/m"
    assert go_on in done.stderr
    told = run("batch", "status", "my answers.jsonl").stdout
    assert "answered  0 of 100" in told
    assert go_on.partition(": ")[2] in told


def test_status_as_json(run: Run, prompts: Path) -> None:
    run("batch", "run", prompts.name, "answers.jsonl", "-m", "echo")
    told = json.loads(run("batch", "status", "answers.jsonl", "--json").stdout)
    assert (told["answered"], told["total"], told["finished"]) == (2, 2, True)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["absent.jsonl", "out.jsonl"], "no file"),
        (["prompts.jsonl", "prompts.jsonl"], "different files"),
        (["prompts.jsonl", "no/such/out.jsonl"], "there is no folder"),
        (["prompts.jsonl", "out.jsonl", "--errors", "no/such/bad.jsonl"], "there is no folder"),
        (["prompts.jsonl", "out.jsonl", "--engine", "spark"], "asyncio or ray"),
        (["prompts.jsonl", "out.jsonl", "--workers", "2"], "goes with --engine ray"),
        (["prompts.jsonl", "out.jsonl", "--rpm", "0"], "rpm must be greater than 0"),
    ],
    ids=["absent", "onto itself", "no folder", "no folder for errors", "engine", "workers", "rpm"],
)
def test_misuse_is_one_line_and_status_2(
    run: Run, prompts: Path, arguments: list[str], message: str
) -> None:
    done = run("batch", "run", *arguments, "-m", "echo")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_terminal_shows_a_bar_and_the_summary(terminal: Open, prompts: Path) -> None:
    shell = terminal("batch", "run", prompts.name, "answers.jsonl", "-m", "echo", columns=160)
    assert shell.wait() == 0
    assert "2 / 2 rows" in shell.shown
    assert "2 rows answered" in shell.shown


def test_ctrl_c_drains_and_says_how_to_go_on(terminal: Open, prompts: Path) -> None:
    prompts.write_text("".join(f'{{"prompt": "p{n}"}}\n' for n in range(100_000)))
    shell = terminal("batch", "run", prompts.name, "answers.jsonl", "-m", "echo", columns=160)
    shell.read_until(r"in flight")
    shell.type("\x03")
    assert shell.wait() == 130
    assert "to go on: lmgateway batch run prompts.jsonl answers.jsonl -m echo" in shell.shown
