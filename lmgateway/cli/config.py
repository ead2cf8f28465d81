"""``lmgateway config``: the values that are used, and where each came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .models import AsJSON, ConfigPath, Name, open_anyhow
from .output import print_json, print_table, say

if TYPE_CHECKING:
    from .._config.provenance import Provenance
    from .effective import Row

__all__ = ["describe", "effective", "register", "write_starter"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(config)


def config(
    name: Name = None,
    config: ConfigPath = None,
    as_json: AsJSON = False,
    init: Annotated[
        bool, typer.Option("--init", help="Write a commented lmgateway.toml to begin with.")
    ] = False,
) -> None:
    """Show the effective settings of a name, each with its origin; secrets are masked."""
    if init:
        print(f"wrote {write_starter()}")
        return
    described = describe(config)
    name = name or described["default"]
    rows = effective(name, config=config) if name else []
    if as_json:
        print_json({**described, "name": name, "values": [row.as_json() for row in rows]})
        return
    found = described["config"]
    print(f"configuration: {found['path']} ({found['why']})" if found else "configuration: none")
    for kind in ("models", "providers"):
        if described[kind]:
            print(f"{kind}: {', '.join(described[kind])}")
    if name:
        cells = [(row.name, show_value(row.value), show_origin(row.origin)) for row in rows]
        print_table(("NAME", "VALUE", "ORIGIN"), cells)
    else:
        say("there is no default; name a model, or begin a file with: lmgateway config --init")


def describe(path: str | None = None) -> dict[str, Any]:
    """The configuration file that is used, and the names in it, as JSON."""
    from .._config.files import find
    from .._config.names import configuration, default_name
    from .._config.provenance import Environment

    environment = Environment()
    found, configured = find(path, environment), configuration(path, environment)
    default = default_name(configured, environment)
    return {
        "config": {"path": found.path, "why": found.why} if found else None,
        "default": default.value if default else None,
        "models": sorted(configured.models),
        "providers": sorted(configured.providers),
    }


def effective(name: str | None = None, **keywords: Any) -> list[Row]:
    """Every value that ``get_lm(name, **keywords)`` would work with; a model need not be named."""
    from .effective import effective as rows

    with open_anyhow(name, **keywords) as lm:
        return rows(lm)


def show_value(value: Any) -> str:
    """A value in a cell."""
    if value is None:
        return "-"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def show_origin(origin: Provenance) -> str:
    """Where a value came from, in a cell."""
    return f"{origin.kind}: {origin.place}" if origin.place else origin.kind


def write_starter(folder: Path | None = None) -> Path:
    """Write a commented ``lmgateway.toml``; raises ConfigError where there is one."""
    from .._config.files import FILE_NAME
    from .._guard.paths import absolute
    from ..errors import ConfigError

    path = Path(absolute(folder or ".")) / FILE_NAME
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(STARTER)
    except FileExistsError:
        raise ConfigError(f"{path} is there already and was not touched") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror}") from None
    return path


STARTER = """\
# lmgateway reads the first file it finds, and no other: the one that LMGATEWAY_CONFIG names, then
# upwards from the working directory, then the user's configuration directory.
# `lmgateway config` shows which values count and where each came from; `lmgateway doctor` tries.

# What get_lm() stands for. LMGATEWAY_MODEL=other goes before it.
default = "trial"

# A model under a name of your own: get_lm("trial"). Switch provider here and nowhere else.
[models.trial]
provider = "echo"

#[models.fast]
#provider = "groq"
#model = "llama-3.1-8b-instant"
#params = { temperature = 0.0, max_tokens = 512 }
#timeout = 30
#retries = 2
#fallbacks = ["trial"]

#[models.favourite]
#alias = "fast"

# A provider: its settings for all its models. Keys never stand in this file: they are read from
# the environment or from .env, as GROQ_API_KEY, or from the variable that api_key_env names.
#[providers.groq]
#api_key_env = "MY_GROQ_KEY"

# Any host that speaks OpenAI's wire format, under a name of your own.
#[providers.company]
#plugin = "openai"
#api_base = "https://llm.company.example/v1"
#api_key_env = "COMPANY_LLM_KEY"

# Answers that are kept.
#[cache]
#path = "~/.cache/lmgateway"
#enabled = true
#size_mb = 1024
#recordings = ["recordings.jsonl"]

# What a provider may be asked for: requests and tokens a minute, exchanges at the same time.
#[limits.groq]
#rpm = 600
#tpm = 100_000
#in_flight = 8
"""
