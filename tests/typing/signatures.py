"""Write the typed signatures of ``get_lm`` and of LM's methods from one table of keywords.

python tests/typing/signatures.py --write

The keywords stand in ``lmgateway/_call/parameters.py``; what each entry takes beside them, and what
it returns, stands here. CONTRIBUTING.md says why the signatures are not written by hand.
"""

from __future__ import annotations

import ast
import sys
import textwrap
from itertools import product
from pathlib import Path
from typing import NamedTuple

CALL = Path(__file__).parents[2] / "lmgateway" / "_call"
TABLE = CALL / "parameters.py"
LM = CALL.parent / "lm.py"
FILE = CALL / "signatures.py"

HEAD = '''"""The signatures of ``get_lm`` and of LM's methods, for editors and type checkers.

Written by ``tests/typing/signatures.py``: change the table in ``parameters.py`` and run it.
Nothing here is ever called.
"""

# fmt: off
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, overload

from .._drive.gather import Input
from .._drive.streams import AStream, Stream
from ..errors import LMGatewayError
from ..types import (
    UNSET,
    Completion,
    Count,
    Delta,
    Embeddings,
    Messages,
    ModelCard,
    Parsed,
    Reranked,
    Schema,
    Unset,
)

if TYPE_CHECKING:
    from pydantic import SecretStr

'''


class Variant(NamedTuple):
    """Parameters that go together, and the return type that they lead to, if it is theirs."""

    positional: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    returns: str = ""


class Entry(NamedTuple):
    """One function: how it is called, and which tables of keywords it takes.

    Attributes:
        name: As in ``lm.py``.
        returns: The return type.
        tables: Names of the tables in ``parameters.py``.
        axes: Each combination of their variants is an overload.
        shown: All of them in one, as ``inspect.signature`` shows it.
        blocking: Whether it is no coroutine function.
    """

    name: str
    returns: str
    tables: tuple[str, ...]
    axes: tuple[tuple[Variant, ...], ...]
    shown: Variant
    blocking: bool = True


SCHEMA = "schema: Schema[Parsed] = None"
ASKED = (
    Variant(("prompt: str",), ("messages: None = None",)),
    Variant(("prompt: str | None = None",), ("messages: Messages | None",)),
)
ASKED_ALL = Variant(("prompt: str | None = None",), ("messages: Messages | None = None",))
OF_A_CALL = ("CallOptions", "Parameters")
OF_AN_LM = ("LMOptions", *OF_A_CALL)


def _asking(name: str, returns: str, *, blocking: bool = True, more: str = "") -> Entry:
    named = (SCHEMA, more) if more else (SCHEMA,)
    shown = ASKED_ALL._replace(named=ASKED_ALL.named + named)
    return Entry(name, returns, OF_A_CALL, (ASKED, (Variant((), named),)), shown, blocking)


def _streaming(name: str, kind: str) -> Entry:
    text, deltas = f"{kind}[str, Parsed]", f"{kind}[Delta, Parsed]"
    events = (
        Variant((), (SCHEMA, "events: Literal[False] = False"), text),
        Variant((), (SCHEMA, "events: Literal[True]"), deltas),
        Variant((), (SCHEMA, "events: bool"), f"{text} | {deltas}"),
    )
    shown = ASKED_ALL._replace(named=(*ASKED_ALL.named, SCHEMA, "events: bool = False"))
    return Entry(name, f"{text} | {deltas}", OF_A_CALL, (ASKED, events), shown)


def _many(name: str, *, blocking: bool = True) -> Entry:
    inputs, before, after = "inputs: Iterable[Input]", "concurrency: int = 100", (SCHEMA,)
    errors = "list[Completion[Parsed] | LMGatewayError]"
    progress = "progress: bool = False"
    variants = (
        ("return_exceptions: Literal[False] = False", "list[Completion[Parsed]]"),
        ("return_exceptions: bool", errors),
    )
    axis = tuple(
        Variant((inputs,), (before, flag, progress, *after), returns) for flag, returns in variants
    )
    shown = Variant((inputs,), (before, "return_exceptions: bool = False", progress, *after))
    return Entry(name, "list[Any]", OF_A_CALL, (axis,), shown, blocking)


def _plain(name: str, returns: str, tables: tuple[str, ...], shown: Variant, **how: bool) -> Entry:
    return Entry(name, returns, tables, (), shown, **how)


def _counting(name: str, *, blocking: bool = True) -> Entry:
    return Entry(name, "Count", OF_A_CALL, (ASKED,), ASKED_ALL, blocking)


