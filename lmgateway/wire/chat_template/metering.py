"""Rewrites a template's syntax tree so that each block and each costly expression pays its way."""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer

__all__ = ["BUILT", "COMPARED", "CONCAT", "SCANNED", "TICK", "Metering"]

# Names of the filters that charge. A template's author cannot spell a name with a space.
TICK = "lm tick"
CONCAT = "lm concat"
COMPARED = "lm compared"
SCANNED = "lm scanned"
BUILT = "lm built"

_BODIES = ("body", "else_")


class Metering(NodeTransformer):
    """Puts the charging filters into a tree; what the template renders stays the same."""

    def generic_visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> nodes.Node:
        """Meter what is below, then the bodies of this node: one charge for a straight run."""
        super().generic_visit(node, *args, **kwargs)
        if isinstance(node, nodes.Template):
            return node
        for name in _BODIES:
            body = getattr(node, name, None)
            if isinstance(body, list) and (body or isinstance(node, nodes.For)):
                body.insert(0, _tick(_size(body), node.lineno))
        if isinstance(node, nodes.For) and node.test is not None:
            tick = _charging(TICK, nodes.Const(1, lineno=node.lineno))
            node.test = nodes.And(tick, node.test, lineno=node.lineno)
        return node

    def visit_Concat(self, node: nodes.Concat, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802
        """``a ~ b``: paid for as a whole."""
        self.generic_visit(node)
        return _charging(CONCAT, node.nodes[0], *node.nodes[1:])

    def visit_Compare(self, node: nodes.Compare, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802
        """Comparisons read both sides; against a constant only a search is worth a charge."""
        self.generic_visit(node)
        first = node
        simple = isinstance(node.expr, nodes.Const)
        if len(node.ops) == 1 and (simple or isinstance(node.ops[0].expr, nodes.Const)):
            (operand,) = node.ops
            if operand.op in ("in", "notin") and not isinstance(operand.expr, nodes.Const):
                operand.expr = _charging(SCANNED if simple else COMPARED, operand.expr)
            return first
        node.expr = _charging(COMPARED, node.expr)
        for operand in node.ops:
            operand.expr = _charging(COMPARED, operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802
        """A slice is a copy."""
        self.generic_visit(node)
        return _charging(BUILT, node) if isinstance(node.arg, nodes.Slice) else node

    def visit_Pair(self, node: nodes.Pair, *args: Any, **kwargs: Any) -> nodes.Node:  # noqa: N802
        """A key is hashed, with all that is in it."""
        self.generic_visit(node)
        if not isinstance(node.key, nodes.Const):
            node.key = _charging(COMPARED, node.key)
        return node


def _charging(name: str, value: nodes.Expr, *others: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(others), [], None, None, lineno=value.lineno)


def _tick(cells: int, lineno: int) -> nodes.ExprStmt:
    return nodes.ExprStmt(_charging(TICK, nodes.Const(cells, lineno=lineno)), lineno=lineno)


def _size(body: list[nodes.Node]) -> int:
    """Nodes and text of a body, without the bodies inside it: those pay for themselves."""
    cells = 1
    rest = list(body)
    while rest:
        node = rest.pop()
        cells += 1
        if isinstance(node, nodes.TemplateData):
            cells += len(node.data) >> 2
        elif isinstance(node, nodes.Const):
            cells += len(str(node.value)) >> 2
        rest.extend(node.iter_child_nodes(exclude=_BODIES))
    return cells
