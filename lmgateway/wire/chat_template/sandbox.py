"""Runs chat templates as Hugging Face does, in jinja's sandbox, with a few limits on size."""

from __future__ import annotations

import codecs
import json
import re
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache, wraps
from io import StringIO
from itertools import pairwise
from types import BuiltinMethodType, MethodType, TracebackType
from typing import Any, cast

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.filters import do_format
from jinja2.parser import Parser
from jinja2.runtime import LoopContext
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEscapeFormatter,
    SandboxedFormatter,
)
from jinja2.utils import Namespace

from ...errors import ConfigError, InputError, excerpt

__all__ = ["MAX_TEXT", "execute"]

#: Bytes of UTF-8 that a template may render at most. No model has a context as long as that.
MAX_TEXT = 64 * 1024 * 1024
#: Characters, digits or items that a number may ask for at most, as in ``center(80)``.
_MAX_WIDTH = 9_999
#: Bits of a product or a power of whole numbers at most; Python prints no more than 14,284.
_MAX_BITS = 14_000
#: Compiled templates that are kept. The longest takes a few MB.
_MAX_COMPILED = 32

# What ``codecs`` calls utf-8, ascii and latin-1. Some others take time squared in the length.
_CODECS = frozenset({"utf-8", "ascii", "iso8859-1"})
#: Types of objects that have neither frames nor code, and no method that changes them.
_HARMLESS = frozenset({str, LoopContext, Namespace})
_METHODS = (BuiltinMethodType, MethodType)
# A width of more than _MAX_WIDTH, as three kinds of formats write it.
_TOO_WIDE = re.compile(r"\d{5}")
_TOO_WIDE_PERCENT = re.compile(r"%[-+ #0]*(?:\d*\.)?(?:\d{5}|\*)")  # "*": an argument says it
_TOO_WIDE_NAMED = re.compile(r"\)[-+ #0]*(?:\d*\.)?\d{5}")  # after %(name)


class _RefusedError(jinja2.TemplateError):
    """The template called ``raise_exception``."""


class _LimitError(jinja2.TemplateError):
    """The template asks for more than a limit allows."""


# -- limits on a single operation --------------------------------------------------------------


def _check_widths(*args: Any, **kwargs: Any) -> None:
    """Refuse a width that no prompt needs."""
    for value in (*args, *kwargs.values()):
        if isinstance(value, int) and abs(value) > _MAX_WIDTH:
            raise _LimitError(f"a width or a number of digits is over {_MAX_WIDTH}")


def _check_filter(value: Any, *args: Any, **kwargs: Any) -> None:
    _check_widths(*args, **kwargs)


def _check_codec(encoding: str = "utf-8", errors: str = "strict") -> None:
    if codecs.lookup(encoding).name not in _CODECS:
        raise _LimitError(f"encoding {encoding[:40]!r} is none of utf-8, ascii, latin-1")


_CHECKS: Mapping[str, Callable[..., None]] = {
    **dict.fromkeys(
        ("center", "expandtabs", "ljust", "rjust", "to_bytes", "zfill"), _check_widths
    ),
    **dict.fromkeys(("decode", "encode"), _check_codec),
}  # fmt: skip


