"""The processes of a run: the contenders' workers, and the service that they ask."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

__all__ = ["Worker", "serving"]

HERE = Path(__file__).resolve().parent


class Worker:
    """One contender's process.

    Args:
        python: The interpreter it runs in.
        name: Which contender it is.
        environment: Its variables; this process's by default.
        folder: Where it runs; where this process does by default.
    """

    def __init__(
        self,
        python: str,
        name: str,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self.seconds = 0.0
        self._process = subprocess.Popen(
            [python, str(HERE / "worker.py"), name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            cwd=folder,
        )

    def ask(self, **order: Any) -> dict[str, Any]:
        """Have it measure something."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        began = perf_counter()
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        answer = self._process.stdout.readline()
        self.seconds += perf_counter() - began
        return json.loads(answer) if answer else {"error": "it died"}

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


@contextmanager
def serving(python: str) -> Iterator[str]:
    """The address of a running service."""
    command = [python, str(HERE / "server.py")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.stdin.close()
        process.wait()
        process.stdout.close()
