"""``lmgateway embed``: makes a file of vectors of a file of texts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError
from .arguments import ConfigPath, Model, Params, open_lm, parse_params, typed_command
from .output import say

if TYPE_CHECKING:
    from .._index.run import Summary

__all__ = ["register"]

INTERRUPTED = 130


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(embed)


def embed(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="Lines of a .txt, or rows of JSON lines, JSON, CSV or Parquet; all but Parquet "
            "may be compressed (.gz, .zst).",
        ),
    ],
    model: Model = None,
    to: Annotated[
        str | None,
        typer.Option(
            metavar="OUTPUT",
            help="Where the vectors go: a file that ends in .npy, .jsonl or .parquet, or one of "
            "these endings alone for a file beside FILE; without it, .npy.",
        ),
    ] = None,
    text: Annotated[
        str, typer.Option(metavar="COLUMN", help="The field or column with the text.")
    ] = "text",
    id_: Annotated[
        str | None,
        typer.Option(
            "--id",
            metavar="COLUMN",
            help="The field or column with the name of each row, for .jsonl and .parquet; without "
            "it, rows are counted from 0.",
        ),
    ] = None,
    param: Params = None,
    config: ConfigPath = None,
    concurrency: Annotated[int, typer.Option(metavar="N", help="Requests in flight at most.")] = 4,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="txt, jsonl, json, csv, tsv or parquet, for FILE."
        ),
    ] = None,
) -> None:
    """Embed each text of FILE once: a vector for each, in their order.

    The same command goes on with what was stopped. The first Ctrl-C lets the requests in flight
    end; the second stops at once.
    """
    from .._index.run import embed_file, split_params
    from .._index.texts import TextFile

    source = TextFile.open(file, format_, text, id_)
    output = _output(source.path, to)
    opening, shaping = split_params(parse_params(param or []))
    with open_lm(model, params=opening, system=None, config=config) as lm:
        summary = embed_file(
            lm, source, output, shaping, concurrency=concurrency, command=typed_command()
        )
    say(_described(summary, output))
    if summary.interrupted:
        say(f"to go on: {typed_command()}")
        raise typer.Exit(INTERRUPTED)


def _output(source: Path, to: str | None) -> Path:
    from .._guard.paths import absolute
    from .._index.outputs import ENDINGS

    if to is None or f".{to.removeprefix('.')}" in ENDINGS:
        ending = f".{(to or 'npy').removeprefix('.')}"
        output = source.with_name(source.name.partition(".")[0] + ending)
        if output == source:
            output = source.with_name(source.name.partition(".")[0] + ".embedded" + ending)
        return output
    output = Path(absolute(to, "--to"))
    if output.exists() and source.samefile(output):
        raise InputError("FILE and OUTPUT must be two different files")
    return output


def _described(summary: Summary, output: Path) -> str:
    from ..batch.progress import dollars

    parts = [f"{summary.embedded:,} texts embedded in {summary.seconds:.1f} s"]
    if summary.skipped:
        parts.append(f"{summary.skipped:,} were done before")
    if summary.cached:
        parts.append(f"{summary.cached:,} from the cache")
    parts.append(f"{summary.tokens:,} tokens read")
    if summary.cost:
        parts.append(dollars(summary.cost))
    if not summary.interrupted:
        parts.append(f"{output} holds {summary.total:,} vectors of {summary.dimensions:,} floats")
    return "; ".join(parts)
