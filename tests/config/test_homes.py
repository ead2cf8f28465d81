"""Strange homes: users without one, homes that keep nothing, working directories that went."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.chat_server import ChatServer, serve_chat

from lmgateway import ConfigError, get_lm, record, replay
from lmgateway._config.files import find, user_file
from lmgateway._guard.paths import absolute
from lmgateway._store.settings import CacheSettings
from lmgateway.batch import run, status
from lmgateway.cli import main

CALLS = """
import pwd, sys, warnings
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
BEFORE
import asyncio
from lmgateway import get_lm
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    lm = get_lm("openai", model="m", temperature=0)
    texts = [*lm(sys.argv[1]), *asyncio.run(lm.acall(sys.argv[1]))]
assert texts == [sys.argv[1]] * 2, texts
for each in caught:
    print(each.category.__name__, each.message)
"""
LEAVE = "import os, tempfile; os.chdir(tempfile.mkdtemp()); os.rmdir(os.getcwd())"
NO_PLACE = "this user has no folder for cache files: set HOME"

#: Variables, what runs before, and the end of the one warning; None where answers are kept.
HOMES: dict[str, tuple[dict[str, str], str, str | None]] = {
    "no HOME": ({}, "", NO_PLACE),
    "a relative HOME": ({"HOME": "here"}, "", NO_PLACE),
    "HOME is ~": ({"HOME": "~"}, "", NO_PLACE),
    "HOME is not there": ({"HOME": "{tmp}/no/where"}, "", None),
    "HOME is a file": ({"HOME": "{tmp}/file"}, "", "Not a directory"),
    "nothing can be made in HOME": ({"HOME": "/proc"}, "", "No such file or directory"),
    "HOME ends in a slash": ({"HOME": "{tmp}//"}, "", None),
    "HOME is not UTF-8": ({"HOME": "{tmp}/\udcff"}, "", None),
    "HOME is long": ({"HOME": "{tmp}/" + "x" * 300}, "", "File name too long"),
    "no HOME, but a cache folder": ({"XDG_CACHE_HOME": "{tmp}/xdg"}, "", None),
    "a cache folder from ~": ({"LMGATEWAY_CACHE_DIR": "~/c"}, "", "there is no home folder"),
    "one of nobody's": ({"LMGATEWAY_CACHE_DIR": "~nobody-here/c"}, "", "there is no such user"),
    "a named cache folder": ({"LMGATEWAY_CACHE_DIR": "{tmp}/named/"}, "", None),
    "the working directory is gone": ({"HOME": "{tmp}"}, LEAVE, None),
    "and the cache was to be there": ({"LMGATEWAY_CACHE_DIR": "c"}, LEAVE, "cannot be told"),
    "there is no TMPDIR": ({"HOME": "{tmp}", "TMPDIR": "/no/where"}, "", None),
}


@pytest.fixture(scope="module")
def service() -> Iterator[ChatServer]:
    with serve_chat("--keep") as service:
        yield service


@pytest.mark.loopback
@pytest.mark.parametrize("home", HOMES)
def test_calls_are_answered_wherever_one_lives(
    home: str, service: ChatServer, tmp_path: Path
) -> None:
    given, before, problem = HOMES[home]
    (tmp_path / "file").touch()
    odd = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "TMPDIR")
    variables = {name: value for name, value in os.environ.items() if name not in odd}
    variables |= {name: value.replace("{tmp}", str(tmp_path)) for name, value in given.items()}
    done = subprocess.run(
        [sys.executable, "-c", CALLS.replace("BEFORE", before), home],
        capture_output=True,
        text=True,
        env={**variables, "OPENAI_API_BASE": service.url},
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    warned = done.stdout.splitlines()
    assert service.stats()["prompts"][home] == (1 if problem is None else 2)
    if problem is None:
        assert warned == []
    else:
        (warning,) = warned
        assert warning.startswith("RuntimeWarning the cache ")
        assert problem in warning
    assert not os.listdir(), "something was written into the working directory"


# -- what the user named, and what it cannot mean --------------------------------------------------


def _record(path: str) -> None:
    with record(path):
        pass


def _replay(path: str) -> None:
    with replay(path):
        pass


def _in_file(path: str) -> None:
    Path("lmgateway.toml").write_text(f'[cache]\nrecordings = ["{path}"]\n')
    get_lm("echo")


def _variable(path: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LMGATEWAY_CONFIG", path)
        get_lm("echo")


def _cache(path: str) -> None:
    _ = CacheSettings(path=path).file


DOORS: dict[str, Callable[[str], Any]] = {
    "config=": lambda path: get_lm("echo", config=path),
    "LMGATEWAY_CONFIG": _variable,
    "recordings=": lambda path: get_lm("echo", recordings=[path])("hi"),
    "record": _record,
    "replay": _replay,
    "the cache's path": _cache,
    "a batch's input": lambda path: run(path, "/tmp/never.jsonl", "echo"),
    "a batch's output": lambda path: run(["x"], path, "echo"),
    "a batch's errors": lambda path: run(["x"], "/tmp/never.jsonl", "echo", errors=path),
    "a batch's status": status,
}


@pytest.fixture
def homeless(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize("door", [*DOORS, "recordings in the file", "verify="])
def test_a_home_that_is_not_there_is_told(door: str) -> None:
    doors = {
        **DOORS,
        "recordings in the file": _in_file,
        "verify=": lambda path: get_lm(
            "openai", model="m", verify=path, api_base="https://host.invalid/v1", retries=0
        )("hi"),
    }
    with pytest.raises(ConfigError, match="there is no home folder: set HOME"):
        doors[door]("~/file")


@pytest.mark.parametrize("door", DOORS)
def test_the_home_of_nobody_is_told(door: str) -> None:
    with pytest.raises(ConfigError, match="there is no such user"):
        DOORS[door]("~nobody-here/file")


@pytest.mark.parametrize("door", DOORS)
def test_a_relative_path_from_nowhere_is_told(
    door: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(ConfigError, match="give one from the root"):
        DOORS[door]("file")


def test_a_template_from_a_home_that_is_not_there_is_told(homeless: None) -> None:
    for path in ("~/chat.jinja", "~nobody-here/chat.jinja"):
        lm = get_lm("anyscale", model="m", api_base="http://127.0.0.1:9", template=path)
        with pytest.raises(ConfigError, match=r"chat\.jinja"):
            lm.preview("hi")


@pytest.mark.parametrize("name", ["~draft.jsonl", "~$table.csv", "a~b", "-x"])
def test_a_name_with_a_tilde_is_a_name(name: str) -> None:
    assert absolute(name) == os.path.join(os.getcwd(), name)


def test_a_home_is_written_for_its_tilde(tmp_path: Path) -> None:
    assert absolute("~/x/../y") == str(tmp_path / "home" / "y")
    assert absolute(Path("~")) == str(tmp_path / "home")


@pytest.mark.usefixtures("homeless")
def test_who_has_no_home_has_no_configuration_of_the_users_own() -> None:
    assert user_file() is None
    assert find() is None


@pytest.mark.usefixtures("homeless")
@pytest.mark.parametrize(
    "arguments, said",
    [
        (("cache", "stats"), NO_PLACE),
        (("config", "--init"), "lmgateway.toml"),
        (("doctor", "echo"), "configuration: none"),
    ],
    ids=["cache stats", "config --init", "doctor"],
)
def test_a_command_needs_no_home(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(list(arguments))
    printed, told = capsys.readouterr()
    assert said in (told if status else printed)
    assert "not foreseen" not in told
    assert status == (2 if said == NO_PLACE else 0)
