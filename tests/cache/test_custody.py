"""A cache in other hands, and rows that lmgateway did not put there."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import stat
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from support.service import World, embedded

from lmgateway import errors
from lmgateway._store.schema import seal
from lmgateway._store.serialization import Key
from lmgateway._store.sqlite import Store, close_all

posix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="files have no such owners here")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def beside(file: Path, end: str) -> Path:
    return file.with_name(file.name + end)


def open_to_all(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o666)


def open_to_the_group(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.chmod(0o620)


def open_log(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside(file, "-wal").touch()
    beside(file, "-wal").chmod(0o666)


def open_journal(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beside(file, "-journal").touch()
    beside(file, "-journal").chmod(0o666)


def open_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.parent.chmod(0o777)


def of_another(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: uid)


def linked_to_an_open_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("elsewhere")
    file.rename(other)
    other.chmod(0o666)
    file.symlink_to(other)


FOREIGN = [
    pytest.param(open_to_all, "mode 0666", id="others may write"),
    pytest.param(open_to_the_group, "mode 0620", id="the group may write"),
    pytest.param(open_log, "sqlite3-wal", id="others may write its log"),
    pytest.param(open_journal, "sqlite3-journal", id="others may write its journal"),
    pytest.param(open_folder, "chmod o-w", id="others may replace it"),
    pytest.param(of_another, "another user", id="of another user"),
    pytest.param(linked_to_an_open_one, "mode 0666", id="a link"),
]


@posix
@pytest.mark.parametrize("spoil, reason", FOREIGN)
def test_what_others_can_write_is_not_used_and_one_warning_says_so(
    world: World,
    file: Path,
    spoil: Callable[[Path, pytest.MonkeyPatch], None],
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    world.ask()
    assert world.ask()["cached"]
    close_all()
    spoil(file, monkeypatch)
    before, mode = file.read_bytes(), mode_of(file)
    fresh = Store(file)
    assert fresh.get(Key(b"r", b"b")) is None
    assert not fresh.put(Key(b"r", b"b"), b"v")
    [record] = caplog.records
    assert str(file) in record.message
    assert reason in record.message
    assert (file.read_bytes(), mode_of(file)) == (before, mode)


@posix
@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_what_others_can_only_read_is_hidden_from_them(
    store: Store, mode: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert store.put(Key(b"r", b"b"), b"v")
    store.close()
    store.file.chmod(mode)
    again = Store(store.file)
    assert again.get(Key(b"r", b"b")) == b"v"
    assert {mode_of(path) for path in store.file.parent.iterdir()} == {0o600}
    again.close()
    assert not caplog.records


@posix
def test_a_folder_open_to_all_that_keeps_files_to_their_owners_will_do(store: Store) -> None:
    store.file.parent.mkdir()
    store.file.parent.chmod(0o1777)  # as /tmp is
    assert store.put(Key(b"r", b"b"), b"v")
    assert store.get(Key(b"r", b"b")) == b"v"


@posix
def test_what_is_no_cache_keeps_its_mode(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_bytes(b"these are the voyages of " * 100)
    path.chmod(0o644)
    with pytest.warns(RuntimeWarning, match="not a database"):
        Store(path).get(Key(b"r", b"b"))
    assert mode_of(path) == 0o644


def test_where_files_have_no_owners_nothing_is_checked(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "geteuid", raising=False)
    store.file.parent.mkdir()
    store.file.parent.chmod(0o777)
    assert store.put(Key(b"r", b"b"), b"v")


# -- planted rows --------------------------------------------------------------------------------


def plant(file: Path, value: bytes) -> None:
    """Put this in the place of every answer, sealed as a row of lmgateway's own."""
    close_all()
    with contextlib.closing(sqlite3.connect(file)) as db:
        for row, request, base in list(db.execute("SELECT id, request, base FROM entries")):
            digest = seal(request, base, value)
            db.execute(
                "UPDATE entries SET value = ?, digest = ? WHERE id = ?", (value, digest, row)
            )
        db.commit()


def headed(head: str, body: bytes = b"{}") -> bytes:
    return head.encode() + b"\n" + body


