"""``lmgateway ask``: one prompt, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._base.values import copied
from ..errors import LMGatewayError, UnsupportedError
from .arguments import ConfigPath, Model, Params, System, open_lm, read_prompt, read_schema
from .output import Printout, print_json, remark

if TYPE_CHECKING:
    from .._drive.streams import Stream
    from ..lm import LM
    from ..types import Completion

__all__ = ["register", "stream_answer"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(ask)


def ask(
    prompt: Annotated[
        str | None, typer.Argument(help="The prompt; what is piped in follows it.")
    ] = None,
    model: Model = None,
    system: System = None,
    param: Params = None,
    config: ConfigPath = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A JSON schema the answer must fit.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print all the service said, as JSON.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the request and do not send it.")
    ] = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Wait for the whole answer.")
    ] = False,
) -> None:
    """Ask a model, and print its answer as it comes."""
    with open_lm(model, params=param, system=system, config=config) as lm:
        text = read_prompt(prompt)
        asked: dict[str, Any] = {"schema": read_schema(schema)} if schema else {}
        whole = as_json or no_stream or _wants_several(lm)
        if dry_run:
            print_json(_preview(lm, text, asked, stream=not whole))
        elif as_json:
            print_json(_without_state(lm.complete(text, **asked)))
        else:
            stream = None if whole else _stream(lm, text, asked)
            if stream is None:
                completion = lm.complete(text, **asked)
                _print_choices(completion)
            else:
                completion = stream_answer(stream, Printout())
            remark(completion)


def stream_answer(stream: Stream[str], printout: Printout) -> Completion:
    """Print a stream to its end. The connection is closed, also after an error or Ctrl-C."""
    with stream:
        try:
            for piece in stream:
                printout.write(piece)
        except LMGatewayError:
            printout.break_off()
            raise
        printout.finish()
        assert stream.completion is not None  # a stream that came to its end has one
        return stream.completion


def _wants_several(lm: LM) -> bool:
    return bool(lm.params.get("n", 1) != 1)


def _stream(lm: LM, text: str, asked: dict[str, Any]) -> Stream[str] | None:
    """A stream; None if the provider has none, or if complete() will raise the same error."""
    try:
        return lm.stream(text, **asked)
    except UnsupportedError:
        return None


def _preview(lm: LM, text: str, asked: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    try:
        return lm.preview(text, stream=stream, **asked)
    except UnsupportedError:
        return lm.preview(text, **asked)


def _without_state(completion: Completion) -> dict[str, Any]:
    """A completion without what only the service is to see again, and nobody reads."""
    shown: dict[str, Any] = copied(completion)
    for choice in shown["choices"]:
        for holder in (choice["message"], *choice.get("tool_calls", ())):
            holder.pop("state", None)
    return shown


def _print_choices(completion: Completion) -> None:
    choices = completion["choices"]
    for number, choice in enumerate(choices, 1):
        printout = Printout()
        if len(choices) > 1:
            printout.write(f"--- {number} of {len(choices)} ---\n")
        printout.write(choice["text"])
        printout.finish()
