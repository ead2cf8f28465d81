"""What a fault is, and how it is planted: as another text in one file, when that is imported."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

__all__ = ["ROOT", "Fault", "FaultError", "Target", "plant"]

ROOT = Path(__file__).parents[2]


class FaultError(Exception):
    """A fault cannot be planted: its place has changed."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One wrong version of a plugin.

    Attributes:
        kind: What it spoils: ``history``, ``usage``, ...
        name: What is wrong, in a few words; no two faults of a plugin have one name.
        file: From the root of the repository.
        old: A text that stands in it exactly once.
        new: What stands in its place.
        survives: Why the kit cannot notice; "" if it must.
        equivalent: Why no answer changes by it; "" if one does.
    """

    kind: str
    name: str
    file: str
    old: str
    new: str
    survives: str = ""
    equivalent: str = ""

    def text(self) -> str:
        """The wrong file.

        Raises:
            FaultError: The text to replace is not there, or not once; or the result is no Python.
        """
        right = (ROOT / self.file).read_text(encoding="utf-8")
        if (times := right.count(self.old)) != 1:
            raise FaultError(f"{self.file} holds the text to replace {times} times")
        wrong = right.replace(self.old, self.new)
        try:
            compile(wrong, self.file, "exec", dont_inherit=True)
        except SyntaxError as error:
            raise FaultError(f"{self.file} would be no Python: {error}") from None
        return wrong

    @property
    def module(self) -> str:
        """The name under which the file is imported."""
        inside = self.file.partition("/src/")[2] or self.file
        return inside.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@dataclass(frozen=True, slots=True)
class Target:
    """A plugin that faults are planted in.

    Attributes:
        name: Of the plugin's folder.
        test: The file with its contract test, from the root.
        recordings: Names of the recorded calls that an author is asked for; others are left out.
        faults: All of them.
    """

    name: str
    test: str
    recordings: Sequence[str]
    faults: Sequence[Fault] = field(default_factory=tuple, repr=False)


def plant(fault: Fault) -> None:
    """Have this process import the wrong file in place of the right one.

    Raises:
        FaultError: It cannot be planted.
    """
    package = fault.module.partition(".")[0]
    if fault.module in sys.modules:
        raise FaultError(f"{fault.module} is imported already")
    assert package not in ("tests", "pytest")
    sys.meta_path.insert(0, _Finder(fault.module, fault.file, fault.text()))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, file: str, text: str) -> None:
        self._module = module
        self._file = file
        self._text = text

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        where = str(ROOT / self._file)
        loader = _Loader(name, where, self._text)
        return spec_from_loader(name, loader, is_package=where.endswith("__init__.py"))


class _Loader(importlib.machinery.SourceFileLoader):
    """Gives the wrong text; no compiled file is read or written."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        return compile(self._text, self.path, "exec", dont_inherit=True)