DEEP = "[" * 100_000 + "]" * 100_000
PLANTED = {
    "nothing": b"",
    "no end of the head": b'{"status": 200, "headers": {}}',
    "no JSON": headed("{"),
    "no UTF-8": b"{\xff}\n{}",
    "another head": headed("[]"),
    "an empty head": headed("{}"),
    "a deep head": headed(DEEP),
    "a deep value": headed('{"kind": "json"}', DEEP.encode()),
    "a kind of another exchange": headed('{"kind": "json"}'),
    "bytes of another exchange": headed('{"kind": "bytes"}'),
    "no zlib": b"\x01\x00\x00",
    "cut zlib": b"\x01" + zlib.compress(headed('{"status": 200, "headers": {}}', b"x" * 999))[:-9],
    "more than zlib": b"\x01" + zlib.compress(headed('{"status": 200, "headers": {}}')) + b"x",
    **{
        f"status {status[:9]}": headed(f'{{"status": {status}, "headers": {{}}}}')
        for status in (
            "1e999", "NaN", "-1", "0", "101", "302", "500", "200.5", "true", "null", '"200"',
            "9" * 5000,
        )
    },
    **{
        f"headers {headers}": headed(f'{{"status": 200, "headers": {headers}}}')
        for headers in ("null", "[]", '"x"', '{"x": 1}', '{"x": null}', '{"x": []}')
    },
    **{
        f"chunks {chunks}": headed(f'{{"status": 200, "headers": {{}}, "chunks": {chunks}}}')
        for chunks in ("[-1]", "[1e999]", "[true, true]", '["2"]', "5", '"ab"', "[1]", "[9]", "{}")
    },
}  # fmt: skip


@pytest.mark.parametrize("value", PLANTED.values(), ids=PLANTED)
def test_a_planted_row_is_a_miss_and_one_warning(
    world: World, file: Path, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answers = [world.ask(prompt) for prompt in "ab"]
    plant(file, value)
    with pytest.raises(errors.CacheMissError):
        world.ask("a", cache="only")
    for prompt, answer in zip("ab", answers, strict=True):
        again = world.ask(prompt)
        assert not again["cached"]
        assert again["choices"] == answer["choices"]
        assert world.ask(prompt)["cached"]  # it was written anew
    [record] = caplog.records
    assert "did not put there" in record.message
    assert str(file) in record.message


def test_a_planted_body_that_is_deep_is_asked_anew(world: World, file: Path) -> None:
    world.ask()
    plant(file, headed('{"status": 200, "headers": {}}', DEEP.encode()))
    assert not world.ask()["cached"]
    assert world.ask()["cached"]


def test_a_bomb_is_met_in_flat_memory(
    world: World, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    world.ask()
    squeeze = zlib.compressobj(9)
    bomb = [squeeze.compress(headed('{"status": 200, "headers": {}}', b""))]
    bomb += [squeeze.compress(bytes(1_000_000)) for _ in range(300)]
    plant(file, b"\x01" + b"".join([*bomb, squeeze.flush()]))
    del bomb
    tracemalloc.start()
    try:
        assert not world.ask(max_body=1_000_000)["cached"]
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    [_] = caplog.records


def test_a_body_as_large_as_a_call_may_take_is_still_found(world: World) -> None:
    text = "x" * 900_000
    world.provider = embedded(lambda: {"text": text}, {"model": "sha"})
    world.ask(max_body=1_000_000)
    again = world.ask(max_body=1_000_000)
    assert again["cached"]
    assert json.loads(again["choices"][0]["text"])["text"] == text


def test_a_row_larger_than_any_that_is_kept_is_not_read(tmp_path: Path) -> None:
    store = Store(tmp_path / "answers.sqlite3", size_limit=8_000_000)
    here = Key(b"r", b"b")
    store.put(here, b"v")
    store.close()
    value = bytes(30_000_000)
    with contextlib.closing(sqlite3.connect(store.file)) as db:
        row = (value, seal(b"r", b"b", value))
        db.execute("UPDATE entries SET value = ?, digest = ?", row)
        db.commit()
    tracemalloc.start()
    try:
        assert store.get(here) is None
        assert store.get(Key(b"r", None)) is None
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    store.close()
