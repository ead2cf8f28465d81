"""Systems without POSIX's extras: what is not there is not needed, or is said to be missing."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from support.chat_server import ChatServer, serve_chat

from lmgateway.batch import journal

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
FIRST_PROGRAM = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]

#: What Windows does not have. os.link is there, but not for every disk.
MODULES = ["fcntl", "grp", "nis", "pty", "pwd", "resource", "spwd", "syslog", "termios", "tty"]
NAMES = {
    "os": """
        O_ASYNC O_CLOEXEC O_DIRECT O_DIRECTORY O_DSYNC O_EVTONLY O_NDELAY O_NOATIME O_NOCTTY
        O_NOFOLLOW O_NONBLOCK O_PATH O_RSYNC O_SYNC O_TMPFILE WNOHANG chown chroot confstr
        ctermid eventfd fchdir fchmod fchown fdatasync fork forkpty fpathconf fstatvfs getegid
        geteuid getgid
        getgroups getloadavg getpgid getpgrp getpriority getresuid getsid getuid initgroups killpg
        lchown link lockf major memfd_create mkfifo mknod nice openpty pathconf pipe2 posix_fadvise
        posix_fallocate posix_spawn pread preadv pwrite pwritev readv register_at_fork
        sched_getaffinity sched_yield sendfile setegid seteuid setgid setpgid setpriority setsid
        setuid splice statvfs sync sysconf tcgetpgrp ttyname uname wait wait3 wait4 waitid writev
    """,
    "select": "PIPE_BUF devpoll epoll kevent kqueue poll",
    "signal": """
        SIGALRM SIGBUS SIGCHLD SIGCONT SIGHUP SIGIO SIGKILL SIGPIPE SIGPROF SIGQUIT SIGSTOP SIGTSTP
        SIGTTIN SIGTTOU SIGUSR1 SIGUSR2 SIGWINCH SIGXCPU SIGXFSZ alarm getitimer pause
        pidfd_send_signal pthread_kill pthread_sigmask setitimer sigpending sigtimedwait sigwait
        sigwaitinfo
    """,
    "socket": """
        AF_UNIX CMSG_LEN MSG_CMSG_CLOEXEC MSG_DONTWAIT MSG_ERRQUEUE MSG_NOSIGNAL SCM_RIGHTS
        SOCK_CLOEXEC SOCK_NONBLOCK SO_REUSEPORT TCP_CORK TCP_DEFER_ACCEPT TCP_INFO TCP_KEEPCNT
        TCP_KEEPIDLE TCP_KEEPINTVL TCP_QUICKACK TCP_USER_TIMEOUT recv_fds send_fds
    """,
    "time": "clock_getres clock_gettime clock_settime pthread_getcpuclockid tzset",
}

#: Runs before anything of ours. What others need of it, they have imported.
TAKE_AWAY = f"""
import asyncio, functools, importlib, platformdirs, shutil, socket, ssl, subprocess, sys, tempfile

socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)
for module in {MODULES!r}:
    sys.modules[module] = None
for module, names in {NAMES!r}.items():
    for name in names.split():
        vars(importlib.import_module(module)).pop(name, None)
