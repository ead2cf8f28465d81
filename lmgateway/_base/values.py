"""Plain JSON values: what JSON cannot hold, how deep values may be nested, and copies.

``DEPTH`` limits the nesting, and not how much of Python's stack the caller has used. Code that
recurses can run with ``on_fresh_stack``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import isfinite
from typing import Any, TypeVar

__all__ = ["DEPTH", "TypeSchema", "are_finite", "copied", "flaw", "is_deep", "on_fresh_stack"]
__all__ += ["shown"]

Given = TypeVar("Given")
Made = TypeVar("Made")

#: So many objects and lists may stand in one another, the outermost included.
DEPTH = 100
#: A number beyond it is infinity to most who read JSON, and Python does not write all of them.
_LARGEST = sys.float_info.max
_CONTAINERS = frozenset({dict, list})


class TypeSchema(dict[str, Any]):
    """The JSON schema of a type. It says all that a value holds; one that a user wrote need not."""


def flaw(value: object, name: str) -> str | None:
    """A sentence on the first part of a value that JSON cannot hold; None if there is none.

    Args:
        value: Anything.
        name: What to call it; the place within it is added.
    """
    inner, problem = _look(value)
    if inner is None or problem is not None:
        return problem and f"{name} {problem}"
    levels: list[Iterator[tuple[object, object]]] = [iter(inner)]
    path: list[object] = [None]  # of each level, the key of what is looked at
    while levels:
        for key, each in levels[-1]:
            path[-1] = key
            inner, problem = _look(each)
            if problem is not None:
                return f"{name}{_way(path)} {problem}"
            if inner is not None:
                if len(levels) == DEPTH:
                    return f"{name} is nested more than {DEPTH} deep"
                levels.append(iter(inner))
                path.append(None)
                break
        else:
            levels.pop()
            path.pop()
    return None


def _look(value: Any) -> tuple[Iterable[tuple[object, object]] | None, str | None]:
    """The values inside a value, if any; and what is wrong with the value itself."""
    if value is None or isinstance(value, bool):
        return None, None
    if isinstance(value, str):
        return None, None if value.isascii() else _lone_surrogate(value, "")
    if isinstance(value, int):
        if -_LARGEST <= value <= _LARGEST:
            return None, None
        return None, f"is a whole number beyond {_LARGEST:.1e}, which JSON cannot carry"
    if isinstance(value, float):
        return None, None if isfinite(value) else f"is {value}, which JSON cannot carry"
    if isinstance(value, Mapping):
        problem = next(filter(None, map(_odd_key, value)), None)
        return value.items(), problem
    if isinstance(value, (list, tuple)):
        return enumerate(value), None
    return None, f"is a {type(value).__name__}, which JSON cannot carry"


def _odd_key(key: object) -> str | None:
    if isinstance(key, str):
        return None if key.isascii() else _lone_surrogate(key, "a key that ")
    # logit_bias has whole numbers
    if isinstance(key, int) and not isinstance(key, bool) and -_LARGEST <= key <= _LARGEST:
        return None
    return f"has the key {shown(key, 40)}: JSON's keys are strings"


def _lone_surrogate(text: str, of: str) -> str | None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        where = f"holds a lone surrogate at offset {error.start}, which no encoding can carry: "
        return (
            f"{'has ' if of else ''}{of}{where}decode the text it came from with errors='replace'"
        )
    return None


def _way(path: Iterable[object]) -> str:
    return "".join(f"[{shown(key, 40)}]" for key in path)


def is_deep(value: object) -> bool:
    """Whether plain JSON is nested more than DEPTH deep."""
    level = [value] if type(value) in _CONTAINERS else []
    for _ in range(DEPTH):
        if not level:
            return False
        level = [
            inner
            for each in level
            for inner in (each.values() if type(each) is dict else each)  # type: ignore[attr-defined]
            if type(inner) in _CONTAINERS
        ]
    return bool(level)


def copied(value: Any) -> Any:
    """A copy of plain JSON; what is not plain (a parsed object) is shared."""
    try:
        return _copied(value)
    except RecursionError:
        return _copied_by_level(value)


def _copied(value: Any) -> Any:
    kind = type(value)
    if kind is dict:  # most of what is in a dict is no container: not worth a call
        copy = value.copy()
        for key, each in value.items():
            if type(each) in _CONTAINERS:
                copy[key] = _copied(each)
        return copy
    return [_copied(each) for each in value] if kind is list else value


def _copied_by_level(value: Any) -> Any:
    """As _copied, without recursion and at three times the cost: little of the stack is left."""
    copy = value.copy()
    copies = {id(value): copy}  # what stands in it twice, or within itself, does so in the copy
    waiting = [copy]
    while waiting:
        holder = waiting.pop()
        for place, each in holder.items() if type(holder) is dict else enumerate(holder):
            if type(each) in _CONTAINERS:
                known = copies.get(id(each))
                if known is None:
                    known = copies[id(each)] = each.copy()
                    waiting.append(known)
                holder[place] = known
    return copy


def on_fresh_stack(act: Callable[[Given], Made], given: Given) -> Made:
    """Run a function again that raised RecursionError, in a new thread, whose stack is empty.

    Python 3.11 counts the depth of its JSON encoder and decoder with the caller's frames.

    Raises:
        RecursionError: It is too deep for any stack.
    """
    from concurrent.futures import Future
    from threading import Thread

    future: Future[Made] = Future()

    def work() -> None:
        try:
            future.set_result(act(given))
        except Exception as error:
            future.set_exception(error)

    thread = Thread(target=work, name="lmgateway-fresh-stack", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:  # the system gives no thread
        raise RecursionError(str(error)) from None
    return future.result()


def shown(value: object, length: int = 80) -> str:
    """A value for a message: its repr, cut; its type if there is no repr.

    There is none for a number of 5,000 digits, a list nested a thousand deep, or an object whose
    own ``__repr__`` raises.
    """
    try:
        return f"{value!r:.{length}}"
    except Exception:
        return f"something of the type {type(value).__name__}"


def are_finite(values: list[Any]) -> bool:
    """Whether all are numbers, finite and within what a float can hold; quick for long lists."""
    if not set(map(type, values)) <= {float, int}:
        return False
    try:
        return isfinite(sum(values, 0.0)) or all(map(isfinite, values))
    except OverflowError:  # an int that no float can hold
        return False
