"""Everything that an error shows to who looks: texts, and the locals of the frames it carries."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any

__all__ = ["exposed", "frames"]


def exposed(error: BaseException, *own: str) -> Iterator[str]:
    """What can be seen of an error and of all that are chained to it.

    Args:
        error: As it was caught.
        own: Files of the tests, whose frames do not count.
    """
    for link in _links(error):
        yield f"{type(link).__name__} {link} {link!r} {link.args!r}"
        for name, value in vars(link).items():
            yield f"{type(link).__name__}.{name} = {value!r}"
        for frame in frames(link.__traceback__):
            if frame.f_code.co_filename in own:
                continue
            place = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
            for name, value in frame.f_locals.items():
                yield f"{place}: {name} = {value!r}"
                yield from _within(value, place)
    try:
        yield repr(pickle.dumps(error))
    except Exception as problem:  # somebody else's class
        yield repr(problem)


def frames(trace: TracebackType | None) -> Iterator[FrameType]:
    """The frames of a traceback, outermost first."""
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _links(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        link = waiting.pop()
        if isinstance(link, BaseException) and link not in found:
            found.append(link)
            waiting += [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
    return found


def _within(value: object, place: str) -> Iterator[str]:
    """What a debugger shows at a glance: the attributes of a value."""
    attributes = getattr(value, "__dict__", None)
    if isinstance(attributes, dict) and not isinstance(value, type):
        yield f"{place}: vars {attributes!r:.100000}"
