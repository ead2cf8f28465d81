"""How a request differs from the most similar recorded one, in one sentence."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any

from .._base.masking import CUT
from ..errors import excerpt
from ..types import JSON

__all__ = ["nearest"]

SHOWN = 3  # differences that a message names
AROUND = 30  # characters of a long text shown from where it differs
_ABSENT: Any = object()


def nearest(asked: Mapping[str, JSON], recorded: Sequence[Mapping[str, JSON]]) -> str:
    """One sentence: which recorded request comes nearest, and where it differs.

    Args:
        asked: A described request.
        recorded: The described requests of a recording, in order.
    """
    if not recorded:
        return "nothing is recorded there"
    leaves = dict(_leaves(asked))
    number, differences = min(
        ((number, _compare(dict(_leaves(one)), leaves)) for number, one in enumerate(recorded, 1)),
        key=lambda candidate: len(candidate[1]),
    )
    text = "; ".join(differences[:SHOWN])
    if len(differences) > SHOWN:
        text += f"; and {len(differences) - SHOWN} more"
    return f"the nearest, number {number} of {len(recorded)}, differs: {text}"


def _leaves(value: JSON, place: str = "") -> Iterator[tuple[str, JSON]]:
    """Every scalar value with its path."""
    inner: Iterable[tuple[str, JSON]]
    if isinstance(value, Mapping) and value:
        inner = ((f"{place}.{name}" if place else str(name), one) for name, one in value.items())
    elif isinstance(value, list | tuple) and value:
        inner = ((f"{place}[{index}]", one) for index, one in enumerate(value))
    else:
        yield place, value
        return
    for where, one in inner:
        yield from _leaves(one, where)


def _compare(recorded: Mapping[str, JSON], asked: Mapping[str, JSON]) -> list[str]:
    return [
        _tell(place, recorded.get(place, _ABSENT), asked.get(place, _ABSENT))
        for place in dict.fromkeys([*recorded, *asked])
        if not _same(recorded.get(place, _ABSENT), asked.get(place, _ABSENT))
    ]


def _same(one: JSON, other: JSON) -> bool:
    # As the key sees it: 0, 0.0 and False are three things.
    return type(one) is type(other) and bool(one == other)


def _tell(place: str, recorded: JSON, asked: JSON) -> str:
    if isinstance(recorded, str) and isinstance(asked, str):
        pairs = zip(recorded, asked, strict=False)
        start = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        if start > AROUND:
            recorded, asked = CUT + recorded[start:], CUT + asked[start:]
            place += f" from character {start}"
    return f"{place}: recorded {_show(recorded)}, asked {_show(asked)}"


def _show(value: JSON) -> str:
    if value is _ABSENT:
        return "nothing"
    return excerpt(json.dumps(value, ensure_ascii=False, default=repr), AROUND)
