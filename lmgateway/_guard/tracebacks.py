"""Tracebacks without local variables: errors that leave the library show none of its locals.

Error trackers print a traceback with its locals; they would show the headers with the key and the
body with the prompt. So every public function is a *door*: it takes the locals out of an error
once, where the error leaves. A call that raises nothing pays nothing for it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import wraps
from inspect import iscoroutinefunction
from types import FrameType, FunctionType, TracebackType
from typing import Any, TypeVar, cast

from .._base.masking import masker
from ..errors import OUT_OF_STACK, LMGatewayError, PluginError

__all__ = ["conceal", "door", "masked", "redact"]

F = TypeVar("F", bound=Callable[..., Any])


def conceal(error: BaseException) -> None:
    """Take the library's locals out of an error, its causes and its contexts.

    Call it where the error leaves, in ``except BaseException``, before a bare ``raise``. A typed
    error keeps no frames, since its message says what happened; nor does a cancellation. Any
    other error, and one of a plugin, keeps the file and line of each frame.
    """
    explained = isinstance(error, LMGatewayError) and not isinstance(error, PluginError)
    for link in _links(error, sys._getframe(1)):
        link.__traceback__ = None if explained or _says_all(link) else _blank(link.__traceback__)
        vars(link).pop("running", None)  # a thread's future, and in it that thread's frames


def _says_all(error: BaseException) -> bool:
    """Whether an error needs no traceback: a typed error, or a cancellation."""
    return isinstance(error, (LMGatewayError, GeneratorExit)) or (
        type(error).__name__ == "CancelledError"  # of asyncio, which need not be there
    )


def door(function: F) -> F:
    """Decorate a function so that it conceals what it raises; for functions rarely called."""
    if iscoroutinefunction(function):

        @wraps(function)
        async def awaited(*args: Any, **keywords: Any) -> Any:
            try:
                return await function(*args, **keywords)
            except BaseException as error:
                conceal(error)
                raise

        return cast(F, awaited)

    @wraps(function)
    def called(*args: Any, **keywords: Any) -> Any:
        try:
            return function(*args, **keywords)
        except BaseException as error:
            conceal(error)
            raise

    return cast(F, called)


def redact(error: LMGatewayError, secrets: Iterable[str], frame: FrameType) -> None:
    """Mask secrets in an error and in what is chained to it.

    Args:
        error: The error; it is changed.
        secrets: What must not be shown.
        frame: Where it is caught. An error that a caller was handling is not changed.
    """
    secrets = list(secrets)
    mask = masker(secrets)
    outside = _above(frame)
    for link in _links(error, frame):
        if isinstance(link, LMGatewayError):
            link.redact(secrets)
        if link.__cause__ is None and link.__suppress_context__:
            hidden = link.__context__  # of no use to anybody, and perhaps with the whole body
            if hidden is not None and not _is_outside(hidden, outside):
                link.__context__ = None
        for name in ("__cause__", "__context__"):
            inner = getattr(link, name)
            if isinstance(inner, (type(None), LMGatewayError)) or _is_outside(inner, outside):
                continue
            if not _is_masked(inner, mask):
                suppressed = link.__suppress_context__
                setattr(link, name, _stand_in(inner, mask))
                link.__suppress_context__ = suppressed


def masked(error: BaseException, secrets: Iterable[str]) -> BaseException:
    """An error of another library with its secrets masked, or one that stands in its place.

    A BaseException that is no Exception, such as KeyboardInterrupt, stays the same object.
    """
    if isinstance(error, LMGatewayError):
        return error.redact(secrets)
    if isinstance(error, RecursionError):
        return LMGatewayError(OUT_OF_STACK)
    if not error.args and not vars(error):  # a stream that was left, Ctrl-C
        return error
    mask = masker(secrets)
    if _is_masked(error, mask) or not isinstance(error, Exception):
        return error
    return _stand_in(error, mask)


def _links(error: BaseException, frame: FrameType) -> Iterator[BaseException]:
    """An error and all errors chained to it, but not those that a caller was handling."""
    outside = _above(frame)
    waiting, seen = [error], set[int]()
    while waiting:
        link = waiting.pop()
        if id(link) in seen or (link is not error and _is_outside(link, outside)):
            continue
        seen.add(id(link))
        yield link  # first: it may be given others
        inner = [link.__cause__, link.__context__, *getattr(link, "exceptions", ())]
        waiting += [each for each in inner if isinstance(each, BaseException)]


def _above(frame: FrameType) -> set[int]:
    ids, outer = set(), frame.f_back
    while outer is not None:
        ids.add(id(outer))
        outer = outer.f_back
    return ids


def _is_outside(error: BaseException, outside: set[int]) -> bool:
    """Whether the error was caught by a caller, so that it is not changed here."""
    trace = error.__traceback__
    return trace is not None and id(trace.tb_frame) in outside


# -- masking what is not ours ------------------------------------------------------------------


def _is_masked(error: BaseException, mask: Callable[[str], str]) -> bool:
    """Mask an error in place; False if it still shows a secret."""
    with suppress(Exception):  # another library's class may raise here
        error.args = tuple(mask(each) if isinstance(each, str) else each for each in error.args)
        for name, value in vars(error).items():
            if isinstance(value, str):
                setattr(error, name, mask(value))
        if notes := getattr(error, "__notes__", None):
            error.__notes__ = [mask(str(note)) for note in notes]
        shown = f"{error} {error!r} {vars(error)!r}"
        return mask(shown) == shown
    return False


def _stand_in(error: BaseException, mask: Callable[[str], str]) -> Exception:
    """An error to show in place of one whose own text cannot be masked."""
    words = ""
    with suppress(Exception):
        words = f": {mask(str(error))}"
    stand_in = RuntimeError(f"{type(error).__name__}{words}")
    stand_in.__traceback__ = error.__traceback__
    stand_in.__cause__, stand_in.__context__ = error.__cause__, error.__context__
    stand_in.__suppress_context__ = error.__suppress_context__
    return stand_in


# -- frames without locals ---------------------------------------------------------------------


def _blank(trace: TracebackType | None) -> TracebackType | None:
    """A traceback with the same files and lines, in frames without locals.

    Clearing the real frames would end a generator that still uses one of them.
    """
    places: list[TracebackType] = []
    while trace is not None:
        places.append(trace)
        trace = trace.tb_next
    blank = None
    for place in reversed(places):  # -1: nothing is known of the columns
        line = place.tb_lineno or place.tb_frame.f_code.co_firstlineno  # some code is of no line
        blank = TracebackType(blank, _empty(place.tb_frame), -1, line)
    return blank


def _empty(frame: FrameType) -> FrameType:
    """A frame of the same name in the same file.

    It belongs to a generator that never ran. The frame of one that ran would lead to its
    caller by ``f_back``, and so to the very locals that must not be seen.
    """
    code = frame.f_code
    imitation = _template.__code__.replace(
        co_filename=code.co_filename,
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_firstlineno=code.co_firstlineno,
    )
    known = {name: frame.f_globals.get(name) for name in ("__name__", "__loader__")}
    made: FrameType = FunctionType(imitation, known)().gi_frame
    return made


def _template() -> Iterator[None]:
    yield
