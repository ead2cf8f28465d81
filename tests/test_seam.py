"""What is built on top of an LM goes by its public names and by the seam of ``lmgateway.lm``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import lmgateway

ROOT = Path(lmgateway.__file__).parent
ROOMS = ("batch", "cli", "dspy", "testing")

#: Attributes of others that have no public name, each with its reason.
EXEMPT = {
    "_async_engine_spec": "DSPy's own name for the awaited engine; our LM is a subclass of its LM",
    "_get_running_loop": "asyncio's, which raises nothing where no loop runs",
    "_exit": "os._exit: what a second Ctrl-C needs",
}


def underscored(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Each attribute with an underscore of anything but self, cls and super()."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
            continue
        if node.attr.startswith("__") and node.attr.endswith("__"):
            continue
        owner = node.value
        own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name):
            own = own or owner.func.id == "super"
        if not own:
            yield node.lineno, f"{ast.unparse(owner)}.{node.attr}"


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_on_top_reaches_for_no_underscore_attribute(room: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for path in sorted((ROOT / room).rglob("*.py"))
        for line, what in underscored(ast.parse(path.read_text("utf-8")))
        if what.rpartition(".")[2] not in EXEMPT
    ]
    assert not found, "\n".join(found)


def test_the_walk_finds_one() -> None:
    tree = ast.parse("self._a; cls._b; super()._c; x.__name__; lm._spec; f()._d; self.lm._e")
    assert [what for _, what in underscored(tree)] == ["lm._spec", "f()._d", "self.lm._e"]
