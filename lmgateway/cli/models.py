"""``lmgateway models``: what an endpoint offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .output import print_json, print_table, say

if TYPE_CHECKING:
    from ..lm import LM

__all__ = ["AsJSON", "ConfigPath", "Name", "open_anyhow", "register"]


def complete_names(incomplete: str) -> list[str]:
    """The names that begin with a text, for a shell; none if the configuration is wrong."""
    from .._config.names import configuration, known_providers
    from ..errors import LMGatewayError

    try:
        return sorted(n for n in known_providers(configuration()) if n.startswith(incomplete))
    except LMGatewayError:
        return []


Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="A provider, provider/model, or a name from lmgateway.toml; without it, the default.",
        autocompletion=complete_names,
    ),
]
ConfigPath = Annotated[
    str | None,
    typer.Option("--config", metavar="PATH", help="The configuration file to read."),
]
AsJSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(models)


def models(name: Name = None, config: ConfigPath = None, as_json: AsJSON = False) -> None:
    """List the models that an endpoint offers."""
    with open_anyhow(name, config=config) as lm:
        cards = sorted(lm.models(), key=lambda card: card["id"])
        provider = lm.provider
    if as_json:
        print_json(cards)
        return
    rows = [
        (card["id"], str(card.get("context_length", "")), card.get("owned_by", ""))
        for card in cards
    ]
    if rows:
        print_table(("MODEL", "CONTEXT", "OWNER"), rows)
    else:
        say(f"{provider} offers no model")


def open_anyhow(name: str | None, **keywords: Any) -> LM:
    """The LM of a name, also without a model: then ``model`` is "", and it cannot be called."""
    from .._call.spec import resolve
    from ..lm import LM

    return LM(resolve(name, None, keywords, needs_model=False))
