from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import re
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
from support.service import World

from lmgateway import errors
from lmgateway._store import inventory, maintenance, sqlite
from lmgateway._store.serialization import Key
from lmgateway._store.settings import CacheSettings
from lmgateway._store.sqlite import Store

MEBIBYTE = 1024 * 1024
Spoil = Callable[[Path], object]
HERE = b"here"
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def key(number: int, base: bytes | None = HERE) -> Key:
    return Key(sha256(b"%d" % number).digest(), base)


def value(number: int) -> bytes:
    return b"\0" + sha256(b"value %d" % number).digest() * (1 + number % 40)


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write waits for maintenance and other threads even on a machine that has no time."""
    monkeypatch.setattr(sqlite, "WRITE_WAIT", 10.0)


def fill(store: Store, count: int) -> None:
    assert all(store.put(key(number), value(number)) for number in range(count))


def test_what_is_put_is_got_in_another_store_too(store: Store) -> None:
    assert store.get(key(1)) is None
    assert store.put(key(1), value(1))
    assert store.get(key(1)) == value(1) == Store(store.file).get(key(1))


def test_a_later_value_replaces_the_earlier(store: Store) -> None:
    store.put(key(1), value(1))
    store.put(key(1), value(2))
    assert store.get(key(1)) == value(2)
    assert inventory.stats(store.file).entries == 1


def test_without_a_base_exactly_one_may_have_answered(store: Store) -> None:
    store.put(key(1, b"a"), value(1))
    assert store.get(key(1, None)) == value(1)
    store.put(key(1, b"b"), value(2))
    assert store.get(key(1, None)) is None


def test_nothing_is_stored_without_a_base(store: Store) -> None:
    assert not store.put(key(1, None), value(1))


def test_nobody_else_may_read_it(store: Store) -> None:
    fill(store, 1)
    folder = store.file.parent
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def no_links(error: BaseException) -> Callable[..., None]:
    def link(*_: object) -> None:
        raise error

    return link


#: Why there is no hard link: the system has none, or the disk.
NO_LINKS = {
    "no such function": None,
    "no such operation": OSError(errno.EPERM, "Operation not permitted"),
    "not supported": OSError(errno.EOPNOTSUPP, "Operation not supported"),
    "refused": PermissionError(errno.EACCES, "Permission denied"),
    "too many": OSError(errno.EMLINK, "Too many links"),
}


@pytest.mark.parametrize("why", NO_LINKS)
def test_no_hard_link_is_needed(why: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    error = NO_LINKS[why]
    if error is None:
        monkeypatch.delattr(os, "link")
    else:
        monkeypatch.setattr(os, "link", no_links(error))
    fill(store, 3)
    assert [Store(store.file).get(key(number)) for number in range(3)] == [*map(value, range(3))]
    assert {path.name for path in store.file.parent.iterdir()} <= {
        f"answers.sqlite3{end}" for end in ("", "-wal", "-shm")
    }
    assert stat.S_IMODE(store.file.stat().st_mode) == 0o600


def test_without_hard_links_stores_that_begin_together_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "link")
    for turn in range(20):
        file = tmp_path / f"{turn}.sqlite3"
        start = threading.Barrier(8)
        stores = [Store(file) for _ in range(8)]  # as so many processes have

        def begin(
            number: int, stores: list[Store] = stores, start: threading.Barrier = start
        ) -> bool:
            start.wait()
            return stores[number].put(key(number), value(number))

        with ThreadPoolExecutor(8) as pool:
            kept = list(pool.map(begin, range(8)))
        found = [stores[0].get(key(number)) for number in range(8)]
        assert [each == value(number) for number, each in enumerate(found)] == kept == [True] * 8
        for store in stores:
            store.close()


def test_who_has_no_place_keeps_nothing_and_is_told_once() -> None:
    with pytest.warns(RuntimeWarning, match="the cache is not used: no place"):
        store = sqlite.open_disabled("no place")
    try:
        assert sqlite.open_disabled("no place") is store
        assert not store.put(key(1), value(1))
        assert store.get(key(1)) is None
    finally:
        sqlite._opened.pop(store.file)


def test_a_folder_that_was_there_keeps_its_mode(store: Store) -> None:
    store.file.parent.mkdir(mode=0o755)
    fill(store, 1)
    assert stat.S_IMODE(store.file.parent.stat().st_mode) == 0o755


def test_a_thousand_short_threads_leave_few_connections(store: Store) -> None:
    def work(number: int) -> None:
        store.put(key(number), value(number))
        assert store.get(key(number)) == value(number)

    before = len(os.listdir("/proc/self/fd"))
    for start in range(0, 1000, 10):
        threads = [threading.Thread(target=work, args=(start + i,)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(store._idle) <= sqlite.IDLE
    assert len(os.listdir("/proc/self/fd")) < before + 100


def test_threads_side_by_side_lose_nothing(store: Store) -> None:
    def work(worker: int) -> list[int]:
        return [
            number
            for number in range(worker * 100, worker * 100 + 100)
            if store.put(key(number), value(number)) and store.get(key(number)) != value(number)
        ]

    with ThreadPoolExecutor(8) as pool:
        assert [lost for worker in pool.map(work, range(8)) for lost in worker] == []
    store.close()
    assert all(store.get(key(number)) == value(number) for number in range(800))


def test_a_store_may_be_used_after_it_was_closed(store: Store) -> None:
    fill(store, 1)
    store.close()
    assert store.get(key(0)) == value(0)


def test_the_process_has_one_store_for_a_file_and_keeps_few_open(tmp_path: Path) -> None:
    first = sqlite.open_store(tmp_path / "0.sqlite3")
    assert sqlite.open_store(tmp_path / "0.sqlite3") is first
    for number in range(1, 40):
        fill(sqlite.open_store(tmp_path / f"{number}.sqlite3"), 1)
    assert sum(len(store._idle) for store in list(sqlite._stores)) <= sqlite.FILES + 1
    fill(first, 1)
    sqlite.close_all()


# -- size --------------------------------------------------------------------------------------


def test_past_the_cap_the_entries_unused_longest_go(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3", size_limit=2 * MEBIBYTE)
    fill(store, 1)
    with sqlite3.connect(store.file) as db:
        db.execute("UPDATE entries SET used = used - 100000")
    db.close()
    fill(store, 1)  # used again
    for number in range(1, 600):
        store.put(key(number), os.urandom(20000))  # what must wait for an eviction is written later
    store.close()
    store._maintenance._run()
    counted = inventory.stats(store.file)
    assert 0.8 * MEBIBYTE < counted.value_bytes < 2 * MEBIBYTE
    assert counted.file_bytes < 16 * MEBIBYTE
    assert store.get(key(599)) is not None
    store.close()


def test_a_value_larger_than_an_eighth_of_the_cache_is_not_kept(tmp_path: Path) -> None:
    store = Store(tmp_path / "a.sqlite3", size_limit=MEBIBYTE)
    assert not store.put(key(1), bytes(MEBIBYTE // 4))


def test_a_hit_is_noted_once_an_hour_and_not_at_once(store: Store) -> None:
    fill(store, 2)
    with contextlib.closing(sqlite3.connect(store.file)) as db:
        db.execute("UPDATE entries SET used = 0")
        db.commit()
        assert store.get(key(1)) == value(1)
        assert db.execute("SELECT max(used) FROM entries").fetchone() == (0,)
        store.close()
        assert sorted(used > 0 for (used,) in db.execute("SELECT used FROM entries")) == [0, 1]


# -- files that are not as they should be ------------------------------------------------------


def bad_folder_is_a_file(file: Path) -> None:
    file.parent.write_bytes(b"not a folder")


def bad_not_a_database(file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"these are the voyages of " * 1000)


def bad_other_program(file: Path) -> None:
    file.parent.mkdir()
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("CREATE TABLE entries (key, value)")


def bad_newer_schema(file: Path) -> None:
    store = Store(file)
    fill(store, 3)
    store.close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA user_version = 99")


def content_of(file: Path) -> bytes:
    return (file if file.exists() else file.parent).read_bytes()


BAD = [
    pytest.param(bad_folder_is_a_file, "Not a directory|File exists", id="the folder is a file"),
    pytest.param(bad_not_a_database, "not a database", id="no database"),
    pytest.param(bad_other_program, "another program", id="of another program"),
    pytest.param(bad_newer_schema, "schema 99", id="a newer schema"),
]


@pytest.mark.parametrize("spoil, reason", BAD)
def test_a_file_that_cannot_serve_is_warned_of_once_and_left_as_it_is(
    world: World, file: Path, spoil: Spoil, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(file)
    before = content_of(file)
    assert [world.ask()["cached"] for _ in range(3)] == [False, False, False]
    [record] = caplog.records
    assert str(file) in record.message
    assert re.search(reason, record.message)
    assert content_of(file) == before


def test_the_warning_is_a_warning_and_where_those_are_errors_a_log_entry(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad_not_a_database(file)
    with pytest.warns(RuntimeWarning, match="not a database"):
        Store(file).get(key(1))
    assert not caplog.records
    Store(file).get(key(1))
    assert "not a database" in caplog.text


def test_an_empty_file_becomes_a_cache(world: World, file: Path) -> None:
    file.parent.mkdir()
    file.touch()
    assert [world.ask()["cached"] for _ in range(2)] == [False, True]


def test_while_another_writes_reads_go_on_and_the_write_follows(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 1)
    monkeypatch.setattr(sqlite, "WRITE_WAIT", 0.1)
    with contextlib.closing(sqlite3.connect(store.file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        assert store.get(key(0)) == value(0)
        assert not store.put(key(1), value(1))  # not acknowledged, and not waited for
        assert store.get(key(1)) is None
        db.execute("ROLLBACK")
    store.close()
    assert store.get(key(1)) == value(1)


def test_on_an_event_loop_nothing_waits_for_a_lock(store: Store) -> None:
    fill(store, 1)
    store.close()  # its first write had sent somebody to look around, who may wait and sleep
    slept: list[float] = []

    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sqlite, "sleep", slept.append)
            assert not store.put(key(1), value(1))
            assert store.get(key(0)) == value(0)

    with contextlib.closing(sqlite3.connect(store.file, isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        store._maintenance._start = lambda: None  # type: ignore[method-assign]
        asyncio.run(main())
        db.execute("ROLLBACK")
    assert slept == []
    store.close()
    assert store.get(key(1)) == value(1)


def test_a_lock_of_a_moment_is_a_miss_and_no_reason_to_warn(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    fill(store, 1)
    store.close()
    with contextlib.closing(sqlite3.connect(store.file, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        assert [store.get(key(0)) for _ in range(3)] == [None] * 3
    assert store.get(key(0)) == value(0)
    assert not caplog.records


def test_processes_that_begin_together_make_one_cache(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.sqlite3"
    code = (
        "import sys\nfrom pathlib import Path\nfrom lmgateway._store.sqlite import Store\n"
        "from lmgateway._store.serialization import Key\nsys.stdin.read()\n"
        "store = Store(Path(sys.argv[1]))\nkey = Key(sys.argv[2].encode(), b'')\n"
        "print(store.get(key), store.put(key, b'1'), store.get(key))\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", code, str(file), str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(6)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
    assert {process.communicate()[0] for process in processes} == {"None True b'1'\n"}
    assert inventory.stats(file).entries == 6
    assert not [path for path in file.parent.iterdir() if path.name.endswith("-journal")]


def test_a_file_locked_for_good_is_warned_of_once(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "LOCK_WAIT", 0.05)
    monkeypatch.setattr(sqlite, "LOCKED_LONG", 0.0)
    fill(store, 1)
    store.close()
    monkeypatch.setattr(sqlite, "WRITE_WAIT", 0.1)
    with contextlib.closing(sqlite3.connect(store.file, isolation_level=None)) as db:
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        db.execute("UPDATE entries SET used = 1")
        for _ in range(3):
            assert store.get(key(0)) is None
            assert not store.put(key(1), value(1))
        store.close()
    assert len(caplog.records) == 1
    assert "locked" in caplog.text
    assert store.get(key(0)) == value(0)  # and it serves again


def test_a_full_disk_breaks_nothing(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    fill(store, 3)
    for number in range(7, 100):  # a new one each: the room of an old one would do for its next
        with store.connection() as db:  # one of those that there are: so again and again
            db.execute("PRAGMA max_page_count = 1")  # SQLite's own word for a full disk
        store.put(key(number), os.urandom(50000))
        if caplog.records:
            break
    assert store.get(key(2)) == value(2)
    assert len(caplog.records) == 1
    assert "full" in caplog.text


def test_a_read_only_file_is_warned_of_once() -> None:
    """In a process of its own, for root may write anything; its modules are there before."""
    code = """
