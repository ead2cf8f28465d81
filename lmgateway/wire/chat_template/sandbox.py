"""The jinja environment that chat templates run in: Hugging Face's, with a budget."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from types import BuiltinMethodType, FunctionType, MethodType
from typing import Any, TypeAlias, cast

import jinja2
from jinja2 import nodes
from jinja2.exceptions import SecurityError, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import (
    ImmutableSandboxedEnvironment,
    SandboxedEscapeFormatter,
    SandboxedFormatter,
)
from jinja2.utils import Namespace, generate_lorem_ipsum, pass_context
from markupsafe import Markup

from . import costs, metering
from .meter import METER, TODAY, flat

__all__ = ["BoundedEnvironment", "RefusedError"]

_Test: TypeAlias = Callable[..., Any]

_BUILTINS = (str, bytes, int, float, complex, list, tuple, dict, range, set, frozenset)


class RefusedError(TemplateError):
    """The template called ``raise_exception``."""


# -- functions of the template language --------------------------------------------------------


def _raise_exception(message: Any) -> None:
    METER.get().charge(METER.get().weigh(message))
    raise RefusedError(str(message))


@pass_context
def _strftime_now(context: Context, format: str) -> str:
    METER.get().charge(64 * flat(format))
    today: Callable[[str], str] | None = context.get(TODAY)
    return today(format) if today else datetime.now().strftime(format)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,  # as templates call it
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    encoder = json.JSONEncoder(
        ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )
    meter = METER.get()
    if indent is None:
        meter.charge(meter.weigh(value) * meter.weigh(separators))
        return encoder.encode(value)
    # Depth times width: pay before the encoder builds its first line break.
    meter.charge(2 + (abs(indent) if isinstance(indent, int) else len(indent)))
    return "".join(_paid(encoder.iterencode(value)))


def _paid(pieces: Iterator[str]) -> Iterator[str]:
    meter = METER.get()
    for piece in pieces:
        meter.charge(flat(piece))
        yield piece


def _lipsum(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:
    METER.get().charge(4 * n * max)
    return generate_lorem_ipsum(n, html, min, max)


class _Dict:
    """``dict(...)`` and ``dict.fromkeys(...)``, without the type and its attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """``namespace(...)``: no private names, and a repr that does not grow with what is inside."""

    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _check_public(name)
        Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)

    def __repr__(self) -> str:
        return "<Namespace>"


def _check_public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace takes no attribute that begins with _: {name[:40]!r}")


class _Generation(Extension):
    """``{% generation %}``: marks the assistant's words for training; renders its body."""

    tags: set[str] = {"generation"}  # noqa: RUF012 - as jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        call = self.call_method("_render")
        return nodes.CallBlock(call, [], [], body).set_lineno(lineno)

    def _render(self, caller: Callable[[], str]) -> str:
        return caller()


# -- what charges ------------------------------------------------------------------------------


@pass_context
def _tick(context: Context, cells: int) -> bool:
    METER.get().charge(cells)
    return True


@pass_context
def _concat(context: Context, *values: Any) -> str:
    meter = METER.get()
    meter.charge(meter.weigh_all(values))
    return (markup_join if context.eval_ctx.autoescape else str_join)(values)


@pass_context
def _compared(context: Context, value: Any) -> Any:
    if isinstance(value, Iterator) and not hasattr(value, "index0"):  # a LoopContext is one too
        value = list(value)
    meter = METER.get()
    meter.charge(meter.weigh(value))
    return value


@pass_context
def _scanned(context: Context, value: Any) -> Any:
    METER.get().charge(1 if isinstance(value, dict) else flat(value))
    return value


@pass_context
def _built(context: Context, value: Any) -> Any:
    METER.get().charge(flat(value))
    return value


@pass_context
def _finalize(context: Context, value: Any) -> Any:
    meter = METER.get()
    meter.charge(meter.weigh(value))
    return value