"""


@pytest.fixture(scope="module")
def service() -> Iterator[ChatServer]:
    with serve_chat("--keep") as service:
        yield service


@pytest.fixture
def run_bare(service: ChatServer, tmp_path: Path) -> Callable[..., str]:
    """Run a program on such a system; what it prints. Arguments are those of the program."""

    def run(program: str, *arguments: str, ignore: str = "no warning") -> str:
        variables = {"OPENAI_API_BASE": service.url, "LMGATEWAY_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", TAKE_AWAY + textwrap.dedent(program), *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, **variables},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        left = [line for line in done.stderr.splitlines() if ignore not in line]
        assert not left, done.stderr
        return done.stdout

    return run


def test_what_is_taken_away_is_gone(run_bare: Callable[..., str]) -> None:
    printed = run_bare(
        "import os, select\n"
        "print([hasattr(os, name) for name in ('fork', 'link', 'O_CLOEXEC', 'getuid')])\n"
        "print(hasattr(select, 'poll'))\n"
        "try: import fcntl\nexcept ImportError: print('no fcntl')\n"
    )
    assert printed == "[False, False, False, False]\nFalse\nno fcntl\n"


def test_the_first_program_of_the_readme(run_bare: Callable[..., str]) -> None:
    recording = ROOT / "tests" / "data" / "readme.jsonl"
    program = textwrap.indent(FIRST_PROGRAM, "    ")
    printed = run_bare(
        f"import lmgateway\nwith lmgateway.replay({str(recording)!r}):\n{program}\n"
        "    print(answer['choices'][0]['text'])"
    )
    assert "Paris" in printed


CACHED = {
    "sync": "ask = lambda lm: lm.complete('PROMPT')",
    "sync in threads": (
        "from concurrent.futures import ThreadPoolExecutor as Pool\n"
        "ask = lambda lm: list(Pool(8).map(lm.complete, ['PROMPT'] * 8))[-1]"
    ),
    "over aiohttp": "import asyncio; ask = lambda lm: asyncio.run(lm.acomplete('PROMPT'))",
    "over threads": (
        "import asyncio\n"
        "ask = lambda lm: asyncio.run(lm.copy(transport='threads').acomplete('PROMPT'))"
    ),
}


@pytest.mark.loopback
@pytest.mark.parametrize("way", CACHED)
def test_the_second_call_is_answered_from_the_cache(
    way: str, service: ChatServer, run_bare: Callable[..., str], tmp_path: Path
) -> None:
    program = (
        CACHED[way].replace("PROMPT", way)
        + """