def _checked(function: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
    """The same function, whose arguments are checked before it is called."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def _multiply(left: Any, right: Any) -> Any:
    times, value = (left, right) if isinstance(left, int) else (right, left)
    if isinstance(times, int):
        if isinstance(value, int):
            if times.bit_length() + value.bit_length() > _MAX_BITS:
                raise _LimitError("a number has too many digits")
        elif isinstance(value, Sequence) and times * sys.getsizeof(value) > MAX_TEXT:
            raise _LimitError(f"a repetition takes more than {MAX_TEXT} bytes")
    return left * right


def _power(base: Any, exponent: Any) -> Any:
    whole = isinstance(base, int) and isinstance(exponent, int)
    if whole and base.bit_length() * exponent > _MAX_BITS:
        raise _LimitError("a number has too many digits")
    return base**exponent


def _modulo(left: Any, right: Any) -> Any:
    if isinstance(left, (str, bytes)):
        _check_percent(left)
    return left % right


def _check_percent(text: str | bytes) -> None:
    text = text if isinstance(text, str) else text.decode("latin-1")
    if _TOO_WIDE_PERCENT.search(text) or ("%(" in text and _TOO_WIDE_NAMED.search(text)):
        raise _LimitError(f"a format has a width over {_MAX_WIDTH}, or takes it from an argument")


def _format(value: Any, *args: Any, **kwargs: Any) -> str:
    _check_percent(str(value))
    return do_format(value, *args, **kwargs)


class _Formatter(SandboxedFormatter):
    """``str.format``, with widths that are checked."""

    def format_field(self, value: Any, format_spec: str) -> Any:
        if _TOO_WIDE.search(format_spec):
            raise _LimitError(f"a format has a width over {_MAX_WIDTH}")
        return super().format_field(value, format_spec)


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for text that is escaped."""


# -- what Hugging Face adds to jinja -----------------------------------------------------------


def _raise_exception(message: Any) -> None:
    raise _RefusedError(str(message))


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # as templates call it
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as a model has learnt it: jinja's own filter escapes HTML."""
    _check_widths(indent)
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


class _Generation(Extension):
    """``{% generation %}``: marks the assistant's words for training; renders its body."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=lineno)


class _Sandbox(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset({"*", "**", "%"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
        )
        self.binop_table |= {"*": _multiply, "**": _power, "%": _modulo}
        self.filters |= {"format": _format, "tojson": _tojson}
        for name in ("batch", "center", "indent", "round", "slice"):
            self.filters[name] = _checked(self.filters[name], _check_filter)
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        del self.globals["lipsum"]  # as much random text as one asks for

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As jinja answers, but at once for objects that are common and have nothing to hide."""
        if type(obj) in _HARMLESS:
            return not attr.startswith("_")
        return super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> Callable[..., Any] | None:
        """A method of a text or a number with a check of its arguments; None if it needs none."""
        if not isinstance(value, _METHODS):
            return None
        name = value.__name__
        if name in _CHECKS:
            return _checked(value, _CHECKS[name])
        if name not in ("format", "format_map") or super().wrap_str_format(value) is None:
            return None
        text = cast(str, value.__self__)
        escape = getattr(text, "escape", None)  # which only text has that is escaped already
        formatter = _EscapeFormatter(self, escape=escape) if escape else _Formatter(self)

        def call(*args: Any, **kwargs: Any) -> str:
            if name == "format_map":
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return call


# -- rendering ---------------------------------------------------------------------------------

_ENVIRONMENT = _Sandbox()


@lru_cache(maxsize=_MAX_COMPILED)
def _compile(source: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(source)


def execute(source: str, context: Mapping[str, Any], name: str) -> str:
    """Render a template's source.

    Args:
        source: Jinja.
        context: What the template reads: plain data, and ``strftime_now`` for another day.
        name: How messages call the template.

    Raises:
        ConfigError: The source does not compile.
        InputError: The template refused the conversation, failed on it, or went over a limit.
    """
    compiled = _compiled(source, name)
    try:
        return _joined(cast(Generator[str], compiled.generate(context)))
    except _RefusedError as error:
        raise InputError(
            f"the chat template {name} refuses this conversation: {excerpt(str(error))}"
            f"{_advice(context['messages'])}"
        ) from None
    except (_LimitError, MemoryError, OverflowError, RecursionError) as error:
        reason = excerpt(str(error)) or "it needs more memory than there is"
        raise InputError(
            f"the chat template {name} was stopped at line {_line(error)}: {reason}; "
            f"use another template, or a shorter conversation"
        ) from None
    except Exception as error:  # a template is a program: anything may come out of it
        raise InputError(
            f"the chat template {name} failed at line {_line(error)}: {excerpt(str(error))}; check "
            f"that each message, and each variable such as bos_token, is what the template reads"
        ) from error


def _joined(pieces: Generator[str]) -> str:
    """The pieces as one text, as long as they are no more than ``MAX_TEXT``."""
    text, room = StringIO(), MAX_TEXT
    write = text.write
    for piece in pieces:
        room -= len(piece) if piece.isascii() else len(piece.encode("utf-8", "surrogatepass"))
        if room < 0:  # raised within the template, so that its line is known
            pieces.throw(_LimitError(f"it renders more than {MAX_TEXT} bytes"))
        write(piece)
    return text.getvalue()


def _compiled(source: str, name: str) -> jinja2.Template:
    try:
        return _compile(source)
    except jinja2.TemplateSyntaxError as error:
        raise ConfigError(
            f"the chat template {name} is broken at line {error.lineno}: "
            f"{excerpt(error.message or 'syntax error')}"
        ) from None
    except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError) as error:
        raise ConfigError(
            f"the chat template {name} cannot be compiled: {excerpt(str(error), 120)}"
        ) from None


def _line(error: BaseException) -> int | str:
    """The line of the template in which an error arose; jinja has put it into the traceback."""
    line: int | str = "?"
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _advice(messages: Sequence[Mapping[str, Any]]) -> str:
    """What the user can do about a conversation that a template refuses."""
    roles = [message.get("role") for message in messages]
    advice = []
    if "system" in roles:
        advice.append("merge_system=True puts the system text into the first user turn")
    turns = [(at, role) for at, role in enumerate(roles) if role != "system"]
    if turns and turns[0][1] != "user":
        advice.append(f"begin with a user turn, not {excerpt(str(turns[0][1]), 20)}")
    for (_, before), (at, role) in pairwise(turns):
        if before == role:
            advice.append(f"join messages[{at}] with the {role} turn before it")
            break
    return "".join(f"; {each}" for each in advice)
