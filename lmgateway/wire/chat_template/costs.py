"""What each builtin that a template can reach costs at most, in cells, before it is called."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from .meter import Meter, flat

__all__ = [
    "BINARY_COSTS",
    "CHEAP_TESTS",
    "DRAINING_FILTERS",
    "LAZY_FILTERS",
    "cost_of_filter",
    "cost_of_method",
    "cost_of_test",
    "format_reach",
]

Cost: TypeAlias = Callable[[Meter, Sequence[Any]], int]
"""Cost of a call; the operands are the object itself, then all arguments."""

_DIGITS = re.compile(r"\d+")
_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
_NEVER = 1 << 62


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (str, bytes)) else 1


def _reach(values: Sequence[Any]) -> int:
    """How far whole numbers and texts may pad something: 10**9 in ``center(10**9)``."""
    return sum(abs(v) if isinstance(v, int) else _length(v) for v in values)


def format_reach(text: str) -> int:
    """Characters that the widths and precisions written in a format may ask for."""
    if text.isalpha():
        return 0
    return sum(int(run) if len(run) < 18 else _NEVER for run in _DIGITS.findall(text))


# -- shapes of cost ----------------------------------------------------------------------------


def _free(meter: Meter, operands: Sequence[Any]) -> int:
    return 1


def _shallow(meter: Meter, operands: Sequence[Any]) -> int:
    subject = operands[0]
    return 4 * len(subject) if isinstance(subject, str) else flat(subject)


def _each(meter: Meter, operands: Sequence[Any]) -> int:
    return 8 * _shallow(meter, operands)


def _linear(meter: Meter, operands: Sequence[Any]) -> int:
    return meter.weigh_all(operands)


def _lookup(meter: Meter, operands: Sequence[Any]) -> int:
    return 1 + meter.weigh_all(operands[1:])


def _expanding(meter: Meter, operands: Sequence[Any]) -> int:
    return 6 * meter.weigh_all(operands)


def _quadratic(meter: Meter, operands: Sequence[Any]) -> int:
    weight = meter.weigh_all(operands)
    return weight + weight * weight // 256


def _padding(meter: Meter, operands: Sequence[Any]) -> int:
    tabs = operands[0].count("\t") if isinstance(operands[0], str) else 0
    return meter.weigh_all(operands) + _reach(operands[1:]) * (1 + tabs)


def _product(meter: Meter, operands: Sequence[Any]) -> int:
    """Searches from the right, and sets of characters, may look at each pair."""
    lengths = [_length(operand) for operand in operands]
    return meter.weigh_all(operands) + lengths[0] * sum(lengths[1:]) // 64


def _splitting(meter: Meter, operands: Sequence[Any]) -> int:
    text, separators = operands[0], [o for o in operands[1:] if isinstance(o, str) and o]
    if isinstance(text, str) and separators:
        return _product(meter, operands) + 5 * text.count(separators[0])
    return 2 * _length(text) + meter.weigh_all(operands)


def _translating(meter: Meter, operands: Sequence[Any]) -> int:
    return meter.weigh(operands[0]) * meter.weigh_all(operands[1:]) * 4


# -- single filters and methods ----------------------------------------------------------------


def _replacing(meter: Meter, operands: Sequence[Any]) -> int:
    if len(operands) < 3:
        return _linear(meter, operands)
    text, old, new = operands[:3]
    whole = isinstance(text, str) and isinstance(old, str)
    times = text.count(old) if whole else 4 * meter.weigh(text)
    return meter.weigh_all(operands) + times * meter.weigh(new)


def _joining(meter: Meter, operands: Sequence[Any]) -> int:
    separator, items = operands
    return meter.weigh(items) + flat(items) * meter.weigh(separator)


def _join_filter(meter: Meter, operands: Sequence[Any]) -> int:
    items = operands[0]
    count = len(items) if isinstance(items, str) else flat(items)
    return meter.weigh(items) + count * (1 + meter.weigh_all(operands[1:]))


def _indenting(meter: Meter, operands: Sequence[Any]) -> int:
    text = operands[0]
    if not isinstance(text, str):
        return _translating(meter, operands)
    lines = 1 + sum(text.count(mark) for mark in _BREAKS)
    return meter.weigh(text) + lines * (1 + (_reach(operands[1:]) >> 2))


def _rounding(meter: Meter, operands: Sequence[Any]) -> int:
    digits = _reach(operands[1:])
    return meter.weigh(operands[0]) ** 2 + digits * digits


def _chunking(meter: Meter, operands: Sequence[Any]) -> int:
    return _shallow(meter, operands) + 4 * _reach(operands[1:])


def _summing(meter: Meter, operands: Sequence[Any]) -> int:
    numeric = all(isinstance(o, (int, float, str, type(None))) for o in operands[1:])
    return meter.weigh(operands[0]) if numeric else _quadratic(meter, operands)


def _percent(meter: Meter, operands: Sequence[Any]) -> int:
    text, *arguments = operands
    if not isinstance(text, (str, bytes)):
        return meter.weigh(text) * meter.weigh_all(arguments)  # of two whole numbers
    shown = text if isinstance(text, str) else text.decode("latin-1")
    stars = 0
    if "*" in shown:  # a width that comes from the arguments
        values = arguments[0] if len(arguments) == 1 else arguments
        stars = shown.count("*") * _reach(values if isinstance(values, (tuple, list)) else [values])
    fields = 1 + shown.count("%")
    return flat(text) + format_reach(shown) + stars + fields * meter.weigh_all(arguments)


# -- the tables --------------------------------------------------------------------------------

_METHODS: dict[str, Cost] = {
    **dict.fromkeys(
        ("get", "items", "keys", "values", "startswith", "endswith", "bit_length", "is_integer"),
        _lookup,
    ),
    **dict.fromkeys(("center", "ljust", "rjust", "zfill", "expandtabs", "to_bytes"), _padding),
    **dict.fromkeys(
        ("strip", "lstrip", "rstrip", "rfind", "rindex", "rpartition"), _product
    ),
    **dict.fromkeys(("split", "rsplit", "splitlines"), _splitting),
    "join": _joining,
    "replace": _replacing,
    "translate": _translating,
    "fromkeys": _expanding,
    "copy": _shallow,
}  # fmt: skip

_FILTERS: dict[str, Cost] = {
    **dict.fromkeys(
        ("attr", "count", "d", "default", "first", "items", "last", "length", "random", "safe"),
        _free,
    ),
    **dict.fromkeys(("list", "reverse"), _shallow),
    **dict.fromkeys(("map", "reject", "rejectattr", "select", "selectattr"), _each),
    **dict.fromkeys(("batch", "slice"), _chunking),
    **dict.fromkeys(("e", "escape", "forceescape", "tojson", "urlencode", "xmlattr"), _expanding),
    **dict.fromkeys(("pprint", "striptags", "urlize", "wordcount", "wordwrap"), _quadratic),
    "center": _padding,
    "format": _percent,
    "indent": _indenting,
    "join": _join_filter,
    "replace": _replacing,
    "round": _rounding,
    "sum": _summing,
    "trim": _product,
}  # fmt: skip

#: Filters that answer with an iterator: its items are paid for as they are taken.
LAZY_FILTERS = frozenset(
    {"batch", "items", "map", "reject", "rejectattr", "reverse", "select", "selectattr", "slice",
     "unique"}
)  # fmt: skip

#: Filters that take an iterator whole: it is made a list first, so that it can be weighed.
DRAINING_FILTERS = frozenset({"dictsort", "groupby", "join", "max", "min", "sort", "sum", "unique"})

#: Tests that look at the type or the identity of a value only.
CHEAP_TESTS = frozenset(
    {"boolean", "callable", "defined", "escaped", "false", "float", "integer", "iterable",
     "mapping", "none", "number", "sameas", "sequence", "string", "true", "undefined"}
)  # fmt: skip


def cost_of_filter(name: str) -> Cost:
    """The cost of a filter; one that is in no table reads its operands once."""
    return _FILTERS.get(name, _linear)


def cost_of_method(owner: Any, name: str) -> Cost:
    """The cost of a method of a builtin type."""
    if isinstance(owner, (int, float)) and name != "to_bytes":
        return _linear
    return _METHODS.get(name, _linear)


def cost_of_test(name: str) -> Cost:
    """The cost of a test that compares or reads values."""
    return _membership if name == "in" else _linear


def _membership(meter: Meter, operands: Sequence[Any]) -> int:
    needle, *haystacks = operands
    if isinstance(needle, str) and haystacks and isinstance(haystacks[0], dict):
        return meter.weigh(needle)
    return meter.weigh_all(operands)


def _adding(meter: Meter, operands: Sequence[Any]) -> int:
    return flat(operands[0]) + flat(operands[1])


def _multiplying(meter: Meter, operands: Sequence[Any]) -> int:
    left, right = operands
    if isinstance(left, int) and isinstance(right, int):
        return flat(left) * flat(right)
    if isinstance(left, int):
        return abs(left) * flat(right)
    return abs(right) * flat(left) if isinstance(right, int) else 1


def _raising(meter: Meter, operands: Sequence[Any]) -> int:
    left, right = operands
    if not (isinstance(left, int) and isinstance(right, int)):
        return 1
    cells = 1 + (left.bit_length() * abs(right) >> 5)
    return cells * cells


#: Costs of the arithmetic operators. They are all intercepted, which also keeps jinja from
#: computing them while it compiles.
BINARY_COSTS: dict[str, Cost] = {
    "+": _adding,
    "-": _adding,
    "*": _multiplying,
    "/": _multiplying,
    "//": _multiplying,
    "**": _raising,
    "%": _percent,
}
