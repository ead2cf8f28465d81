"""``lmgateway providers``: the installed providers, known from their metadata alone."""

from __future__ import annotations

import typer

from .models import AsJSON
from .output import print_json, print_table

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(providers)


def providers(as_json: AsJSON = False) -> None:
    """List the installed providers; no plugin is loaded."""
    from .._plugins.registry import providers as installed

    rows = [(row.name, row.distribution, row.version) for row in installed()]
    if as_json:
        names = ("name", "distribution", "version")
        print_json([dict(zip(names, row, strict=True)) for row in rows])
    else:
        print_table(("PROVIDER", "DISTRIBUTION", "VERSION"), rows)
