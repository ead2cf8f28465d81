"""``lmgateway cache``: shows, checks and empties the cache."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import typer

from .models import AsJSON
from .output import print_json

__all__ = ["register"]

app = typer.Typer(help="Look at the cache of answers, or empty it.", rich_markup_mode=None)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="cache")


def _file() -> Path:
    from .._config.names import configuration
    from .._store.settings import CacheSettings

    table = configuration().cache
    return CacheSettings(**{name: each.value for name, each in table.items()}).file


@app.command()
def stats(as_json: AsJSON = False) -> None:
    """How many answers there are, and what room they take."""
    from .._store import inventory

    held = inventory.stats(_file())
    if as_json:
        print_json(asdict(held))
        return
    print(f"file     {held.file}{'' if held.file.exists() else ' (not there yet)'}")
    print(f"answers  {held.entries}")
    print(
        f"size     {_readable(held.file_bytes)} on disk, {_readable(held.value_bytes)} of answers"
    )
    if held.oldest is not None:
        print(f"oldest   last used {_date(held.oldest)}")


@app.command()
def clear(as_json: AsJSON = False) -> None:
    """Remove every answer, from the disk too."""
    from .._store import inventory

    file = _file()
    removed = inventory.clear(file)
    if as_json:
        print_json({"file": file, "removed": removed})
    else:
        print(f"removed {removed} answers from {file}")


@app.command()
def verify(as_json: AsJSON = False) -> None:
    """Read every answer; the exit status is 1 if anything is damaged."""
    from .._store import inventory

    file = _file()
    verdict = inventory.verify(file)
    if as_json:
        print_json({"file": file, **asdict(verdict), "sound": verdict.sound})
    else:
        print(f"{verdict.entries} answers read, {verdict.damaged} damaged: {file}")
        for problem in verdict.problems:
            print(f"SQLite: {problem}")
        if not verdict.sound:
            print("what is damaged is never given out; lmgateway cache clear begins anew")
    if not verdict.sound:
        raise typer.Exit(1)


def _date(seconds: int) -> str:
    from time import localtime, strftime

    return strftime("%Y-%m-%d %H:00", localtime(seconds))


def _readable(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
