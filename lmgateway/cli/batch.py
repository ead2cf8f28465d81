"""``lmgateway batch``: answers each prompt of a file once, and tells how far a batch has come."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import InputError
from .arguments import ConfigPath, Model, Params, System, open_lm, typed_command
from .output import print_json, say

__all__ = ["register"]

INTERRUPTED = 130

app = typer.Typer(
    help="Answer a file of prompts, resumably; see how far that is.", rich_markup_mode=None
)

Input = Annotated[
    str,
    typer.Argument(
        metavar="INPUT",
        help="JSON lines, a JSON list, CSV or Parquet, also as .gz or .zst, each row with a prompt "
        "or messages, or in OpenAI's batch form; - for JSON lines on stdin.",
    ),
]
Output = Annotated[
    str,
    typer.Argument(
        metavar="OUTPUT",
        help="Where the answers go, as JSON lines; the same command resumes. - for stdout, which "
        "cannot be resumed.",
    ),
]
Engine = Annotated[
    str, typer.Option(metavar="NAME", help="asyncio, in this process, or ray, on a cluster.")
]


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="batch")


@app.command()
def run(
    input_: Input,
    output: Output,
    model: Model = None,
    system: System = None,
    param: Params = None,
    config: ConfigPath = None,
    errors: Annotated[
        str | None, typer.Option(metavar="FILE", help="Rows that fail go here, not to OUTPUT.")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(metavar="N", help="Calls in flight at most; for each worker of Ray.")
    ] = 100,
    rpm: Annotated[float | None, typer.Option(metavar="N", help="Requests a minute.")] = None,
    tpm: Annotated[float | None, typer.Option(metavar="N", help="Tokens a minute.")] = None,
    ordered: Annotated[bool, typer.Option("--ordered", help="Keep the order of the rows.")] = False,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="A column that is no parameter; several: a,b. Repeatable."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN",
            help="A column that is copied to OUTPUT, to join by; several: a,b. Repeatable.",
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", metavar="NAME", help="jsonl, json, csv, tsv or parquet, for INPUT."
        ),
    ] = None,
    retry_errors: Annotated[
        bool, typer.Option("--retry-errors", help="Ask the rows again that failed before.")
    ] = False,
    patience: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            help="Stop after so long without any answer, where all that are asked for fail.",
            show_default="600",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Ask nothing and write nothing: tell rows, tokens and the price."
        ),
    ] = False,
    engine: Engine = "asyncio",
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="With --engine ray: how many actors ask.")
    ] = None,
) -> None:
    """Answer every row of INPUT once.

    The first Ctrl-C lets the calls in flight end and says how to go on; the second stops at once.
    """
    from .._layers.limit import Limits
    from ..batch.plan import Plan

    if engine not in ("asyncio", "ray"):
        raise InputError(f"--engine is asyncio or ray, not {engine!r:.40}")
    if workers is not None and engine != "ray":
        raise InputError("--workers goes with --engine ray")
    with open_lm(model, params=param, system=system, config=config) as lm:
        plan = Plan(
            source=input_,
            output=output,
            lm=lm,
            errors=errors,
            concurrency=concurrency,
            limits=Limits(rpm, tpm),
            ordered=ordered,
            ignore=_listed(ignore),
            keep=_listed(keep),
            form=format_,
            retry_errors=retry_errors,
            progress=True,
            patience=patience,
            command=typed_command("--retry-errors"),
            workers=(workers or 1) if engine == "ray" else None,
        )
        if dry_run:
            _tell(plan)
        else:
            _carry_out(plan)


def _tell(plan: Any) -> None:
    from ..batch.estimate import describe_estimate, estimate

    for name, text in describe_estimate(estimate(plan)):
        print(f"{name:9} {text}")


def _listed(given: list[str] | None) -> list[str]:
    """The names of an option that is given several times, or once with commas."""
    return list(dict.fromkeys(name for each in given or () for name in each.split(",") if name))


def _carry_out(plan: Any) -> None:
    from ..batch.progress import describe
    from ..batch.runs import conduct

    summary = conduct(plan)
    say(describe(summary))
    if summary.interrupted:
        say(f"to go on: {plan.command}")
        raise typer.Exit(INTERRUPTED)
    if summary.failed:
        raise typer.Exit(1)


@app.command()
def status(
    file: Annotated[Path, typer.Argument(help="The output of a batch.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """How far a batch is, whether it runs, and what goes on with it."""
    from ..batch.job import status as read_status
    from ..batch.progress import wait_text

    found = read_status(file)
    if as_json:
        print_json({**asdict(found), "failed": found.failed, "finished": found.finished})
        return
    of = "" if found.total is None else f" of {found.total:,}"
    errors = ", ".join(f"{count:,} {name}" for name, count in found.errors.items())
    print(f"output    {found.output}")
    print(f"model     {found.provider}/{found.model}")
    print(f"answered  {found.answered:,}{of}")
    print(f"failed    {found.failed:,}{f' ({errors})' if errors else ''}")
    print(f"state     {_state(running=found.running, finished=found.finished)}")
    if found.waiting is not None:
        print(f"waiting   {wait_text(found.waiting)}")
    if not (found.running or found.finished):
        print(f"to go on  {found.resume}")


@app.command()
def report(
    file: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The output of a batch.")],
    to: Annotated[
        str, typer.Option("--to", metavar="FORM", help="html, a page to look at; csv or parquet.")
    ] = "html",
    target: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", metavar="FILE", help="Where it goes; else OUTPUT.html, .csv, .parquet."
        ),
    ] = None,
) -> None:
    """Latency, tokens, cost and errors of a batch as a page, or its rows as a table."""
    from ..batch.reports.report import report as write_report

    print(write_report(file, to, target))


def _state(*, running: bool, finished: bool) -> str:
    if running:
        return "a process is at work on it"
    return "finished" if finished else "not at work"
