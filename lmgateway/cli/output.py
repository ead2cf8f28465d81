"""Output: answers, JSON and tables on stdout, and lines on stderr."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, InputError, LMGatewayError, UnknownProviderError, UnsupportedError

if TYPE_CHECKING:
    from ..types import Completion

__all__ = ["Printout", "leave_line", "print_json", "print_table", "remark", "report", "say"]

FAILED, MISUSED = 1, 2
_MISUSES = (InputError, UnsupportedError, ConfigError, UnknownProviderError)

# An answer may hold escape sequences that would repaint or reprogram the reader's terminal.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def _harmless(text: str) -> str:
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r", ""))


def say(text: str) -> None:
    """Print one line on stderr; do nothing if it cannot be written."""
    with suppress(OSError):
        print("lmgateway:", _harmless(" ".join(text.split())), file=sys.stderr, flush=True)


def leave_line() -> None:
    """Begin a new line on the terminal after the ``^C`` of a Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if stream.isatty():
            print(file=stream, flush=True)
            break


def report(error: Exception, *, in_full: bool = False) -> int:
    """Print an error on stderr, in one line or with its traceback.

    Returns the exit status for it: 2 if the user can mend the cause, 1 for everything else.
    """
    if in_full:
        import traceback

        traceback.print_exception(error)
    if hasattr(error, "format_message"):  # typer's own, of a class that moved between versions
        place = getattr(error, "ctx", None)
        command = place.command_path if place else "lmgateway"
        say(f"{error.format_message().rstrip('.')}; see {command} --help")
        return MISUSED
    advice = ""
    if not isinstance(error, LMGatewayError | OSError):
        advice = " (not foreseen; lmgateway --debug ... shows where)"
    say(f"{type(error).__name__}: {error}{advice}")
    return MISUSED if isinstance(error, _MISUSES) else FAILED


class Printout:
    """Prints an answer piece by piece; a terminal gets no control characters."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._in_line = False

    def write(self, text: str) -> None:
        """Show a piece at once."""
        self._show(_harmless(text) if self._terminal else text)

    def finish(self) -> None:
        """End the last line of a whole answer with a newline."""
        if self._in_line:
            self._show("\n")

    def break_off(self) -> None:
        """End the line of an answer that was cut short; a pipe gets nothing more."""
        if self._terminal:
            self.finish()

    def _show(self, text: str) -> None:
        if text:
            sys.stdout.write(text)
            sys.stdout.flush()
            self._in_line = not text.endswith("\n")


def remark(completion: Completion) -> None:
    """Print on stderr what the text of an answer does not show."""
    for choice in completion["choices"]:
        if choice.get("finish_reason") == "length":
            say("the answer was cut short: it reached max_tokens or the end of the context")
        if choice.get("refusal"):
            say(f"the model refused: {choice['refusal']}")
        if choice.get("tool_calls"):
            say("the answer calls tools: --json shows them")
    for warning in completion.get("warnings", ()):
        say(f"{warning['kind']}: {warning['name']}: {warning['detail']}")


def print_json(value: Any) -> None:
    """Pretty JSON on stdout, in characters that it can take."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    text = json.dumps(value, indent=2, ensure_ascii=not unicode, default=str)
    print(_harmless(text) if sys.stdout.isatty() else text)


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns: fitted into a terminal, or aligned and never wrapped in a pipe."""
    cells = [[_harmless(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_fitted(headings, cells)
        return
    lines = [list(headings), *cells]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(padded).rstrip())


def _print_fitted(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))  # Text: a cell is no markup
    Console().print(table)
