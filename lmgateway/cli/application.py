"""The application: all commands, and how one of them is run."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, TextIO

import typer

from .output import leave_line, report, say

__all__ = ["build", "run"]

#: Modules beside this one, each with a ``register(app)``, in the order that help shows them.
COMMANDS = (
    "ask", "chat", "batch", "embed", "providers", "models", "config", "doctor", "cache",
    "new_plugin",
)  # fmt: skip

INTERRUPTED, UNREAD = 130, 141  # as a shell tells of SIGINT and SIGPIPE


def build() -> typer.Typer:
    """The application with its commands."""
    app = typer.Typer(
        callback=_root,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
    )
    for name in COMMANDS:
        import_module(f"{__package__}.{name}").register(app)
    return app


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; returns the exit status."""
    context: Any = None
    _prepare_streams()
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            app = build()
            if "_LMGATEWAY_COMPLETE" in os.environ:  # a shell asks what may be typed next
                app(prog_name="lmgateway")
            command = typer.main.get_command(app)
            with command.make_context("lmgateway", list(arguments) or ["--help"]) as context:
                command.invoke(context)
            sys.stdout.flush()
            return 0
        except typer.Exit as end:
            return end.exit_code
        except KeyboardInterrupt:
            leave_line()
            return INTERRUPTED
        except BrokenPipeError:
            return UNREAD
        except Exception as error:
            return report(error, in_full=bool(context and context.params.get("debug")))
        finally:
            _flush_streams()


def _show_version(wanted: bool) -> None:
    if wanted:
        from .._plugins.distributions import own_version

        print(f"lmgateway {own_version() or '(its metadata are missing)'}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True),
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
) -> None:
    """One call, any language-model provider."""


def _prepare_streams() -> None:
    """Replace closed streams, and make every character printable."""
    if sys.stdin is None:  # closed by whoever started the process: there is nothing to read
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started the process
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):  # an answer may hold what its encoding does not
            stream.reconfigure(errors="replace")


def _flush_streams() -> None:
    """Flush, and drop what cannot be written: else the interpreter complains when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, stream.fileno())
                os.close(nowhere)


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    say(f"warning: {message}")
