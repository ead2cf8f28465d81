"""The real command in a process of its own, in a pipe or on a terminal, and plugins for it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PATIENCE = 30.0  # seconds until a process that says nothing has failed

PLUGIN = '''
import json

from lmgateway import hookimpl
from lmgateway.errors import InvalidRequestError
from lmgateway.types import AnswerChoice, Answer, Emit, Info, Sleep


class Plain:
    """Cannot stream, and refuses some prompts."""

    @staticmethod
    @hookimpl
    def lmgateway_info():
        return Info(default_model="plain", capabilities=frozenset({"messages"}))

    @staticmethod
    @hookimpl
    def lmgateway_complete(request):
        if "fail" in str(request.input):
            raise InvalidRequestError("this will\\nnot do", status=400)
        text = f"{len(request.messages or [0])} messages"
        return Answer(prompt=request.input, choices=[AnswerChoice(text=text, index=0)])


class Endless:
    """Streams a line and then dots, for ever."""

    @staticmethod
    @hookimpl
    def lmgateway_info():
        return Info(default_model="endless", capabilities=frozenset({"messages"}))

    @staticmethod
    @hookimpl
    def lmgateway_complete(request):
        return {}

    @staticmethod
    @hookimpl
    def lmgateway_stream(request):
        yield Emit(f"{len(request.messages or [0])} messages")
        while True:
            yield Emit(".")
            yield Sleep(0.01)


class Literal:
    """Streams all that it was told, as JSON, and fails halfway if asked to."""

    @staticmethod
    @hookimpl
    def lmgateway_info():
        return Info(default_model="literal", capabilities=frozenset({"messages"}))

    @staticmethod
    @hookimpl
    def lmgateway_complete(request):
        return {}

    @staticmethod
    @hookimpl
    def lmgateway_stream(request):
        told = [message["content"] for message in request.messages]
        yield Emit(text := json.dumps(told))
        if told[-1] == "fail":
            raise InvalidRequestError("not to its end", status=400)
        return Answer(prompt=request.input, choices=[AnswerChoice(text=text, index=0)])


class Rude:
    """Tries to repaint the terminal."""

    @staticmethod
    @hookimpl
    def lmgateway_info():
        return Info(default_model="rude")

    @staticmethod
    @hookimpl
    def lmgateway_complete(request):
        text = "\\x1b[2Jgone\\r\\n"
        return Answer(prompt=request.input, choices=[AnswerChoice(text=text, index=0)])


class Faulty:
    """Has a bug."""

    @staticmethod
    @hookimpl
    def lmgateway_info():
        return Info(default_model="faulty")

    @staticmethod
    @hookimpl
    def lmgateway_complete(request):
        raise ZeroDivisionError("a bug")
'''


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of a machine where nothing is configured, with a few odd plugins installed."""
    site = tmp_path / "site"
    metadata = site / "odd_plugins-1.2.dist-info"
    metadata.mkdir(parents=True)
    (site / "odd_plugins.py").write_text(PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-plugins\nVersion: 1.2\n")
    (metadata / "entry_points.txt").write_text(
        "[lmgateway.providers]\n"
        "plain = odd_plugins:Plain\nendless = odd_plugins:Endless\n"
        "literal = odd_plugins:Literal\nrude = odd_plugins:Rude\n"
        "faulty = odd_plugins:Faulty\nbroken = no_such_module\n"
    )
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LMGATEWAY_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": str(site),
        "PYTHONUTF8": "1",
        "TERM": "xterm",
    }


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(environment: dict[str, str], tmp_path: Path) -> Run:
    """Run the command in a pipe: ``run("ask", "hi", stdin="...")``."""

    def run(
        *arguments: str, stdin: str | bytes | None = None, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        done = subprocess.run(
            [sys.executable, "-m", "lmgateway", *arguments],
            input=given,
            stdin=subprocess.DEVNULL if given is None else None,
            capture_output=True,
            env={**environment, **variables},
            cwd=tmp_path,
            timeout=PATIENCE,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
        )

    return run


class Terminal:
    """The command on a terminal of its own, stderr included."""

    def __init__(
        self, arguments: tuple[str, ...], env: dict[str, str], cwd: Path, columns: int
    ) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "lmgateway", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=env,
            cwd=cwd,
            start_new_session=True,
            # A session's first terminal to be opened controls it: then Ctrl-C is a signal.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.shown = ""

    def read_until(self, pattern: str, *, start: int = 0) -> str:
        """What is shown from ``start`` on, once it matches a pattern."""
        if not self._shows(pattern, start, PATIENCE):
            pytest.fail(f"no {pattern!r} in {self.shown[start:]!r}")
        return self.shown[start:]

    def press_until(self, keys: str, pattern: str) -> str:
        """Press keys until a pattern is shown.

        A Ctrl-C that comes just before readline waits for a key is noticed at the next one only.
        """
        start = len(self.shown)
        for _ in range(3):
            self.type(keys)
            if self._shows(pattern, start, PATIENCE / 3):
                return self.shown[start:]
        pytest.fail(f"no {pattern!r} in {self.shown[start:]!r}")

    def _shows(self, pattern: str, start: int, patience: float) -> bool:
        end = time.monotonic() + patience
        while not re.search(pattern, self.shown[start:]):
            if not self._read(end - time.monotonic()):
                return False
        return True

    def _read(self, timeout: float) -> bool:
        ready = select.poll()  # select() knows no file above 1023, and a test run may have more
        ready.register(self._master, select.POLLIN)
        if not ready.poll(max(0, timeout) * 1000):
            return False
        try:
            data = os.read(self._master, 4096)
        except OSError:  # Linux's way to tell of the end
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)

    def type(self, keys: str) -> int:
        """Type, and tell where what is shown from then on begins."""
        start = len(self.shown)
        os.write(self._master, keys.encode())
        return start

    def interrupt(self) -> int:
        """Press Ctrl-C, and give the exit status.

        One that comes in the instant before a system call blocks is noticed when that returns, as
        in any Python program: so whoever sees nothing happen presses again.
        """
        self.type("\x03")
        end = time.monotonic() + PATIENCE / 3
        while self._read(end - time.monotonic()):
            pass
        if time.monotonic() >= end:
            self.type("\x03")
        status = self.wait()
        self.shown = self.shown.replace("^C^C", "^C")
        return status

    def wait(self) -> int:
        """The exit status; everything shown has been read then."""
        end = time.monotonic() + PATIENCE
        while self._read(end - time.monotonic()):
            pass
        return self._process.wait(PATIENCE)

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
        os.close(self._master)


Open = Callable[..., Terminal]


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Open]:
    """Open the command on a terminal: ``terminal("chat", "-m", "echo")``."""
    opened: list[Terminal] = []

    def terminal(*arguments: str, columns: int = 80, **variables: str) -> Terminal:
        opened.append(Terminal(arguments, {**environment, **variables}, tmp_path, columns))
        return opened[-1]

    yield terminal
    for each in opened:
        each.close()
