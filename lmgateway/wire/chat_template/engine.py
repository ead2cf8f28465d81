"""Runs chat templates: compiles once, renders within a budget, says what went wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from types import TracebackType
from typing import Any

import jinja2

from ...errors import ConfigError, InputError, excerpt
from .meter import (
    METER,
    Meter,
    OverBudgetError,
    allowance,
)
from .sandbox import BoundedEnvironment, RefusedError

__all__ = ["execute"]

_COMPILED = 32  # templates kept, the longest of which takes a few MB

_ENVIRONMENT = BoundedEnvironment()


@lru_cache(maxsize=_COMPILED)
def _compile(source: str) -> jinja2.Template:
    return _ENVIRONMENT.compile_metered(source)


def execute(source: str, context: Mapping[str, Any], name: str) -> str:
    """Render a template's source.

    Args:
        source: Jinja.
        context: Plain data only.
        name: How messages call the template.

    Raises:
        ConfigError: The source does not compile.
        InputError: The template refused the conversation, failed on it, or cost too much.
    """
    compiled = _compiled(source, name)
    meter = Meter()
    token = METER.set(meter)
    try:
        messages = context["messages"]
        meter.left = allowance(meter.weigh_all(context.values()), len(messages))
        return "".join(compiled.root_render_func(compiled.new_context(dict(context))))
    except RefusedError as error:
        raise InputError(
            f"the chat template {name} refuses this conversation: {excerpt(str(error))}"
            f"{_advice(messages)}"
        ) from None
    except (OverBudgetError, MemoryError, OverflowError, RecursionError) as error:
        line = _line(error.__traceback__, compiled)
        raise InputError(
            f"the chat template {name} was stopped at line {line}: it asks for more work or memory "
            f"than rendering may take; use another template, or a shorter conversation"
        ) from None
    except Exception as error:  # a template is a program: anything may come out of it
        line = _line(error.__traceback__, compiled)
        raise InputError(
            f"the chat template {name} failed at line {line}: {excerpt(str(error))}; check that "
            f"each message, and each variable such as bos_token, is what the template reads"
        ) from error
    finally:
        METER.reset(token)


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


def _line(trace: TracebackType | None, compiled: jinja2.Template) -> int | str:
    """The line of the template in which an error arose."""
    line: int | str = "?"
    while trace is not None:
        if trace.tb_frame.f_globals.get("__jinja_template__") is not None:
            line = compiled.get_corresponding_lineno(trace.tb_lineno)
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
