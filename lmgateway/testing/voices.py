"""Whose a text is, in whatever form a service wants it: by what stands around it in the request.

No word for a role is known here. What a service calls them is learnt from one conversation: where
two turns of the user's agree, and the model's between them differs, the roles are told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..types import JSON
from .sent import dumped

__all__ = ["Spot", "Voices", "spot_of", "spots_of", "stands_as"]

_TELLS = re.compile(r"tool|function|result|observ|output|respon", re.I)


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a text stands.

    Attributes:
        path: Names of fields and places in lists, from the outside in.
        leaf: The scalar that holds it.
        marks: The scalars beside it in each object around it, the innermost last.
    """

    path: tuple[str | int, ...]
    leaf: str
    marks: tuple[Mapping[str, JSON], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The path without the places in lists."""
        return tuple(each for each in self.path if isinstance(each, str))

    def mark(self, name: str) -> JSON:
        """What the nearest object around it says under a name; None if none does."""
        return next((each[name] for each in reversed(self.marks) if name in each), None)

    def comes_before(self, other: Spot) -> bool:
        """Whether it stands before another in one list, or in one text."""
        for mine, its in zip(self.path, other.path, strict=False):
            if mine != its:
                return not (isinstance(mine, int) and isinstance(its, int)) or mine < its
        return True


def spot_of(tree: JSON, text: str) -> Spot | None:
    """The first place of a text in a request; None if it stands nowhere as it is."""
    return next(spots_of(tree, text), None)


def spots_of(tree: JSON, text: str) -> Iterator[Spot]:
    """All places of a text in a request."""
    return _spots(tree, text, (), ())


def _spots(
    tree: JSON, text: str, path: tuple[str | int, ...], marks: tuple[Mapping[str, JSON], ...]
) -> Iterator[Spot]:
    if isinstance(tree, str):
        if text in tree:
            yield Spot(path, tree, marks)
    elif isinstance(tree, Mapping):
        said = {name: each for name, each in tree.items() if isinstance(each, (str, bool))}
        for name, each in tree.items():
            beside = {other: value for other, value in said.items() if other != name}
            yield from _spots(each, text, (*path, str(name)), (*marks, beside))
    elif isinstance(tree, list):
        for place, each in enumerate(tree):
            yield from _spots(each, text, (*path, place), marks)


@dataclass(frozen=True, slots=True)
class Voices:
    """How a service is told whose a turn is.

    Attributes:
        user: What is said around a turn of the user's, by the name of the field.
        model: What is said in its place around one of the model's.
    """

    user: Mapping[str, JSON]
    model: Mapping[str, JSON]

    @classmethod
    def of(cls, tree: JSON, words: tuple[str, str, str]) -> Voices | None:
        """Learn them from turns of the user, the model and the user, each with its word.

        None if the turns are told apart in another way: in one text, or by where they stand.
        """
        first, model, last = (spot_of(tree, word) for word in words)
        if first is None or model is None or last is None or first.path == model.path:
            return None
        users, models = {}, {}
        for name in {name for marks in first.marks for name in marks}:
            told = first.mark(name), model.mark(name), last.mark(name)
            if None not in told[:2] and told[0] != told[1] and told[2] in (told[0], None):
                users[name], models[name] = told[0], told[1]
        return cls(users, models) if users else None

    def is_users(self, spot: Spot) -> bool:
        """Whether a text is told as the user's."""
        return any(spot.mark(name) == value for name, value in self.user.items())

    def is_models(self, spot: Spot) -> bool:
        """Whether a text is told as the model's."""
        return any(spot.mark(name) == value for name, value in self.model.items())


def stands_as(spot: Spot, other: Spot, text: str) -> bool:
    """Whether a text stands bare where a turn like the other's would have its own."""
    if spot.names != other.names or spot.leaf != text or spot.path == other.path:
        return False
    own, its = _all(spot), _all(other)
    more = {name: value for name, value in own.items() if name not in its}
    return all(own.get(name) == value for name, value in its.items()) and not any(
        _TELLS.search(dumped(value)) for value in more.values()
    )


def _all(spot: Spot) -> dict[str, Any]:
    return {name: value for marks in spot.marks for name, value in marks.items()}