NAME_AND_MODEL = ("name: str | None = None", "model: str | None = None")
TEXTS = Variant(("texts: str | Iterable[str]",), ("concurrency: int = 4", "progress: bool = False"))
EMBED = ("CallOptions", "EmbedParameters")
RERANK = ("CallOptions", "RerankParameters")
RANKED = Variant(("query: str", "documents: Sequence[str]"))

ENTRIES = (
    _plain("get_lm", "Any", OF_AN_LM, Variant(NAME_AND_MODEL)),
    _asking("__call__", "list[str]"),
    _asking("acall", "list[str]", blocking=False),
    _asking("complete", "Completion[Parsed]"),
    _asking("acomplete", "Completion[Parsed]", blocking=False),
    _streaming("stream", "Stream"),
    _streaming("astream", "AStream"),
    _many("batch"),
    _many("abatch", blocking=False),
    _asking("preview", "dict[str, Any]", more="stream: bool = False"),
    _plain("models", "list[ModelCard]", ("CallOptions",), Variant()),
    _plain("amodels", "list[ModelCard]", ("CallOptions",), Variant(), blocking=False),
    _plain("embed", "Embeddings", EMBED, TEXTS),
    _plain("aembed", "Embeddings", EMBED, TEXTS, blocking=False),
    _plain("rerank", "Reranked", RERANK, RANKED),
    _plain("arerank", "Reranked", RERANK, RANKED, blocking=False),
    _counting("count"),
    _counting("acount", blocking=False),
    _plain("copy", "Any", OF_AN_LM, Variant((), NAME_AND_MODEL)),
)


def tables() -> dict[str, dict[str, str]]:
    """The keywords of each table with their types, as they are written."""
    source = TABLE.read_text("utf-8")
    return {
        node.name: {
            each.target.id: ast.get_source_segment(source, each.annotation) or ""
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        }
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef)
    }


def docstrings() -> dict[str, str]:
    """What ``lm.py`` says of each function; an editor shows it beside the signature."""
    tree = ast.parse(LM.read_text("utf-8"))
    functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name: ast.get_docstring(each) or "" for each in functions}


def written() -> str:
    """The module, whole."""
    known, said = tables(), docstrings()
    parts = [HEAD]
    for entry in ENTRIES:
        keywords = [
            f"{name}: {_or_unset(kind)} = UNSET"
            for table in entry.tables
            for name, kind in known[table].items()
        ]
        variants = [_merged(each, entry) for each in product(*entry.axes)] if entry.axes else []
        if variants:
            overloads = [f"@overload\n{_function(entry, v, keywords)} ..." for v in variants]
            parts.append("if TYPE_CHECKING:\n" + textwrap.indent("\n".join(overloads), "    "))
        shown = _function(entry, entry.shown, keywords).replace("[Parsed]", "[Any]")
        shown = shown.replace(", Parsed]", ", Any]")
        doc = textwrap.indent(f'"""{said[entry.name]}\n"""', "    ")
        parts.append(f"{shown}\n{_tidy(doc)}\n    raise NotImplementedError")
    return "\n\n".join(parts) + "\n"


def _or_unset(kind: str) -> str:
    none = " | None"  # last, as ruff has it
    return f"{kind.removesuffix(none)} | Unset{none if kind.endswith(none) else ''}"


def _merged(variants: tuple[Variant, ...], entry: Entry) -> Variant:
    positional = tuple(text for each in variants for text in each.positional)
    named = tuple(text for each in variants for text in each.named)
    return Variant(positional, named, next((v.returns for v in variants if v.returns), ""))


def _function(entry: Entry, variant: Variant, keywords: list[str]) -> str:
    first = [] if entry.name == "get_lm" else ["self: Any"]
    parameters = [*first, *variant.positional, "*", *variant.named, *keywords, "**params: Any"]
    lines = textwrap.wrap(
        ", ".join(each.replace(" ", "\0") for each in parameters),
        width=92,
        break_long_words=False,
        break_on_hyphens=False,
    )
    body = textwrap.indent("\n".join(lines).replace("\0", " "), "    ")
    word = "def" if entry.blocking else "async def"
    return f"{word} {entry.name}(\n{body},\n) -> {variant.returns or entry.returns}:"


def _tidy(doc: str) -> str:
    lines = [line.rstrip() for line in doc.splitlines()]
    if len(lines) == 2:
        return lines[0] + '"""'
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(written(), encoding="utf-8")
    else:
        print(written(), end="")
