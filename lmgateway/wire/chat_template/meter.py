"""What a rendering may cost: one budget of cells, spent on work and on memory alike.

A template is somebody else's program. It runs in the caller's thread, where nothing can interrupt
it, so every step pays *before* it is taken: a cell buys about one node of the template's syntax
tree, four characters, or one item of a list. What is built can thus never outgrow the budget, and
neither can the time.
"""

from __future__ import annotations

from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Set, ValuesView
from contextvars import ContextVar
from typing import Any

__all__ = ["METER", "TODAY", "Meter", "OverBudgetError", "allowance"]

BASE_CELLS = 3_000_000
EXTRA_CELLS = 60_000_000

_ATOMS = frozenset({bool, type(None), float})
_COLLECTIONS = (list, tuple, Mapping, Set, range, ItemsView, KeysView, ValuesView)


class OverBudgetError(Exception):
    """The template asks for more than its budget holds; never leaves this package."""


def allowance(weight: int, turns: int) -> int:
    """Cells for a conversation of this weight, up to a ceiling that memory does not notice.

    They are enough for a template that reads all of it anew for each turn.
    """
    return BASE_CELLS + min(weight * (turns + 100), EXTRA_CELLS)


class Meter:
    """The budget of one rendering.

    Weights of collections are remembered by identity. That is sound because the sandbox lets a
    template change none of them, and because the meter keeps each alive.
    """

    __slots__ = ("_weights", "left")

    def __init__(self, cells: int = BASE_CELLS) -> None:
        self.left = cells
        self._weights: dict[int, tuple[object, int]] = {}

    def charge(self, cells: int) -> None:
        """Spend cells.

        Raises:
            OverBudgetError: Not that many are left.
        """
        self.left -= cells
        if self.left < 0:
            raise OverBudgetError

    def weigh(self, value: Any) -> int:
        """Cells of a value with all that is in it.

        What is shared counts each time it is seen, as it does for ``str``, ``==`` and ``hash``.
        """
        kind = type(value)
        if kind is str:
            return 1 + (len(value) >> 2)
        if kind in _ATOMS:
            return 1
        if kind is dict or kind is list or isinstance(value, _COLLECTIONS):
            return self._weigh_collection(value)
        return flat(value)

    def _weigh_collection(self, value: Any) -> int:
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        kind, weigh = type(value), self.weigh
        if kind is list or kind is tuple:
            weight = 2 + sum(map(weigh, value))
        elif kind is dict or isinstance(value, Mapping):
            weight = 4 + 4 * len(value) + sum(map(weigh, value)) + sum(map(weigh, value.values()))
        elif isinstance(value, range):
            weight = 2 + 4 * len(value)
        elif isinstance(value, ItemsView):
            weight = 4 + sum(4 + weigh(key) + weigh(item) for key, item in value)
        else:
            weight = 2 + sum(map(weigh, value))
        self._weights[id(value)] = (value, weight)
        return weight

    def weigh_all(self, values: Iterable[Any]) -> int:
        """Cells of several values together."""
        return sum(map(self.weigh, values))

    def metered(self, values: Iterable[Any]) -> Iterator[Any]:
        """The same values, each paid for when it is taken."""
        for value in values:
            self.charge(2 + (len(value) >> 2 if isinstance(value, str) else 0))
            yield value


def flat(value: Any) -> int:
    """Cells of a value without what is in its items."""
    kind = type(value)
    if kind is str:
        return 1 + (len(value) >> 2)
    if kind in _ATOMS:
        return 1
    if isinstance(value, (str, bytes)):
        return 1 + (len(value) >> 2)
    if isinstance(value, int):
        return 1 + (value.bit_length() >> 5)
    return 1 + len(value) if isinstance(value, _COLLECTIONS) else 1


#: The meter of the rendering that runs in this thread or task.
METER: ContextVar[Meter] = ContextVar("lmgateway_template_meter")

#: Name of the variable that holds the clock of ``strftime_now``; a template cannot spell it.
TODAY = "lm today"
