"""The public API as text, a line for each name: what a plugin or a program may rely on.

python tests/stability/snapshot.py --write
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints, is_typeddict

MODULES = (
    "lmgateway",
    "lmgateway.types",
    "lmgateway.errors",
    "lmgateway.hookspecs",
    "lmgateway.deprecation",
    "lmgateway.testing",
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
        required = value.__required_keys__
        names = sorted(get_type_hints(value, include_extras=False))
        yield f"{path}: dict of {', '.join(n if n in required else f'{n}?' for n in names)}"
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


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(snapshot(), encoding="utf-8")
    else:
        print(snapshot(), end="")