def _metered_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that pays before it runs and for what it returns."""
    cost, lead = costs.cost_of_filter(name), _leading(function)
    drains, lazy = name in costs.DRAINING_FILTERS, name in costs.LAZY_FILTERS

    @pass_context
    def call(context: Context, value: Any = None, *args: Any, **kwargs: Any) -> Any:
        meter = METER.get()
        if drains and isinstance(value, Iterator):
            value = list(value)
        meter.charge(4 + cost(meter, (value, *args, *kwargs.values())))
        result = function(*lead(context), value, *args, **kwargs)
        if lazy and isinstance(result, Iterator):
            return meter.metered(result)
        meter.charge(flat(result))
        return result

    return call


def _metered_test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    cost, lead = costs.cost_of_test(name), _leading(function)

    @pass_context
    def call(context: Context, *args: Any) -> Any:
        meter = METER.get()
        if isinstance(args[-1], Iterator):
            args = (*args[:-1], list(args[-1]))
        meter.charge(8 + cost(meter, args))
        return function(*lead(context), *args)

    return call


def _leading(function: Callable[..., Any]) -> Callable[[Context], tuple[Any, ...]]:
    """What jinja would pass to a filter before its value."""
    wanted = getattr(getattr(function, "jinja_pass_arg", None), "name", None)
    if wanted == "context":
        return lambda context: (context,)
    if wanted == "eval_context":
        return lambda context: (context.eval_ctx,)
    if wanted == "environment":
        return lambda context: (context.environment,)
    return lambda context: ()


class _Formatter(SandboxedFormatter):
    """``str.format``, each field of which is paid for."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, Any]:
        found = super().get_field(field_name, args, kwargs)
        METER.get().charge(METER.get().weigh(found[0]))
        return found

    def format_field(self, value: Any, format_spec: str) -> Any:
        METER.get().charge(costs.format_reach(format_spec))
        return super().format_field(value, format_spec)


class _EscapeFormatter(_Formatter, SandboxedEscapeFormatter):
    """The same for text that is escaped."""


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """Renders as transformers does, as long as the meter in ``METER`` can pay."""

    intercepted_binops = frozenset(costs.BINARY_COSTS)

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_Generation, loopcontrols],
            finalize=_finalize,
        )
        self.filters["tojson"] = _tojson
        self.filters = {name: _metered_filter(name, f) for name, f in self.filters.items()}
        self.tests = {
            name: test if name in costs.CHEAP_TESTS else _metered_test(name, cast(_Test, test))
            for name, test in self.tests.items()
        }
        self.filters |= {
            metering.TICK: _tick,
            metering.CONCAT: _concat,
            metering.COMPARED: _compared,
            metering.SCANNED: _scanned,
            metering.BUILT: _built,
        }
        self.globals |= {
            "dict": _Dict(),
            "lipsum": _lipsum,
            "namespace": _Namespace,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def compile_metered(self, source: str) -> jinja2.Template:
        """Compile a template that charges for all it does."""
        tree = metering.Metering().visit(self.parse(source))
        tree.set_environment(self)
        return self.from_string(tree)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Pay for an operation, then do it."""
        meter = METER.get()
        meter.charge(costs.BINARY_COSTS[operator](meter, (left, right)))
        return self.binop_table[operator](left, right)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Pay for the hash of a key that is more than a name or a number."""
        if isinstance(argument, tuple):
            METER.get().charge(METER.get().weigh(argument))
        return super().getitem(obj, argument)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805
        """Pay for a call and for what it returns; a macro's body pays for itself."""
        meter = METER.get()
        owner = getattr(__obj, "__self__", None)
        operands = (*args, *kwargs.values())
        if isinstance(owner, _BUILTINS):
            name = __obj.__name__
            if name == "join" and args and isinstance(args[0], Iterator):
                args = operands = (list(args[0]),)
            meter.charge(costs.cost_of_method(owner, name)(meter, (owner, *operands)))
        elif owner is not None or isinstance(__obj, _Dict):
            args = tuple(list(a) if isinstance(a, Iterator) else a for a in args)
            meter.charge(16 + meter.weigh_all(args))
        else:
            meter.charge(16 + 4 * len(operands))
        result = super().call(__context, __obj, *args, **kwargs)
        if not isinstance(result, range):
            meter.charge(flat(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """``str.format`` and ``str.format_map``, with a formatter that pays."""
        if not isinstance(value, (BuiltinMethodType, MethodType, FunctionType)):
            return None
        if super().wrap_str_format(value) is None:
            return None
        text = cast(str, value.__self__)  # type: ignore[union-attr]
        escape = text.escape if isinstance(text, Markup) else None
        formatter = _EscapeFormatter(self, escape=escape) if escape else _Formatter(self)
        mapped = value.__name__ == "format_map"

        def call(*args: Any, **kwargs: Any) -> str:
            METER.get().charge(4 * flat(text))
            if mapped:
                (kwargs,), args = args, ()
            return type(text)(formatter.vformat(text, args, kwargs))

        return call
