"""The command as a whole, ``providers`` and ``cache``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from lmgateway._store.serialization import Key
from lmgateway._store.sqlite import Store
from lmgateway.cli.application import build

from .conftest import Open, Run


def test_version(run: Run) -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, "lmgateway 0.2.0\n")


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]], ids=["nothing", "short", "long"])
def test_help_in_a_pipe_is_plain(run: Run, arguments: list[str]) -> None:
    done = run(*arguments)
    assert done.returncode == 0
    assert "ask" in done.stdout
    assert "\x1b" not in done.stdout


def test_help_fits_a_narrow_terminal(terminal: Open) -> None:
    shell = terminal("ask", "--help", columns=60)
    assert shell.wait() == 0
    assert max(map(len, shell.shown.splitlines())) <= 60


@pytest.mark.parametrize("command", [["nonsense"], ["cache"]], ids=["unknown", "half"])
def test_wrong_command_is_one_line_and_status_2(run: Run, command: list[str]) -> None:
    done = run(*command)
    assert done.returncode == 2
    assert done.stderr.startswith("lmgateway: ")
    assert done.stderr.count("\n") == 1


def test_without_the_extra_it_says_how_to_install_it(environment: dict[str, str]) -> None:
    code = "import sys; sys.modules['typer'] = None\nimport runpy; runpy.run_module('lmgateway')"
    script = code.replace("run_module('lmgateway')", "run_module('lmgateway', run_name='__main__')")
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, timeout=30
    )
    assert done.returncode == 2
    assert "pip install 'lmgateway-core[cli]'" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--version"], ["ask", "-m", "echo", "hi"]], ids=str)
def test_light_start(environment: dict[str, str], arguments: list[str]) -> None:
    code = (
        "import sys\nfrom lmgateway.cli import main\n"
        f"assert main({arguments!r}) == 0\n"
        "print(*sorted({'requests', 'rich', 'jinja2', 'aiohttp', 'asyncio'} & {*sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=30,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == ""


def test_shell_completion_knows_commands_and_providers(run: Run) -> None:
    def complete(words: str) -> list[str]:
        done = run(
            _LMGATEWAY_COMPLETE="complete_bash",
            COMP_WORDS=words,
            COMP_CWORD=str(len(words.split(" ")) - 1),
        )
        return done.stdout.split()

    assert complete("lmgateway as") == ["ask"]
    assert complete("lmgateway ask -m ec") == ["echo"]


def test_providers_loads_none(run: Run) -> None:
    done = run("providers", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["broken"] == {
        "name": "broken",
        "distribution": "odd-plugins",
        "version": "1.2",
    }
    assert {"echo", "openai"} <= rows.keys()


def test_table_in_a_pipe_is_aligned_text(run: Run) -> None:
    first, *rows = run("providers").stdout.splitlines()
    assert first.split() == ["PROVIDER", "DISTRIBUTION", "VERSION"]
    start = first.index("VERSION")
    assert all(row[start - 2 : start] == "  " and row[start] != " " for row in rows)


def test_table_on_a_terminal_fits_and_heeds_no_color(terminal: Open) -> None:
    shell = terminal("providers", columns=30, NO_COLOR="1")
    assert shell.wait() == 0
    assert not re.search(r"\x1b\[[0-9;]*\b[349][0-7]\b", shell.shown)  # a colour
    text = re.sub(r"\x1b\[[0-9;]*m", "", shell.shown)
    assert max(map(len, text.splitlines())) <= 30
    assert "lmgateway-anyscale" not in text  # folded, and nothing of it lost
    assert "anysca" in text


# -- cache ---------------------------------------------------------------------------------------


@pytest.fixture
def filled(environment: dict[str, str]) -> Path:
    """A cache with three answers."""
    file = Path(environment["LMGATEWAY_CACHE_DIR"]) / "answers.sqlite3"
    store = Store(file)
    for number in range(3):
        name = str(number).encode()
        assert store.put(Key(sha256(name).digest(), b"base"), b"\x00" + name * 1000)
    store.close()
    return file


def test_stats_of_no_cache(run: Run) -> None:
    assert "answers  0" in run("cache", "stats").stdout


def test_stats(run: Run, filled: Path) -> None:
    held = json.loads(run("cache", "stats", "--json").stdout)
    assert (held["entries"], held["value_bytes"]) == (3, 3003)
    assert held["file"] == str(filled)
    shown = run("cache", "stats").stdout
    assert "answers  3" in shown
    assert "2.9 KiB of answers" in shown


def test_stats_of_the_configured_cache(run: Run, filled: Path) -> None:
    (filled.parents[1] / "lmgateway.toml").write_text(f'[cache]\npath = "{filled.parent}"\n')
    held = json.loads(run("cache", "stats", "--json", LMGATEWAY_CACHE_DIR="").stdout)
    assert held["entries"] == 3


def test_clear(run: Run, filled: Path) -> None:
    assert run("cache", "clear").stdout == f"removed 3 answers from {filled}\n"
    assert json.loads(run("cache", "stats", "--json").stdout)["entries"] == 0


def test_verify_sound(run: Run, filled: Path) -> None:
    done = run("cache", "verify")
    assert (done.returncode, done.stdout) == (0, f"3 answers read, 0 damaged: {filled}\n")


def test_verify_damaged(run: Run, filled: Path) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data.replace(b"1" * 1000, b"1" * 500 + b"x" * 500))
    done = run("cache", "verify")
    assert done.returncode == 1
    assert "3 answers read, 1 damaged" in done.stdout
    assert json.loads(run("cache", "verify", "--json").stdout)["sound"] is False


def test_file_of_another_program_is_one_line_and_status_2(run: Run, filled: Path) -> None:
    filled.write_bytes(b"no database at all" * 1000)
    done = run("cache", "stats")
    assert done.returncode == 2
    assert done.stderr.startswith("lmgateway: ConfigError: ")
    assert done.stderr.count("\n") == 1


# -- documentation -------------------------------------------------------------------------------


def test_reference_names_every_command_and_option() -> None:
    text = (Path(__file__).parents[2] / "docs" / "reference" / "cli.md").read_text("utf-8")
    described = set(re.findall(r"--?[a-z][a-z-]*|\b[a-z]+(?:-[a-z]+)*\b", text))
    assert _spellings(get_command(build())) <= described


def _spellings(command: Any) -> set[str]:
    """The names of a command's options and subcommands, all the way down."""
    names = {option for each in command.params for option in each.opts if option[0] == "-"}
    for name, inner in getattr(command, "commands", {}).items():
        names |= {name} | _spellings(inner)
    return names