import logging, os, sys
from pathlib import Path
from lmgateway._store.serialization import Key
from lmgateway._store.sqlite import Store
if os.getuid() == 0:
    os.setuid(65534)
store = Store(Path(sys.argv[1]))
print([store.put(Key(b"1", b"2"), b"3") for _ in range(3)])
print([store.get(Key(b"1", b"2")) for _ in range(3)])
"""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path is within one that is root's own
        file = Path(folder) / "a.sqlite3"
        store = Store(file)
        fill(store, 3)
        store.close()
        file.chmod(0o444)
        Path(folder).chmod(0o555)
        before = file.read_bytes()
        command = [sys.executable, "-c", code, str(file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.stdout == "[False, False, False]\n[None, None, None]\n", done.stderr
        assert done.stderr.count("is not used") == 1
        assert file.read_bytes() == before
        Path(folder).chmod(0o755)


def test_damage_is_a_miss_and_the_entry_is_written_anew(store: Store) -> None:
    fill(store, 1)
    store.close()
    data = store.file.read_bytes()
    store.file.write_bytes(data.replace(value(0)[5:15], b"0123456789"))
    assert store.get(key(0)) is None
    assert inventory.verify(store.file).damaged == 1
    assert store.put(key(0), value(0))
    assert store.get(key(0)) == value(0)


def test_rows_that_were_swapped_are_misses(store: Store) -> None:
    fill(store, 2)
    with contextlib.closing(sqlite3.connect(store.file)) as db:
        db.execute("UPDATE entries SET request = CASE id WHEN 1 THEN x'00' ELSE request END")
        db.execute("UPDATE entries SET request = ? WHERE id = 2", (key(0).request,))
        db.execute("UPDATE entries SET request = ? WHERE id = 1", (key(1).request,))
        db.commit()
    assert store.get(key(0)) is None
    assert store.get(key(1)) is None


@pytest.mark.parametrize("seed", range(30))
def test_32_bytes_overwritten_anywhere_give_no_wrong_answer(tmp_path: Path, seed: int) -> None:
    file = tmp_path / "a.sqlite3"
    store = Store(file)
    fill(store, 200)
    store.close()
    chance = random.Random(seed)
    with open(file, "r+b") as damaged:
        damaged.seek(chance.randrange(file.stat().st_size - 32))
        damaged.write(chance.randbytes(32))
    for number in range(200):
        assert store.get(key(number)) in (None, value(number))
    for number in range(190, 210):
        store.put(key(number), value(number))
        assert store.get(key(number)) in (None, value(number))
    store.close()


def bad_name_in_the_schema(file: Path) -> None:
    store = Store(file)
    fill(store, 3)
    store.close()
    with contextlib.closing(sqlite3.connect(file)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damaged = bytearray(file.read_bytes())
    damaged[damaged.index(b"entries_key")] = 0x80  # SQLite quotes it, and it is no UTF-8
    file.write_bytes(damaged)


def test_damage_that_sqlite_quotes_is_warned_of_once(
    world: World, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bad_name_in_the_schema(file)
    assert [world.ask()["cached"] for _ in range(3)] == [False, False, False]
    [record] = caplog.records
    assert "malformed database schema (\ufffdntries_key)" in record.message


def test_the_inventory_tells_of_damage_that_sqlite_quotes(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "a.sqlite3"
    bad_name_in_the_schema(file)
    for act in (inventory.stats, inventory.clear):
        with pytest.raises(errors.ConfigError, match=r"a\.sqlite3 cannot be used: malformed"):
            act(file)
    [problem] = inventory.verify(file).problems
    assert "malformed" in problem


def test_the_inventory_takes_a_folder_for_no_cache(tmp_path: Path) -> None:
    for act in (inventory.stats, inventory.clear, inventory.verify):
        with pytest.raises(errors.ConfigError, match="cannot be used"):
            act(tmp_path)


@pytest.mark.parametrize("number", ["'text'", "x'80'", "9223372036854775807"])
def test_numbers_that_damage_made_others_are_counted_and_evicted(
    tmp_path: Path, number: str
) -> None:
    store = Store(tmp_path / "a.sqlite3")
    fill(store, 300)
    store.close()
    with contextlib.closing(sqlite3.connect(store.file)) as db:
        db.execute(f"UPDATE entries SET used = {number}, size = {number}")
        db.commit()
    counted = inventory.stats(store.file)
    assert counted.entries == 300
    assert counted.oldest is None
    assert type(counted.value_bytes) is int
    store.size_limit = 1
    store._maintenance._run()
    assert inventory.stats(store.file).entries == 0
    store.close()


# -- processes ---------------------------------------------------------------------------------


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_no_connection_crosses_a_fork(store: Store) -> None:
    fill(store, 5)
    assert store._idle
    child = os.fork()
    if child == 0:
        good = not store._idle and store.get(key(3)) == value(3)
        good = good and store.put(key(50), value(50))
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get(key(50)) == value(50)
    assert store.put(key(51), value(51))


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_statement_that_runs_across_a_fork_costs_the_child_its_cache(store: Store) -> None:
    fill(store, 1)
    with store.connection():
        child = os.fork()
        if child == 0:
            os._exit(0 if store.get(key(0)) is None and not store.put(key(1), b"") else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get(key(0)) == value(0)


@needs_fork
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_no_statement_begins_while_a_fork_waits_for_another(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(store, 1)
    begun, forking, taken, forked = (threading.Event() for _ in range(4))

    def use_until_the_fork_waits() -> None:
        with store.connection():
            begun.set()
            forking.wait(10)

    def use_across_the_fork() -> None:
        with store.connection():
            taken.set()
            forked.wait(10)

    first = threading.Thread(target=use_until_the_fork_waits)
    second = threading.Thread(target=use_across_the_fork)

    def sleep(seconds: float) -> None:
        if not forking.is_set():
            second.start()
            taken.wait(0.05)  # it must not be
            forking.set()
            first.join()

    monkeypatch.setattr(sqlite, "sleep", sleep)
    first.start()
    begun.wait(10)
    child = os.fork()
    if child == 0:
        os._exit(0 if store.get(key(0)) == value(0) else 1)
    forked.set()
    second.join()
    assert taken.is_set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.get(key(0)) == value(0)


# -- inventory ---------------------------------------------------------------------------------


def test_stats_count_and_clear_leaves_nothing_legible(store: Store) -> None:
    fill(store, 10)
    counted = inventory.stats(store.file)
    assert (counted.entries, counted.value_bytes) == (10, sum(len(value(n)) for n in range(10)))
    assert inventory.clear(store.file) == 10
    assert inventory.stats(store.file).entries == 0
    legible = b"".join(path.read_bytes() for path in store.file.parent.iterdir())
    assert value(9)[1:33] not in legible
    assert store.get(key(1)) is None
    assert store.put(key(1), value(1))


def test_a_cache_that_is_not_there_is_empty_and_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "none" / "a.sqlite3"
    assert inventory.stats(file).entries == 0
    assert inventory.clear(file) == 0
    assert inventory.verify(file).sound
    assert not file.parent.exists()


def test_a_sound_cache_is_sound(store: Store) -> None:
    fill(store, 10)
    assert inventory.verify(store.file) == inventory.Verdict(10)


@pytest.mark.parametrize("spoil", [bad_not_a_database, bad_other_program, bad_newer_schema])
@pytest.mark.parametrize("act", [inventory.stats, inventory.clear, inventory.verify])
def test_what_is_no_cache_is_never_cleared(tmp_path: Path, spoil: Spoil, act: Spoil) -> None:
    file = tmp_path / "cache" / "a.sqlite3"
    spoil(file)
    before = file.read_bytes()
    with pytest.raises(errors.ConfigError, match=r"a\.sqlite3"):
        act(file)
    assert file.read_bytes() == before


# -- where -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path, variable, folder",
    [
        pytest.param(None, None, "home/.cache/lmgateway", id="the user's cache"),
        pytest.param("~/mine", None, "home/mine", id="the configuration"),
        pytest.param("~/mine", "~/yours", "home/yours", id="the environment"),
    ],
)
def test_where_the_cache_is(
    path: str | None,
    variable: str | None,
    folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable:
        monkeypatch.setenv("LMGATEWAY_CACHE_DIR", variable)
    assert CacheSettings(path).file.parent == tmp_path / folder