from lmgateway import get_lm
lm = get_lm("openai", model="m", temperature=0)
first, second = ask(lm), ask(lm)
print(first["choices"][0]["text"], second["cached"])
"""
    )
    assert run_bare(program) == f"{way} True\n"
    assert run_bare(program) == f"{way} True\n"  # the file is as good to another process
    assert service.stats()["prompts"][way] == 1
    assert (tmp_path / "cache" / "answers.sqlite3").stat().st_mode & 0o077 == 0


@pytest.mark.loopback
def test_without_sqlite_calls_are_answered_uncached(
    service: ChatServer, run_bare: Callable[..., str]
) -> None:
    program = """
    import sys, warnings
    sys.modules["_sqlite3"] = None
    from lmgateway import CacheMissError, get_lm
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for retries in (0, 1):
            lm = get_lm("openai", model="m", temperature=0, retries=retries)
            print(lm("no SQLite"), len(lm.batch(["no SQLite"] * 2, concurrency=2)))
        try:
            lm("no SQLite", cache="only")
        except CacheMissError:
            print("a miss")
    print([str(each.message) for each in caught])
    """
    told = "the cache is not used: this Python was built without SQLite (import sqlite3 fails)"
    assert run_bare(program) == f"['no SQLite'] 2\n['no SQLite'] 2\na miss\n{[told]}\n"


@pytest.mark.loopback
def test_what_is_recorded_is_replayed(service: ChatServer, run_bare: Callable[..., str]) -> None:
    program = """
    import lmgateway
    lm = lmgateway.get_lm("openai", model="m")
    with lmgateway.record("recorded.jsonl"):
        lm("to record")
    with lmgateway.replay("recorded.jsonl"):
        print(lm("to record"))
    """
    assert run_bare(program) == "['to record']\n"
    assert service.stats()["prompts"]["to record"] == 1


@pytest.mark.loopback
def test_a_batch_is_written_and_resumed(service: ChatServer, run_bare: Callable[..., str]) -> None:
    program = """
    import sys, warnings
    from lmgateway.batch import process_batch, run, status
    warnings.filterwarnings("ignore", "this system locks no files")
    lm = {"model": "m", "cache": False}
    rows = [{"custom_id": n, "prompt": f"row {n}"} for n in sys.argv[1]]
    print(run(rows, "out.jsonl", "openai", errors="err.jsonl", **lm).skipped)
    print(status("out.jsonl").running, len(process_batch(rows[:1], "openai", **lm)))
    """
    assert run_bare(program, "ab") == "0\nFalse 1\n"
    assert run_bare(program, "abcd") == "2\nFalse 1\n"
    prompts = service.stats()["prompts"]
    assert [prompts[f"row {name}"] for name in "abcd"] == [3, 1, 1, 1]  # a: by process_batch too
    text = Path("out.jsonl").read_bytes()
    assert b"\r" not in text
    assert sorted(json.loads(line)["custom_id"] for line in text.splitlines()) == [*"abcd"]


def test_a_lock_that_the_system_lacks_is_told(run_bare: Callable[..., str]) -> None:
    printed = run_bare("""
    import os, warnings
    from lmgateway.batch import journal
    file = os.open("locked", os.O_RDWR | os.O_CREAT)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        journal.lock(file)
    print(journal.is_locked(file), *[each.message for each in caught])
    """)
    assert printed.startswith("False this system locks no files")


CONFIGURED = """
default = "mine"
[models.mine]
provider = "company"
model = "m"
params = { temperature = 0.0 }
[providers.company]
plugin = "openai"
"""


@pytest.mark.loopback
def test_configuration_and_dotenv_are_read(
    service: ChatServer, run_bare: Callable[..., str]
) -> None:
    Path("lmgateway.toml").write_text(CONFIGURED)
    Path(".env").write_text(f"COMPANY_API_KEY=sk-1\nCOMPANY_API_BASE={service.url}\n")
    assert run_bare("import lmgateway; print(lmgateway.get_lm()('configured'))") == (
        "['configured']\n"
    )


COMMANDS = {
    "ask": (("ask", "-m", "openai/m", "asked"), "asked"),
    "ask --json": (("ask", "-m", "echo", "--json", "asked"), '"asked"'),
    "batch run": (("batch", "run", "-m", "echo", "in.jsonl", "-"), '"custom_id": "1"'),
    "version": (("--version",), "lmgateway "),
    "providers": (("providers",), "echo"),
    "config": (("config", "openai/m"), "api_base"),
    "doctor": (("doctor", "openai/m"), "ok    call: m answered"),
    "cache stats": (("cache", "stats"), "answers"),
    "new-plugin": (("new-plugin", "mine"), "lmgateway-mine"),
}


@pytest.mark.loopback
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command(command: str, run_bare: Callable[..., str]) -> None:
    Path("in.jsonl").write_text('{"custom_id": "1", "prompt": "one"}\n')
    arguments, expected = COMMANDS[command]
    program = "import sys; from lmgateway.cli import main; sys.exit(main())"
    assert expected in run_bare(program, *arguments, ignore="lmgateway: 1 rows answered")


def test_the_plugins_load(run_bare: Callable[..., str]) -> None:
    names = ["anthropic", "anyscale", "echo", "local", "openai"]
    printed = run_bare(f"""
    import lmgateway
    for name in {names!r}:
        print(lmgateway.get_lm(name, model="m").provider)
    """)
    assert printed.split() == names


# -- what Windows has instead ----------------------------------------------------------------------


class Msvcrt(SimpleNamespace):
    """Windows' own locks, on those of this system: of one byte, at the file's position."""

    LK_NBLCK, LK_UNLCK = 2, 0

    @staticmethod
    def locking(file: int, mode: int, size: int) -> None:
        import fcntl

        place = os.lseek(file, 0, os.SEEK_CUR)
        assert place >= os.fstat(file).st_size, "what is locked there cannot be read"
        kinds = {Msvcrt.LK_NBLCK: fcntl.LOCK_EX | fcntl.LOCK_NB, Msvcrt.LK_UNLCK: fcntl.LOCK_UN}
        fcntl.lockf(file, kinds[mode], size, place)


def test_windows_own_locks_are_used_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setitem(sys.modules, "msvcrt", Msvcrt())  # type: ignore[arg-type]
    spec = importlib.util.spec_from_file_location(
        "lmgateway.batch.journal_of_windows", journal.__file__
    )
    assert spec is not None
    assert spec.loader is not None
    there: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(there)
    monkeypatch.undo()
    file = os.open(tmp_path / "locked", os.O_RDWR | os.O_CREAT)
    try:
        assert not there.is_locked(file)
        there.lock(file)
        monkeypatch.setattr(there, "LOCK_SECONDS", 0.02)
        child = os.fork()  # such locks are of a process
        if not child:
            try:
                there.lock(file)
            except there.AlreadyLockedError:
                os._exit(7 if there.is_locked(file) else 8)
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    finally:
        os.close(file)
