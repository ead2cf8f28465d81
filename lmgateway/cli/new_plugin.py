"""``lmgateway new-plugin``: the files of a new provider plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("new-plugin")(new_plugin)


def new_plugin(
    name: Annotated[str, typer.Argument(help="The provider's name, as in get_lm('acme').")],
    into: Annotated[
        Path | None, typer.Option(help="The folder to write; lmgateway-NAME by default.")
    ] = None,
    wire: Annotated[
        str,
        typer.Option(
            metavar="openai|own",
            help="OpenAI's wire format, or one of the service's own: made up, to be replaced.",
        ),
    ] = "openai",
) -> None:
    """Write a provider plugin that installs, answers and passes its contract test."""
    from .._plugins.scaffold import write_plugin

    folder = write_plugin(name, into, wire=wire)
    print(f"{folder} holds a provider plugin. Next:")
    print(f"  pip install -e {folder} pytest && pytest {folder}")
