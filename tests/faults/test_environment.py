"""The rows of a wrong environment: keys, .env files and the cache's folder."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faults.play import KEY, MODES, NATIVE, PROMPT, TEXT, Mode, fine, lm_at, row
from support.fault_server import FaultServer

from lmgateway import get_lm
from lmgateway.errors import ConfigError, MissingCredentialError

pytestmark = pytest.mark.loopback

NO_KEY = "no key, empty key, no base"


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Root may read everything: be somebody else for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


# -- keys and bases ------------------------------------------------------------------------------


@row("Environment", NO_KEY, NATIVE)
@pytest.mark.parametrize("value", [None, "", " \t"], ids=["no key", "empty key", "blank key"])
def test_no_key(mode: Mode, value: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    if value is not None:
        monkeypatch.setenv("OPENAI_API_KEY", value)
    Path(".env").write_text(f"OPENAI_API_KEY='{value or ''}'\n", encoding="utf-8")
    lm = get_lm("openai/m", transport=mode.transport, api_key=value)
    with pytest.raises(MissingCredentialError, match="OPENAI_API_KEY") as caught:
        mode.ask(lm, PROMPT)
    assert str(Path(".env").resolve()) in str(caught.value)
    assert not caught.value.retryable


@row("Environment", NO_KEY, NATIVE)
def test_no_base(mode: Mode) -> None:
    lm = get_lm("anyscale/m", transport=mode.transport)
    with pytest.raises(MissingCredentialError, match="ANYSCALE_API_BASE") as caught:
        mode.ask(lm, PROMPT)
    assert "there is no .env in" in str(caught.value)


@row("Environment", NO_KEY, NATIVE)
def test_what_is_cached_needs_neither(mode: Mode, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultServer([fine()]) as server:
        options = {"transport": mode.transport, "temperature": 0, "use_chat_api": True}
        with get_lm("anyscale/m", api_base=server.url, api_key=KEY, **options) as lm:
            mode.ask(lm, PROMPT)
        with get_lm("anyscale/m", **options) as lm:
            completion = mode.ask(lm, PROMPT)
        assert len(server.requests) == 1
    assert completion["cached"]
    assert completion["choices"][0]["text"] == TEXT


# -- .env ----------------------------------------------------------------------------------------


@row("Environment", ".env: missing", MODES[:1])
def test_no_dotenv(mode: Mode) -> None:
    assert not Path(".env").exists()
    with FaultServer([fine()]) as server, lm_at(server.url, mode) as lm:
        mode.ask(lm, PROMPT)


def unreadable(path: Path) -> None:
    path.write_text(f"OPENAI_API_KEY={KEY}\n", encoding="utf-8")
    path.chmod(0)


def in_latin_1(path: Path) -> None:
    path.write_bytes(f"# \u00e9t\u00e9\nOPENAI_API_KEY={KEY}\n".encode("latin-1"))


@row("Environment", ".env: unreadable, or latin-1", MODES[:1])
@pytest.mark.parametrize("spoil", [unreadable, in_latin_1])
def test_a_dotenv_that_cannot_be_read(
    mode: Mode, spoil: Callable[[Path], None], tmp_path_factory: pytest.TempPathFactory
) -> None:
    spoil(Path(".env"))
    for folder in (Path.cwd(), *Path.cwd().parents):
        if folder.stat().st_mode & 0o055 != 0o055 and folder.stat().st_uid == os.geteuid():
            folder.chmod(0o755)  # pytest's folders are for their owner alone
    with FaultServer([fine()]) as server:
        with as_nobody(), pytest.warns(UserWarning, match=r"\.env was not read"):
            lm = lm_at(server.url, mode)
        with lm:
            assert mode.ask(lm, PROMPT)["choices"][0]["text"] == TEXT


@row("Environment", ".env: in a folder that may not be entered", MODES[:1])
def test_a_folder_that_may_not_be_entered(mode: Mode) -> None:
    Path("deep").mkdir()
    os.chdir("deep")
    Path.cwd().chmod(0)
    try:
        with as_nobody(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lm = get_lm("openai/m", api_base="http://127.0.0.1:9/v1")
        assert lm.model == "m"
    finally:
        Path.cwd().chmod(0o755)


@row("Environment", ".env: an unclosed quote", MODES[:1])
def test_an_unclosed_quote(mode: Mode) -> None:
    Path(".env").write_text(f'A=1\nOPENAI_API_KEY="{KEY}\nB=2\n', encoding="utf-8")
    with pytest.raises(ConfigError, match=r"\.env:2") as caught:
        get_lm("anyscale/m")
    assert KEY not in str(caught.value)


# -- the cache -----------------------------------------------------------------------------------


def a_file_for_a_folder(folder: Path) -> Any:
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"a file")


def corrupt(folder: Path) -> Any:
    folder.mkdir(parents=True)
    (folder / "answers.sqlite3").write_bytes(b"these are the voyages of " * 1000)


def newer(folder: Path) -> Any:
    folder.mkdir(parents=True)
    with contextlib.closing(sqlite3.connect(folder / "answers.sqlite3")) as db:
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE future (x)")
        db.commit()


def locked(folder: Path) -> Any:
    with FaultServer([fine()]) as server, get_lm("openai/m", api_base=server.url) as lm:
        lm("made", temperature=0)
    db = sqlite3.connect(folder / "answers.sqlite3", isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    return db


SPOILT = [
    pytest.param(a_file_for_a_folder, id="a file for a folder"),
    pytest.param(corrupt, id="corrupt"),
    pytest.param(newer, id="a newer schema"),
    pytest.param(locked, id="locked"),
]


@row("Environment", "cache: corrupt, locked, of a newer schema", NATIVE)
@pytest.mark.parametrize("spoil", SPOILT)
def test_a_cache_that_cannot_serve(
    mode: Mode,
    spoil: Callable[[Path], Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "cache" / "lmgateway"
    monkeypatch.setenv("LMGATEWAY_CACHE_DIR", str(folder))
    held = spoil(folder)
    file = folder / "answers.sqlite3" if folder.is_dir() else folder
    before = file.read_bytes()
    caplog.set_level(logging.WARNING, "lmgateway")
    try:
        with FaultServer([fine(), fine()]) as server, lm_at(server.url, mode, cache=None) as lm:
            for _ in range(2):
                assert mode.ask(lm, PROMPT, temperature=0)["choices"][0]["text"] == TEXT
            assert len(server.requests) == 2
        assert len(caplog.records) <= 1
        if held is None:
            assert len(caplog.records) == 1
            assert file.read_bytes() == before
    finally:
        if held is not None:
            held.close()
