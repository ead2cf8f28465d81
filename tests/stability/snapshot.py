"""The public API as text, a line for each name: what a plugin or a program may rely on.

python tests/stability/snapshot.py --write
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NotRequired, get_origin, get_type_hints

from typing_extensions import is_typeddict

MODULES = (
    "lmgateway",
    "lmgateway.types",
    "lmgateway.errors",
    "lmgateway.hookspecs",
    "lmgateway.deprecation",
    "lmgateway.batch",
    "lmgateway.batch.ray",
    "lmgateway.dspy",
    "lmgateway.otel",
    "lmgateway.testing",
    "lmgateway.wire.auth",
    "lmgateway.wire.breaks",
    "lmgateway.wire.openai",
    "lmgateway.wire.pieces",
    "lmgateway.wire.sse",
    "lmgateway.wire.chat_template",
)
FILE = Path(__file__).with_name("public_api.txt")


def snapshot() -> str:
    """Every public name with its signature."""
    lines = [line for module in MODULES for line in _lines(module)]
    return "\n".join(lines) + "\n"


def _lines(name: str) -> Iterator[str]:
    module = import_module(name)
    for each in sorted(module.__all__):
        yield from _describe(f"{name}.{each}", getattr(module, each))


def _describe(path: str, value: Any) -> Iterator[str]:
    if is_typeddict(value):
        hints = get_type_hints(value, include_extras=True)
        total = getattr(value, "__total__", True)
        optional = {n for n, hint in hints.items() if not total or get_origin(hint) is NotRequired}
        yield f"{path}: dict of {', '.join(n + '?' * (n in optional) for n in sorted(hints))}"
    elif inspect.isclass(value):
        bases = ", ".join(base.__name__ for base in value.__bases__)
        yield f"{path}({bases})"
        if issubclass(value, Enum):
            return
        if is_dataclass(value):
            for field in fields(value):
                if not field.name.startswith("_"):
                    yield f"{path}.{field.name}: {field.type}"
        for name, member in sorted(vars(value).items()):
            if not name.startswith("_") and (inspect.isfunction(member)):
                yield f"{path}.{name}{_signature(member)}"
            elif isinstance(member, property) and not name.startswith("_"):
                yield f"{path}.{name}"
    elif inspect.isfunction(value):
        yield f"{path}{_signature(value)}"
    else:
        yield path


def _signature(function: Any) -> str:
    """Names, order, kinds and whether there is a default; types may become wider."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "(...)"
    bare = [
        each.replace(
            annotation=inspect.Parameter.empty,
            default=each.empty if each.default is each.empty else ...,
        )
        for each in parameters
    ]
    return str(inspect.Signature(bare)).replace("=Ellipsis", "=...")


# -- what must be annotated with ----------------------------------------------------------------


def unreachable() -> list[str]:
    """The classes of ours in public signatures that nobody can import by a public name."""
    modules = [import_module(name) for name in MODULES]
    public = [getattr(module, name) for module in modules for name in module.__all__]
    return sorted(
        f"{where}: {name}"
        for module in modules
        for each in module.__all__
        for where, name in _named_by(f"{module.__name__}.{each}", getattr(module, each))
        if not any(_resolved(where, name) is known for known in public)
    )


def _named_by(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Each name of a class of ours in an annotation, with the module that it stands in."""
    members = [value] if inspect.isfunction(value) else []
    texts: list[tuple[str, Any]] = []
    if inspect.isclass(value) and value.__module__.partition(".")[0] == "lmgateway":
        said = vars(value).get("__annotations__", {}).items()
        texts += [(value.__module__, text) for name, text in said if not name.startswith("_")]
        for name, member in vars(value).items():
            if not name.startswith("_") or name == "__call__":
                members.append(member.fget if isinstance(member, property) else member)
    for function in map(inspect.unwrap, filter(inspect.isfunction, members)):
        texts += [(function.__module__, text) for text in function.__annotations__.values()]
    for module, text in texts:
        for name in _names(getattr(text, "__forward_arg__", text)):
            found = _resolved(module, name)
            if inspect.isclass(found) and found.__module__.partition(".")[0] == "lmgateway":
                yield module, name


def _names(text: object) -> set[str]:
    if not isinstance(text, str):
        return set()
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _resolved(module: str, name: str) -> Any:
    """What a name in an annotation is, also where only a type checker imports it."""
    there = sys.modules[module]
    if hasattr(there, name):
        return getattr(there, name)
    source = _for_checkers(there).get(name)
    return getattr(import_module(source), name, None) if source else None


@cache
def _for_checkers(module: ModuleType) -> dict[str, str]:
    """The names that a module imports under TYPE_CHECKING, and from where."""
    package = module.__name__ if hasattr(module, "__path__") else module.__name__.rpartition(".")[0]
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            if source.startswith("lmgateway"):
                found.update({alias.asname or alias.name: source for alias in node.names})
    return found


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(snapshot(), encoding="utf-8")
    else:
        print(snapshot(), end="")
