"""Arguments: the options that commands share, and how prompts and schemas are read."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import InputError, UnknownProviderError
from .models import ConfigPath, complete_names

if TYPE_CHECKING:
    from ..lm import LM

__all__ = ["ConfigPath", "Model", "Params", "System"]
__all__ += ["open_lm", "parse_params", "read_prompt", "read_schema", "typed_command"]

LARGEST_SCHEMA = 2**24
DEFAULT = "local"  # needs neither a key nor a network

_SECRET = re.compile(
    r"^((?:--param=|-p)?\w*(?:(?<!cache_)key|token(?!s)|secret|password|headers)\w*=).*",
    re.I | re.S,
)


Model = Annotated[
    str | None,
    typer.Option(
        "-m",
        "--model",
        metavar="NAME",
        help="A provider, provider/model, or a name from lmgateway.toml; without it the "
        f"configuration's default, or {DEFAULT}.",
        autocompletion=complete_names,
    ),
]
System = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="A system text for every turn.")
]
Params = Annotated[
    list[str] | None,
    typer.Option(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        help="Anything get_lm takes, such as temperature=0; the value is JSON, or else a text. "
        "May be repeated.",
    ),
]


def open_lm(
    name: str | None,
    *,
    params: list[str] | dict[str, Any] | None,
    system: str | None,
    config: str | None,
) -> LM:
    """The LM that the options ask for."""
    from ..lm import get_lm

    keywords = dict(params) if isinstance(params, dict) else parse_params(params or [])
    if system is not None:
        keywords["system"] = system
    if config is not None:
        keywords["config"] = config
    if name is not None or _has_default(keywords.get("config")):
        return get_lm(name, **keywords)
    try:
        return get_lm(DEFAULT, **keywords)
    except UnknownProviderError as error:
        raise error.advise("or name another model with -m") from None


def _has_default(config: str | None) -> bool:
    from .._config.names import configuration, default_name
    from .._config.provenance import Environment

    environment = Environment()
    return default_name(configuration(config, environment), environment) is not None


def parse_params(params: list[str]) -> dict[str, Any]:
    """What the options ``--param`` say; raises InputError for one that says nothing."""
    parsed: dict[str, Any] = {}
    for param in params:
        name, equals, text = param.partition("=")
        name = name.strip().replace("-", "_")
        if not (equals and name.isidentifier()):
            raise InputError(f"--param takes NAME=VALUE, as in temperature=0, not {param!r:.80}")
        if name in ("name", "system"):
            raise InputError(f"give {'-m' if name == 'name' else '--system'}, not --param {name}=")
        try:
            parsed[name] = json.loads(text)
        except (ValueError, RecursionError):
            parsed[name] = text
    return parsed


def read_prompt(argument: str | None) -> str:
    """The prompt: the argument, the text that is piped in, or both with a blank line between them.

    Raises InputError where there is neither.
    """
    parts = [argument] if argument not in (None, "-") else []
    if argument == "-" or _is_piped(patient=argument is None):
        parts += filter(None, [_read_stdin()])
    if not any(part and part.strip() for part in parts):
        raise InputError('give a prompt: lmgateway ask "...", or pipe one in')
    return "\n\n".join(part for part in parts if part)


def _is_piped(*, patient: bool) -> bool:
    """Whether a text is piped in.

    Where a prompt was given too, only a file or a pipe is read. Any other stdin, such as a
    service's socket, may never end.
    """
    if sys.stdin.isatty():
        return False
    if patient:
        return True
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _read_stdin() -> str:
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"stdin is not UTF-8 text (at byte {error.start}); convert it first, with iconv say"
        ) from None


def read_schema(path: Path) -> dict[str, Any]:
    """A JSON schema from a file; raises InputError for anything else."""
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(LARGEST_SCHEMA + 1)  # a device may have no end
        schema = json.loads(text) if len(text) <= LARGEST_SCHEMA else None
    except OSError as error:
        raise InputError(f"the schema {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"the schema {path} is not JSON: {error}") from None
    if not isinstance(schema, dict):
        raise InputError(f"the schema {path} must be a JSON object")
    return schema


def typed_command(*without: str) -> str:
    """The command as it was typed, with a gap for whatever may be a secret.

    Args:
        without: Arguments that were meant for one run.
    """
    typed = (_SECRET.sub(r"\1...", each) for each in sys.argv[1:] if each not in without)
    return shlex.join(["lmgateway", *typed])
